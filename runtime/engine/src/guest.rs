//! One run of a command, owned by whoever holds it.

use tokio::task::JoinHandle;

use crate::{control::GuestControl, exit::Exit};

/// A running command. Dropping it ends the guest.
#[derive(Debug)]
pub struct Guest {
    control: GuestControl,
    task: JoinHandle<Exit>,
}

impl Guest {
    pub(crate) fn new(control: GuestControl, task: JoinHandle<Exit>) -> Self {
        Self { control, task }
    }

    /// A handle to kill it and to ask what it uses.
    pub fn control(&self) -> GuestControl {
        self.control.clone()
    }

    /// Waits until the guest has ended and everything of it is gone. A caller that stops waiting ends the guest.
    pub async fn wait(mut self) -> Exit {
        match (&mut self.task).await {
            Ok(exit) => exit,
            Err(error) if error.is_cancelled() => Exit::Killed,
            Err(_panicked) => Exit::Trapped {
                message: "a host function panicked; this is a fault of the host".to_owned(),
                backtrace: String::new(),
            },
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.control.kill();
    }
}
