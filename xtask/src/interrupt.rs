//! Ctrl-C. The programs that a task runs hear it too, as they stand in its process group, and end; the task sees that,
//! puts away what is its own, and ends after them.

use anyhow::{Result, bail};
use std::time::Duration;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    time::timeout,
};

/// Runs `task` to its end. What fails after Ctrl-C fails because of it, and is not told as a fault of its own.
pub(crate) fn until_interrupted(task: impl FnOnce() -> Result<()>) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let mut interrupts = {
        let _entered = runtime.enter();
        signal(SignalKind::interrupt())?
    };
    let Err(error) = task() else { return Ok(()) };
    // One that came is seen at once.
    match runtime.block_on(async { timeout(Duration::from_millis(50), interrupts.recv()).await }) {
        Ok(_interrupted) => bail!("interrupted"),
        Err(_none_came) => Err(error),
    }
}
