//! Gives pods their nodes.
//!
//! One key stands for all pods that wait, as each placement changes what is left for the next: a plan places all that
//! fit in one go, oldest first, and its writes go out together.

pub(crate) mod amounts;
mod node_match;
pub(crate) mod place;

use crate::action::{Action, EventRecord, Plan, change};
use crate::controller::{Controller, Wake};
use crate::object::{Change, Meta, Object, PODS, cluster_key, key, reference};
use crate::pods;
use crate::world::World;
use control_api::object::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use place::{Cluster, place};
use std::sync::Arc;

/// Who says it in events, and whom a pod's `schedulerName` names.
const NAME: &str = "default-scheduler";

/// The scheduler.
pub(crate) static ROW: Controller = Controller {
    name: NAME,
    wakes: &[Wake::on("", "pods", on_pod), Wake::on("", "nodes", on_node)],
    reconcile,
};

/// A pod that waits, or one whose going leaves room.
fn on_pod(_: &World, change: &Change) -> Vec<Key> {
    let waits = change.after.as_ref().and_then(Object::pod).is_some_and(|pod| pods::node(pod).is_none());
    let holds = |pod: &Arc<Pod>| pods::node(pod).is_some() && !pods::is_terminal(pod);
    let held = change.before.as_ref().and_then(Object::pod).is_some_and(holds);
    let leaves_room = held && !change.after.as_ref().and_then(Object::pod).is_some_and(holds);
    if waits || leaves_room { vec![cluster_key(PODS, "waiting")] } else { Vec::new() }
}

/// A node whose room or willingness changed; its heartbeats do not matter.
fn on_node(_: &World, change: &Change) -> Vec<Key> {
    let matters = |object: &Object| match object {
        Object::Node(node) => {
            let status = node.status.as_ref();
            Some((
                node.spec.clone(),
                node.metadata.labels.clone(),
                status.and_then(|s| s.allocatable.clone()),
            ))
        }
        _ => None,
    };
    let same = change.before.as_ref().and_then(matters) == change.after.as_ref().and_then(matters);
    if same { Vec::new() } else { vec![cluster_key(PODS, "waiting")] }
}

fn reconcile(world: &World, _: &Key, now: Timestamp) -> Plan {
    let mut waiting: Vec<&Arc<Pod>> = world.waiting_pods().filter(|pod| is_ours(pod)).collect();
    waiting.sort_by_key(|pod| {
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        (std::cmp::Reverse(priority), pod.metadata.created())
    });
    if waiting.is_empty() {
        return Plan::nothing();
    }
    let mut cluster = Cluster::new(world.node_spaces().cloned());
    let mut actions = Vec::new();
    for pod in waiting {
        actions.extend(schedule(pod, &mut cluster, now));
    }
    if actions.is_empty() { Plan::nothing() } else { Plan::from(vec![Action::Together(actions)]) }
}

fn is_ours(pod: &Pod) -> bool {
    let scheduler = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
    scheduler.is_none_or(|name| name.is_empty() || name == NAME)
}

/// Places one pod and takes its room, or says why it cannot be placed.
fn schedule(pod: &Arc<Pod>, cluster: &mut Cluster, now: Timestamp) -> Option<Action> {
    let meta = &pod.metadata;
    let pod_key = key(PODS, meta.namespace_str(), meta.name_str());
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    if gates.is_some_and(|gates| !gates.is_empty()) {
        let message = "Scheduling is blocked due to non-empty scheduling gates";
        return set_unscheduled(&pod_key, pod, "SchedulingGated", message, now);
    }
    match place(pod, cluster) {
        Ok(node) => {
            cluster.assume(pod, &node);
            let message =
                format!("Successfully assigned {}/{} to {}", meta.namespace_str(), meta.name_str(), node.0);
            let bind = Action::Bind { key: pod_key, uid: meta.uid_str().to_owned(), node: node.0 };
            Some(bind.then_tell(event(pod, "Normal", "Scheduled", message)))
        }
        Err(unfit) => {
            let message = unfit.to_string();
            let action = set_unscheduled(&pod_key, pod, "Unschedulable", &message, now)?;
            Some(action.then_tell(event(pod, "Warning", "FailedScheduling", message)))
        }
    }
}

/// Sets the condition PodScheduled to False; nothing if it says so already.
fn set_unscheduled(pod_key: &Key, pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Option<Action> {
    let current = pods::condition(pod, "PodScheduled");
    let since =
        current.filter(|condition| condition.status == "False").and_then(|c| c.last_transition_time.clone());
    if current.is_some_and(|condition| {
        condition.status == "False"
            && condition.reason.as_deref() == Some(reason)
            && condition.message.as_deref() == Some(message)
    }) {
        return None;
    }
    let mut new = Pod::clone(pod);
    let status = new.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "PodScheduled");
    conditions.push(PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(since.unwrap_or_else(|| pods::time(now))),
        last_probe_time: None,
        observed_generation: pod.metadata.generation,
    });
    change(pod_key, pod.metadata.revision(), Some("status"), pod, &new)
}

fn event(pod: &Pod, type_: &'static str, reason: &str, message: String) -> EventRecord {
    let regarding = reference::<Pod>(&pod.metadata);
    EventRecord { regarding, type_, reason: reason.to_owned(), message, component: NAME }
}
