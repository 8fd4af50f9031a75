//! Pods by what controllers look for them by. Pods stand in it themselves: their controllers walk over all of them.

use crate::object::Meta;
use crate::pods;
use crate::selector::Labels;
use control_api::object::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Pods, and where they are.
type Pods = BTreeMap<Arc<Key>, Arc<Pod>>;

/// The order in which pods that ended are given up: not evicted, when created.
type Ended = (bool, Timestamp);

#[derive(Debug, Default)]
pub(super) struct PodIndex {
    /// By (namespace, label, value).
    labelled: BTreeMap<(String, String, String), Pods>,
    /// By their controller's UID.
    controlled: BTreeMap<String, Pods>,
    /// By node.
    bound: BTreeMap<String, Pods>,
    /// Those that ended and are not being deleted: evicted ones before others, then by when they were created.
    ended: BTreeSet<(Ended, Arc<Key>)>,
}

impl PodIndex {
    /// Pods of a namespace that have all these labels; none when no label is asked for.
    pub(super) fn labelled<'a>(
        &'a self,
        namespace: &str,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a Arc<Pod>> {
        let sets = labels
            .iter()
            .map(|(label, value)| self.labelled.get(&(namespace.to_owned(), label.clone(), value.clone())));
        // The rarest label leaves the fewest to look at; one that nobody has leaves none.
        let rarest = sets.min_by_key(|pods| pods.map_or(0, BTreeMap::len)).flatten();
        let pods = rarest.into_iter().flat_map(BTreeMap::values);
        pods.filter(|pod| crate::selector::contains(labels, pod.metadata.labels.as_ref()))
    }

    /// Pods whose controller has this UID.
    pub(super) fn controlled(&self, uid: &str) -> impl Iterator<Item = &Arc<Pod>> {
        self.controlled.get(uid).into_iter().flat_map(BTreeMap::values)
    }

    /// Pods bound to a node.
    pub(super) fn on_node<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Arc<Pod>> + use<'a> {
        self.bound.get(node).into_iter().flat_map(BTreeMap::values)
    }

    /// Names of all nodes that pods are bound to.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.bound.keys().map(String::as_str)
    }

    /// Whether any pod is bound to a node.
    pub(super) fn is_used(&self, node: &str) -> bool {
        self.bound.contains_key(node)
    }

    /// Where the pods are that ended and are not being deleted, in the order in which they are given up.
    pub(super) fn ended(&self) -> impl ExactSizeIterator<Item = &Arc<Key>> {
        self.ended.iter().map(|(_, key)| key)
    }

    pub(super) fn insert(&mut self, key: &Arc<Key>, pod: &Arc<Pod>) {
        let place = || (Arc::clone(key), Arc::clone(pod));
        for pair in labels(pod) {
            self.labelled.entry(pair).or_default().extend([place()]);
        }
        if let Some(owner) = pod.metadata.controller() {
            self.controlled.entry(owner.uid.clone()).or_default().extend([place()]);
        }
        if let Some(node) = pods::node(pod) {
            self.bound.entry(node.to_owned()).or_default().extend([place()]);
        }
        if let Some(order) = ended(pod) {
            self.ended.insert((order, Arc::clone(key)));
        }
    }

    pub(super) fn remove(&mut self, key: &Arc<Key>, pod: &Pod) {
        for pair in labels(pod) {
            remove(&mut self.labelled, &pair, key);
        }
        if let Some(owner) = pod.metadata.controller() {
            remove(&mut self.controlled, owner.uid.as_str(), key);
        }
        if let Some(node) = pods::node(pod) {
            remove(&mut self.bound, node, key);
        }
        if let Some(order) = ended(pod) {
            self.ended.remove(&(order, Arc::clone(key)));
        }
    }
}

/// A pod's labels as they are looked up: (namespace, label, value).
fn labels(pod: &Pod) -> impl Iterator<Item = (String, String, String)> {
    let namespace = pod.metadata.namespace_str();
    let labels = pod.metadata.labels.iter().flatten();
    labels.map(|(label, value)| (namespace.to_owned(), label.clone(), value.clone()))
}

/// The place of a pod among those that ended and are not being deleted, if it did.
fn ended(pod: &Pod) -> Option<Ended> {
    let status = pod.status.as_ref().filter(|_| pods::is_terminal(pod) && !pod.metadata.is_deleting())?;
    let evicted = pods::phase(pod) == "Failed" && status.reason.as_deref() == Some("Evicted");
    Some((!evicted, pod.metadata.created()))
}

fn remove<K: Ord + Borrow<Q>, Q: Ord + ?Sized>(index: &mut BTreeMap<K, Pods>, at: &Q, key: &Key) {
    if let Some(pods) = index.get_mut(at) {
        pods.remove(key);
        if pods.is_empty() {
            index.remove(at);
        }
    }
}
