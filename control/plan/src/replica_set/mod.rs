//! ReplicaSets: as many pods of a template as are asked for.

mod victims;

use crate::action::{Action, EventRecord, Plan, change};
use crate::conditions::remove_from_replica_set;
use crate::controller::{Controller, Wake, itself};
use crate::names::with_suffix;
use crate::object::{Change, Meta, Object, PODS, REPLICA_SETS, controlled_by, key, reference};
use crate::pods::{self, Available};
use crate::selector::{is_empty, selects};
use crate::world::World;
use control_api::object::Key;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const NAME: &str = "replicaset-controller";

/// The most pods that one plan makes or deletes, as upstream's burst.
const BURST: usize = 500;

/// The controller of replica sets.
pub(crate) static ROW: Controller = Controller {
    name: NAME,
    wakes: &[Wake::on("apps", "replicasets", itself), Wake::on("", "pods", owners_of_pod)],
    reconcile,
};

/// All that one decision looks at.
struct View<'a> {
    replica_set: &'a ReplicaSet,
    /// Pods that it controls.
    owned: Vec<&'a Pod>,
    /// Pods of the namespace that nobody controls.
    orphans: Vec<&'a Pod>,
    /// Names of pods that exist: those are not given out again.
    taken: &'a dyn Fn(&str) -> bool,
    /// Active pods per node of all replica sets with the same controller.
    related: &'a dyn Fn() -> BTreeMap<String, usize>,
    /// Why the last plan was refused.
    refusal: Option<&'a str>,
    now: Timestamp,
}

/// The replica sets that a pod belongs to, did, or could.
fn owners_of_pod(world: &World, change: &Change) -> Vec<Key> {
    let mut keys = BTreeSet::new();
    for pod in change.states().filter_map(Object::pod) {
        let namespace = pod.metadata.namespace_str();
        match pod.metadata.controller() {
            Some(owner) if owner.kind == "ReplicaSet" && owner.api_version.starts_with("apps/") => {
                keys.insert(key(REPLICA_SETS, namespace, &owner.name));
            }
            Some(_) => {}
            None => keys.extend(
                world
                    .in_namespace(&REPLICA_SETS, namespace)
                    .filter(|(_, object)| match object {
                        Object::ReplicaSet(set) => {
                            selects(&set.spec_selector(), pod.metadata.labels.as_ref())
                        }
                        _ => false,
                    })
                    .map(|(key, _)| key.clone()),
            ),
        }
    }
    keys.into_iter().collect()
}

fn reconcile(world: &World, at: &Key, now: Timestamp) -> Plan {
    let namespace = at.namespace.as_deref().unwrap_or_default();
    let Some(replica_set) = world.replica_set(namespace, &at.name) else {
        return Plan::nothing();
    };
    let uid = replica_set.metadata.uid_str();
    let view = View {
        replica_set,
        owned: world.pods_of(uid).map(|pod| &**pod).collect(),
        orphans: world.orphans(&PODS, namespace).filter_map(|(_, pod)| pod.pod()).map(|pod| &**pod).collect(),
        taken: &|name| world.pod(namespace, name).is_some(),
        related: &|| related_pods(world, replica_set),
        refusal: world.refusal(NAME, at),
        now,
    };
    decide(at, &view)
}

/// Active pods per node of this replica set and its siblings: where many are together, the first to go is.
fn related_pods(world: &World, replica_set: &ReplicaSet) -> BTreeMap<String, usize> {
    let meta = &replica_set.metadata;
    let family: Vec<&str> = match meta.controller() {
        Some(owner) => world.replica_sets_of(&owner.uid).map(|set| set.metadata.uid_str()).collect(),
        None => vec![meta.uid_str()],
    };
    let mut counts = BTreeMap::new();
    for pod in family.into_iter().flat_map(|uid| world.pods_of(uid)).filter(|pod| pods::is_active(pod)) {
        if let Some(node) = pods::node(pod) {
            *counts.entry(node.to_owned()).or_default() += 1;
        }
    }
    counts
}

