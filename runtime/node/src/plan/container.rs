//! The next step of one container: started, asked how it is, told to end, run again.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::{Action, PodActions};
use crate::{
    probe::{self, Course, ProbeKind},
    spec::{self, Role},
    state::{ContainerState, Run},
};

/// The next step of one container that should run.
pub(super) fn drive(
    pod: &Pod,
    index: usize,
    container: &ContainerState,
    now: Timestamp,
    plan: &mut PodActions,
) {
    match &container.run {
        Run::Waiting { retry_at: Some(retry_at), .. } if *retry_at > now => plan.at(*retry_at),
        // Waiting -> Running
        Run::Waiting { .. } => plan.push(Action::Start(index)),
        // Running -> Running | Exited
        Run::Running(run) => match run.kill_at {
            _ if run.killed => {}
            Some(kill_at) if kill_at <= now => plan.push(Action::Kill(index)),
            Some(kill_at) => {
                plan.at(kill_at);
                ask_readiness(index, container, now, plan);
            }
            None if is_changed(pod, index, &run.image) => {
                let message = format!("Container {} definition changed, will be restarted", name(pod, index));
                plan.push(Action::Stop { container: index, grace: spec::grace(pod), message });
            }
            None => watch(pod, index, container, run.started, now, plan),
        },
        // Exited -> Running
        Run::Exited(end) if end.replaced => plan.push(Action::Start(index)),
        Run::Exited(end) if spec::restart_policy(pod, index).restarts(end.exit_code) => {
            match container.backoff.until(end.finished_at.unwrap_or(now), now) {
                None => plan.push(Action::Start(index)),
                // What failed is not what would run now.
                Some(_) if is_changed(pod, index, &end.image) => plan.push(Action::Start(index)),
                Some(until) if container.backing_off != Some(until) => {
                    plan.push(Action::BackOff(index, until));
                }
                Some(until) => plan.at(until),
            }
        }
        Run::Exited(_) => {}
    }
}

/// Asks a running container how it is, and ends it when the answers say so.
fn watch(
    pod: &Pod,
    index: usize,
    container: &ContainerState,
    started: bool,
    now: Timestamp,
    plan: &mut PodActions,
) {
    let (Some(probes), Some(spec)) = (&container.probes, spec::container(pod, index)) else { return };
    for kind in probe::active(spec, started) {
        let Some(probe) = probe::of(spec, kind) else { continue };
        let course = probes.course(kind);
        if course.has_failed() && kind != ProbeKind::Readiness {
            let message = format!("Container {} failed {} probe, will be restarted", spec.name, kind.word());
            let grace =
                probe.termination_grace_period_seconds.map_or_else(|| spec::grace(pod), spec::grace_of);
            plan.push(Action::Stop { container: index, grace, message });
            return;
        }
        ask(index, kind, course, now, plan);
    }
}

/// A container that was told to end still says whether it takes requests, and nothing else.
pub(super) fn ask_readiness(index: usize, container: &ContainerState, now: Timestamp, plan: &mut PodActions) {
    if let (Some(probes), Some(run)) = (&container.probes, container.running())
        && run.started
        && !run.killed
        && run.kill_at.is_none_or(|kill_at| kill_at > now)
    {
        ask(index, ProbeKind::Readiness, probes.course(ProbeKind::Readiness), now, plan);
    }
}

fn ask(index: usize, kind: ProbeKind, course: &Course, now: Timestamp, plan: &mut PodActions) {
    match course.due {
        Some(due) if due <= now => plan.push(Action::Probe(index, kind)),
        Some(due) => plan.at(due),
        None => {}
    }
}

/// Whether a container has ended and is not to run again.
pub(crate) fn has_ended_for_good(pod: &Pod, index: usize, container: &ContainerState) -> bool {
    let policy = spec::restart_policy(pod, index);
    container.exited().is_some_and(|end| !end.replaced && !policy.restarts(end.exit_code))
}

/// Whether the image that a container ran is another one than its spec names now: the one field that may change. An init
/// container goes on with the one it has.
pub(crate) fn is_changed(pod: &Pod, index: usize, ran: &str) -> bool {
    let image = spec::container(pod, index).and_then(|container| container.image.as_deref());
    spec::role(pod, index) != Role::Init && image.is_some_and(|image| image != ran)
}

pub(super) fn name(pod: &Pod, index: usize) -> &str {
    spec::container(pod, index).map_or("", |container| container.name.as_str())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::expect;

    use super::*;
    use crate::{
        fixtures::{pod, state},
        plan::{plan_pod, tests::check},
        state::Ending,
    };

    #[test]
    fn what_has_ended_is_run_again_as_the_policy_says_with_a_back_off() {
        check("Always a", "a:exit0", expect!["Start(0)"]);
        check("OnFailure a", "a:exit0", expect!["End(Finished); TearDown"]);
        check("OnFailure a", "a:exit3", expect!["Start(0)"]);
        check("Never a", "a:exit3", expect!["End(Finished); TearDown"]);
        check("Never a b", "a:exit3 b:run", expect![""]);
        check("Always a", "a:crash", expect!["BackOff(0, 1970-01-01T00:16:50Z)"]);
        check("Always a", "a:backoff", expect!["look again in 10s"]);
    }

    #[test]
    fn a_container_whose_image_changes_is_run_again() {
        check(
            "Always a newimage",
            "a:run",
            expect![[
                r#"Stop { container: 0, grace: 30s, message: "Container a definition changed, will be restarted" }"#
            ]],
        );
        check("Never a newimage", "a:replaced", expect!["Start(0)"]);
        check("Always a newimage", "a:replaced", expect!["Start(0)"]);
        check("Always a newimage", "a:backoff", expect!["Start(0)"]);
        // It had ended by itself.
        check("Never a newimage", "a:exit0", expect!["End(Finished); TearDown"]);
    }

    #[test]
    fn a_container_that_was_told_to_end_is_still_asked_whether_it_is_ready() {
        let now = Timestamp::from_second(1000).unwrap();
        let check = |text: &str, expect: &[Action]| {
            let mut pod = pod("Always a deleted30");
            let container = &mut pod.spec.as_mut().unwrap().containers[0];
            container.readiness_probe = Some(Default::default());
            container.liveness_probe = Some(Default::default());
            let probes = probe::Probes::of(container, now);
            let mut state = state(&pod, text, now);
            state.containers[0].probes = probes;
            assert_eq!(plan_pod(&pod, &state, now).actions, expect, "{text}");
        };
        check("a:stop5 deleting", &[Action::Probe(0, ProbeKind::Readiness)]);
        check("a:stop0 deleting", &[Action::Kill(0)]);
        check(
            "a:run",
            &[
                Action::End(Ending::Deleted),
                Action::Stop {
                    container: 0,
                    grace: Duration::from_secs(30),
                    message: "Stopping container a".to_owned(),
                },
                Action::Probe(0, ProbeKind::Readiness),
            ],
        );
    }
}
