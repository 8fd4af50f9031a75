//! Pods bound to a node that is gone: nobody will ever end them, so they are deleted.

use crate::action::{Action, Plan, Propagation};
use crate::controller::{Controller, Wake};
use crate::object::{Change, Meta, NODES, Object, PODS, cluster_key, key};
use crate::pods;
use crate::world::World;
use control_api::object::Key;
use jiff::Timestamp;
use std::time::Duration;

/// The garbage collector of pods.
pub(crate) static ROW: Controller = Controller {
    name: "pod-garbage-collector-controller",
    wakes: &[Wake::on("", "nodes", gone_node), Wake::on("", "pods", nodeless_pod)],
    reconcile,
};

/// How long a node may be away before its pods are given up: it may be about to register again.
const QUARANTINE: Duration = Duration::from_secs(40);

fn gone_node(_: &World, change: &Change) -> Vec<Key> {
    if change.after.is_none() { vec![change.key.clone()] } else { Vec::new() }
}

fn nodeless_pod(world: &World, change: &Change) -> Vec<Key> {
    let node = change.after.as_ref().and_then(Object::pod).and_then(|pod| pods::node(pod));
    node.filter(|node| world.node(node).is_none()).map(|node| cluster_key(NODES, node)).into_iter().collect()
}

fn reconcile(world: &World, at: &Key, now: Timestamp) -> Plan {
    if world.node(&at.name).is_some() {
        return Plan::nothing();
    }
    let mut pods = world.pods_on(&at.name).peekable();
    if pods.peek().is_none() {
        return Plan::nothing();
    }
    let mut plan = Plan::nothing();
    let mut deletes = Vec::new();
    for pod in pods {
        let since = world.gone_since(&at.name).unwrap_or(world.started()).max(pod.metadata.created());
        let end = since.checked_add(QUARANTINE).unwrap_or(Timestamp::MAX);
        match pods::until(end, now) {
            Some(rest) => plan.look_again_in(rest),
            None => deletes.push(Action::Delete {
                key: key(PODS, pod.metadata.namespace_str(), pod.metadata.name_str()),
                uid: pod.metadata.uid_str().to_owned(),
                revision: None,
                propagation: Propagation::Background,
                grace_secs: Some(0),
            }),
        }
    }
    if !deletes.is_empty() {
        plan.actions.push(Action::Together(deletes));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{add_node, add_pods, now, world};
    use expect_test::{Expect, expect};

    fn check(node: Option<&str>, secs: u64, expect: Expect) {
        let mut world = world(&[]);
        if let Some(node) = node {
            add_node(&mut world, node);
        }
        add_pods(&mut world, "a:running node=n1; b:running node=n2");
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
            delete pods default/a Background grace=0
        "#]],
        );
    }
}
