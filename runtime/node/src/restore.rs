//! A pod seen for the first time by this process: what is known of it from its object.
//!
//! The status in the API is the node's memory: restart counts, earlier ends and the address come from there, and no
//! second copy on disk can contradict it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use crate::{
    spec::{self, RestartPolicy, Role},
    state::{ContainerState, Ending, PodState, Run, Terminated},
};

/// The state of a pod as its object tells it. When what it had in memory is lost, its init containers run again: they
/// may have put there what the others need.
pub(crate) fn restore(pod: &Pod, memory_is_lost: bool, now: Timestamp) -> PodState {
    let status = pod.status.as_ref();
    let has_ended = spec::ended_phase(pod).is_some();
    let known = |name: &str| {
        let status = status?;
        let lists = [&status.init_container_statuses, &status.container_statuses];
        lists.into_iter().flatten().flatten().find(|status| status.name == name)
    };
    let containers: Vec<ContainerState> = spec::containers(pod)
        .enumerate()
        .map(|(index, container)| {
            let mut state = known(&container.name)
                .map(|status| restore_container(pod, index, status, has_ended, now))
                .unwrap_or_default();
            if memory_is_lost
                && !has_ended
                && spec::role(pod, index) == Role::Init
                && let Run::Exited(end) = std::mem::take(&mut state.run)
            {
                state.last = Some(Box::new(end));
            }
            state
        })
        .collect();
    let told =
        status.into_iter().flat_map(|status| [&status.init_container_statuses, &status.container_statuses]);
    let is_running =
        |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    let runs_by_status = told.flatten().flatten().any(is_running);
    PodState {
        started_at: status.and_then(|status| Some(status.start_time.as_ref()?.0)).or(Some(now)),
        containers,
        ending: has_ended.then_some(Ending::Finished),
        torn_down: has_ended,
        frozen: has_ended && !runs_by_status,
        ..PodState::default()
    }
}

fn restore_container(
    pod: &Pod,
    index: usize,
    status: &ContainerStatus,
    has_ended: bool,
    now: Timestamp,
) -> ContainerState {
    let state = status.state.as_ref();
    let mut last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref()).map(terminated);
    let waiting =
        state.and_then(|state| state.waiting.as_ref()).and_then(|waiting| waiting.reason.as_deref());
    let ended = state.and_then(|state| state.terminated.as_ref()).map(terminated);
    let ran = state.and_then(|state| state.running.as_ref());
    let mut run = match (ended, ran) {
        (Some(end), _) => Run::Exited(end),
        // It would have been run again, which counts as a restart.
        (None, _) if waiting == Some("CrashLoopBackOff") => last.take().map(Run::Exited).unwrap_or_default(),
        // It is not known how it ended, only that it does not run any more.
        (None, Some(running)) if has_ended || spec::restart_policy(pod, index) == RestartPolicy::Never => {
            Run::Exited(Terminated {
                id: status.container_id.clone().unwrap_or_default(),
                exit_code: 137,
                reason: "ContainerStatusUnknown".to_owned(),
                message: "The container could not be located when the node was started again".to_owned(),
                started_at: running.started_at.as_ref().map(|time| time.0),
                finished_at: Some(now),
                ..Terminated::default()
            })
        }
        _ => Run::default(),
    };
    if let Run::Exited(end) = &mut run {
        end.image.clone_from(&status.image);
    }
    ContainerState {
        run,
        restarts: status.restart_count,
        last: last.map(Box::new),
        image_id: status.image_id.clone(),
        ..ContainerState::default()
    }
}

fn terminated(end: &ContainerStateTerminated) -> Terminated {
    Terminated {
        id: end.container_id.clone().unwrap_or_default(),
        exit_code: end.exit_code,
        reason: end.reason.clone().unwrap_or_default(),
        message: end.message.clone().unwrap_or_default(),
        started_at: end.started_at.as_ref().map(|time| time.0),
        finished_at: end.finished_at.as_ref().map(|time| time.0),
        ..Terminated::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{pod, state};
    use std::net::IpAddr;

    /// The status of a state, given back to a fresh process.
    fn check(spec: &str, text: &str, expect: &str) {
        check_with(spec, text, false, expect);
    }

    fn check_with(spec: &str, text: &str, memory_is_lost: bool, expect: &str) {
        let mut pod = pod(spec);
        let now = Timestamp::from_second(1000).unwrap();
        let mut before = state(&pod, text, now);
        before.containers[0].restarts = 4;
        pod.status = Some(crate::status::status(&pod, &before, IpAddr::from([127, 0, 0, 1]), &[], now));
        let after = restore(&pod, memory_is_lost, now);
        let container = &after.containers[0];
        assert_eq!(container.restarts, 4);
        assert_eq!(after.started_at, before.started_at);
        let got = match &container.run {
            Run::Waiting { reason, .. } => format!("waiting {reason}"),
            Run::Running(_) => "running".to_owned(),
            Run::Exited(end) => format!("{} {}", end.reason, end.exit_code),
        };
        let ended = if after.torn_down { ", ended" } else { "" };
        assert_eq!(format!("{}{ended}", got.trim()), expect, "{spec} {text}");
    }

    #[test]
    fn what_ran_runs_again_with_its_restart_count_and_what_ended_stays_ended() {
        check("Always a", "a:run", "waiting");
        check("OnFailure a", "a:run", "waiting");
        check("Never a", "a:run", "ContainerStatusUnknown 137");
        check("Never a", "a:exit3 finished", "Error 3, ended");
        check("Always a", "a:backoff", "Error 1");
        check("Always init:i a", "i:exit0 a:run", "Completed 0");
    }

    #[test]
    fn a_pod_that_was_said_to_have_ended_has_no_container_that_runs() {
        check("Always a phase:Failed", "a:run", "ContainerStatusUnknown 137, ended");
        check("Never a phase:Failed", "a:exit3", "Error 3, ended");
    }

    #[test]
    fn init_containers_run_again_when_what_they_wrote_to_memory_is_lost() {
        check_with("Always init:i a", "i:exit0 a:run", true, "waiting");
        check_with("OnFailure init:i a", "i:exit3 a:wait", true, "waiting");
        check_with("Always a", "a:exit3", true, "Error 3");
        check_with("Never init:i a", "i:exit0 a:exit0 finished", true, "Completed 0, ended");
    }
}
