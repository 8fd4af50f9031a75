//! How many instances of one container live at once: bounded by number, and by the memory that they share.

use super::ServeConfig;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The unit in which memory is reserved: a page of WebAssembly.
const PAGE_BYTES: u64 = 64 << 10;
/// By what part of the difference the estimate falls at an instance that used less: one heavy request is forgotten after
/// some fifty light ones.
const FORGET: u32 = 16;

/// Lets requests in, in their order. One for all ports of a container, as its instances share one memory limit.
///
/// Where there is a limit, each instance reserves what one of them has been seen to use; so load makes requests wait
/// instead of running the container out of memory.
#[derive(Debug)]
pub struct Gate {
    config: ServeConfig,
    instances: Arc<Semaphore>,
    memory: Option<Memory>,
    n_waiting: AtomicUsize,
}

#[derive(Debug)]
struct Memory {
    pages: Arc<Semaphore>,
    total: u32,
    /// Pages that an instance is thought to use.
    estimate: AtomicU32,
}

/// An instance's place. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    _instance: OwnedSemaphorePermit,
    _memory: Option<OwnedSemaphorePermit>,
}

impl Gate {
    /// A gate for instances that begin with `initial` bytes and share `limit` bytes, where there is a limit.
    pub fn new(config: ServeConfig, limit: Option<u64>, initial: u64) -> Self {
        let memory = limit.map(|limit| {
            let total = u32::try_from(limit / PAGE_BYTES).unwrap_or(u32::MAX >> 3).clamp(1, u32::MAX >> 3);
            let permits = usize::try_from(total).expect("32 bits fit").min(Semaphore::MAX_PERMITS);
            Memory {
                pages: Arc::new(Semaphore::new(permits)),
                total,
                estimate: AtomicU32::new(pages(initial)),
            }
        });
        let instances = Arc::new(Semaphore::new(config.concurrency.clamp(1, Semaphore::MAX_PERMITS)));
        Self { config, instances, memory, n_waiting: AtomicUsize::new(0) }
    }

    pub(crate) fn config(&self) -> &ServeConfig {
        &self.config
    }

    /// A place for an instance, waited for in order and within bounds.
    pub(crate) async fn pass(&self) -> Option<Pass> {
        if let Some(pass) = self.pass_now() {
            return Some(pass);
        }
        if self.n_waiting.fetch_add(1, Relaxed) >= self.config.queue {
            self.n_waiting.fetch_sub(1, Relaxed);
            return None;
        }
        let _waiting = Waiting(&self.n_waiting);
        timeout(self.config.queue_timeout, self.wait()).await.ok()?
    }

    fn pass_now(&self) -> Option<Pass> {
        let instance = Arc::clone(&self.instances).try_acquire_owned().ok()?;
        let memory = match &self.memory {
            Some(memory) => Some(Arc::clone(&memory.pages).try_acquire_many_owned(memory.needed()).ok()?),
            None => None,
        };
        Some(Pass { _instance: instance, _memory: memory })
    }

    async fn wait(&self) -> Option<Pass> {
        let instance = Arc::clone(&self.instances).acquire_owned().await.ok()?;
        let memory = match &self.memory {
            Some(memory) => Some(Arc::clone(&memory.pages).acquire_many_owned(memory.needed()).await.ok()?),
            None => None,
        };
        Some(Pass { _instance: instance, _memory: memory })
    }

    /// Learns from an instance that answered well how much memory one needs.
    pub(crate) fn learn(&self, peak_bytes: u64) {
        let Some(memory) = &self.memory else { return };
        let seen = pages(peak_bytes);
        let next = |estimate: u32| {
            let next = estimate_after(estimate, seen);
            (next != estimate).then_some(next)
        };
        // An estimate that stays as it is, is not written.
        let _unchanged = memory.estimate.fetch_update(Relaxed, Relaxed, next);
    }
}

impl Memory {
    fn needed(&self) -> u32 {
        self.estimate.load(Relaxed).clamp(1, self.total)
    }
}

fn pages(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PAGE_BYTES)).unwrap_or(u32::MAX)
}

/// Rises at once and falls slowly.
fn estimate_after(estimate: u32, seen: u32) -> u32 {
    if seen >= estimate { seen } else { estimate - (estimate - seen).div_ceil(FORGET) }
}

/// One more waits while this is there.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_estimate_rises_at_once_and_falls_slowly() {
        for (estimate, seen, after) in [(17, 17, 17), (17, 40, 40), (40, 17, 38), (18, 17, 17), (0, 0, 0)] {
            assert_eq!(estimate_after(estimate, seen), after, "{estimate} {seen}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn instances_wait_for_the_memory_that_they_share() {
        let config =
            ServeConfig { queue: 1, queue_timeout: Duration::from_secs(1), ..ServeConfig::default() };
        let gate = Gate::new(config, Some(4 * PAGE_BYTES), 2 * PAGE_BYTES);
        let first = gate.pass().await.unwrap();
        let second = gate.pass().await.unwrap();
        assert!(gate.pass().await.is_none(), "there is no room for a third");
        drop(first);
        // From now on one alone fills it.
        gate.learn(3 * PAGE_BYTES);
        assert!(gate.pass().await.is_none());
        drop(second);
        let heavy = gate.pass().await.unwrap();
        assert!(gate.pass().await.is_none());
        drop(heavy);
    }

    #[tokio::test]
    async fn an_instance_larger_than_the_limit_still_gets_its_turn() {
        let gate = Gate::new(ServeConfig::default(), Some(PAGE_BYTES / 2), 10 * PAGE_BYTES);
        assert!(gate.pass().await.is_some());
    }

    #[tokio::test]
    async fn without_a_limit_only_their_number_counts() {
        let gate =
            Gate::new(ServeConfig { concurrency: 2, queue: 0, ..ServeConfig::default() }, None, 1 << 30);
        let _both = (gate.pass().await.unwrap(), gate.pass().await.unwrap());
        assert!(gate.pass().await.is_none());
    }
}