fn decide(at: &Key, view: &View<'_>) -> Plan {
    let set = view.replica_set;
    let deleting = set.metadata.is_deleting();
    let selector = set.spec_selector();
    let matches = |pod: &&Pod| selects(&selector, pod.metadata.labels.as_ref());
    let mut ownership = Vec::new();
    let mut mine: Vec<&Pod> = Vec::new();
    for pod in &view.owned {
        if matches(pod) || deleting {
            mine.push(pod);
        } else if pods::is_active(pod) {
            ownership.extend(release(pod, set.metadata.uid_str()));
        }
    }
    if !deleting && !is_empty(&selector) {
        for pod in view.orphans.iter().filter(|pod| pods::is_active(pod) && matches(pod)) {
            ownership.extend(adopt(pod, set));
            mine.push(pod);
        }
    }
    let active: Vec<&Pod> = mine.iter().copied().filter(|pod| pods::is_active(pod)).collect();
    let wanted = usize::try_from(set.replicas()).unwrap_or(0);
    let pod_actions = if deleting { Vec::new() } else { manage(view, &active, wanted) };
    let (status, look_again) = status(view, &mine, &active, wanted);
    let mut new = ReplicaSet::clone(set);
    new.status = Some(status);
    let status = change(at, set.metadata.revision(), Some("status"), set, &new);

    let mut actions = Vec::new();
    if !ownership.is_empty() {
        actions.push(Action::Together(ownership));
    }
    // What is done to pods wakes us again, and the status is written then; unless nothing can be done to them.
    if pod_actions.is_empty() || view.refusal.is_some() {
        actions.extend(status);
    }
    actions.extend(pod_actions);
    Plan { look_again, ..Plan::from(actions) }
}

/// Takes this replica set's reference off a pod that its selector no longer selects.
fn release(pod: &Pod, uid: &str) -> Option<Action> {
    let mut new = pod.clone();
    if let Some(owners) = &mut new.metadata.owner_references {
        owners.retain(|owner| owner.uid != uid);
        if owners.is_empty() {
            new.metadata.owner_references = None;
        }
    }
    let at = key(PODS, pod.metadata.namespace_str(), pod.metadata.name_str());
    change(&at, pod.metadata.revision(), None, pod, &new)
}

/// Makes this replica set the controller of a pod that has none.
fn adopt(pod: &Pod, set: &ReplicaSet) -> Option<Action> {
    let mut new = pod.clone();
    let owner = controlled_by::<ReplicaSet>(&set.metadata);
    new.metadata.owner_references.get_or_insert_default().push(owner);
    let at = key(PODS, pod.metadata.namespace_str(), pod.metadata.name_str());
    change(&at, pod.metadata.revision(), None, pod, &new)
}

/// Pods to make or to delete.
fn manage(view: &View<'_>, active: &[&Pod], wanted: usize) -> Vec<Action> {
    if active.len() < wanted {
        create(view, (wanted - active.len()).min(BURST))
    } else if active.len() > wanted {
        let victims =
            victims::choose(active, &(view.related)(), (active.len() - wanted).min(BURST), view.now);
        vec![Action::Together(victims.into_iter().map(|pod| delete(view.replica_set, pod)).collect())]
    } else {
        Vec::new()
    }
}

/// Pods to make, in batches of 1, 2, 4, ..: if the first is refused (a quota, say), so would be the rest.
fn create(view: &View<'_>, count: usize) -> Vec<Action> {
    let meta = &view.replica_set.metadata;
    let base = format!("{}-", meta.name_str());
    let salt = meta.revision().to_string();
    // The revision makes names new in each round; within one, a pod made twice is refused as it exists.
    let names = (0_u32..).map(|index| with_suffix(&base, &[meta.uid_str(), &salt, &index.to_string()]));
    let mut names: Vec<String> = names.filter(|name| !(view.taken)(name)).take(count).collect();
    let mut batches = Vec::new();
    let mut size = 1;
    while !names.is_empty() {
        let rest = names.split_off(size.min(names.len()));
        let batch = names.into_iter().map(|name| create_pod(view.replica_set, &base, name)).collect();
        batches.push(Action::Together(batch));
        names = rest;
        size *= 2;
    }
    batches
}

