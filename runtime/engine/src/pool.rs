//! How many guests fit on this machine, and the places they wait for.
//!
//! Everything a guest's instances are made of comes from pools of a fixed size that wasmtime sets up once: address
//! space for memories, tables and stacks. What bounds their number is not memory but the kernel's count of mappings for
//! one process (`vm.max_map_count`): each pooled stack takes two from the start, a memory in use up to four. Past that
//! count the kernel refuses, so the pool is sized from it.
//!
//! A guest takes its place before its store is made, and the pools are a little larger than the number of places:
//! wasmtime's own error for a full pool is therefore never seen.

use std::{fs, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use wasmtime::{Enabled, PoolingAllocationConfig};

use crate::error::StartError;

/// What a guest with one memory takes of the kernel's mappings: the memory with its copy-on-write image, and the stack.
const MAPPINGS_PER_GUEST: u32 = 4 + 2;
/// Mappings left to the process itself: threads, libraries, compiled code, files.
const MAPPINGS_RESERVED: u32 = 4_500;
/// The kernel's default for `vm.max_map_count`.
const DEFAULT_MAX_MAP_COUNT: u32 = 65_530;
/// 4 GiB of address space for each memory: so many fit into the half of a 47-bit address space.
const MOST_GUESTS: u32 = 16_000;
/// How much larger than the number of places the pools are: a guest gives its place back just before its slots.
const SLACK: u32 = 64;
/// What a memory can grow to. The whole of a 32-bit address space.
const MEMORY_BYTES: usize = 4 << 30;
/// What a table can grow to. Programs compiled from C# have been seen with more than ten thousand elements.
const TABLE_ELEMENTS: usize = 65_536;

/// How much of each kind the pools hold for guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSizes {
    /// Guests with one memory each: the capacity in ordinary words.
    pub guests: u32,
    /// Core modules' instances: a guest has one to five.
    pub core_instances: u32,
    /// Linear memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
}

impl PoolSizes {
    /// Places for `guests` guests of the usual make.
    pub fn for_guests(guests: u32) -> Self {
        Self {
            guests,
            core_instances: guests.saturating_mul(5).max(32),
            memories: guests,
            tables: guests.saturating_mul(4).max(32),
        }
    }

    /// As many as this machine's kernel allows.
    pub fn from_machine() -> Self {
        let text = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
        Self::from_max_map_count(text.trim().parse().unwrap_or(DEFAULT_MAX_MAP_COUNT))
    }

    /// As many as a kernel with this `vm.max_map_count` allows.
    pub fn from_max_map_count(max_map_count: u32) -> Self {
        let guests = max_map_count.saturating_sub(MAPPINGS_RESERVED) / MAPPINGS_PER_GUEST;
        Self::for_guests(guests.clamp(16, MOST_GUESTS))
    }

    /// Half as many, or nothing if that would be too few to be of use.
    pub(crate) fn halved(&self) -> Option<Self> {
        (self.guests >= 16).then(|| Self::for_guests(self.guests / 2))
    }

    /// The pools for these sizes.
    pub(crate) fn config(&self) -> PoolingAllocationConfig {
        let mut config = PoolingAllocationConfig::new();
        config
            .total_component_instances(self.core_instances + SLACK)
            .total_core_instances(self.core_instances + 5 * SLACK)
            .total_memories(self.memories + SLACK)
            .total_tables(self.tables + 4 * SLACK)
            .total_stacks(self.guests + SLACK)
            .max_memories_per_module(4)
            .max_tables_per_module(8)
            .table_elements(TABLE_ELEMENTS)
            .max_memory_size(MEMORY_BYTES)
            // A slot that is used again is cleared rather than unmapped up to this size: no page faults for an
            // instance per request, and no more than this stays resident in a slot that nobody uses.
            .linear_memory_keep_resident(128 << 10)
            .table_keep_resident(8 << 10)
            .pagemap_scan(Enabled::Auto);
        config
    }
}

/// What one guest of an image needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) core_instances: u32,
    pub(crate) memories: u32,
    pub(crate) tables: u32,
}

