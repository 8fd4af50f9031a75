//! The machine's memory, shared by guests that have no limits of their own: before the kernel would end the whole
//! process, the guest that holds most is ended, as the kernel does it between processes.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use crate::control::{GuestControl, WeakControl};

/// Ticks of the guests' clock between two looks: in this time a core touches a few hundred megabytes.
const EVERY: u32 = 50;
/// Looks after a kill before the next, in which its memory is given back.
const REST: u32 = 10;

/// What guests there are, and when they are too much together.
#[derive(Debug)]
pub(crate) struct Pressure {
    /// Resident bytes of the process above which a guest must go; none where the machine does not tell its size.
    budget: Option<u64>,
    guests: Mutex<BTreeMap<u64, WeakControl>>,
    next_id: AtomicU64,
    /// Ticks until the next look.
    ticks: AtomicU32,
}

/// A guest is among those that may be ended while this is there.
#[derive(Debug)]
pub(crate) struct Registered {
    pressure: Arc<Pressure>,
    id: u64,
}

impl Pressure {
    pub(crate) fn new(budget: Option<u64>) -> Self {
        Self { budget, guests: Mutex::default(), next_id: AtomicU64::new(0), ticks: AtomicU32::new(EVERY) }
    }

    pub(crate) fn register(self: &Arc<Self>, control: &GuestControl) -> Registered {
        let id = self.next_id.fetch_add(1, Relaxed);
        self.guests().insert(id, control.downgrade());
        Registered { pressure: Arc::clone(self), id }
    }

    /// Called by the guests' clock; looks now and then.
    pub(crate) fn tick(&self) {
        if self.ticks.fetch_sub(1, Relaxed) > 1 {
            return;
        }
        let pause = if self.relieve() { EVERY * REST } else { EVERY };
        self.ticks.store(pause, Relaxed);
    }

    /// Ends the guest that holds most, if the process holds too much.
    fn relieve(&self) -> bool {
        let (Some(budget), Some(resident)) = (self.budget, resident_bytes()) else { return false };
        if resident <= budget {
            return false;
        }
        let guests: Vec<GuestControl> = self.guests().values().filter_map(WeakControl::upgrade).collect();
        let held = |guest: &GuestControl| guest.usage().memory_bytes;
        let Some(largest) = guests.iter().filter(|guest| !guest.is_killed()).max_by_key(|guest| held(guest))
        else {
            return false;
        };
        tracing::warn!(
            resident,
            budget,
            guest = held(largest),
            "memory is nearly used up; the guest that holds most is ended"
        );
        largest.kill_for_memory(budget);
        true
    }

    fn guests(&self) -> MutexGuard<'_, BTreeMap<u64, WeakControl>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.pressure.guests().remove(&self.id);
    }
}

/// Six sevenths of what this process may use at most: of the machine's memory, or of its control group's where that is
/// less.
pub(crate) fn budget_of_machine() -> Option<u64> {
    let total = total_bytes(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = group_files(&groups).into_iter().filter_map(|file| {
        // `max` means that there is no limit.
        fs::read_to_string(file).ok()?.trim().parse().ok()
    });
    Some(limits.fold(total, u64::min) / 7 * 6)
}

/// `MemTotal` of `/proc/meminfo`.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// The files with the memory limits of the groups of `/proc/self/cgroup`, of either version.
fn group_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        // A limit holds for all groups below: `/a/b` has those of `/a/b`, `/a` and `/`.
        let levels = path.match_indices('/').map(|(at, _)| &path[..at]).chain([path]);
        let (folder, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        files.extend(levels.map(|level| format!("{folder}{}/{file}", level.trim_end_matches('/'))));
    }
    files.dedup();
    files
}

/// The memory of this process that is in use now.
fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_its_memory() {
        assert_eq!(total_bytes("MemTotal:       24000000 kB\nMemFree: 1 kB\n"), Some(24_576_000_000));
        assert_eq!(total_bytes("MemFree: 1 kB\n"), None);
        assert!(budget_of_machine().is_some_and(|budget| budget > 1 << 20));
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 16));
    }

    #[test]
    fn the_limits_of_control_groups_are_found() {
        assert_eq!(
            group_files("0::/user.slice/wharf\n"),
            [
                "/sys/fs/cgroup/memory.max",
                "/sys/fs/cgroup/user.slice/memory.max",
                "/sys/fs/cgroup/user.slice/wharf/memory.max"
            ]
        );
        assert_eq!(
            group_files("4:memory:/a\n3:cpuset:/\n0::/\n"),
            [
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory.max"
            ]
        );
    }
}
