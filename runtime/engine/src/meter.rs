//! Memory and computing time, counted and bounded: for one guest, or for several that share a limit.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::quota::Quota;

/// What was used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Computing time. Waiting in a host call is not part of it.
    pub cpu: Duration,
    /// Linear memories and tables now.
    pub memory_bytes: u64,
    /// The most there was of it at any time.
    pub memory_peak: u64,
}

/// The guest wanted more memory than its limit: the cause of the trap that ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the guest wanted more than its memory limit of {limit} bytes")]
pub struct MemoryLimitReached {
    /// The limit in bytes.
    pub limit: u64,
}

/// Counts what guests use and says when it is too much. Clones are the same meter.
#[derive(Debug, Clone)]
pub struct Meter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory_limit: Option<u64>,
    memory: AtomicU64,
    memory_peak: AtomicU64,
    cpu_nanos: AtomicU64,
    quota: Option<Mutex<Quota>>,
    /// What the quota's times are counted from.
    started: Instant,
}

impl Meter {
    /// A meter with these limits, that has counted nothing.
    pub fn new(memory_bytes: Option<u64>, cpu_millis: Option<u32>) -> Self {
        Self(Arc::new(Inner {
            memory_limit: memory_bytes,
            memory: AtomicU64::new(0),
            memory_peak: AtomicU64::new(0),
            cpu_nanos: AtomicU64::new(0),
            quota: cpu_millis.map(|millis| Mutex::new(Quota::new(millis, Duration::ZERO))),
            started: Instant::now(),
        }))
    }

    /// What was counted.
    pub fn usage(&self) -> Usage {
        Usage {
            cpu: Duration::from_nanos(self.0.cpu_nanos.load(Relaxed)),
            memory_bytes: self.0.memory.load(Relaxed),
            memory_peak: self.0.memory_peak.load(Relaxed),
        }
    }

    /// Counts `bytes` more, or nothing if that is over the limit.
    pub(crate) fn add_memory(&self, bytes: u64) -> Result<(), MemoryLimitReached> {
        let limit = self.0.memory_limit.unwrap_or(u64::MAX);
        let more = |now: u64| now.checked_add(bytes).filter(|&total| total <= limit);
        let before = self
            .0
            .memory
            .fetch_update(Relaxed, Relaxed, more)
            .map_err(|_over| MemoryLimitReached { limit })?;
        self.0.memory_peak.fetch_max(before + bytes, Relaxed);
        Ok(())
    }

    /// Takes back what was counted.
    pub(crate) fn release_memory(&self, bytes: u64) {
        self.0.memory.fetch_sub(bytes, Relaxed);
    }

    /// Counts computing time, and says how long to wait before the next.
    pub(crate) fn spend(&self, spent: Duration) -> Option<Duration> {
        self.0.cpu_nanos.fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        let mut quota = self.0.quota.as_ref()?.lock().expect("arithmetic on a quota does not panic");
        quota.spend(spent, self.0.started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_up_to_the_limit() {
        let meter = Meter::new(Some(100), None);
        assert_eq!(meter.add_memory(60), Ok(()));
        assert_eq!(meter.add_memory(41), Err(MemoryLimitReached { limit: 100 }));
        assert_eq!(meter.add_memory(40), Ok(()));
        meter.release_memory(60);
        let usage = meter.usage();
        assert_eq!((usage.memory_bytes, usage.memory_peak), (40, 100));
    }

    #[test]
    fn a_meter_without_limits_only_counts() {
        let meter = Meter::new(None, None);
        assert_eq!(meter.add_memory(u64::MAX / 2), Ok(()));
        assert_eq!(meter.spend(Duration::from_secs(5)), None);
        assert_eq!(meter.usage().cpu, Duration::from_secs(5));
    }
}