/// The places, handed out in the order in which they were asked for.
#[derive(Debug)]
pub(crate) struct Pool {
    sizes: PoolSizes,
    /// How long a guest waits for its place.
    patience: Duration,
    guests: Arc<Semaphore>,
    core_instances: Arc<Semaphore>,
    memories: Arc<Semaphore>,
    tables: Arc<Semaphore>,
}

/// A guest's place. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    _parts: [OwnedSemaphorePermit; 4],
}

impl Pool {
    pub(crate) fn new(sizes: PoolSizes, patience: Duration) -> Self {
        let semaphore = |count: u32| Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(usize::MAX)));
        Self {
            sizes,
            patience,
            guests: semaphore(sizes.guests),
            core_instances: semaphore(sizes.core_instances),
            memories: semaphore(sizes.memories),
            tables: semaphore(sizes.tables),
        }
    }

    pub(crate) fn sizes(&self) -> PoolSizes {
        self.sizes
    }

    /// Why a guest with this need could never start here.
    pub(crate) fn refuse(&self, need: Need) -> Option<String> {
        let parts = [
            ("core instances", need.core_instances, self.sizes.core_instances),
            ("memories", need.memories, self.sizes.memories),
            ("tables", need.tables, self.sizes.tables),
        ];
        let (what, need, total) = parts.into_iter().find(|(_, need, total)| need > total)?;
        Some(format!("one instance needs {need} {what}, and there is room for {total} on this machine"))
    }

    /// Waits for a place.
    ///
    /// The parts are taken in one fixed order, so that two guests never wait for each other.
    pub(crate) async fn acquire(&self, need: Need) -> Result<Permit, StartError> {
        let deadline = Instant::now() + self.patience;
        let part = async |semaphore: &Arc<Semaphore>, count| match timeout_at(
            deadline,
            Arc::clone(semaphore).acquire_many_owned(count),
        )
        .await
        {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_closed)) => Err(StartError::Closed),
            Err(_elapsed) => Err(StartError::NoRoom { waited: self.patience, instances: self.sizes.guests }),
        };
        let guest = part(&self.guests, 1).await?;
        let core_instances = part(&self.core_instances, need.core_instances).await?;
        let memories = part(&self.memories, need.memories).await?;
        let tables = part(&self.tables, need.tables).await?;
        Ok(Permit { _parts: [guest, core_instances, memories, tables] })
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        for semaphore in [&self.guests, &self.core_instances, &self.memories, &self.tables] {
            semaphore.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_guests_fit_with_the_kernels_default() {
        for (max_map_count, guests) in [(0, 16), (5_000, 83), (65_530, 10_171), (1_048_576, 16_000)] {
            assert_eq!(PoolSizes::from_max_map_count(max_map_count).guests, guests, "{max_map_count}");
        }
    }

    const ONE: Need = Need { core_instances: 1, memories: 1, tables: 1 };

    #[tokio::test(start_paused = true)]
    async fn a_guest_waits_for_its_place_and_then_hears_why_it_got_none() {
        let pool = Pool::new(PoolSizes::for_guests(1), Duration::from_secs(5));
        let first = pool.acquire(ONE).await.unwrap();
        let error = pool.acquire(ONE).await.unwrap_err();
        assert!(matches!(error, StartError::NoRoom { instances: 1, .. }), "{error}");
        let (second, ()) = tokio::join!(pool.acquire(ONE), async { drop(first) });
        second.unwrap();
        pool.close();
        assert!(matches!(pool.acquire(ONE).await, Err(StartError::Closed)));
    }

    #[test]
    fn what_can_never_fit_is_told_at_once() {
        let pool = Pool::new(PoolSizes::for_guests(2), Duration::ZERO);
        assert_eq!(pool.refuse(ONE), None);
        let why = pool.refuse(Need { memories: 3, ..ONE }).unwrap();
        assert_eq!(why, "one instance needs 3 memories, and there is room for 2 on this machine");
    }
}
