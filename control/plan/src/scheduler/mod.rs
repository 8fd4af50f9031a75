//! Gives pods their nodes.
//!
//! One key stands for all pods that wait, as each placement changes what is left for the next: a plan places all that
//! fit in one go, the most important and then the oldest first, and its writes go out together. Those that fit nowhere
//! are set aside ([`waiting`]), unless less important pods can make room for them ([`preempt`](mod@preempt)).

pub(crate) mod amounts;
mod node_match;
pub(crate) mod place;
mod preempt;
pub(crate) mod waiting;

use crate::action::{Action, EventRecord, Plan, Propagation, change};
use crate::controller::{Controller, Wake};
use crate::object::{Change, Meta, Object, PODS, cluster_key, key, reference};
use crate::pods;
use crate::world::World;
use control_api::object::Key;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use place::{Cluster, NodeName, Unfit, place};
use preempt::{NoPreemption, Preemption, preempt};
use std::collections::BTreeMap;
use waiting::{Unplaced, WaitingPod};

pub(crate) use node_match::tolerates;

/// Who says it in events, and whom a pod's `schedulerName` names.
const NAME: &str = "default-scheduler";

/// The scheduler.
pub(crate) static ROW: Controller = Controller {
    name: NAME,
    wakes: &[Wake::on("", "pods", on_pod), Wake::on("", "nodes", on_node)],
    reconcile,
};

/// How long a pod that fits nowhere is left alone before it is looked at, and told, once more: as upstream's queue keeps
/// its unschedulable pods, and well within the time for which events are kept.
const TELL_AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// A pod that waits, or one whose going leaves room.
fn on_pod(_: &World, change: &Change) -> Vec<Key> {
    let waits = change.after.as_ref().and_then(Object::pod).is_some_and(|pod| pods::node(pod).is_none());
    if waits || leaves_room(change) { vec![cluster_key(PODS, "waiting")] } else { Vec::new() }
}

fn on_node(_: &World, change: &Change) -> Vec<Key> {
    if leaves_room(change) { vec![cluster_key(PODS, "waiting")] } else { Vec::new() }
}

/// Whether a pod that fitted nowhere may fit after a change: a pod is off its node, or a node has other room or
/// another willingness. A node's heartbeats do not matter.
pub(crate) fn leaves_room(change: &Change) -> bool {
    let (before, after) = (change.before.as_ref(), change.after.as_ref());
    let holds = |object: Option<&Object>| {
        let pod = object.and_then(Object::pod);
        pod.is_some_and(|pod| pods::node(pod).is_some() && !pods::is_terminal(pod))
    };
    (holds(before) && !holds(after)) || offer(before) != offer(after)
}

/// What a node has for pods, and for which.
fn offer(object: Option<&Object>) -> Option<impl PartialEq> {
    let Some(Object::Node(node)) = object else { return None };
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    Some((&node.spec, &node.metadata.labels, allocatable))
}

fn reconcile(world: &World, _: &Key, now: Timestamp) -> Plan {
    let old = now.saturating_sub(TELL_AGAIN).unwrap_or(Timestamp::MIN);
    let mut due: Vec<&WaitingPod> = world.waiting_pods().due(old).collect();
    due.sort_by_key(|waiting| {
        (std::cmp::Reverse(pods::priority(&waiting.pod)), waiting.pod.metadata.created())
    });
    let mut pass = Pass { world, cluster: None, old, now, plan: Plan::nothing(), victims: BTreeMap::new() };
    let actions: Vec<Action> = due.into_iter().filter_map(|waiting| pass.schedule(waiting)).collect();
    let mut plan = pass.plan;
    let (conditions, deletes): (Vec<_>, Vec<_>) = pass.victims.into_values().unzip();
    let conditions = conditions.into_iter().flatten().collect();
    plan.actions.extend(
        [actions, conditions, deletes].into_iter().filter(|all| !all.is_empty()).map(Action::Together),
    );
    let told = plan.unplaced.iter().filter_map(|unplaced| unplaced.told);
    if let Some(first) = told.chain(world.waiting_pods().first_told_after(old)).min() {
        let again = first.saturating_add(TELL_AGAIN).unwrap_or(Timestamp::MAX);
        plan.look_again_in(pods::until(again, now).unwrap_or_default());
    }
    plan
}

fn is_ours(pod: &Pod) -> bool {
    let scheduler = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
    scheduler.is_none_or(|name| name.is_empty() || name == NAME)
}

fn key_of(pod: &Pod) -> Key {
    key(PODS, pod.metadata.namespace_str(), pod.metadata.name_str())
}

/// One look at all pods that are due.
struct Pass<'a> {
    world: &'a World,
    /// Made when the first pod needs it.
    cluster: Option<Cluster>,
    /// What was told no later than this is told once more.
    old: Timestamp,
    now: Timestamp,
    plan: Plan,
    /// By UID: what is said in a victim's status, and its end.
    victims: BTreeMap<&'a str, (Option<Action>, Action)>,
}

