//! Nodes that come and go are told of; those that fall silent have their Ready condition become Unknown. Taints keep new pods away from them, as from nodes that
//! say they are not ready and from those that are cordoned.

use crate::action::{Action, EventRecord, Plan, change};
use crate::controller::{Controller, Wake, itself};
use crate::object::{Change, Meta, NODES, PODS, cluster_key, key, reference};
use crate::pods::{self, time, until};
use crate::world::{Registration, World};
use control_api::object::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::time::Duration;

const NAME: &str = "node-controller";

/// The controller of nodes.
pub(crate) static ROW: Controller = Controller {
    name: NAME,
    wakes: &[Wake::on("", "nodes", itself), Wake::on("coordination.k8s.io", "leases", node_of_lease)],
    reconcile,
};

/// How long a node may be silent, as upstream's `--node-monitor-grace-period` was when nodes wrote leases first.
const GRACE: Duration = Duration::from_secs(40);

const LEASES_IN: &str = "kube-node-lease";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that nobody knows of a silent node.
const UNKNOWN: &[&str] = &["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

fn node_of_lease(world: &World, change: &Change) -> Vec<Key> {
    if change.key.namespace.as_deref() != Some(LEASES_IN) {
        return Vec::new();
    }
    // A renewed lease of a node that is well changes nothing: the timer looks at the lease when it fires.
    let well = world
        .node(&change.key.name)
        .is_some_and(|node| ready(node).is_some_and(|ready| ready.status != "Unknown"));
    if well && change.after.is_some() { Vec::new() } else { vec![cluster_key(NODES, &change.key.name)] }
}

fn ready(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready")
}

fn reconcile(world: &World, at: &Key, now: Timestamp) -> Plan {
    let Some(node) = world.node(&at.name) else {
        return removed(world, &at.name);
    };
    let mut plan = registered(world, node);
    let mut told = Node::clone(node);
    let silent_at = last_heard(world, node).checked_add(GRACE).unwrap_or(Timestamp::MAX);
    let silent = until(silent_at, now);
    match silent {
        Some(rest) => plan.look_again_in(rest),
        None => set_unknown(&mut told, now),
    }
    let state = ready(&told).map_or("Unknown", |ready| ready.status.as_str()).to_owned();
    let mut tainted = Node::clone(node);
    set_taints(&mut tainted, &state, now);
    let revision = node.metadata.revision();
    plan.actions.extend(change(at, revision, None, &**node, &tainted));
    if let Some(action) = change(at, revision, Some("status"), &**node, &told) {
        let was_ready = ready(node).is_some_and(|ready| ready.status == "True");
        let message = format!("Node {} status is now: NodeNotReady", at.name);
        plan.actions.push(if was_ready {
            action.then_tell(event(node, "NodeNotReady", message))
        } else {
            action
        });
    }
    if state != "True" && silent.is_none() {
        plan.actions.extend(pods_not_ready(world, &at.name, now));
    }
    plan
}

/// Tells of a node that is new to us, as upstream does after each start.
fn registered(world: &World, node: &Node) -> Plan {
    let (name, uid) = (node.metadata.name_str(), node.metadata.uid_str());
    if world.registered_node(name) == Some(uid) {
        return Plan::nothing();
    }
    let message = format!("Node {name} event: Registered Node {name} in Controller");
    Plan {
        actions: vec![Action::Tell(Box::new(event(node, "RegisteredNode", message)))],
        registration: Some(Registration::Added { node: name.to_owned(), uid: uid.to_owned() }),
        ..Plan::default()
    }
}

/// Tells of a node that is gone.
fn removed(world: &World, name: &str) -> Plan {
    let Some(uid) = world.registered_node(name) else {
        return Plan::nothing();
    };
    let metadata =
        ObjectMeta { name: Some(name.to_owned()), uid: Some(uid.to_owned()), ..ObjectMeta::default() };
    let message = format!("Node {name} event: Removing Node {name} from Controller");
    let node = Node { metadata, ..Node::default() };
    Plan {
        actions: vec![Action::Tell(Box::new(event(&node, "RemovingNode", message)))],
        registration: Some(Registration::Removed { node: name.to_owned() }),
        ..Plan::default()
    }
}

/// When a node was last heard of: by its lease, or its status, or (as nobody listened before) our own start.
fn last_heard(world: &World, node: &Node) -> Timestamp {
    let lease = world.lease(LEASES_IN, node.metadata.name_str());
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref()).map(|time| time.0);
    let heartbeat = ready(node).and_then(|ready| ready.last_heartbeat_time.as_ref()).map(|time| time.0);
    let heard = renewed.into_iter().chain(heartbeat).max();
    heard.unwrap_or(Timestamp::UNIX_EPOCH).max(world.started()).max(node.metadata.created())
}

