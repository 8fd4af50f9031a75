//! What a pod's HTTP did so far.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts requests. Shared by the server and whoever reports.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    active: AtomicU64,
    traps: AtomicU64,
    rejected: AtomicU64,
    timeouts: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Requests that came.
    pub requests: u64,
    /// Instances that live now.
    pub active: u64,
    /// Instances that trapped.
    pub traps: u64,
    /// Requests turned away because too many waited, or too long.
    pub rejected: u64,
    /// Instances that were ended at their deadline.
    pub timeouts: u64,
}

impl Counters {
    /// The counts now.
    pub fn now(&self) -> Served {
        Served {
            requests: self.requests.load(Relaxed),
            active: self.active.load(Relaxed),
            traps: self.traps.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
        }
    }

    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn trap(&self) {
        self.traps.fetch_add(1, Relaxed);
    }

    pub(crate) fn reject(&self) {
        self.rejected.fetch_add(1, Relaxed);
    }

    pub(crate) fn timeout(&self) {
        self.timeouts.fetch_add(1, Relaxed);
    }

    pub(crate) fn begin(&self) {
        self.active.fetch_add(1, Relaxed);
    }

    pub(crate) fn end(&self) {
        self.active.fetch_sub(1, Relaxed);
    }
}
