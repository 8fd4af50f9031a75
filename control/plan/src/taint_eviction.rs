//! Pods that a NoExecute taint drives off their node: at once, or when the time is over for which they tolerate it.
//!
//! Upstream counts that time from when its controller first saw taint and pod together, and so anew after each restart.
//! Here it counts from when the taint was added, where the taint says so, and the pod bound.

use crate::action::{Action, EventRecord, Plan, Propagation, change};
use crate::controller::{Controller, Wake};
use crate::object::{Change, Meta, NODES, Object, PODS, cluster_key, key, reference};
use crate::pods::{self, until};
use crate::scheduler::tolerates;
use crate::world::World;
use control_api::object::Key;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

const NAME: &str = "taint-eviction-controller";

/// The controller of evictions by taints; a key is a node.
pub(crate) static ROW: Controller = Controller {
    name: NAME,
    wakes: &[Wake::on("", "nodes", on_node), Wake::on("", "pods", on_pod)],
    reconcile,
};

/// The taints of a node that drive pods off.
pub(crate) fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == "NoExecute")
}

fn on_node(_: &World, change: &Change) -> Vec<Key> {
    let taints = |object: &Option<Object>| match object {
        Some(Object::Node(node)) => no_execute(node).cloned().collect(),
        _ => Vec::new(),
    };
    let after = taints(&change.after);
    if after.is_empty() || after == taints(&change.before) { Vec::new() } else { vec![change.key.clone()] }
}

/// The node of a pod that is new on it, or that tolerates something else than before.
fn on_pod(world: &World, change: &Change) -> Vec<Key> {
    let Some(after) = change.after.as_ref().and_then(Object::pod) else { return Vec::new() };
    let Some(node) = pods::node(after) else { return Vec::new() };
    let same =
        change.before.as_ref().and_then(Object::pod).is_some_and(|before| {
            pods::node(before) == Some(node) && tolerations(before) == tolerations(after)
        });
    let tainted = world.node(node).is_some_and(|node| no_execute(node).next().is_some());
    if tainted && !same { vec![cluster_key(NODES, node)] } else { Vec::new() }
}

fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

fn reconcile(world: &World, at: &Key, now: Timestamp) -> Plan {
    let Some(node) = world.node(&at.name) else {
        return Plan::nothing();
    };
    let taints: Vec<(&Taint, Timestamp)> =
        no_execute(node).map(|taint| (taint, world.tainted_since(&at.name, taint))).collect();
    if taints.is_empty() {
        return Plan::nothing();
    }
    let mut plan = Plan::nothing();
    let (mut conditions, mut deletes) = (Vec::new(), Vec::new());
    for pod in world.pods_on(&at.name).filter(|pod| !pod.metadata.is_deleting()) {
        let Some(end) = tolerated_until(pod, &taints) else { continue };
        if let Some(rest) = until(end, now) {
            plan.look_again_in(rest);
            continue;
        }
        conditions.extend(announce(pod, now));
        deletes.push(delete(pod));
    }
    // Why a pod goes is in its status before it goes.
    plan.actions
        .extend([conditions, deletes].into_iter().filter(|all| !all.is_empty()).map(Action::Together));
    plan
}

/// Until when a pod tolerates all of the taints, each of which was added at its time; none: for ever.
fn tolerated_until(pod: &Pod, taints: &[(&Taint, Timestamp)]) -> Option<Timestamp> {
    let bound =
        pods::condition(pod, "PodScheduled").and_then(|condition| condition.last_transition_time.as_ref());
    let bound = bound.map_or(pod.metadata.created(), |time| time.0);
    let ends = taints.iter().filter_map(|(taint, added)| {
        let Some(toleration) = tolerations(pod).iter().find(|toleration| tolerates(toleration, taint)) else {
            return Some(Timestamp::MIN);
        };
        let tolerated = SignedDuration::from_secs(toleration.toleration_seconds?.max(0));
        Some(bound.max(*added).saturating_add(tolerated).unwrap_or(Timestamp::MAX))
    });
    ends.min()
}

fn announce(pod: &Pod, now: Timestamp) -> Option<Action> {
    let message = "Taint manager: deleting due to NoExecute taint";
    let new = pods::with_condition(pod, "DisruptionTarget", true, "DeletionByTaintManager", message, now);
    change(&key_of(pod), pod.metadata.revision(), Some("status"), pod, &new)
}

