//! What to do next for a pod: the decision, with no IO.
//!
//! [`plan_pod`] looks at the spec, at what runs, and at the clock, and says which actions bring the one nearer to the
//! other, in order. It is asked again after every change, so it only ever says the next steps; an action that fails
//! leaves a state from which the next plan follows. When nothing is to be done now, `look_again` says when time alone
//! may change that.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use crate::{
    probe::{self, Course, ProbeKind},
    spec::{self, Role},
    state::{ContainerState, Ending, PodState, Run, Step},
};

/// What an evicted pod gets to end in, whatever its own grace: it takes what others need.
const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Remember why the pod ends.
    End(Ending),
    /// Make or refresh its volumes.
    MountVolumes,
    /// Give it its address.
    CreateSandbox,
    /// Look how much its volumes hold.
    MeasureVolumes,
    /// Run a container, for the first time or again.
    Start(usize),
    /// A container waits for its back-off to pass.
    BackOff(usize, Timestamp),
    /// Tell a container to end.
    Stop { container: usize, grace: Duration, message: String },
    /// End a container now.
    Kill(usize),
    /// A container is to be killed earlier than was said before.
    KillBy(usize, Timestamp),
    /// Ask a container how it is.
    Probe(usize, ProbeKind),
    /// Give back the pod's address and volumes.
    TearDown,
    /// Report that the object can go.
    ReportEnded,
}

/// What to do now, and when to look again if nothing happens meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodActions {
    pub(crate) actions: Vec<Action>,
    pub(crate) look_again: Option<Timestamp>,
}

impl PodActions {
    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn at(&mut self, time: Timestamp) {
        self.look_again = Some(self.look_again.map_or(time, |earlier| earlier.min(time)));
    }
}

/// Decides the next steps for a pod.
pub(crate) fn plan_pod(pod: &Pod, state: &PodState, now: Timestamp) -> PodActions {
    let mut plan = PodActions::default();
    let deleted = spec::deletion_timestamp(pod).is_some();
    if state.torn_down {
        if deleted && !state.reported_ended && state.ending != Some(Ending::Gone) {
            plan.push(Action::ReportEnded);
        }
        return plan;
    }
    let decided = match &state.ending {
        Some(ending) => Some(ending.clone()),
        None => {
            let ending = ending(pod, state, now, &mut plan);
            plan.actions.extend(ending.clone().map(Action::End));
            ending
        }
    };
    match decided {
        Some(ending) => end(pod, state, &ending, now, &mut plan),
        None => proceed(pod, state, now, &mut plan),
    }
    plan
}

/// Why the pod as a whole is to end, if it is.
fn ending(pod: &Pod, state: &PodState, now: Timestamp, plan: &mut PodActions) -> Option<Ending> {
    if spec::deletion_timestamp(pod).is_some() {
        return Some(Ending::Deleted);
    }
    if let Some(deadline) = spec::deadline(pod, state.started_at) {
        if deadline <= now {
            return Some(Ending::DeadlineExceeded);
        }
        plan.at(deadline);
    }
    is_finished(pod, state).then_some(Ending::Finished)
}

/// Whether no container of the pod will run again.
fn is_finished(pod: &Pod, state: &PodState) -> bool {
    let for_good = |index: usize, container: &ContainerState| {
        container
            .exited()
            .is_some_and(|end| !end.replaced && !spec::restart_policy(pod, index).restarts(end.exit_code))
    };
    let each = || state.containers.iter().enumerate();
    let failed_init = each().any(|(index, container)| {
        spec::role(pod, index) == Role::Init
            && for_good(index, container)
            && container.exited().is_some_and(|end| end.exit_code != 0)
    });
    let mut mains = each().filter(|(index, _)| spec::role(pod, *index) == Role::Main).peekable();
    failed_init || mains.peek().is_some() && mains.all(|(index, container)| for_good(index, container))
}

/// Ends what runs, mains before sidecars and these in the reverse of their order, then gives everything back.
fn end(pod: &Pod, state: &PodState, ending: &Ending, now: Timestamp, plan: &mut PodActions) {
    let by = match ending {
        Ending::Gone => Some(now),
        Ending::Shutdown { kill_at } => Some(*kill_at),
        Ending::Evicted(_) => Some(kill_time(state.ending_since.unwrap_or(now), EVICTION_GRACE)),
        _ => Some(end_of_grace(pod, state.ending_since.unwrap_or(now))),
    };
    let running =
        || state.containers.iter().enumerate().filter(|(_, container)| container.running().is_some());
    // Sidecars stand before the others.
    let is_needed =
        |index: usize| spec::role(pod, index) == Role::Sidecar && running().any(|(other, _)| other > index);
    let mut runs = false;
    for (index, container) in running() {
        runs = true;
        let Some(run) = container.running() else { continue };
        match (run.kill_at, by) {
            _ if run.killed => {}
            (Some(kill_at), Some(by)) if by.max(now) < kill_at => {
                plan.push(Action::KillBy(index, by.max(now)));
            }
            (Some(kill_at), _) if kill_at <= now => plan.push(Action::Kill(index)),
            (Some(kill_at), _) => plan.at(kill_at),
            (None, _) if is_needed(index) => {}
            (None, by) => {
                let grace = spec::grace(pod);
                let left = by.map_or(grace, |by| {
                    grace.min(Duration::try_from(by.duration_since(now)).unwrap_or(Duration::ZERO))
                });
                let message = format!("Stopping container {}", name(pod, index));
                plan.push(Action::Stop { container: index, grace: left, message });
            }
        }
        ask_readiness(index, container, now, plan);
    }
    if !runs {
        plan.push(Action::TearDown);
    }
}

