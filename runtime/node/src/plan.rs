//! What to do next for a pod: the decision, with no IO.
//!
//! [`plan_pod`] looks at the spec, at what runs, and at the clock, and says which actions bring the one nearer to the
//! other, in order. It is asked again after every change, so it only ever says the next steps; an action that fails
//! leaves a state from which the next plan follows. When nothing is to be done now, `look_again` says when time alone
//! may change that.

mod container;

pub(crate) use container::{has_ended_for_good, is_changed};

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use container::{ask_readiness, drive, name};

use crate::{
    probe::ProbeKind,
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
    if spec::ended_phase(pod).is_some() {
        return Some(Ending::Declared);
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
pub(crate) fn is_finished(pod: &Pod, state: &PodState) -> bool {
    let for_good = |index: usize, container: &ContainerState| has_ended_for_good(pod, index, container);
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
    let since = state.ending_since.unwrap_or(now);
    let by = match ending {
        Ending::Gone => now,
        Ending::Evicted(_) => kill_time(since, EVICTION_GRACE),
        _ => end_of_grace(pod, since),
    };
    let by = state.end_by.map_or(by, |bound| bound.min(by));
    let running =
        || state.containers.iter().enumerate().filter(|(_, container)| container.running().is_some());
    // Sidecars stand before the others.
    let is_needed =
        |index: usize| spec::role(pod, index) == Role::Sidecar && running().any(|(other, _)| other > index);
    let mut runs = false;
    for (index, container) in running() {
        runs = true;
        let Some(run) = container.running() else { continue };
        match run.kill_at {
            _ if run.killed => {}
            Some(kill_at) if by.max(now) < kill_at => plan.push(Action::KillBy(index, by.max(now))),
            Some(kill_at) if kill_at <= now => plan.push(Action::Kill(index)),
            Some(kill_at) => plan.at(kill_at),
            None if is_needed(index) => {}
            None => {
                let left = Duration::try_from(by.duration_since(now)).unwrap_or(Duration::ZERO);
                let left = left.min(spec::grace(pod));
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
    pub(super) fn check(spec: &str, text: &str, expect: Expect) {
        expect.assert_eq(&planned(spec, text));
    }

    fn planned(spec: &str, text: &str) -> String {
        let pod = pod(spec);
        let now = Timestamp::from_second(1000).unwrap();
        let plan = plan_pod(&pod, &state(&pod, text, now), now);
        let mut lines: Vec<String> = plan.actions.iter().map(|action| format!("{action:?}")).collect();
        lines
            .extend(plan.look_again.map(|at| format!("look again in {}s", at.duration_since(now).as_secs())));
        lines.join("; ")
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
    fn a_pod_whose_object_says_that_it_has_ended_is_ended() {
        check(
            "Always a phase:Failed",
            "a:run",
            expect![[r#"End(Declared); Stop { container: 0, grace: 30s, message: "Stopping container a" }"#]],
        );
        check("Never a phase:Succeeded", "a:exit3", expect!["End(Declared); TearDown"]);
        check("Always a phase:Running", "a:run", expect![""]);
    }

    #[test]
    fn a_shutdown_gives_a_pod_its_grace_within_its_own_bound() {
        let stop =
            |secs| format!(r#"Stop {{ container: 0, grace: {secs}s, message: "Stopping container a" }}"#);
        let check = |spec: &str, text: &str, expect: &str| assert_eq!(planned(spec, text), expect, "{text}");
        check("Always a", "a:run shutdown", &stop(30));
        check("Always a", "a:run shutdown10", &stop(10));
        check("Always a", "a:run shutdown300", &stop(30));
        check("Always a", "a:stop20 shutdown10", "KillBy(0, 1970-01-01T00:16:50Z)");
        check("Always a deleted5", "a:run shutdown", &stop(5));
        check("Always a deleted30", "a:exit0 shutdown torn", "ReportEnded");
        check("Always a", "a:exit143 shutdown", "TearDown");
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
