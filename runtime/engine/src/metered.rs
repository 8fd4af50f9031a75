//! A call into a guest, as a future that counts computing time, waits when the guest is over its share, and ends on a
//! kill.
//!
//! Time is the thread's own clock read before and after each poll. A guest that waits in a host call is not being
//! polled, so waiting is never charged, and no hook on the border between guest and host is needed.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use crate::control::GuestControl;

/// The guest was killed before the call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest was killed")]
pub struct Killed;

/// See [`GuestControl::run`].
pub struct Metered<F> {
    control: GuestControl,
    /// Gone once it has ended or was killed.
    call: Option<Pin<Box<F>>>,
    begun: bool,
    /// Set while the guest is over its share.
    wait: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Metered<F> {
    pub(crate) fn new(control: GuestControl, call: F) -> Self {
        Self { control, call: Some(Box::pin(call)), begun: false, wait: None }
    }
}

impl<F> fmt::Debug for Metered<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metered").field("control", &self.control).finish_non_exhaustive()
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = Result<F::Output, Killed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        // Before the flag is read, so that a kill between the two wakes us.
        this.control.waker().register(cx.waker());
        if this.control.is_killed() {
            this.call = None;
            return Poll::Ready(Err(Killed));
        }
        if !this.begun {
            this.begun = true;
            // Others may have used up a share that this guest has with them.
            this.wait = this.control.spend(Duration::ZERO).map(|duration| Box::pin(sleep(duration)));
        }
        if let Some(wait) = &mut this.wait {
            ready!(wait.as_mut().poll(cx));
            this.wait = None;
        }
        let call = this.call.as_mut().expect("a future is not polled after its end");
        let (result, spent) = {
            let _running = this.control.clock().enter();
            this.control.resumed();
            let before = thread_time();
            let result = call.as_mut().poll(cx);
            (result, thread_time().saturating_sub(before))
        };
        let wait = this.control.spend(spent);
        match result {
            Poll::Ready(output) => {
                this.call = None;
                Poll::Ready(Ok(output))
            }
            Poll::Pending if this.control.is_killed() => {
                this.call = None;
                Poll::Ready(Err(Killed))
            }
            Poll::Pending => {
                if let Some(duration) = wait {
                    let mut sleep = Box::pin(sleep(duration));
                    match sleep.as_mut().poll(cx) {
                        Poll::Pending => this.wait = Some(sleep),
                        Poll::Ready(()) => cx.waker().wake_by_ref(),
                    }
                }
                Poll::Pending
            }
        }
    }
}

/// The time for which this thread has been computing.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(unsafe_code, reason = "std has no clock of a thread's computing time")]
    // SAFETY: the pointer is to a local that outlives the call, which writes nothing else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    debug_assert_eq!(failed, 0, "this clock exists on every supported system");
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), nanos)
}
