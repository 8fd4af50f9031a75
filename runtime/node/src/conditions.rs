//! A pod's conditions: what they are now, and since when.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    spec::{self, Role},
    state::{ContainerState, PodState},
};

/// The types that the node decides; all others belong to somebody else and are kept.
const OWNED: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];

/// The pod's conditions. `known` are those last reported, or those of the object: they hold the times of the last
/// transitions, and the conditions of others.
pub(crate) fn conditions(
    pod: &Pod,
    state: &PodState,
    phase: &str,
    known: &[PodCondition],
    now: Timestamp,
) -> Vec<PodCondition> {
    let foreign: Vec<PodCondition> = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .into_iter()
        .flatten()
        .filter(|condition| !OWNED.contains(&condition.type_.as_str()))
        .cloned()
        .collect();
    let containers_ready = containers_ready(pod, state, phase);
    let ready = match &containers_ready {
        (true, ..) => gates(pod, &foreign),
        not => not.clone(),
    };
    let sandbox = (state.ip.is_some() && !state.torn_down, "", String::new());
    let all = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(pod, state, phase)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
    ];
    let mut conditions: Vec<PodCondition> = all
        .into_iter()
        .map(|(type_, (holds, reason, message))| {
            let status = if holds { "True" } else { "False" };
            let before =
                known.iter().find(|condition| condition.type_ == type_ && condition.status == status);
            let since =
                before.and_then(|condition| condition.last_transition_time.clone()).unwrap_or(Time(now));
            PodCondition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: (!reason.is_empty()).then(|| reason.to_owned()),
                message: (!message.is_empty()).then_some(message),
                last_transition_time: Some(since),
                last_probe_time: None,
                observed_generation: pod.metadata.generation,
            }
        })
        .collect();
    if !foreign.iter().any(|condition| condition.type_ == "PodScheduled") {
        let before = known.iter().find(|condition| condition.type_ == "PodScheduled");
        conditions.push(before.cloned().unwrap_or_else(|| PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(Time(now)),
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        }));
    }
    conditions.extend(foreign);
    conditions
}

/// Whether two statuses agree in what the node decides and others act upon: the phase and the node's conditions.
pub(crate) fn agree(one: &PodStatus, other: &PodStatus) -> bool {
    let holds = |status: &PodStatus, type_: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == type_).map(|condition| condition.status.clone())
    };
    one.phase == other.phase && OWNED.iter().all(|type_| holds(one, type_) == holds(other, type_))
}

type Verdict = (bool, &'static str, String);

fn names<'a>(
    pod: &'a Pod,
    state: &'a PodState,
    not: impl Fn(usize, &ContainerState) -> bool,
) -> Vec<&'a str> {
    let each = spec::containers(pod).zip(&state.containers).enumerate();
    each.filter(|(index, (_, container))| not(*index, container))
        .map(|(_, (spec, _))| spec.name.as_str())
        .collect()
}

fn initialized(pod: &Pod, state: &PodState, phase: &str) -> Verdict {
    let incomplete = names(pod, state, |index, container| match spec::role(pod, index) {
        Role::Init => container.exited().is_none_or(|end| end.exit_code != 0),
        Role::Sidecar => {
            let up = container.running().is_some_and(|run| run.started);
            !(up || container.exited().is_some() || container.last.is_some())
        }
        Role::Main => false,
    });
    match (phase, incomplete.as_slice()) {
        ("Succeeded", _) => (true, "PodCompleted", String::new()),
        (_, []) => (true, "", String::new()),
        (_, names) => {
            let message = format!("containers with incomplete status: [{}]", names.join(" "));
            (false, "ContainersNotInitialized", message)
        }
    }
}

fn containers_ready(pod: &Pod, state: &PodState, phase: &str) -> Verdict {
    match phase {
        "Succeeded" => return (false, "PodCompleted", String::new()),
        "Failed" => return (false, "PodFailed", String::new()),
        _ => {}
    }
    let unready = names(pod, state, |index, container| {
        spec::role(pod, index) != Role::Init && !container.running().is_some_and(|run| run.ready)
    });
    match unready.as_slice() {
        [] => (true, "", String::new()),
        names => {
            (false, "ContainersNotReady", format!("containers with unready status: [{}]", names.join(" ")))
        }
    }
}

/// Whether all readiness gates hold.
fn gates(pod: &Pod, foreign: &[PodCondition]) -> Verdict {
    let gates = spec::spec(pod).and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let mut problems = Vec::new();
    for gate in gates {
        match foreign.iter().find(|condition| condition.type_ == gate.condition_type) {
            None => problems.push(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
            Some(condition) if condition.status != "True" => problems.push(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                gate.condition_type, condition.status
            )),
            Some(_) => {}
        }
    }
    match problems.as_slice() {
        [] => (true, "", String::new()),
        problems => (false, "ReadinessGatesNotReady", problems.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{pod, state};

    #[test]
    fn a_status_that_somebody_set_unready_does_not_agree() {
        let pod = pod("Always a");
        let now = Timestamp::from_second(1000).unwrap();
        let status = |text: &str| PodStatus {
            phase: Some("Running".to_owned()),
            conditions: Some(conditions(&pod, &state(&pod, text, now), "Running", &[], now)),
            ..PodStatus::default()
        };
        assert!(agree(&status("a:run"), &status("a:run")));
        assert!(!agree(&status("a:run"), &status("a:unready")));
        assert!(!agree(&status("a:run"), &PodStatus::default()));
    }

    #[test]
    fn readiness_gates_are_waited_for() {
        let mut pod = pod("Always a");
        let now = Timestamp::from_second(1000).unwrap();
        let gate =
            k8s_openapi::api::core::v1::PodReadinessGate { condition_type: "example.com/ok".to_owned() };
        pod.spec.as_mut().unwrap().readiness_gates = Some(vec![gate]);
        let ready = |pod: &Pod| {
            let all = conditions(pod, &state(pod, "a:run", now), "Running", &[], now);
            let ready = all.into_iter().find(|condition| condition.type_ == "Ready").unwrap();
            (ready.status, ready.message.unwrap_or_default())
        };
        assert_eq!(
            ready(&pod),
            (
                "False".to_owned(),
                "corresponding condition of pod readiness gate \"example.com/ok\" does not exist.".to_owned()
            )
        );
        let condition = |status: &str| PodCondition {
            type_: "example.com/ok".to_owned(),
            status: status.to_owned(),
            ..PodCondition::default()
        };
        pod.status = Some(PodStatus { conditions: Some(vec![condition("True")]), ..PodStatus::default() });
        assert_eq!(ready(&pod).0, "True");
    }
}