fn create_pod(set: &ReplicaSet, base: &str, name: String) -> Action {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "generateName": base,
            "namespace": set.metadata.namespace_str(),
            "ownerReferences": [controlled_by::<ReplicaSet>(&set.metadata)],
        },
        "spec": template.spec,
    });
    let mut put = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            pod["metadata"][field] = value;
        }
    };
    put("labels", meta.labels.map(|labels| json!(labels)));
    put("annotations", meta.annotations.map(|annotations| json!(annotations)));
    put("finalizers", meta.finalizers.map(|finalizers| json!(finalizers)));
    Action::Create { resource: PODS, object: Box::new(pod) }
        .then_tell(event(set, "Normal", "SuccessfulCreate", format!("Created pod: {name}")))
        .or_tell(event(set, "Warning", "FailedCreate", "Error creating: ".to_owned()))
}

fn delete(set: &ReplicaSet, pod: &Pod) -> Action {
    let name = pod.metadata.name_str();
    Action::Delete {
        key: key(PODS, pod.metadata.namespace_str(), name),
        uid: pod.metadata.uid_str().to_owned(),
        revision: None,
        propagation: crate::action::Propagation::Background,
        grace_secs: None,
    }
    .then_tell(event(set, "Normal", "SuccessfulDelete", format!("Deleted pod: {name}")))
    .or_tell(event(set, "Warning", "FailedDelete", "Error deleting: ".to_owned()))
}

fn event(set: &ReplicaSet, type_: &'static str, reason: &str, message: String) -> EventRecord {
    let regarding = reference::<ReplicaSet>(&set.metadata);
    EventRecord { regarding, type_, reason: reason.to_owned(), message, component: NAME }
}

