//! Deployments: replica sets of a template's revisions, and the way from one to the next.
//!
//! Each plan takes one step that keeps the bounds: the new replica set grows, or old ones shrink, or history is cleaned
//! up. The step's writes wake the next plan. `scale` holds the arithmetic, `revision` which replica set is which, `status` what is told.

mod revision;
mod scale;
mod status;

use crate::action::{Action, EventRecord, Plan, change};
use crate::conditions;
use crate::controller::{Controller, Wake, itself};
use crate::names::template_hash;
use crate::object::{Change, DEPLOYMENTS, Meta, Object, REPLICA_SETS, controlled_by, key, reference};
use crate::pods;
use crate::replica_set::Sets;
use crate::selector::{is_empty, selects};
use crate::world::World;
use control_api::object::Key;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;
use std::sync::Arc;

const NAME: &str = "deployment-controller";

/// The label that tells the pods of one template from those of another.
const HASH_LABEL: &str = "pod-template-hash";

/// The controller of deployments.
pub(crate) static ROW: Controller = Controller {
    name: NAME,
    wakes: &[
        Wake::on("apps", "deployments", itself),
        Wake::on("apps", "replicasets", owners_of_replica_set),
        Wake::on("", "pods", owner_of_gone_pod),
    ],
    reconcile,
};

/// The deployments that a replica set belongs to, did, or could.
fn owners_of_replica_set(world: &World, change: &Change) -> Vec<Key> {
    let mut keys = BTreeSet::new();
    for object in change.states() {
        let meta = object.meta();
        match meta.controller() {
            Some(owner) if owner.kind == "Deployment" => {
                keys.insert(key(DEPLOYMENTS, meta.namespace_str(), &owner.name));
            }
            Some(_) => {}
            None => keys.extend(
                world
                    .in_namespace(&DEPLOYMENTS, meta.namespace_str())
                    .filter(|(_, object)| match object {
                        Object::Deployment(deployment) => {
                            spec(deployment).is_some_and(|spec| selects(&spec.selector, meta.labels.as_ref()))
                        }
                        _ => false,
                    })
                    .map(|(key, _)| key.clone()),
            ),
        }
    }
    keys.into_iter().collect()
}

/// Recreate waits until the last old pod is gone.
fn owner_of_gone_pod(world: &World, change: &Change) -> Vec<Key> {
    let ended = change.after.as_ref().and_then(Object::pod).is_none_or(|pod| pods::is_terminal(pod));
    let Some(pod) = change.before.as_ref().and_then(Object::pod).filter(|_| ended) else {
        return Vec::new();
    };
    let namespace = pod.metadata.namespace_str();
    let set = pod.metadata.controller().and_then(|owner| world.replica_set(namespace, &owner.name));
    let owner = set.and_then(|set| set.metadata.controller()).filter(|owner| owner.kind == "Deployment");
    owner.map(|owner| key(DEPLOYMENTS, namespace, &owner.name)).into_iter().collect()
}

fn spec(deployment: &Deployment) -> Option<&DeploymentSpec> {
    deployment.spec.as_ref()
}

/// One plan in the making: what is known, what was decided so far.
struct Rollout<'a> {
    world: &'a World,
    at: &'a Key,
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    /// Replica sets that it controls, as decided so far, oldest first.
    sets: Vec<Set>,
    /// Index of the one with the current template.
    new: Option<usize>,
    /// Annotations and conditions, as decided so far.
    target: Deployment,
    actions: Vec<Action>,
    refusal: Option<&'a str>,
    now: Timestamp,
}

/// A replica set before and after this plan.
struct Set {
    /// None when this plan makes it.
    before: Option<Arc<ReplicaSet>>,
    after: ReplicaSet,
    /// To tell when it is written.
    event: Option<EventRecord>,
    /// To tell when it cannot be made; the refusal's message follows.
    failure: Option<EventRecord>,
}

impl Set {
    fn replicas(&self) -> i32 {
        self.after.replicas()
    }

    /// How many of its pods can be relied on: of those that its status counts, no more than it will keep. Its status is
    /// written after the surplus is gone, and until then counts pods that are about to go.
    fn available(&self) -> i32 {
        let told = self.after.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
        told.min(self.replicas())
    }
}