/// When a pod that ends since then has had its grace: counted from its deletion, which is known to the second only, or
/// from when the node heard of it, whichever is sooner.
fn end_of_grace(pod: &Pod, since: Timestamp) -> Timestamp {
    let counted = kill_time(since, spec::grace(pod));
    // The fraction that the time in the object lacks is the pod's.
    let deleted = spec::deletion_timestamp(pod).map(|at| kill_time(at, Duration::from_secs(1)));
    deleted.map_or(counted, |deleted| deleted.min(counted))
}

/// Brings the pod on its way: volumes, sandbox, init containers one after the other, then all others.
fn proceed(pod: &Pod, state: &PodState, now: Timestamp, plan: &mut PodActions) {
    if !step(&state.volumes, Action::MountVolumes, now, plan) {
        return;
    }
    if !step(&state.sandbox, Action::CreateSandbox, now, plan) {
        return;
    }
    if let Some(at) = state.measure_at {
        if at <= now {
            plan.push(Action::MeasureVolumes);
        } else {
            plan.at(at);
        }
    }
    for (index, container) in state.containers.iter().enumerate() {
        match spec::role(pod, index) {
            Role::Init => {
                let done = container.exited().is_some_and(|end| end.exit_code == 0);
                if !done {
                    drive(pod, index, container, now, plan);
                    return;
                }
            }
            Role::Sidecar => {
                drive(pod, index, container, now, plan);
                if !container.running().is_some_and(|run| run.started) && !has_been_up(state, index) {
                    return;
                }
            }
            Role::Main => drive(pod, index, container, now, plan),
        }
    }
}

/// Whether containers after this one have begun already: a sidecar that restarts does not hold them up again.
fn has_been_up(state: &PodState, index: usize) -> bool {
    let begun = |container: &ContainerState| match &container.run {
        Run::Waiting { .. } => container.last.is_some(),
        Run::Running(_) | Run::Exited(_) => true,
    };
    state.containers.iter().skip(index + 1).any(begun)
}

/// Plans a preparatory step; whether the next may follow it.
fn step(step: &Step, action: Action, now: Timestamp, plan: &mut PodActions) -> bool {
    match step {
        Step::Done => true,
        Step::Failed(failure) if failure.retry_at > now => {
            plan.at(failure.retry_at);
            false
        }
        // What was done before is good enough meanwhile.
        Step::Stale(Some(failure)) if failure.retry_at > now => {
            plan.at(failure.retry_at);
            true
        }
        // The rest follows in the same plan: who acts stops at the first failure.
        Step::Todo | Step::Stale(_) | Step::Failed(_) => {
            plan.push(action);
            true
        }
    }
}