fn delete(pod: &Pod) -> Action {
    let at = key_of(pod);
    let message =
        format!("Marking for deletion Pod {}/{}", pod.metadata.namespace_str(), pod.metadata.name_str());
    let delete = Action::Delete {
        key: at,
        uid: pod.metadata.uid_str().to_owned(),
        revision: None,
        propagation: Propagation::Background,
        grace_secs: None,
    };
    delete.then_tell(EventRecord {
        regarding: reference::<Pod>(&pod.metadata),
        type_: "Normal",
        reason: "TaintManagerEviction".to_owned(),
        message,
        component: NAME,
    })
}

fn key_of(pod: &Pod) -> Key {
    key(PODS, pod.metadata.namespace_str(), pod.metadata.name_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{add, add_node, now, world};
    use expect_test::{Expect, expect};
    use serde_json::json;
    use std::time::Duration;

    /// A pod with these tolerations, created ten minutes ago, on a node with the taint `maint` that was first seen now.
    fn check(tolerations: &serde_json::Value, taint: &str, after_secs: u64, expect: Expect) {
        let mut world = world(&[]);
        add_node(&mut world, &format!("n1/taint={taint}"));
        let pod = json!({"metadata": {"name": "a", "namespace": "default", "uid": "u", "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n1", "containers": [], "tolerations": tolerations}});
        add(&mut world, &PODS, &pod);
        let at = now() + Duration::from_secs(after_secs);
        expect.assert_eq(&reconcile(&world, &cluster_key(NODES, "n1"), at).to_string());
    }

    #[test]
    fn a_pod_that_does_not_tolerate_a_taint_goes_at_once() {
        check(
            &json!([]),
            "maint:NoExecute",
            0,
            expect![[r#"
                patch pods default/a status {"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:10:00Z","message":"Taint manager: deleting due to NoExecute taint","reason":"DeletionByTaintManager","status":"True","type":"DisruptionTarget"}]}}
                delete pods default/a Background
                  then Normal TaintManagerEviction a: Marking for deletion Pod default/a
            "#]],
        );
        check(&json!([]), "maint:NoSchedule", 0, expect![""]);
    }

    #[test]
    fn a_pod_that_tolerates_a_taint_for_a_while_goes_when_it_is_over() {
        let for_a_minute = json!([{"key": "maint", "operator": "Exists", "tolerationSeconds": 60}]);
        check(
            &for_a_minute,
            "maint:NoExecute",
            10,
            expect![[r#"
            look again in 50s
        "#]],
        );
        check(
            &for_a_minute,
            "maint:NoExecute",
            60,
            expect![[r#"
                patch pods default/a status {"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:11:00Z","message":"Taint manager: deleting due to NoExecute taint","reason":"DeletionByTaintManager","status":"True","type":"DisruptionTarget"}]}}
                delete pods default/a Background
                  then Normal TaintManagerEviction a: Marking for deletion Pod default/a
            "#]],
        );
        check(&json!([{"key": "maint", "operator": "Exists"}]), "maint:NoExecute", 9999, expect![""]);
    }

    #[test]
    fn the_first_taint_to_be_over_counts_from_when_it_was_added_or_the_pod_bound() {
        let time = |text: &str| -> Timestamp { format!("2026-01-01T{text}Z").parse().unwrap() };
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [], "tolerations": [
                {"key": "a", "operator": "Exists", "tolerationSeconds": 600},
                {"key": "b", "operator": "Exists", "tolerationSeconds": 60}]},
            "status": {"conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T01:00:00Z"}]}}))
            .unwrap();
        let taint = |key: &str| Taint { key: key.into(), effect: "NoExecute".into(), ..Taint::default() };
        let (a, b) = (taint("a"), taint("b"));
        assert_eq!(tolerated_until(&pod, &[(&a, time("00:30:00"))]), Some(time("01:10:00")));
        assert_eq!(
            tolerated_until(&pod, &[(&a, time("00:30:00")), (&b, time("01:30:00"))]),
            Some(time("01:10:00"))
        );
        assert_eq!(
            tolerated_until(&pod, &[(&a, time("00:30:00")), (&b, time("00:30:00"))]),
            Some(time("01:01:00"))
        );
    }
}
