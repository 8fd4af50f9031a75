//! Who owns what, and what nobody controls.

use crate::object::{Meta, Object};
use control_api::object::{Key, ResourceId};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Owner's UID to all that names it as an owner.
    dependents: BTreeMap<String, BTreeSet<Arc<Key>>>,
    /// Pods and replica sets without a controller, by kind and namespace.
    orphans: BTreeMap<(ResourceId, String), BTreeSet<Arc<Key>>>,
}

impl Owners {
    /// What names this UID as an owner.
    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Arc<Key>> {
        self.dependents.get(uid).into_iter().flatten()
    }

    /// Objects of a kind in a namespace that nobody controls.
    pub(super) fn orphans<'a>(
        &'a self,
        resource: &ResourceId,
        namespace: &str,
    ) -> impl Iterator<Item = &'a Arc<Key>> + use<'a> {
        self.orphans.get(&(resource.clone(), namespace.to_owned())).into_iter().flatten()
    }

    pub(super) fn insert(&mut self, key: &Arc<Key>, object: &Object) {
        for owner in object.meta().owner_references.iter().flatten() {
            self.dependents.entry(owner.uid.clone()).or_default().insert(Arc::clone(key));
        }
        if let Some(place) = orphaned(key, object) {
            self.orphans.entry(place).or_default().insert(Arc::clone(key));
        }
    }

    pub(super) fn remove(&mut self, key: &Key, object: &Object) {
        for owner in object.meta().owner_references.iter().flatten() {
            remove(&mut self.dependents, owner.uid.as_str(), key);
        }
        if let Some(place) = orphaned(key, object) {
            remove(&mut self.orphans, &place, key);
        }
    }
}

/// The place of an object among those that nobody controls, if it is one that somebody might adopt.
fn orphaned(key: &Key, object: &Object) -> Option<(ResourceId, String)> {
    let meta = object.meta();
    let alone = matches!(object, Object::Pod(_) | Object::ReplicaSet(_)) && meta.controller().is_none();
    alone.then(|| (key.resource.clone(), meta.namespace_str().to_owned()))
}

fn remove<K: Ord + Borrow<Q>, Q: Ord + ?Sized>(
    index: &mut BTreeMap<K, BTreeSet<Arc<Key>>>,
    at: &Q,
    key: &Key,
) {
    if let Some(keys) = index.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}
