//! The handle on a running guest: kill it, ask what it uses, drive calls into it.

use std::{
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::task::AtomicWaker;

use crate::{
    exit::Exit,
    meter::{Meter, Usage},
    metered::Metered,
    ticker::Clock,
};

/// A handle on one guest. Clones are handles on the same one; none of them keeps it alive.
#[derive(Debug, Clone)]
pub struct GuestControl(Arc<Inner>);

/// The same, without keeping the guest's counts.
#[derive(Debug)]
pub(crate) struct WeakControl(Weak<Inner>);

impl WeakControl {
    pub(crate) fn upgrade(&self) -> Option<GuestControl> {
        self.0.upgrade().map(GuestControl)
    }
}

#[derive(Debug)]
struct Inner {
    own: Meter,
    shared: Option<Meter>,
    killed: AtomicBool,
    /// Where it was killed for memory: the limit that was passed. Else zero.
    starved: AtomicU64,
    /// Wakes the guest's task, so that a kill ends it also while it waits in a host call.
    waker: AtomicWaker,
    clock: Arc<Clock>,
    /// The clock's tick when the guest was last let onto a thread.
    resumed_at: AtomicU64,
}

impl GuestControl {
    pub(crate) fn new(own: Meter, shared: Option<Meter>, clock: Arc<Clock>) -> Self {
        Self(Arc::new(Inner {
            own,
            shared,
            killed: AtomicBool::new(false),
            starved: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            clock,
            resumed_at: AtomicU64::new(u64::MAX),
        }))
    }

    /// Ends the guest now: if it computes at the next tick, if it waits at once.
    pub fn kill(&self) {
        self.0.killed.store(true, Ordering::SeqCst);
        self.0.waker.wake();
    }

    /// Ends the guest now, as one that wanted more memory than `limit`.
    pub(crate) fn kill_for_memory(&self, limit: u64) {
        self.0.starved.store(limit, Ordering::SeqCst);
        self.kill();
    }

    /// How a guest that was killed has ended.
    pub fn exit_of_kill(&self) -> Exit {
        match self.0.starved.load(Ordering::SeqCst) {
            0 => Exit::Killed,
            limit => Exit::OutOfMemory { limit },
        }
    }

    pub(crate) fn downgrade(&self) -> WeakControl {
        WeakControl(Arc::downgrade(&self.0))
    }

    /// Whether [`GuestControl::kill`] was called.
    pub fn is_killed(&self) -> bool {
        self.0.killed.load(Ordering::SeqCst)
    }

    /// What this guest used so far.
    pub fn usage(&self) -> Usage {
        self.0.own.usage()
    }

    /// Drives a call into the guest's store: computing time is counted and bounded, and a kill ends it.
    ///
    /// Every call into a store must go through here, on the guests' runtime. The clock that interrupts guests runs
    /// only while such a future is being polled.
    pub fn run<F: Future>(&self, call: F) -> Metered<F> {
        Metered::new(self.clone(), call)
    }

    pub(crate) fn meters(&self) -> (Meter, Option<Meter>) {
        (self.0.own.clone(), self.0.shared.clone())
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn waker(&self) -> &AtomicWaker {
        &self.0.waker
    }

    /// Notes that the guest gets onto a thread now.
    pub(crate) fn resumed(&self) {
        self.0.resumed_at.store(self.0.clock.tick(), Ordering::Relaxed);
    }

    /// Whether a tick has passed since the guest got onto its thread.
    pub(crate) fn had_its_turn(&self) -> bool {
        self.0.resumed_at.load(Ordering::Relaxed) != self.0.clock.tick()
    }

    /// Counts computing time, and says how long the guest must wait.
    pub(crate) fn spend(&self, spent: Duration) -> Option<Duration> {
        let shared = self.0.shared.as_ref().and_then(|meter| meter.spend(spent));
        self.0.own.spend(spent).max(shared)
    }
}
