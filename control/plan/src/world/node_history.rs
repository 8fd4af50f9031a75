//! What the objects do not say about nodes: what was seen to happen to them while the control plane watched.

use crate::object::Object;
use crate::taint_eviction::no_execute;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Taint;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct NodeHistory {
    /// Nodes that went, as long as pods name them: since when.
    gone: BTreeMap<String, Timestamp>,
    /// Node to those of its NoExecute taints that do not say when they were added: when they were first seen.
    tainted: BTreeMap<String, BTreeMap<String, Timestamp>>,
    /// The UIDs of nodes whose registration was told.
    registered: BTreeMap<String, String>,
}

/// What was told about a node's registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// It is registered.
    Added {
        /// The node's name.
        node: String,
        /// Its UID.
        uid: String,
    },
    /// It is not any more.
    Removed {
        /// The node's name.
        node: String,
    },
}

impl NodeHistory {
    /// Notes a node as it is from now on. `used`: pods name it.
    pub(super) fn note(&mut self, name: &str, node: Option<&Object>, used: bool, now: Timestamp) {
        if node.is_some() {
            self.gone.remove(name);
        } else if used {
            self.gone.insert(name.to_owned(), now);
        }
        let before = self.tainted.remove(name).unwrap_or_default();
        let Some(Object::Node(node)) = node else { return };
        let silent = no_execute(node).filter(|taint| taint.time_added.is_none());
        let since = silent.map(|taint| {
            let seen = before.get(&taint.key).copied().unwrap_or(now);
            (taint.key.clone(), seen)
        });
        let since: BTreeMap<String, Timestamp> = since.collect();
        if !since.is_empty() {
            self.tainted.insert(name.to_owned(), since);
        }
    }

    /// Forgets since when a node is gone, as no pod names it any more.
    pub(super) fn forget_gone(&mut self, name: &str) {
        self.gone.remove(name);
    }

    /// Notes what was told of a registration.
    pub(super) fn register(&mut self, registration: &Registration) {
        match registration {
            Registration::Added { node, uid } => self.registered.insert(node.clone(), uid.clone()),
            Registration::Removed { node } => self.registered.remove(node),
        };
    }

    pub(super) fn gone_since(&self, name: &str) -> Option<Timestamp> {
        self.gone.get(name).copied()
    }

    /// When a taint that does not say it was first seen.
    pub(super) fn tainted_since(&self, name: &str, taint: &Taint) -> Option<Timestamp> {
        self.tainted.get(name)?.get(&taint.key).copied()
    }

    pub(super) fn registered(&self, name: &str) -> Option<&str> {
        self.registered.get(name).map(String::as_str)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.tainted.is_empty() && self.registered.is_empty()
    }
}
