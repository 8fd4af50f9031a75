//! A pod's status, computed afresh from what the node knows. Pure; whoever sends it compares it with the last one.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
        ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    conditions, plan,
    spec::{self, Role},
    state::{ContainerState, Ending, PodState, Run, Terminated},
};

/// The pod's status now. `known` are the conditions last reported.
pub(crate) fn status(
    pod: &Pod,
    state: &PodState,
    host: IpAddr,
    known: &[PodCondition],
    now: Timestamp,
) -> PodStatus {
    // As upstream has it, a pod has not ended before the last of its containers has, and once it has it does not go back.
    let runs = state.containers.iter().any(|container| container.running().is_some());
    let said = spec::ended_phase(pod);
    let end = said.unwrap_or_else(|| phase(pod, state));
    let (phase, (reason, message)) = match end {
        "Succeeded" | "Failed" if runs && said.is_none() => (under_way(pod, state), (None, None)),
        phase => (phase, why(pod, state, phase)),
    };
    let mut statuses: Vec<ContainerStatus> = spec::containers(pod)
        .zip(&state.containers)
        .enumerate()
        .map(|(index, (container, state_of))| container_status(pod, state, index, container, state_of))
        .collect();
    let main = statuses.split_off(spec::n_init(pod).min(statuses.len()));
    let old = pod.status.as_ref();
    let ip = state.ip.clone();
    PodStatus {
        conditions: Some(conditions::conditions(pod, state, end, known, now)),
        phase: Some(phase.to_owned()),
        reason,
        message,
        host_ip: Some(host.to_string()),
        host_ips: Some(vec![HostIP { ip: host.to_string() }]),
        pod_ips: ip.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: ip,
        start_time: state.started_at.map(Time),
        init_container_statuses: (!statuses.is_empty()).then_some(statuses),
        container_statuses: (!main.is_empty()).then_some(main),
        qos_class: old
            .and_then(|status| status.qos_class.clone())
            .or_else(|| Some(qos_class(pod).to_owned())),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

/// The pod's phase; where it ends, the one it will have once nothing of it runs.
fn phase(pod: &Pod, state: &PodState) -> &'static str {
    if matches!(state.ending, Some(Ending::DeadlineExceeded | Ending::Evicted(_))) {
        return "Failed";
    }
    let each = || state.containers.iter().enumerate();
    let mains = || each().filter(|(index, _)| spec::role(pod, *index) == Role::Main);
    let ended = |index: usize, container: &ContainerState| {
        let stays = state.ending.is_some() || plan::has_ended_for_good(pod, index, container);
        container.exited().filter(|_| stays).cloned()
    };
    let failed_init = each().any(|(index, container)| {
        spec::role(pod, index) == Role::Init && ended(index, container).is_some_and(|end| end.exit_code != 0)
    });
    let sidecars_run = each()
        .any(|(index, container)| spec::role(pod, index) == Role::Sidecar && container.running().is_some());
    if failed_init {
        return "Failed";
    }
    let ends: Vec<Option<Terminated>> = mains().map(|(index, container)| ended(index, container)).collect();
    if !ends.is_empty() && ends.iter().all(Option::is_some) && !sidecars_run {
        let well = ends.iter().flatten().all(|end| end.exit_code == 0);
        return if well { "Succeeded" } else { "Failed" };
    }
    under_way(pod, state)
}

/// The phase of a pod that has not ended.
fn under_way(pod: &Pod, state: &PodState) -> &'static str {
    let mains = || {
        let each = state.containers.iter().enumerate();
        each.filter(|(index, _)| spec::role(pod, *index) == Role::Main)
    };
    let begun = |container: &ContainerState| {
        !matches!(container.run, Run::Waiting { .. }) || container.last.is_some()
    };
    let all_begun = mains().all(|(_, container)| begun(container));
    let any_runs = mains().any(|(_, container)| container.running().is_some());
    // A pod that ran before the process was restarted does not go back.
    let ran = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    if ran || all_begun || any_runs && state.ending.is_some() { "Running" } else { "Pending" }
}