/// The next step of one container that should run.
fn drive(pod: &Pod, index: usize, container: &ContainerState, now: Timestamp, plan: &mut PodActions) {
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
fn ask_readiness(index: usize, container: &ContainerState, now: Timestamp, plan: &mut PodActions) {
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

/// Whether the image that a container ran is another one than its spec names now: the one field that may change. An init
/// container goes on with the one it has.
pub(crate) fn is_changed(pod: &Pod, index: usize, ran: &str) -> bool {
    let image = spec::container(pod, index).and_then(|container| container.image.as_deref());
    spec::role(pod, index) != Role::Init && image.is_some_and(|image| image != ran)
}

fn name(pod: &Pod, index: usize) -> &str {
    spec::container(pod, index).map_or("", |container| container.name.as_str())
}

/// When a container told to end at `now` with this grace is killed.
pub(crate) fn kill_time(now: Timestamp, grace: Duration) -> Timestamp {
    SignedDuration::try_from(grace)
        .ok()
        .and_then(|grace| now.checked_add(grace).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{pod, state};
    use expect_test::{Expect, expect};

    /// `spec` is a pod in short (`Never init:a side:b c`), `state` its containers (`a:exit0 b:run c:wait`), with all
    /// preparations done unless it says `new`.
    fn check(spec: &str, text: &str, expect: Expect) {
        let pod = pod(spec);
        let now = Timestamp::from_second(1000).unwrap();
        let plan = plan_pod(&pod, &state(&pod, text, now), now);
        let mut lines: Vec<String> = plan.actions.iter().map(|action| format!("{action:?}")).collect();
        lines
            .extend(plan.look_again.map(|at| format!("look again in {}s", at.duration_since(now).as_secs())));
        expect.assert_eq(&lines.join("; "));
    }

    #[test]
    fn a_new_pod_gets_volumes_an_address_and_its_containers() {
        check("Always a b", "new", expect!["MountVolumes; CreateSandbox; Start(0); Start(1)"]);
        check("Always a b", "a:run b:run", expect![""]);
        check("Always a b", "a:run b:wait", expect!["Start(1)"]);
        check("Always a", "a:wait+5", expect!["look again in 5s"]);
    }

    #[test]
    fn init_containers_run_in_order_and_before_the_others() {
        check("Always init:i init:j a", "i:wait j:wait a:wait", expect!["Start(0)"]);
        check("Always init:i init:j a", "i:run j:wait a:wait", expect![""]);
        check("Always init:i init:j a", "i:exit0 j:wait a:wait", expect!["Start(1)"]);
        check("Always init:i init:j a", "i:exit0 j:exit0 a:wait", expect!["Start(2)"]);
        check("Always init:i a", "i:exit1 a:wait", expect!["Start(0)"]);
        check("Never init:i a", "i:exit1 a:wait", expect!["End(Finished); TearDown"]);
    }

    #[test]
    fn sidecars_stay_beside_the_others_and_end_after_them() {
        check("Always side:s a", "s:wait a:wait", expect!["Start(0)"]);
        check("Always side:s a", "s:run a:wait", expect!["Start(1)"]);
        check("Always side:s a", "s:unstarted a:wait", expect![""]);
        check("Always side:s a", "s:exit0 a:run", expect!["Start(0)"]);
        check(
            "Never side:s a",
            "s:run a:exit0",
            expect![[r#"End(Finished); Stop { container: 0, grace: 30s, message: "Stopping container s" }"#]],
        );
        check(
            "Always side:s a deleted30",
            "s:run a:run",
            expect![[r#"End(Deleted); Stop { container: 1, grace: 30s, message: "Stopping container a" }"#]],
        );
        check(
            "Always side:s side:t a deleted30",
            "s:run t:run a:exit0 deleting",
            expect![[r#"Stop { container: 1, grace: 30s, message: "Stopping container t" }"#]],
        );
        check(
            "Always side:s side:t a deleted30",
            "s:run t:stop5 a:exit0 deleting",
            expect!["look again in 5s"],
        );
        check(
            "Never side:s side:t a",
            "s:run t:exit0 a:exit0 finished-20",
            expect![[r#"Stop { container: 0, grace: 10s, message: "Stopping container s" }"#]],
        );
    }

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
    fn a_deleted_pod_is_ended_within_its_grace() {
        check(
            "Always a deleted30",
            "a:run",
            expect![[r#"End(Deleted); Stop { container: 0, grace: 30s, message: "Stopping container a" }"#]],
        );
        check("Always a deleted30", "a:stop5 deleting", expect!["look again in 5s"]);
        check("Always a deleted30", "a:stop0 deleting", expect!["Kill(0)"]);
        check("Always a deleted1", "a:stop5 deleting", expect!["KillBy(0, 1970-01-01T00:16:41Z)"]);
        check("Always a deleted-5", "a:stop5 deleting", expect!["KillBy(0, 1970-01-01T00:16:40Z)"]);
        check("Always a deleted-5", "a:stop-1 deleting", expect!["Kill(0)"]);
        check("Always a", "a:stop-1 gone", expect!["Kill(0)"]);
        check("Always a deleted30", "a:exit0 deleting", expect!["TearDown"]);
        check("Always a deleted30", "a:exit0 deleting torn", expect!["ReportEnded"]);
        check("Always a deleted30", "new", expect!["End(Deleted); TearDown"]);
        check(
            "Always a",
            "a:run gone",
            expect![[r#"Stop { container: 0, grace: 0ns, message: "Stopping container a" }"#]],
        );
        check("Always a", "a:exit0 gone torn", expect![""]);
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

    #[test]
    fn volumes_that_cannot_be_brought_up_to_date_are_tried_again() {
        let pod = pod("Always a");
        let now = Timestamp::from_second(1000).unwrap();
        let mut state = state(&pod, "a:wait", now);
        state.volumes = Step::Stale(None).failed(now);
        let plan = plan_pod(&pod, &state, now);
        assert_eq!(plan.actions, [Action::Start(0)]);
        let again = plan.look_again.unwrap();
        assert_eq!(plan_pod(&pod, &state, again).actions, [Action::MountVolumes, Action::Start(0)]);
    }

    #[test]
    fn an_evicted_pod_has_a_second_whatever_its_grace() {
        check(
            "Always a",
            "a:run evicted",
            expect![[r#"Stop { container: 0, grace: 1s, message: "Stopping container a" }"#]],
        );
        check("Always a", "a:stop20 evicted", expect!["KillBy(0, 1970-01-01T00:16:41Z)"]);
        check("Always a", "a:exit0 evicted", expect!["TearDown"]);
    }

    #[test]
    fn a_pod_is_not_active_beyond_its_deadline() {
        check("Always a deadline60", "a:run", expect!["look again in 50s"]);
        check(
            "Always a deadline5",
            "a:run",
            expect![[
                r#"End(DeadlineExceeded); Stop { container: 0, grace: 30s, message: "Stopping container a" }"#
            ]],
        );
    }
}