impl<'a> Pass<'a> {
    /// Places one pod and takes its room, or says why it cannot be placed.
    fn schedule(&mut self, waiting: &WaitingPod) -> Option<Action> {
        let pod = &waiting.pod;
        if !is_ours(pod) {
            self.plan.unplaced.push(Unplaced { key: key_of(pod), told: None });
            return None;
        }
        let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
        if gates.is_some_and(|gates| !gates.is_empty()) {
            self.plan.unplaced.push(Unplaced { key: key_of(pod), told: None });
            let message = "Scheduling is blocked due to non-empty scheduling gates";
            return set_unscheduled(pod, "SchedulingGated", message, None, self.now);
        }
        let cluster = self.cluster.get_or_insert_with(|| Cluster::new(self.world.node_spaces().cloned()));
        match place(pod, &waiting.wanted, cluster) {
            Ok(node) => {
                cluster.assume(pod, &node);
                let (namespace, name) = (pod.metadata.namespace_str(), pod.metadata.name_str());
                let message = format!("Successfully assigned {namespace}/{name} to {}", node.0);
                let uid = pod.metadata.uid_str().to_owned();
                let bind = Action::Bind { key: key_of(pod), uid, node: node.0 };
                Some(bind.then_tell(event(pod, "Normal", "Scheduled", message)))
            }
            Err(unfit) => self.tell_unfit(waiting, &unfit),
        }
    }

    /// Has less important pods make room for a pod, where that helps, and says why it cannot be placed now.
    fn tell_unfit(&mut self, waiting: &WaitingPod, unfit: &Unfit) -> Option<Action> {
        let pod = &waiting.pod;
        let cluster = self.cluster.as_mut()?;
        let preemption = preempt(waiting, cluster, unfit, |node| self.world.pods_on(node));
        let (node, message) = match preemption {
            _ if unfit.nodes == 0 => (None, unfit.to_string()),
            Ok(Preemption { node, victims }) => {
                for victim in victims.iter().filter(|victim| !victim.metadata.is_deleting()) {
                    let end = end_victim(victim, pod, &node, self.now);
                    self.victims.entry(victim.metadata.uid_str()).or_insert(end);
                }
                (Some(node), unfit.to_string())
            }
            Err(why) => {
                let node = pods::nominated(pod).filter(|_| why == NoPreemption::UnderWay);
                let message = format!("{unfit} no new claims to deallocate, preemption: {why}");
                (node.map(|node| NodeName(node.to_owned())), message)
            }
        };
        if let Some(node) = &node {
            // Less important pods do not get what is made free for this one.
            cluster.assume(pod, node);
        }
        let node = node.as_ref().map(|node| node.0.as_str());
        let news = set_unscheduled(pod, "Unschedulable", &message, node, self.now);
        let told = waiting.told.filter(|told| *told > self.old && news.is_none());
        self.plan.unplaced.push(Unplaced { key: key_of(pod), told: told.or(Some(self.now)) });
        if told.is_some() {
            return None;
        }
        let event = event(pod, "Warning", "FailedScheduling", message);
        Some(match news {
            Some(action) => action.then_tell(event),
            None => Action::Tell(Box::new(event)),
        })
    }
}

/// Says in a victim's status why it goes, and ends it.
fn end_victim(victim: &Pod, pod: &Pod, node: &NodeName, now: Timestamp) -> (Option<Action>, Action) {
    let message = format!("{NAME}: preempting to accommodate a higher priority pod");
    let new = pods::with_condition(victim, "DisruptionTarget", true, preempt::REASON, &message, now);
    let at = key_of(victim);
    let condition = change(&at, victim.metadata.revision(), Some("status"), victim, &new);
    let delete = Action::Delete {
        key: at,
        uid: victim.metadata.uid_str().to_owned(),
        revision: None,
        propagation: Propagation::Background,
        grace_secs: None,
    };
    let message = format!("Preempted by pod {} on node {}", pod.metadata.uid_str(), node.0);
    (condition, delete.then_tell(event(victim, "Normal", "Preempted", message)))
}

/// Sets the condition PodScheduled to False, and where there will be room; nothing if it says so already.
fn set_unscheduled(
    pod: &Pod,
    reason: &str,
    message: &str,
    node: Option<&str>,
    now: Timestamp,
) -> Option<Action> {
    let mut new = pods::with_condition(pod, "PodScheduled", false, reason, message, now);
    if let Some(status) = &mut new.status {
        status.nominated_node_name = node.map(str::to_owned);
    }
    change(&key_of(pod), pod.metadata.revision(), Some("status"), pod, &new)
}

