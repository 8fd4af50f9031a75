//! How long to wait before the next try: doubling, bounded, forgiven after a quiet time.

use jiff::{SignedDuration, Timestamp};

const FIRST_SECS: u16 = 10;
const LONGEST_SECS: u16 = 300;
const FORGIVEN_AFTER: SignedDuration = SignedDuration::from_secs(2 * 300);

/// The back-off of one container, or of one image in one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BackOff {
    /// The current delay; 0 if there was no failure yet.
    delay_secs: u16,
    /// When the delay was last raised, that is when the last try began.
    raised: Timestamp,
}

impl BackOff {
    /// Until when to wait after something that ended at `ended`: `None` if a try may begin at once.
    pub(crate) fn until(&self, ended: Timestamp, now: Timestamp) -> Option<Timestamp> {
        if self.delay_secs == 0 || self.is_forgiven(ended) {
            return None;
        }
        let until = ended + SignedDuration::from_secs(i64::from(self.delay_secs));
        (until > now).then_some(until)
    }

    /// A try begins: the next failure waits longer.
    pub(crate) fn raise(&mut self, ended: Timestamp, now: Timestamp) {
        self.delay_secs = match self.delay_secs {
            0 => FIRST_SECS,
            _ if self.is_forgiven(ended) => FIRST_SECS,
            secs => (secs * 2).min(LONGEST_SECS),
        };
        self.raised = now;
    }

    /// The current delay in upstream's notation: `10s`, `1m20s`.
    pub(crate) fn delay(&self) -> String {
        match (self.delay_secs / 60, self.delay_secs % 60) {
            (0, secs) => format!("{secs}s"),
            (mins, secs) => format!("{mins}m{secs}s"),
        }
    }

    fn is_forgiven(&self, ended: Timestamp) -> bool {
        ended.duration_since(self.raised) > FORGIVEN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// A container that runs for each of `runs` seconds, then fails: how long each restart waits.
    fn check(runs: &[i64], expect: Expect) {
        let mut now = Timestamp::UNIX_EPOCH;
        let mut backoff = BackOff::default();
        let mut waits = Vec::new();
        for run in runs {
            now += SignedDuration::from_secs(*run);
            let ended = now;
            let wait = backoff.until(ended, now).map_or_else(
                || "at once".to_owned(),
                |until| {
                    now = until;
                    backoff.delay()
                },
            );
            backoff.raise(ended, now);
            waits.push(wait);
        }
        expect.assert_eq(&waits.join(" "));
    }

    #[test]
    fn the_wait_doubles_from_ten_seconds_to_five_minutes() {
        check(&[1; 8], expect!["at once 10s 20s 40s 1m20s 2m40s 5m0s 5m0s"]);
    }

    #[test]
    fn ten_quiet_minutes_are_forgiven() {
        check(&[1, 1, 1, 601, 1], expect!["at once 10s 20s at once 10s"]);
        check(&[1, 1, 1, 600, 1], expect!["at once 10s 20s 40s 1m20s"]);
    }
}
