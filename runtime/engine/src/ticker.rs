//! The clock that interrupts guests: a thread that moves the engine's epoch on while a guest computes, and sleeps
//! without a timer while none does.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, Thread},
    time::Duration,
};

/// How long a guest computes at most before others get the thread.
const TICK: Duration = Duration::from_millis(1);
/// The thread sleeps for good after so many ticks in which no guest computed: waking it costs more than a few ticks.
const IDLE_TICKS: u32 = 8;

/// What the thread and the guests share.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    tick: AtomicU64,
    /// How many guests are on a thread now.
    running: AtomicUsize,
    /// The thread sleeps until it is woken.
    parked: AtomicBool,
    stop: AtomicBool,
    thread: OnceLock<Thread>,
}

/// A guest is on a thread while this exists.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Clock);

impl Clock {
    /// How often the clock has ticked.
    pub(crate) fn tick(&self) -> u64 {
        self.tick.load(SeqCst)
    }

    /// A guest gets onto this thread.
    pub(crate) fn enter(&self) -> Running<'_> {
        self.running.fetch_add(1, SeqCst);
        if self.parked.load(SeqCst) {
            self.wake();
        }
        Running(self)
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.stop.store(true, SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            self.parked.store(false, SeqCst);
            thread.unpark();
        }
    }

    /// Starts the thread. It calls `on_tick` after each tick in which a guest computed.
    pub(crate) fn start(self: &Arc<Self>, on_tick: impl Fn() + Send + 'static) -> io::Result<()> {
        let clock = Arc::clone(self);
        let thread = thread::Builder::new()
            .name("guest-clock".to_owned())
            .stack_size(128 << 10)
            .spawn(move || clock.run(&on_tick))?;
        self.thread.set(thread.thread().clone()).expect("started once");
        Ok(())
    }

    fn run(&self, on_tick: &impl Fn()) {
        let mut idle = 0;
        while !self.stop.load(SeqCst) {
            if self.running.load(SeqCst) > 0 {
                idle = 0;
            } else {
                idle += 1;
            }
            if idle > IDLE_TICKS {
                self.parked.store(true, SeqCst);
                // A guest that came before it could see `parked` is seen here; one that came after it has woken us.
                if self.running.load(SeqCst) == 0 && !self.stop.load(SeqCst) && self.thread.get().is_some() {
                    thread::park();
                }
                self.parked.store(false, SeqCst);
                idle = 0;
            }
            thread::sleep(TICK);
            self.tick.fetch_add(1, SeqCst);
            on_tick();
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_clock_ticks_while_a_guest_runs_and_rests_when_none_does() {
        let clock = Arc::new(Clock::default());
        let (ticked, ticks) = mpsc::sync_channel(1);
        // Full means that a tick is waiting to be seen already.
        clock.start(move || ticked.try_send(()).unwrap_or_default()).unwrap();
        for _ in 0..3 {
            let running = clock.enter();
            for _ in 0..20 {
                ticks.recv_timeout(Duration::from_secs(10)).unwrap();
            }
            drop(running);
            let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
            while !clock.parked.load(SeqCst) {
                assert!(tokio::time::Instant::now() < deadline, "the clock does not rest");
                thread::yield_now();
            }
        }
        clock.stop();
    }
}