fn reconcile(world: &World, at: &Key, now: Timestamp) -> Plan {
    let namespace = at.namespace.as_deref().unwrap_or_default();
    let Some(deployment) = world.deployment(namespace, &at.name) else {
        return Plan::nothing();
    };
    let Some(spec) = spec(deployment) else {
        return Plan::nothing();
    };
    let mut rollout = Rollout {
        world,
        at,
        deployment,
        spec,
        sets: Vec::new(),
        new: None,
        target: Deployment::clone(deployment),
        actions: Vec::new(),
        refusal: world.refusal(NAME, at),
        now,
    };
    if is_empty(&spec.selector) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.".to_owned();
        return Plan::from(vec![Action::Tell(Box::new(rollout.event("Warning", "SelectingAll", message)))]);
    }
    rollout.claim();
    rollout.find_new();
    rollout.steps();
    rollout.finish()
}

impl Rollout<'_> {
    /// Takes the replica sets that are ours, adopts those that could be, releases those that no longer match.
    fn claim(&mut self) {
        let meta = &self.deployment.metadata;
        let namespace = meta.namespace_str();
        let matches = |set: &ReplicaSet| selects(&self.spec.selector, set.metadata.labels.as_ref());
        let mut ownership = Vec::new();
        for set in self.world.replica_sets_of(meta.uid_str()) {
            let mut after = ReplicaSet::clone(set);
            if matches(set) || meta.is_deleting() {
                self.sets.push(Set { before: Some(Arc::clone(set)), after, event: None, failure: None });
            } else if let Some(owners) = &mut after.metadata.owner_references {
                owners.retain(|owner| owner.uid != meta.uid_str());
                ownership.extend(change_set(set, &after));
            }
        }
        if !meta.is_deleting() {
            for (_, object) in self.world.orphans(&REPLICA_SETS, namespace) {
                let Object::ReplicaSet(set) = object else { continue };
                if matches(set) && !set.metadata.is_deleting() {
                    let mut after = ReplicaSet::clone(set);
                    let owner = controlled_by::<Deployment>(meta);
                    after.metadata.owner_references.get_or_insert_default().push(owner);
                    self.sets.push(Set { before: Some(Arc::clone(set)), after, event: None, failure: None });
                }
            }
        }
        self.actions.extend(ownership);
        self.sets.sort_by_key(|set| (set.after.metadata.created(), set.after.metadata.name.clone()));
    }

    /// Decides what to do now, in upstream's order of cases.
    fn steps(&mut self) {
        if self.deployment.metadata.is_deleting() {
            return;
        }
        self.note_pause();
        if self.spec.paused == Some(true) || self.is_scaling() {
            self.sync_revision(false);
            self.scale_all();
            if self.spec.paused == Some(true) {
                self.clean_up();
            }
            return;
        }
        match self.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) {
            Some("Recreate") => self.recreate(),
            _ => self.roll(),
        }
    }

    /// Recreate: all old pods go, then all new ones come.
    fn recreate(&mut self) {
        self.sync_revision(false);
        let mut scaled = false;
        for at in self.old_indexes() {
            scaled |= self.sets[at].replicas() > 0 && self.scale_set(at, 0);
        }
        if scaled || self.old_pods_run() {
            return;
        }
        self.sync_revision(true);
        if let Some(new) = self.new {
            self.scale_set(new, self.wanted());
        }
        if self.is_complete() {
            self.clean_up();
        }
    }

    /// RollingUpdate: the new replica set grows within the surge; else old ones shrink within what may be unavailable.
    fn roll(&mut self) {
        let made = self.new.is_none();
        self.sync_revision(true);
        if made || self.grow_new() || self.shrink_old() {
            return;
        }
        if self.is_complete() {
            self.clean_up();
        }
    }

    /// Whether pods of old replica sets are there still, even on their way out.
    fn old_pods_run(&self) -> bool {
        self.old_indexes().into_iter().any(|at| {
            let uid = self.sets[at].after.metadata.uid_str();
            self.world.pods_of(uid).any(|pod| !pods::is_terminal(pod))
        })
    }

    /// Indexes of all replica sets but the new one, oldest first.
    fn old_indexes(&self) -> Vec<usize> {
        (0..self.sets.len()).filter(|at| Some(*at) != self.new).collect()
    }

    /// `spec.replicas`.
    fn wanted(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn event(&self, type_: &'static str, reason: &str, message: String) -> EventRecord {
        let regarding = reference::<Deployment>(&self.deployment.metadata);
        EventRecord { regarding, type_, reason: reason.to_owned(), message, component: NAME }
    }

    /// Puts the decisions into actions: replica sets first, then the deployment's own annotations, then its status.
    fn finish(mut self) -> Plan {
        let (status, look_again) = self.status();
        let revision = self.deployment.metadata.revision();
        let mut with_status = Deployment::clone(self.deployment);
        with_status.status = Some(status);
        let status_change = change(self.at, revision, Some("status"), self.deployment, &with_status);
        let mut with_meta = Deployment::clone(self.deployment);
        with_meta.metadata.annotations = self.target.metadata.annotations.clone();
        let meta_change = change(self.at, revision, None, self.deployment, &with_meta);

        let mut actions = std::mem::take(&mut self.actions);
        // A plan that was refused must tell so before it is tried again.
        let refused = self.refusal.is_some();
        if refused {
            actions.extend(status_change.clone());
        }
        for set in &self.sets {
            actions.extend(write_set(set));
        }
        if !refused {
            actions.extend(meta_change);
            actions.extend(status_change);
        }
        Plan { look_again, ..Plan::from(actions) }
    }

    /// A replica set for the current template.
    fn make_new(&mut self) {
        let meta = &self.deployment.metadata;
        let collisions = self.target.status.as_ref().and_then(|status| status.collision_count);
        let hash = template_hash(&self.spec.template, collisions);
        let name = format!("{}-{hash}", meta.name_str());
        let namespace = meta.namespace_str();
        if self.world.replica_set(namespace, &name).is_some() {
            // Another template has the same hash: count, and so get another name.
            let status = self.target.status.get_or_insert_default();
            status.collision_count = Some(collisions.unwrap_or(0) + 1);
            return;
        }
        let mut template = self.spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector = self.spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash);
        let set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: meta.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![controlled_by::<Deployment>(meta)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(0),
                min_ready_seconds: self.spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        };
        self.sets.push(Set { before: None, after: set, event: None, failure: None });
        let at = self.sets.len() - 1;
        self.new = Some(at);
        let replicas = self.new_replicas();
        let set = &mut self.sets[at];
        set.after.spec.get_or_insert_default().replicas = Some(replicas);
        if replicas > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {replicas}");
            self.sets[at].event = Some(self.event("Normal", "ScalingReplicaSet", message));
        }
        let failure = format!("Failed to create new replica set \"{name}\": ");
        self.sets[at].failure = Some(self.event("Warning", "ReplicaSetCreateError", failure.clone()));
        if !self.has_deadline() {
            return;
        }
        if let Some(refusal) = self.refusal {
            self.set_progressing("False", "ReplicaSetCreateError", &format!("{failure}{refusal}"));
        } else {
            let message = format!("Created new replica set \"{name}\"");
            self.set_progressing("True", "NewReplicaSetCreated", &message);
        }
    }

    fn set_progressing(&mut self, status: &str, reason: &str, message: &str) {
        let condition = conditions::deployment("Progressing", status, reason, message, self.now);
        conditions::set(self.target.status.get_or_insert_with(DeploymentStatus::default), condition);
    }
}

fn change_set(before: &ReplicaSet, after: &ReplicaSet) -> Option<Action> {
    let at = key(REPLICA_SETS, before.metadata.namespace_str(), before.metadata.name_str());
    change(&at, before.metadata.revision(), None, before, after)
}

fn write_set(set: &Set) -> Option<Action> {
    let action = match &set.before {
        Some(before) => change_set(before, &set.after)?,
        None => {
            let object = serde_json::to_value(&set.after)
                .expect("API types have string keys and no failing serializers");
            Action::Create { resource: REPLICA_SETS, object: Box::new(object) }
        }
    };
    let action = match &set.event {
        Some(event) => action.then_tell(event.clone()),
        None => action,
    };
    Some(match &set.failure {
        Some(event) => action.or_tell(event.clone()),
        None => action,
    })
}

#[cfg(test)]
mod tests;