/// The pod's reason and message. What others have said of its end stays.
fn why(pod: &Pod, state: &PodState, phase: &str) -> (Option<String>, Option<String>) {
    let told = |reason: &str, message: &str| (Some(reason.to_owned()), Some(message.to_owned()));
    match &state.ending {
        Some(Ending::DeadlineExceeded) => {
            told("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
        }
        Some(Ending::Evicted(message)) => told("Evicted", message),
        Some(Ending::Shutdown) if phase == "Failed" => {
            told("Terminated", "Pod was terminated in response to imminent node shutdown.")
        }
        _ => match (spec::ended_phase(pod), &pod.status) {
            (Some(_), Some(status)) => (status.reason.clone(), status.message.clone()),
            _ => (None, None),
        },
    }
}

fn container_status(
    pod: &Pod,
    pod_state: &PodState,
    index: usize,
    container: &Container,
    state: &ContainerState,
) -> ContainerStatus {
    let role = spec::role(pod, index);
    let waiting = |reason: &str, message: &str| ApiState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..ApiState::default()
    };
    let last = state.last.as_deref().map(terminated);
    let (now, last) = match &state.run {
        Run::Waiting { reason: "", message, .. } => {
            let init_left =
                pod_state.containers.iter().enumerate().take(spec::n_init(pod)).any(|(index, container)| {
                    spec::role(pod, index) == Role::Init
                        && container.exited().is_none_or(|end| end.exit_code != 0)
                });
            let initializing = spec::n_init(pod) > 0 && (init_left || role != Role::Main);
            (waiting(if initializing { "PodInitializing" } else { "ContainerCreating" }, message), last)
        }
        Run::Waiting { reason, message, .. } => (waiting(reason, message), last),
        Run::Running(run) => {
            let running = Some(ContainerStateRunning { started_at: Some(Time(run.since)) });
            (ApiState { running, ..ApiState::default() }, last)
        }
        Run::Exited(end) if state.backing_off.is_some() && pod_state.ending.is_none() => {
            let message = format!(
                "back-off {} restarting failed container={} pod={}",
                state.backoff.delay(),
                container.name,
                spec::full_name(pod)
            );
            (waiting("CrashLoopBackOff", &message), Some(terminated(end)))
        }
        Run::Exited(end) => (terminated(end), last),
    };
    let running = state.running();
    let ready = match role {
        Role::Init => state.exited().is_some_and(|end| end.exit_code == 0),
        Role::Main | Role::Sidecar => running.is_some_and(|run| run.ready),
    };
    let id = match &state.run {
        Run::Running(run) => Some(run.id.clone()),
        Run::Exited(end) => Some(end.id.clone()),
        Run::Waiting { .. } => state.last.as_ref().map(|end| end.id.clone()),
    };
    let image = match &state.run {
        Run::Running(run) => Some(&run.image),
        Run::Exited(end) => Some(&end.image),
        Run::Waiting { .. } => None,
    };
    let image = image.filter(|image| !image.is_empty()).or(container.image.as_ref());
    ContainerStatus {
        name: container.name.clone(),
        image: image.cloned().unwrap_or_default(),
        image_id: state.image_id.clone(),
        container_id: id.filter(|id| !id.is_empty()),
        ready,
        started: Some(running.is_some_and(|run| run.started)),
        restart_count: state.restarts,
        state: Some(now),
        last_state: Some(last.unwrap_or_default()),
        resources: container.resources.clone(),
        ..ContainerStatus::default()
    }
}

fn terminated(end: &Terminated) -> ApiState {
    let terminated = ContainerStateTerminated {
        container_id: (!end.id.is_empty()).then(|| end.id.clone()),
        exit_code: end.exit_code,
        reason: Some(end.reason.clone()),
        message: (!end.message.is_empty()).then(|| end.message.clone()),
        started_at: end.started_at.map(Time),
        finished_at: end.finished_at.map(Time),
        signal: None,
    };
    ApiState { terminated: Some(terminated), ..ApiState::default() }
}

