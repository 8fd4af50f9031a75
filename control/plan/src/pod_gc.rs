//! Pods that nobody will ever end: those bound to a node that is gone, and those that have ended, beyond a number.

use crate::action::{Action, Plan, Propagation, change};
use crate::controller::{Controller, Wake};
use crate::object::{Change, Meta, NODES, Object, PODS, cluster_key, key};
use crate::pods;
use crate::world::World;
use control_api::object::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::time::Duration;

/// The garbage collector of pods.
pub(crate) static ROW: Controller = Controller {
    name: "pod-garbage-collector-controller",
    wakes: &[
        Wake::on("", "nodes", gone_node),
        Wake::on("", "pods", nodeless_pod),
        Wake::on("", "pods", too_many_ended),
    ],
    reconcile,
};

/// How many pods that ended are kept: upstream's `--terminated-pod-gc-threshold`. A pod is some ten kilobytes in memory,
/// so these are a hundred megabytes at most; fewer would surprise who runs a batch and looks at it afterwards.
const KEPT: usize = 12_500;

/// The most that one plan deletes.
const BATCH: usize = 500;

/// How long a node may be away before its pods are given up: it may be about to register again.
const QUARANTINE: Duration = Duration::from_secs(40);

fn gone_node(_: &World, change: &Change) -> Vec<Key> {
    if change.after.is_none() { vec![change.key.clone()] } else { Vec::new() }
}

fn nodeless_pod(world: &World, change: &Change) -> Vec<Key> {
    let node = change.after.as_ref().and_then(Object::pod).and_then(|pod| pods::node(pod));
    node.filter(|node| world.node(node).is_none()).map(|node| cluster_key(NODES, node)).into_iter().collect()
}

/// One key stands for all pods that ended.
fn too_many_ended(world: &World, change: &Change) -> Vec<Key> {
    let ended = change.after.as_ref().and_then(Object::pod).is_some_and(|pod| pods::is_terminal(pod));
    if ended && world.count_ended_pods() > KEPT { vec![cluster_key(PODS, "ended")] } else { Vec::new() }
}

fn reconcile(world: &World, at: &Key, now: Timestamp) -> Plan {
    if at.resource == PODS { collect_ended(world, KEPT) } else { collect_nodeless(world, at, now) }
}

/// Deletes what ended beyond `kept`: evicted pods first, then the oldest.
fn collect_ended(world: &World, kept: usize) -> Plan {
    let surplus = world.count_ended_pods().saturating_sub(kept);
    let deletes: Vec<Action> = world.ended_pods().take(surplus.min(BATCH)).map(|pod| delete(pod)).collect();
    let mut plan = Plan::nothing();
    if surplus > BATCH {
        plan.look_again_in(Duration::ZERO);
    }
    if !deletes.is_empty() {
        plan.actions.push(Action::Together(deletes));
    }
    plan
}

fn delete(pod: &Pod) -> Action {
    Action::Delete {
        key: key(PODS, pod.metadata.namespace_str(), pod.metadata.name_str()),
        uid: pod.metadata.uid_str().to_owned(),
        revision: None,
        propagation: Propagation::Background,
        grace_secs: Some(0),
    }
}

fn collect_nodeless(world: &World, at: &Key, now: Timestamp) -> Plan {
    if world.node(&at.name).is_some() {
        return Plan::nothing();
    }
    let mut pods = world.pods_on(&at.name).peekable();
    if pods.peek().is_none() {
        return Plan::nothing();
    }
    let mut plan = Plan::nothing();
    let (mut failures, mut deletes) = (Vec::new(), Vec::new());
    for pod in pods {
        let since = world.gone_since(&at.name).unwrap_or(world.started()).max(pod.metadata.created());
        let end = since.checked_add(QUARANTINE).unwrap_or(Timestamp::MAX);
        match pods::until(end, now) {
            Some(rest) => plan.look_again_in(rest),
            None => {
                failures.extend(fail(pod, now));
                deletes.push(delete(pod));
            }
        }
    }
    // Why a pod goes is in its status before it goes.
    plan.actions.extend([failures, deletes].into_iter().filter(|all| !all.is_empty()).map(Action::Together));
    plan
}

/// A pod that has not ended will not end by itself: nobody runs it any more.
fn fail(pod: &Pod, now: Timestamp) -> Option<Action> {
    if pods::is_terminal(pod) {
        return None;
    }
    let message = "PodGC: node no longer exists";
    let mut new = pods::with_condition(pod, "DisruptionTarget", true, "DeletionByPodGC", message, now);
    new.status.get_or_insert_default().phase = Some("Failed".to_owned());
    let at = key(PODS, pod.metadata.namespace_str(), pod.metadata.name_str());
    change(&at, pod.metadata.revision(), Some("status"), pod, &new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{add, add_node, add_pods, now, world};
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(node: Option<&str>, secs: u64, expect: Expect) {
        let mut world = world(&[]);
        if let Some(node) = node {
            add_node(&mut world, node);
        }
        add_pods(&mut world, "a:running node=n1; b:running node=n2; c:succeeded node=n1");
        let plan = reconcile(&world, &cluster_key(NODES, "n1"), now() + Duration::from_secs(secs));
        expect.assert_eq(&plan.to_string());
    }

    #[test]
    fn pods_of_a_gone_node_go_after_a_while() {
        check(Some("n1"), 60, expect![""]);
        check(
            None,
            30,
            expect![[r#"
            look again in 10s
        "#]],
        );
        check(
            None,
            60,
            expect![[r#"
            patch pods default/a status {"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:01:00Z","status":"False","type":"Ready"},{"lastTransitionTime":"2026-01-01T00:11:00Z","message":"PodGC: node no longer exists","reason":"DeletionByPodGC","status":"True","type":"DisruptionTarget"}],"phase":"Failed"}}
            delete pods default/a Background grace=0
            delete pods default/c Background grace=0
        "#]],
        );
    }

    #[test]
    fn of_pods_that_ended_the_evicted_and_the_oldest_go() {
        let mut world = world(&[]);
        add_pods(
            &mut world,
            "a:succeeded created=02; b:failed created=01; c:running; d:failed created=00 deleting",
        );
        let evicted = json!({"metadata": {"name": "e", "namespace": "default", "uid": "uid-e",
            "creationTimestamp": "2026-01-01T00:09:00Z"}, "status": {"phase": "Failed", "reason": "Evicted"}});
        add(&mut world, &PODS, &evicted);
        assert_eq!(collect_ended(&world, 3).to_string(), "");
        let expect = expect![[r#"
            delete pods default/e Background grace=0
            delete pods default/b Background grace=0
        "#]];
        expect.assert_eq(&collect_ended(&world, 1).to_string());
        // An index follows them out.
        add_pods(&mut world, "a:succeeded created=02 deleting; b:failed created=01 deleting");
        assert_eq!(world.count_ended_pods(), 1);
    }
}
