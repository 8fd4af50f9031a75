//! Probes: when to ask, and what the answers add up to. Asking itself is [`crate::prober`]'s.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Probe};

/// Which question a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    /// Has it come up? The others wait for this one.
    Startup,
    /// Does it still live?
    Liveness,
    /// Should it get requests?
    Readiness,
}

impl ProbeKind {
    /// As in `liveness probe`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }

    /// As in `Liveness probe failed`.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is well.
    Success,
    /// It is not, and how that shows.
    Failure(String),
    /// It could not be asked; nothing changes by that.
    Unknown(String),
}

/// The course of a container's probes in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Probes {
    startup: Course,
    liveness: Course,
    readiness: Course,
}

/// The course of one probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Course {
    /// When to ask next; `None` while asking, and for a probe that is not there.
    pub(crate) due: Option<Timestamp>,
    successes: i32,
    failures: i32,
    /// What the answers add up to; `None` before they do.
    holds: Option<bool>,
}

impl Course {
    /// Whether it failed as often as it takes.
    pub(crate) fn has_failed(&self) -> bool {
        self.holds == Some(false)
    }
}

/// The probe of this kind, if the container has one.
pub(crate) fn of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
    }
}

/// The probes to be asked now: the startup probe alone until it has passed.
pub(crate) fn active(container: &Container, started: bool) -> impl Iterator<Item = ProbeKind> {
    let kinds: &[ProbeKind] = match (started, container.startup_probe.is_some()) {
        (false, true) => &[ProbeKind::Startup],
        (false, false) => &[],
        (true, _) => &[ProbeKind::Liveness, ProbeKind::Readiness],
    };
    kinds.iter().copied()
}

impl Probes {
    /// The course of a fresh run; `None` for a container without probes.
    pub(crate) fn of(container: &Container, since: Timestamp) -> Option<Box<Self>> {
        let course = |kind| {
            let due = of(container, kind).map(|probe| {
                since + SignedDuration::from_secs(i64::from(probe.initial_delay_seconds.unwrap_or(0).max(0)))
            });
            Course { due, ..Course::default() }
        };
        let probes = Self {
            startup: course(ProbeKind::Startup),
            liveness: course(ProbeKind::Liveness),
            readiness: course(ProbeKind::Readiness),
        };
        (probes != Self::default()).then(|| Box::new(probes))
    }

    pub(crate) fn course(&self, kind: ProbeKind) -> &Course {
        match kind {
            ProbeKind::Startup => &self.startup,
            ProbeKind::Liveness => &self.liveness,
            ProbeKind::Readiness => &self.readiness,
        }
    }

    fn course_mut(&mut self, kind: ProbeKind) -> &mut Course {
        match kind {
            ProbeKind::Startup => &mut self.startup,
            ProbeKind::Liveness => &mut self.liveness,
            ProbeKind::Readiness => &mut self.readiness,
        }
    }

    /// The question is being asked.
    pub(crate) fn asked(&mut self, kind: ProbeKind) {
        self.course_mut(kind).due = None;
    }

    /// Takes an answer in; whether the container now passes this probe, if that is settled.
    pub(crate) fn answered(
        &mut self,
        kind: ProbeKind,
        probe: &Probe,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Option<bool> {
        let course = self.course_mut(kind);
        let period = i64::from(probe.period_seconds.unwrap_or(10).max(1));
        course.due = Some(now + SignedDuration::from_secs(period));
        match outcome {
            Outcome::Success => {
                course.failures = 0;
                course.successes = course.successes.saturating_add(1);
                if course.successes >= probe.success_threshold.unwrap_or(1) {
                    course.holds = Some(true);
                }
            }
            Outcome::Failure(_) => {
                course.successes = 0;
                course.failures = course.failures.saturating_add(1);
                if course.failures >= probe.failure_threshold.unwrap_or(3) {
                    course.holds = Some(false);
                }
            }
            Outcome::Unknown(_) => {}
        }
        course.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the answers (`+`, `-`, `?`) add up to after each.
    fn check(kind: ProbeKind, thresholds: (i32, i32), answers: &str, expect: &str) {
        let probe = Probe {
            success_threshold: Some(thresholds.0),
            failure_threshold: Some(thresholds.1),
            ..Probe::default()
        };
        let container = Container { readiness_probe: Some(probe.clone()), ..Container::default() };
        let mut probes = Probes::of(&container, Timestamp::UNIX_EPOCH).unwrap();
        let got: String = answers
            .chars()
            .map(|answer| {
                let outcome = match answer {
                    '+' => Outcome::Success,
                    '-' => Outcome::Failure(String::new()),
                    _ => Outcome::Unknown(String::new()),
                };
                match probes.answered(kind, &probe, &outcome, Timestamp::UNIX_EPOCH) {
                    Some(true) => 'y',
                    Some(false) => 'n',
                    None => '.',
                }
            })
            .collect();
        assert_eq!(got, expect, "{answers}");
    }

    #[test]
    fn it_takes_the_thresholds_in_a_row_to_change_what_holds() {
        check(ProbeKind::Readiness, (1, 3), "+--+---+", "yyyyyyny");
        check(ProbeKind::Liveness, (1, 3), "--+---", "..yyyn");
        check(ProbeKind::Readiness, (2, 1), "+-++", ".nny");
        check(ProbeKind::Startup, (1, 2), "?-?-", "...n");
    }

    #[test]
    fn only_the_startup_probe_is_asked_before_it_has_passed() {
        let with = |startup| Container {
            startup_probe: startup,
            liveness_probe: Some(Probe::default()),
            ..Container::default()
        };
        let list = |container: &Container, started| {
            active(container, started).map(ProbeKind::word).collect::<Vec<_>>()
        };
        assert_eq!(list(&with(Some(Probe::default())), false), ["startup"]);
        assert_eq!(list(&with(Some(Probe::default())), true), ["liveness", "readiness"]);
        assert_eq!(list(&with(None), false), [""; 0]);
    }

    #[test]
    fn a_probe_waits_for_its_initial_delay_and_then_its_period() {
        let probe = Probe { initial_delay_seconds: Some(5), period_seconds: Some(7), ..Probe::default() };
        let container = Container { liveness_probe: Some(probe.clone()), ..Container::default() };
        let mut probes = Probes::of(&container, Timestamp::UNIX_EPOCH).unwrap();
        let due = |probes: &Probes| probes.course(ProbeKind::Liveness).due.map(Timestamp::as_second);
        assert_eq!(due(&probes), Some(5));
        probes.asked(ProbeKind::Liveness);
        assert_eq!(due(&probes), None);
        let now = Timestamp::from_second(6).unwrap();
        probes.answered(ProbeKind::Liveness, &probe, &Outcome::Success, now);
        assert_eq!(due(&probes), Some(13));
        assert!(Probes::of(&Container::default(), now).is_none());
    }
}