fn event(pod: &Pod, type_: &'static str, reason: &str, message: String) -> EventRecord {
    let regarding = reference::<Pod>(&pod.metadata);
    EventRecord { regarding, type_, reason: reason.to_owned(), message, component: NAME }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{add_node, add_pods, now, pod, world};
    use expect_test::{Expect, expect};
    use std::time::Duration;

    /// What the scheduler does about the world after some seconds, a line a pod; what it says is remembered and written.
    fn step(world: &mut World, after_secs: u64, expect: Expect) {
        let now = now() + Duration::from_secs(after_secs);
        let plan = reconcile(world, &cluster_key(PODS, "waiting"), now);
        world.remember(&plan);
        let mut lines = String::new();
        for action in plan.actions.iter().flat_map(|action| match action {
            Action::Together(actions) => actions.clone(),
            other => vec![other.clone()],
        }) {
            let text = action.to_string();
            lines += &format!("{}\n", text.split([':', '{']).next().unwrap().trim());
            let Action::Told { action, .. } = action else { continue };
            let Action::Patch { key, patch, .. } = *action else { continue };
            // The scheduler's own write comes back to it.
            let old = world.pod("default", &key.name).unwrap();
            let mut new = serde_json::to_value(&**old).unwrap();
            let status = new["status"].as_object_mut().unwrap();
            status.extend(patch["status"].as_object().unwrap().clone());
            crate::testing::add(world, &PODS, &new);
        }
        if let Some(rest) = plan.look_again {
            lines += &format!("look again in {rest:?}\n");
        }
        expect.assert_eq(&lines);
    }

    #[test]
    fn pods_that_fit_nowhere_are_set_aside_until_room_comes() {
        let mut world = world(&[]);
        add_node(&mut world, "n1/cpu=1/memory=1Gi");
        add_pods(&mut world, "held:running node=n1 cpu=1; a:pending cpu=1; b:pending cpu=2");
        step(
            &mut world,
            0,
            expect![[r#"
                patch pods default/a status
                patch pods default/b status
                look again in 300s
            "#]],
        );
        assert_eq!(world.waiting_pods().due(Timestamp::MIN).count(), 0);
        // A new one does not make the scheduler look at the others.
        add_pods(&mut world, "c:pending cpu=0");
        let due: Vec<_> =
            world.waiting_pods().due(Timestamp::MIN).map(|waiting| key_of(&waiting.pod)).collect();
        assert_eq!(due, [key(PODS, "default", "c")]);
        step(
            &mut world,
            10,
            expect![[r#"
                bind pods default/c to n1
                  then Normal Scheduled c
                look again in 290s
            "#]],
        );
        add_pods(&mut world, "c:running node=n1; held:succeeded node=n1 cpu=1");
        step(
            &mut world,
            20,
            expect![[r#"
                bind pods default/a to n1
                  then Normal Scheduled a
                look again in 280s
            "#]],
        );
    }

    #[test]
    fn what_fits_nowhere_is_told_again() {
        let mut world = world(&[]);
        add_node(&mut world, "n1/cpu=1/memory=1Gi");
        add_pods(&mut world, "a:pending cpu=2");
        step(
            &mut world,
            0,
            expect![[r#"
                patch pods default/a status
                look again in 300s
            "#]],
        );
        // Room came, and was not enough: the same need not be told so soon.
        add_pods(&mut world, "b:running node=n1");
        add_pods(&mut world, "b:succeeded node=n1");
        step(
            &mut world,
            100,
            expect![[r#"
            look again in 200s
        "#]],
        );
        step(
            &mut world,
            300,
            expect![[r#"
                tell Warning FailedScheduling a
                look again in 300s
            "#]],
        );
    }

    #[test]
    fn a_pod_that_asks_for_something_else_is_looked_at_again() {
        let mut world = world(&[]);
        add_node(&mut world, "n1/cpu=1/memory=1Gi");
        add_pods(&mut world, "a:pending cpu=2");
        step(
            &mut world,
            0,
            expect![[r#"
                patch pods default/a status
                look again in 300s
            "#]],
        );
        world.apply(key(PODS, "default", "a"), 9, Some(pod("a:pending cpu=1")), now());
        step(
            &mut world,
            1,
            expect![[r#"
                bind pods default/a to n1
                  then Normal Scheduled a
            "#]],
        );
    }

    #[test]
    fn room_that_is_made_for_a_pod_is_kept_for_it() {
        let mut world = world(&[]);
        add_node(&mut world, "n1/cpu=2/memory=1Gi");
        add_pods(&mut world, "a:running cpu=1; b:running cpu=1; p:pending cpu=2 priority=5");
        step(
            &mut world,
            0,
            expect![[r#"
                patch pods default/p status
                patch pods default/a status
                patch pods default/b status
                delete pods default/a Background
                  then Normal Preempted a
                delete pods default/b Background
                  then Normal Preempted b
                look again in 300s
            "#]],
        );
        assert_eq!(pods::nominated(world.pod("default", "p").unwrap()), Some("n1"));
        // One victim is gone, the other still ends: what is free is nobody else's.
        add_pods(&mut world, "a:failed cpu=1; b:running cpu=1 deleting victim; small:pending cpu=1");
        step(
            &mut world,
            1,
            expect![[r#"
                patch pods default/p status
                patch pods default/small status
                look again in 299s
            "#]],
        );
        add_pods(&mut world, "b:failed cpu=1 deleting victim");
        step(
            &mut world,
            2,
            expect![[r#"
                bind pods default/p to n1
                  then Normal Scheduled p
                look again in 299s
            "#]],
        );
    }
}
