//! What the driver counts, and how it is shown: under the names that upstream's work queues have, where it has them.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;
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

/// The counters of a driver, as a registry of metrics reads them.
#[derive(Debug)]
pub(crate) struct Shown(pub(crate) Arc<DriverMetrics>);

/// A number of each controller: the metric's name, what it says, whether it only grows, and where it is.
type Row = (&'static str, &'static str, MetricType, fn(&RowMetrics) -> &AtomicU64);

/// The text format adds `_total` to counters.
const ROWS: &[Row] = &[
    ("workqueue_depth", "Keys that are due", MetricType::Gauge, |row| &row.depth),
    ("workqueue_adds", "Keys that became due", MetricType::Counter, |row| &row.adds),
    ("workqueue_retries", "Plans that were refused and are made again", MetricType::Counter, |row| {
        &row.retries
    }),
    ("controller_reconciles", "Decisions made", MetricType::Counter, |row| &row.reconciles),
    ("controller_panics", "Decisions that panicked", MetricType::Counter, |row| &row.panics),
];

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, kind, number) in ROWS {
            let mut family = encoder.encode_descriptor(name, help, None, *kind)?;
            for row in &self.0.rows {
                encode(number(row), *kind, family.encode_family(&[("name", row.name)])?)?;
            }
        }
        for (name, help, kind, number) in [
            ("events_waiting", "Events to be written", MetricType::Gauge, &self.0.waiting_events),
            (
                "events_dropped",
                "Events not written: the queue was full, or their source too chatty",
                MetricType::Counter,
                &self.0.dropped_events,
            ),
        ] {
            encode(number, kind, encoder.encode_descriptor(name, help, None, kind)?)?;
        }
        Ok(())
    }
}

fn encode(number: &AtomicU64, kind: MetricType, encoder: MetricEncoder<'_>) -> fmt::Result {
    let value = number.load(Ordering::Relaxed);
    match kind {
        MetricType::Counter => ConstCounter::new(value).encode(encoder),
        _ => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder),
    }
}