fn set_unknown(node: &mut Node, now: Timestamp) {
    let created = node.metadata.creation_timestamp.clone();
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    for kind in UNKNOWN {
        match conditions.iter_mut().find(|condition| condition.type_ == *kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(time(now));
            }
            None => conditions.push(NodeCondition {
                type_: (*kind).to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: created.clone(),
                last_transition_time: Some(time(now)),
            }),
        }
    }
}

/// The taints of a node by its Ready condition (unreachable when unknown, not-ready when false), and that of one that is
/// cordoned. Other taints stay.
fn set_taints(node: &mut Node, state: &str, now: Timestamp) {
    let spec = node.spec.get_or_insert_default();
    let mut wanted: Vec<(&str, &str)> = match state {
        "True" => Vec::new(),
        "False" => vec![(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")],
        _ => vec![(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")],
    };
    if spec.unschedulable == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is_ours = |(key, effect): (&str, &str)| match key {
        NOT_READY | UNREACHABLE => true,
        UNSCHEDULABLE => effect == "NoSchedule",
        _ => false,
    };
    let list = spec.taints.get_or_insert_default();
    list.retain(|taint| {
        let taint = (taint.key.as_str(), taint.effect.as_str());
        !is_ours(taint) || wanted.contains(&taint)
    });
    wanted.retain(|(key, effect)| !list.iter().any(|taint| taint.key == *key && taint.effect == *effect));
    list.extend(wanted.into_iter().map(|(key, effect)| Taint {
        key: key.to_owned(),
        effect: effect.to_owned(),
        time_added: Some(time(now)),
        value: None,
    }));
    if list.is_empty() {
        spec.taints = None;
    }
}

/// Pods of a silent node are not ready: services must not send anyone there.
fn pods_not_ready(world: &World, node: &str, now: Timestamp) -> Option<Action> {
    let changes: Vec<Action> = world
        .pods_on(node)
        .filter(|pod| pods::is_ready(pod))
        .filter_map(|pod| {
            let mut new = Pod::clone(pod);
            let conditions = new.status.as_mut()?.conditions.as_mut()?;
            let ready = conditions.iter_mut().find(|condition| condition.type_ == "Ready")?;
            ready.status = "False".to_owned();
            ready.last_transition_time = Some(time(now));
            let at = key(PODS, pod.metadata.namespace_str(), pod.metadata.name_str());
            let action = change(&at, pod.metadata.revision(), Some("status"), &**pod, &new)?;
            let regarding = reference::<Pod>(&pod.metadata);
            let message = "Node is not ready".to_owned();
            Some(action.then_tell(EventRecord {
                regarding,
                type_: "Warning",
                reason: "NodeNotReady".to_owned(),
                message,
                component: NAME,
            }))
        })
        .collect();
    (!changes.is_empty()).then_some(Action::Together(changes))
}

fn event(node: &Node, reason: &str, message: String) -> EventRecord {
    EventRecord {
        regarding: reference::<Node>(&node.metadata),
        type_: "Normal",
        reason: reason.to_owned(),
        message,
        component: NAME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::LEASES;
    use crate::testing::{add_node, add_pods, now, world};
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(node: &str, lease_age_secs: i64, after_start_secs: u64, expect: Expect) {
        let renewed = now() - jiff::SignedDuration::from_secs(lease_age_secs);
        let lease = json!({"metadata": {"name": "n1", "namespace": LEASES_IN}, "spec": {"renewTime": renewed.strftime("%FT%T.%6fZ").to_string()}});
        let mut world = world(&[(LEASES, lease)]);
        add_node(&mut world, node);
        add_pods(&mut world, "a:ready node=n1");
        world.remember(&reconcile(&world, &cluster_key(NODES, "n1"), now()));
        let at = now() + Duration::from_secs(after_start_secs);
        expect.assert_eq(&reconcile(&world, &cluster_key(NODES, "n1"), at).to_string());
    }

    #[test]
    fn a_node_is_told_of_once_when_it_comes_and_once_when_it_goes() {
        let mut world = world(&[]);
        let at = cluster_key(NODES, "n1");
        let step = |world: &mut World, expect: Expect| {
            let plan = reconcile(world, &at, now());
            world.remember(&plan);
            expect.assert_eq(&plan.to_string());
        };
        add_node(&mut world, "n1/ready=True");
        step(
            &mut world,
            expect![[r#"
                tell Normal RegisteredNode n1: Node n1 event: Registered Node n1 in Controller
                look again in 40s
            "#]],
        );
        step(
            &mut world,
            expect![[r#"
                look again in 40s
            "#]],
        );
        world.apply(at.clone(), 2, None, now());
        step(
            &mut world,
            expect![[r#"
                tell Normal RemovingNode n1: Node n1 event: Removing Node n1 from Controller
            "#]],
        );
        step(&mut world, expect![""]);
    }

    #[test]
    fn a_silent_node_becomes_unknown_and_unreachable() {
        check(
            "n1/ready=True",
            10,
            0,
            expect![[r#"
            look again in 40s
        "#]],
        );
        check(
            "n1/ready=True",
            0,
            60,
            expect![[r#"
            patch nodes n1 {"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/unreachable","timeAdded":"2026-01-01T00:11:00Z"},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","timeAdded":"2026-01-01T00:11:00Z"}]}}
            patch nodes n1 status {"status":{"conditions":[{"lastHeartbeatTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-01-01T00:11:00Z","message":"Kubelet stopped posting node status.","reason":"NodeStatusUnknown","status":"Unknown","type":"Ready"},{"lastHeartbeatTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-01-01T00:11:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"MemoryPressure"},{"lastHeartbeatTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-01-01T00:11:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"DiskPressure"},{"lastHeartbeatTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-01-01T00:11:00Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"PIDPressure"}]}}
              then Normal NodeNotReady n1: Node n1 status is now: NodeNotReady
            patch pods default/a status {"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:11:00Z","status":"False","type":"Ready"}]}}
              then Warning NodeNotReady a: Node is not ready
        "#]],
        );
    }

    #[test]
    fn nobody_is_silent_before_we_listened_for_a_while() {
        check(
            "n1/ready=True",
            500,
            20,
            expect![[r#"
            look again in 20s
        "#]],
        );
    }

    #[test]
    fn a_node_that_says_it_is_not_ready_is_tainted() {
        check(
            "n1/ready=False",
            0,
            10,
            expect![[r#"
            patch nodes n1 {"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/not-ready","timeAdded":"2026-01-01T00:10:10Z"},{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","timeAdded":"2026-01-01T00:10:10Z"}]}}
            look again in 30s
        "#]],
        );
    }

    #[test]
    fn a_cordoned_node_is_tainted_and_one_that_is_open_again_is_not() {
        check(
            "n1/ready=True/cordoned/tainted",
            0,
            0,
            expect![[r#"
            patch nodes n1 {"spec":{"taints":[{"effect":"NoSchedule","key":"k","value":"v"},{"effect":"NoSchedule","key":"node.kubernetes.io/unschedulable","timeAdded":"2026-01-01T00:10:00Z"}]}}
            look again in 40s
        "#]],
        );
        check(
            "n1/ready=True/taint=node.kubernetes.io~unschedulable:NoSchedule",
            0,
            0,
            expect![[r#"
            patch nodes n1 {"spec":{"taints":null}}
            look again in 40s
        "#]],
        );
    }
}
