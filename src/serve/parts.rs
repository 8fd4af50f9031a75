//! The parts that run as long as the process does, and what happens when one ends by itself.
//!
//! A part ends when it is told to. One that ends before has panicked, or returned by mistake; what it did is done by
//! nobody then, and the API would go on answering as if it were. So its end ends the process, with its name: whoever
//! started it starts it again, and all is as it was, since everything acknowledged is on the disk.

use super::panic_text;
use futures::FutureExt as _;
use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Hears of the first part that ends by itself. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Watchdog {
    ended: mpsc::Sender<&'static str>,
    heard: Arc<Mutex<mpsc::Receiver<&'static str>>>,
}

impl Watchdog {
    pub(super) fn new() -> Self {
        // Only the first is asked for; a full queue means that it has come.
        let (ended, heard) = mpsc::channel(1);
        Self { ended, heard: Arc::new(Mutex::new(heard)) }
    }

    /// The name of a part that has ended though nobody told it to.
    pub(super) async fn bark(&self) -> &'static str {
        self.heard.lock().await.recv().await.expect("self holds a sender")
    }
}

/// Parts that are told to end together.
#[derive(Debug)]
pub(super) struct Parts {
    watchdog: Watchdog,
    tasks: TaskTracker,
    /// Tells them to end.
    pub(super) stop: CancellationToken,
}

impl Parts {
    pub(super) fn new(watchdog: &Watchdog) -> Self {
        Self { watchdog: watchdog.clone(), tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Runs a part.
    pub(super) fn spawn(&self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let (ended, stop) = (self.watchdog.ended.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            if let Err(panic) = AssertUnwindSafe(part).catch_unwind().await {
                tracing::error!(part = name, panic = panic_text(&*panic), "a part of the process panicked");
            } else if stop.is_cancelled() {
                return;
            }
            // Full: another one was first.
            let _ = ended.try_send(name);
        });
    }

    /// Tells the parts to end, and waits until they have.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Waits for the tasks of a part; the panic of one is the part's.
pub(super) async fn join_all(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_panics_or_returns_is_named_and_one_that_was_told_to_end_is_not() {
        let watchdog = Watchdog::new();
        let parts = Parts::new(&watchdog);
        let stop = parts.stop.clone();
        parts.spawn("obedient", async move { stop.cancelled().await });
        parts.end().await;
        assert!(watchdog.heard.lock().await.try_recv().is_err());

        for (name, panics) in [("hasty", false), ("faulty", true)] {
            let parts = Parts::new(&watchdog);
            parts.spawn(name, async move { assert!(!panics, "on purpose") });
            assert_eq!(watchdog.bark().await, name);
        }
    }
}
