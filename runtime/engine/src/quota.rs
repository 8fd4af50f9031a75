//! A share of a core, as a bucket: it fills at the rate of the share, computing empties it. Pure.

use std::time::Duration;

/// What a bucket holds at most, as the time in which it fills: a guest that was idle may run at full speed until its
/// share of this time is used up. The same period as the kernel's bandwidth control has.
const BURST: Duration = Duration::from_millis(100);
/// A guest that waits is let go once it can compute for this long, so that it does not wake for a few instructions.
const WORTH_WAKING: Duration = Duration::from_millis(2);

/// The state of one share. Time is given in, as the time since some fixed moment.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    /// Thousandths of a core.
    millis: u32,
    /// Computing time in the bucket in nanoseconds; below zero after a run that took longer than there was.
    level: i64,
    /// When `level` was true.
    at: Duration,
}

impl Quota {
    /// A full bucket.
    pub(crate) fn new(millis: u32, now: Duration) -> Self {
        let mut quota = Self { millis: millis.max(1), level: 0, at: now };
        quota.level = quota.capacity();
        quota
    }

    fn capacity(&self) -> i64 {
        nanos(BURST) * i64::from(self.millis) / 1000
    }

    /// Takes `spent` out, and says how long to wait before computing goes on.
    pub(crate) fn spend(&mut self, spent: Duration, now: Duration) -> Option<Duration> {
        let millis = i64::from(self.millis);
        let passed = nanos(now.saturating_sub(self.at)).min(nanos(Duration::from_secs(3600)));
        self.at = now;
        self.level = (self.level + passed * millis / 1000).min(self.capacity()) - nanos(spent);
        if self.level > 0 {
            return None;
        }
        let wanted = nanos(WORTH_WAKING).min(self.capacity());
        let missing = u64::try_from(wanted - self.level).expect("the level is below what is wanted");
        Some(Duration::from_nanos(missing.saturating_mul(1000) / u64::from(self.millis)))
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest that always wants to compute, in steps of a tick, over ten seconds; what it got in thousandths.
    fn share_of_a_spinner(millis: u32, tick: Duration) -> u32 {
        let (mut now, mut spent) = (Duration::ZERO, Duration::ZERO);
        let mut quota = Quota::new(millis, now);
        while now < Duration::from_secs(10) {
            now += tick;
            spent += tick;
            now += quota.spend(tick, now).unwrap_or_default();
        }
        u32::try_from(spent.as_millis() * 1000 / now.as_millis()).unwrap()
    }

    #[test]
    fn a_spinner_gets_its_share_and_no_more() {
        for (millis, tick_millis) in [(10, 1), (100, 1), (500, 1), (500, 10), (1500, 1)] {
            let share = share_of_a_spinner(millis, Duration::from_millis(tick_millis));
            let wanted = millis.min(1000);
            assert!(share.abs_diff(wanted) <= 1 + wanted / 50, "{millis}m got {share}m");
        }
    }

    #[test]
    fn an_idle_guest_saves_up_one_burst_at_most() {
        let mut quota = Quota::new(500, Duration::ZERO);
        let hour = Duration::from_secs(3600);
        assert_eq!(quota.spend(Duration::from_millis(49), hour), None);
        assert!(quota.spend(Duration::from_millis(1), hour).is_some());
    }

    #[test]
    fn debt_is_paid_back() {
        let mut quota = Quota::new(100, Duration::ZERO);
        let wait = quota.spend(Duration::from_millis(110), Duration::ZERO).unwrap();
        assert_eq!(wait, Duration::from_millis(1020));
        assert_eq!(quota.spend(Duration::ZERO, wait), None);
    }
}
