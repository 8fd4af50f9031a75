//! What the driver counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of every row, in the order of [`control_plan::CONTROLLERS`].
#[derive(Debug)]
pub struct DriverMetrics {
    /// One per controller.
    pub rows: Vec<RowMetrics>,
    /// Events that wait to be written.
    pub waiting_events: AtomicU64,
    /// Events that were dropped as the queue was full or their source too chatty.
    pub dropped_events: AtomicU64,
}

/// Counters of one controller.
#[derive(Debug)]
pub struct RowMetrics {
    /// Its name.
    pub name: &'static str,
    /// Keys that are due now.
    pub depth: AtomicU64,
    /// Keys that became due.
    pub adds: AtomicU64,
    /// Decisions made.
    pub reconciles: AtomicU64,
    /// Plans that ended with a refusal.
    pub retries: AtomicU64,
    /// Decisions that panicked.
    pub panics: AtomicU64,
}

impl DriverMetrics {
    pub(crate) fn new() -> Self {
        let row = |name| RowMetrics {
            name,
            depth: AtomicU64::new(0),
            adds: AtomicU64::new(0),
            reconciles: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        };
        let rows = control_plan::CONTROLLERS.iter().map(|controller| row(controller.name)).collect();
        Self { rows, waiting_events: AtomicU64::new(0), dropped_events: AtomicU64::new(0) }
    }
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
