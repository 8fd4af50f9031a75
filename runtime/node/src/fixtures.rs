//! Pods and their states in short words, for the tests of this crate.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::state::{ContainerState, Ending, PodState, Run, Running, Step, Terminated};

/// `Never init:a side:b c deleted30 deadline5 newimage phase:Failed`, at the second 1000.
pub(crate) fn pod(text: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.name = Some("web".to_owned());
    pod.metadata.namespace = Some("default".to_owned());
    pod.metadata.uid = Some("u1".to_owned());
    let mut spec = PodSpec { node_name: Some("node".to_owned()), ..PodSpec::default() };
    let container = |name: &str| Container {
        name: name.to_owned(),
        image: Some(format!("{name}:1")),
        ..Container::default()
    };
    for word in text.split_whitespace() {
        if let Some(name) = word.strip_prefix("init:") {
            spec.init_containers.get_or_insert_default().push(container(name));
        } else if let Some(name) = word.strip_prefix("side:") {
            let restart_policy = Some("Always".to_owned());
            let sidecar = Container { restart_policy, ..container(name) };
            spec.init_containers.get_or_insert_default().push(sidecar);
        } else if let Some(secs) = word.strip_prefix("deleted") {
            let secs = secs.parse().unwrap();
            pod.metadata.deletion_grace_period_seconds = Some(secs);
            pod.metadata.deletion_timestamp = Some(Time(Timestamp::from_second(1000 + secs).unwrap()));
        } else if let Some(secs) = word.strip_prefix("deadline") {
            spec.active_deadline_seconds = Some(secs.parse().unwrap());
        } else if let Some(phase) = word.strip_prefix("phase:") {
            pod.status = Some(PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() });
        } else if word == "newimage" {
            spec.containers[0].image = Some("new:2".to_owned());
        } else if matches!(word, "Always" | "OnFailure" | "Never") {
            spec.restart_policy = Some(word.to_owned());
        } else {
            spec.containers.push(container(word));
        }
    }
    pod.spec = Some(spec);
    pod
}

/// `a:run b:exit0 c:wait deleting torn`, or `new`. What ended before a shutdown stands before it.
pub(crate) fn state(pod: &Pod, text: &str, now: Timestamp) -> PodState {
    let before = |secs| now - SignedDuration::from_secs(secs);
    let mut state = PodState {
        started_at: Some(before(10)),
        volumes: Step::Done,
        sandbox: Step::Done,
        ip: Some("10.244.0.5".to_owned()),
        containers: crate::spec::containers(pod).map(|_| ContainerState::default()).collect(),
        ..PodState::default()
    };
    for word in text.split_whitespace() {
        let Some((name, what)) = word.split_once(':') else {
            if let Some(secs) = word.strip_prefix("shutdown") {
                state.end(Ending::Shutdown, now);
                state.end_by = secs.parse().ok().map(|secs| now + SignedDuration::from_secs(secs));
                for container in &mut state.containers {
                    if let Run::Exited(end) = &mut container.run {
                        end.finished_at = Some(before(1));
                    }
                }
                continue;
            }
            match word {
                "new" => (state.volumes, state.sandbox) = (Step::Todo, Step::Todo),
                "deleting" => state.ending = Some(Ending::Deleted),
                "finished" => state.ending = Some(Ending::Finished),
                "finished-20" => state.end(Ending::Finished, before(20)),
                "late" => state.ending = Some(Ending::DeadlineExceeded),
                "evicted" => state.end(Ending::Evicted("full".to_owned()), now),
                "gone" => state.ending = Some(Ending::Gone),
                "torn" => state.torn_down = true,
                _ => panic!("{word}"),
            }
            continue;
        };
        let index = crate::spec::containers(pod).position(|container| container.name == name).unwrap();
        let image = format!("{name}:1");
        let container = &mut state.containers[index];
        let running = |started: bool, ready: bool, kill_at| {
            Run::Running(Running {
                id: "wasm://1".to_owned(),
                image: image.clone(),
                since: before(5),
                started,
                ready,
                kill_at,
                killed: false,
            })
        };
        let exited = |exit_code: i32| {
            Run::Exited(Terminated {
                id: "wasm://1".to_owned(),
                exit_code,
                reason: if exit_code == 0 { "Completed" } else { "Error" }.to_owned(),
                message: String::new(),
                started_at: Some(before(5)),
                finished_at: Some(now),
                image: image.clone(),
                replaced: what == "replaced",
            })
        };
        if let Some(secs) = what.strip_prefix("wait+") {
            let retry_at = Some(now + SignedDuration::from_secs(secs.parse().unwrap()));
            container.wait("CreateContainerConfigError", "configmap \"x\" not found".to_owned(), retry_at);
        } else if let Some(secs) = what.strip_prefix("stop") {
            container.run = running(true, true, Some(now + SignedDuration::from_secs(secs.parse().unwrap())));
        } else if let Some(code) = what.strip_prefix("exit") {
            container.run = exited(code.parse().unwrap());
        } else {
            container.run = match what {
                "run" => running(true, true, None),
                "unready" => running(true, false, None),
                "unstarted" => running(false, false, None),
                "crash" | "backoff" => exited(1),
                "replaced" => exited(143),
                "wait" => Run::default(),
                _ => panic!("{what}"),
            };
            if matches!(what, "crash" | "backoff") {
                container.backoff.raise(now, now);
                container.restarts = 1;
                container.backing_off = (what == "backoff").then(|| now + SignedDuration::from_secs(10));
            }
        }
    }
    state
}
