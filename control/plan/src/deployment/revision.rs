//! Which replica set is which: the one of the current template, revisions, history.

use super::{HASH_LABEL, Rollout, Set};
use crate::action::{Action, Propagation};
use crate::object::{Meta, REPLICA_SETS, key};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use std::collections::BTreeMap;

/// The revision's number, counted from 1.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Numbers that a replica set had before it was rolled back to.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// `spec.replicas` of the deployment when the replica set was last written.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The same with the surge.
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// The longest history that is kept, in bytes.
const HISTORY_BYTES: usize = 2000;

/// Annotations of a deployment that are not its replica sets'.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

impl Rollout<'_> {
    /// Finds the replica set of the current template: the oldest, if several are equal.
    pub(super) fn find_new(&mut self) {
        let wanted = &self.spec.template;
        self.new = self.sets.iter().position(|set| {
            let template = set.after.spec.as_ref().and_then(|spec| spec.template.as_ref());
            template.is_some_and(|template| same_template(template, wanted))
        });
    }

    /// Brings revision numbers and annotations up to date; makes the new replica set if there is none and `make` says so.
    pub(super) fn sync_revision(&mut self, make: bool) {
        if self.new.is_none() && make {
            self.make_new();
        }
        let Some(new) = self.new else {
            return;
        };
        let olds = self.old_indexes();
        let next = olds.into_iter().map(|at| revision(&self.sets[at])).max().unwrap_or(0) + 1;
        let known = self.sets[new].before.is_some();
        let (wanted, max) = (self.wanted(), self.wanted() + self.max_surge());
        let deployment_annotations = self.deployment.metadata.annotations.clone().unwrap_or_default();
        let set = &mut self.sets[new];
        let annotations = set.after.metadata.annotations.get_or_insert_default();
        for (name, value) in &deployment_annotations {
            if !NOT_COPIED.contains(&name.as_str()) {
                annotations.insert(name.clone(), value.clone());
            }
        }
        number_revision(annotations, next);
        if !known {
            annotations.insert(DESIRED.to_owned(), wanted.to_string());
            annotations.insert(MAX.to_owned(), max.to_string());
        }
        let number = annotations.get(REVISION).cloned().unwrap_or_default();
        if let Some(spec) = set.after.spec.as_mut() {
            spec.min_ready_seconds = self.spec.min_ready_seconds;
        }
        let name = set.after.metadata.name_str().to_owned();
        self.target.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), number);
        let progressing =
            self.target.status.as_ref().and_then(|status| crate::conditions::find(status, "Progressing"));
        if known && self.has_deadline() && progressing.is_none() {
            self.set_progressing("True", "FoundNewReplicaSet", &format!("Found new replica set \"{name}\""));
        }
    }

    /// Deletes the oldest revisions beyond the limit that have no pods.
    pub(super) fn clean_up(&mut self) {
        let Some(limit) = self.spec.revision_history_limit.and_then(|limit| usize::try_from(limit).ok())
        else {
            return;
        };
        let mut olds = self.old_indexes();
        olds.retain(|at| !self.sets[*at].after.metadata.is_deleting());
        let surplus = olds.len().saturating_sub(limit);
        olds.sort_by_key(|at| revision(&self.sets[*at]));
        for at in olds.into_iter().take(surplus) {
            let set = &self.sets[at].after;
            let status = set.status.as_ref();
            let observed = status.and_then(|status| status.observed_generation).unwrap_or(0);
            let empty = status.is_none_or(|status| status.replicas == 0) && self.sets[at].replicas() == 0;
            if empty && set.metadata.generation.unwrap_or(0) <= observed {
                self.actions.push(Action::Delete {
                    key: key(REPLICA_SETS, set.metadata.namespace_str(), set.metadata.name_str()),
                    uid: set.metadata.uid_str().to_owned(),
                    revision: Some(set.metadata.revision()),
                    propagation: Propagation::Background,
                    grace_secs: None,
                });
            }
        }
    }
}

/// Gives a replica set the number `next`, if that is more than it has; the one it had goes into its history.
fn number_revision(annotations: &mut BTreeMap<String, String>, next: i64) {
    let old = annotations.get(REVISION).cloned().unwrap_or_default();
    if old.parse::<i64>().unwrap_or(0) >= next {
        return;
    }
    annotations.insert(REVISION.to_owned(), next.to_string());
    if old.is_empty() {
        return;
    }
    let history = annotations.get(HISTORY).map(String::as_str).unwrap_or_default();
    let mut numbers: Vec<&str> = history.split(',').filter(|number| !number.is_empty()).collect();
    numbers.push(&old);
    while numbers.iter().map(|number| number.len() + 1).sum::<usize>() > HISTORY_BYTES {
        numbers.remove(0);
    }
    let history = numbers.join(",");
    annotations.insert(HISTORY.to_owned(), history);
}

/// The revision number of a replica set; 0 without one.
pub(super) fn revision(set: &Set) -> i64 {
    set.after.metadata.annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether two templates make the same pods: all but the hash label counts.
fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let plain = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(meta) = &mut template.metadata {
            if let Some(labels) = &mut meta.labels {
                labels.remove(HASH_LABEL);
            }
            meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
        }
        template
    };
    let (a, b) = (plain(a), plain(b));
    a.spec == b.spec && a.metadata.unwrap_or_default() == b.metadata.unwrap_or_default()
}