/// The status, computed afresh; and when a pod will have been ready for long enough.
fn status(
    view: &View<'_>,
    mine: &[&Pod],
    active: &[&Pod],
    wanted: usize,
) -> (ReplicaSetStatus, Option<Duration>) {
    let set = view.replica_set;
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let template_labels =
        template.and_then(|template| template.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let mut look_again: Option<Duration> = None;
    let (mut labelled, mut ready, mut available) = (0, 0, 0);
    for pod in active {
        labelled += i32::from(crate::selector::contains(&template_labels, pod.metadata.labels.as_ref()));
        ready += i32::from(pods::is_ready(pod));
        match pods::available(pod, min_ready, view.now) {
            Available::Yes => available += 1,
            Available::In(delay) => look_again = Some(look_again.map_or(delay, |earlier| earlier.min(delay))),
            Available::No => {}
        }
    }
    let terminating = mine.iter().filter(|pod| pod.metadata.is_deleting() && !pods::is_terminal(pod)).count();
    let old = set.status.clone().unwrap_or_default();
    let mut status = ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: nonzero(labelled),
        ready_replicas: nonzero(ready),
        available_replicas: nonzero(available),
        terminating_replicas: Some(count(terminating)),
        observed_generation: set.metadata.generation.or(old.observed_generation),
        conditions: old.conditions,
    };
    match view.refusal.filter(|_| active.len() != wanted && !set.metadata.is_deleting()) {
        Some(message) => {
            let present =
                status.conditions.iter().flatten().any(|condition| condition.type_ == "ReplicaFailure");
            if !present {
                let reason = if active.len() < wanted { "FailedCreate" } else { "FailedDelete" };
                status.conditions.get_or_insert_default().push(ReplicaSetCondition {
                    type_: "ReplicaFailure".to_owned(),
                    status: "True".to_owned(),
                    reason: Some(reason.to_owned()),
                    message: Some(message.to_owned()),
                    last_transition_time: Some(pods::time(view.now)),
                });
            }
        }
        None => remove_from_replica_set(&mut status, "ReplicaFailure"),
    }
    (status, look_again)
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Upstream's `omitempty`: zero is not written.
fn nonzero(number: i32) -> Option<i32> {
    (number != 0).then_some(number)
}

/// What deployments ask of replica sets too.
pub(crate) trait Sets {
    /// `spec.replicas`; 1 when it is not set.
    fn replicas(&self) -> i32;
    /// `spec.selector`; empty without a spec.
    fn spec_selector(&self) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
}

impl Sets for ReplicaSet {
    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn spec_selector(&self) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector {
        self.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{add_pods, now, world};
    use expect_test::{Expect, expect};

    fn check(replicas: i32, pods: &str, expect: Expect) {
        check_with(json!({"replicas": replicas}), None, pods, expect);
    }

    fn check_with(spec: Value, refusal: Option<&str>, pods: &str, expect: Expect) {
        let mut set = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "uid-web", "resourceVersion": "7", "generation": 2},
            "spec": {"selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}}},
        });
        for (name, value) in spec.as_object().unwrap() {
            set["spec"][name] = value.clone();
        }
        let mut world = world(&[(REPLICA_SETS, set)]);
        add_pods(&mut world, pods);
        let at = key(REPLICA_SETS, "default", "web");
        world.set_refusal(NAME, at.clone(), refusal.map(str::to_owned));
        expect.assert_eq(&reconcile(&world, &at, now()).to_string());
    }

    #[test]
    fn missing_pods_are_made_in_growing_batches_with_names_of_their_own() {
        check(
            3,
            "a:ready app=web owner=web",
            expect![[r#"
            create pods default/web-45vff
              then Normal SuccessfulCreate web: Created pod: web-45vff
            create pods default/web-5mwnz
              then Normal SuccessfulCreate web: Created pod: web-5mwnz
        "#]],
        );
    }

    #[test]
    fn of_too_many_pods_the_least_useful_go() {
        check(
            1,
            "a:ready app=web owner=web; b:pending app=web owner=web; c:running app=web owner=web",
            expect![[r#"
                delete pods default/b Background
                  then Normal SuccessfulDelete web: Deleted pod: b
                delete pods default/c Background
                  then Normal SuccessfulDelete web: Deleted pod: c
            "#]],
        );
    }

    #[test]
    fn ended_and_ending_pods_do_not_count() {
        check(
            1,
            "a:ready app=web owner=web; b:failed app=web owner=web; c:running app=web owner=web deleting",
            expect![[r#"
                patch replicasets.apps default/web status {"status":{"availableReplicas":1,"fullyLabeledReplicas":1,"observedGeneration":2,"readyReplicas":1,"replicas":1,"terminatingReplicas":1}}
            "#]],
        );
    }

    #[test]
    fn orphans_that_match_are_adopted_and_owned_ones_that_do_not_are_released() {
        check(
            1,
            "a:ready app=web; b:ready app=db owner=web; c:ready app=db",
            expect![[r#"
            patch pods default/b {"metadata":{"ownerReferences":null}}
            patch pods default/a {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web","uid":"uid-web"}]}}
            patch replicasets.apps default/web status {"status":{"availableReplicas":1,"fullyLabeledReplicas":1,"observedGeneration":2,"readyReplicas":1,"replicas":1,"terminatingReplicas":0}}
        "#]],
        );
    }

    #[test]
    fn pods_are_available_once_they_were_ready_for_long_enough() {
        let spec = json!({"replicas": 2, "minReadySeconds": 120});
        check_with(
            spec,
            None,
            "a:ready app=web owner=web since=05; b:ready app=web owner=web since=09",
            expect![[r#"
                patch replicasets.apps default/web status {"status":{"availableReplicas":1,"fullyLabeledReplicas":2,"observedGeneration":2,"readyReplicas":2,"replicas":2,"terminatingReplicas":0}}
                look again in 60s
            "#]],
        );
    }

    #[test]
    fn a_refused_creation_becomes_a_condition_and_is_tried_again() {
        let refusal = Some("pods \"web\" is forbidden: exceeded quota");
        check_with(
            json!({"replicas": 1}),
            refusal,
            "",
            expect![[r#"
            patch replicasets.apps default/web status {"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:10:00Z","message":"pods \"web\" is forbidden: exceeded quota","reason":"FailedCreate","status":"True","type":"ReplicaFailure"}],"observedGeneration":2,"replicas":0,"terminatingReplicas":0}}
            create pods default/web-45vff
              then Normal SuccessfulCreate web: Created pod: web-45vff
        "#]],
        );
    }
}