/// The pod's quality of service, from its requests and limits.
pub(crate) fn qos_class(pod: &Pod) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in spec::containers(pod) {
        let resources = container.resources.as_ref();
        for resource in ["cpu", "memory"] {
            let limit = resources.and_then(|resources| resources.limits.as_ref()?.get(resource));
            let request =
                resources.and_then(|resources| resources.requests.as_ref()?.get(resource)).or(limit);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{pod, state};
    use expect_test::{Expect, expect};

    fn describe(state: &ApiState) -> String {
        if let Some(waiting) = &state.waiting {
            let message = waiting.message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default();
            return format!("{}{message}", waiting.reason.as_deref().unwrap_or_default());
        }
        if let Some(end) = &state.terminated {
            return format!("{} {}", end.reason.as_deref().unwrap_or_default(), end.exit_code);
        }
        if state.running.is_some() { "Running".to_owned() } else { "-".to_owned() }
    }

    /// The status of a pod in short, in the words of [`crate::fixtures`].
    fn check(spec: &str, text: &str, expect: Expect) {
        let pod = pod(spec);
        let now = Timestamp::from_second(1000).unwrap();
        let status = status(&pod, &state(&pod, text, now), IpAddr::from([127, 0, 0, 1]), &[], now);
        let mut lines = vec![status.phase.unwrap()];
        lines.extend(status.reason);
        let containers =
            status.init_container_statuses.into_iter().chain(status.container_statuses).flatten();
        for container in containers {
            lines.push(format!(
                "{}: {}, last {}, ready {}, restarts {}",
                container.name,
                describe(container.state.as_ref().unwrap()),
                describe(container.last_state.as_ref().unwrap()),
                container.ready,
                container.restart_count
            ));
        }
        for condition in status.conditions.unwrap() {
            let why =
                [condition.reason, condition.message].into_iter().flatten().collect::<Vec<_>>().join(": ");
            lines.push(format!("{}={} {why}", condition.type_, condition.status).trim_end().to_owned());
        }
        expect.assert_eq(&format!("{}\n", lines.join("\n")));
    }

    #[test]
    fn a_pod_on_its_way_is_pending() {
        check(
            "Always init:i a",
            "i:run a:wait",
            expect![[r#"
            Pending
            i: Running, last -, ready false, restarts 0
            a: PodInitializing, last -, ready false, restarts 0
            PodReadyToStartContainers=True
            Initialized=False ContainersNotInitialized: containers with incomplete status: [i]
            Ready=False ContainersNotReady: containers with unready status: [a]
            ContainersReady=False ContainersNotReady: containers with unready status: [a]
            PodScheduled=True
        "#]],
        );
    }

    #[test]
    fn a_pod_whose_containers_run_is_ready() {
        check(
            "Always a b",
            "a:run b:run",
            expect![[r#"
            Running
            a: Running, last -, ready true, restarts 0
            b: Running, last -, ready true, restarts 0
            PodReadyToStartContainers=True
            Initialized=True
            Ready=True
            ContainersReady=True
            PodScheduled=True
        "#]],
        );
    }

    #[test]
    fn a_container_that_crashes_backs_off() {
        check(
            "Always a",
            "a:backoff",
            expect![[r#"
            Running
            a: CrashLoopBackOff (back-off 10s restarting failed container=a pod=web_default(u1)), last Error 1, ready false, restarts 1
            PodReadyToStartContainers=True
            Initialized=True
            Ready=False ContainersNotReady: containers with unready status: [a]
            ContainersReady=False ContainersNotReady: containers with unready status: [a]
            PodScheduled=True
        "#]],
        );
    }

    #[test]
    fn a_pod_that_has_ended_says_how() {
        check(
            "Never a",
            "a:exit0 finished torn",
            expect![[r#"
            Succeeded
            a: Completed 0, last -, ready false, restarts 0
            PodReadyToStartContainers=False
            Initialized=True PodCompleted
            Ready=False PodCompleted
            ContainersReady=False PodCompleted
            PodScheduled=True
        "#]],
        );
        check(
            "Never a b",
            "a:exit0 b:exit3 finished torn",
            expect![[r#"
            Failed
            a: Completed 0, last -, ready false, restarts 0
            b: Error 3, last -, ready false, restarts 0
            PodReadyToStartContainers=False
            Initialized=True
            Ready=False PodFailed
            ContainersReady=False PodFailed
            PodScheduled=True
        "#]],
        );
        check(
            "Always a",
            "a:run late",
            expect![[r#"
            Running
            a: Running, last -, ready true, restarts 0
            PodReadyToStartContainers=True
            Initialized=True
            Ready=False PodFailed
            ContainersReady=False PodFailed
            PodScheduled=True
        "#]],
        );
        check(
            "Always a",
            "a:exit143 late",
            expect![[r#"
            Failed
            DeadlineExceeded
            a: Error 143, last -, ready false, restarts 0
            PodReadyToStartContainers=True
            Initialized=True
            Ready=False PodFailed
            ContainersReady=False PodFailed
            PodScheduled=True
        "#]],
        );
        check(
            "Never side:s init:i a",
            "s:run i:exit1 a:wait finished",
            expect![[r#"
            Pending
            s: Running, last -, ready true, restarts 0
            i: Error 1, last -, ready false, restarts 0
            a: PodInitializing, last -, ready false, restarts 0
            PodReadyToStartContainers=True
            Initialized=False ContainersNotInitialized: containers with incomplete status: [i]
            Ready=False PodFailed
            ContainersReady=False PodFailed
            PodScheduled=True
        "#]],
        );
    }

    #[test]
    fn a_phase_in_which_a_pod_ends_is_not_left_whoever_said_it() {
        check(
            "Always a phase:Failed",
            "a:run",
            expect![[r#"
            Failed
            a: Running, last -, ready true, restarts 0
            PodReadyToStartContainers=True
            Initialized=True
            Ready=False PodFailed
            ContainersReady=False PodFailed
            PodScheduled=True
        "#]],
        );
        check(
            "Never a phase:Failed",
            "a:exit0 finished torn",
            expect![[r#"
            Failed
            a: Completed 0, last -, ready false, restarts 0
            PodReadyToStartContainers=False
            Initialized=True
            Ready=False PodFailed
            ContainersReady=False PodFailed
            PodScheduled=True
        "#]],
        );
        let mut pod = pod("Always a phase:Failed");
        let said = pod.status.as_mut().unwrap();
        (said.reason, said.message) = (Some("Rejected".to_owned()), Some("by hand".to_owned()));
        let now = Timestamp::from_second(1000).unwrap();
        let status = status(&pod, &state(&pod, "a:run", now), IpAddr::from([127, 0, 0, 1]), &[], now);
        assert_eq!(
            (status.reason.as_deref(), status.message.as_deref()),
            (Some("Rejected"), Some("by hand"))
        );
    }

    #[test]
    fn the_time_of_a_transition_is_kept_until_the_next() {
        let pod = pod("Always a");
        let host = IpAddr::from([127, 0, 0, 1]);
        let at = |secs| Timestamp::from_second(secs).unwrap();
        let first =
            status(&pod, &state(&pod, "a:unready", at(1000)), host, &[], at(1000)).conditions.unwrap();
        let second =
            status(&pod, &state(&pod, "a:run", at(1005)), host, &first, at(1005)).conditions.unwrap();
        let time = |list: &[PodCondition], type_: &str| {
            let condition = list.iter().find(|condition| condition.type_ == type_).unwrap();
            condition.last_transition_time.as_ref().unwrap().0.as_second()
        };
        assert_eq!(time(&second, "Initialized"), 1000);
        assert_eq!(time(&second, "Ready"), 1005);
    }
}
