//! The pods that wait for a node, and what was found about them.
//!
//! A pod that fits nowhere goes on fitting nowhere until room comes or it asks for something else. So it is set aside,
//! and a new pod is placed at once however many others wait.

use super::amounts::Amounts;
use crate::pods;
use control_api::object::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A pod that waits for a node.
#[derive(Debug)]
pub struct WaitingPod {
    /// The pod.
    pub pod: Arc<Pod>,
    /// What it asks for.
    pub wanted: Amounts,
    /// When the user was last told that it fits nowhere.
    pub told: Option<Timestamp>,
}

/// A pod that was found to fit nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    /// Which pod.
    pub key: Key,
    /// When the user was last told; none when that is not told again.
    pub told: Option<Timestamp>,
}

/// All pods that wait for a node.
#[derive(Debug, Default)]
pub struct WaitingPods {
    pods: BTreeMap<Arc<Key>, WaitingPod>,
    /// Those that may fit by now.
    hopeful: BTreeSet<Arc<Key>>,
    /// Those of which the user was told, by when that was.
    told: BTreeSet<(Timestamp, Arc<Key>)>,
}

impl WaitingPods {
    /// Takes in what a pod is now.
    pub(crate) fn update(&mut self, key: &Arc<Key>, pod: Option<&Arc<Pod>>) {
        let Some(pod) = pod.filter(|pod| pods::node(pod).is_none() && pods::is_active(pod)) else {
            self.remove(key);
            return;
        };
        if let Some(known) = self.pods.get_mut(key)
            && known.pod.spec == pod.spec
            && known.pod.metadata.uid == pod.metadata.uid
        {
            known.pod = Arc::clone(pod);
            if pods::nominated(pod).is_some() {
                self.hopeful.insert(Arc::clone(key));
            }
            return;
        }
        self.remove(key);
        let waiting = WaitingPod { pod: Arc::clone(pod), wanted: Amounts::requested(pod), told: None };
        self.pods.insert(Arc::clone(key), waiting);
        self.hopeful.insert(Arc::clone(key));
    }

    /// Any of them may fit now.
    pub(crate) fn room_came(&mut self) {
        if self.hopeful.len() < self.pods.len() {
            self.hopeful = self.pods.keys().cloned().collect();
        }
    }

    /// Sets a pod aside until room comes.
    pub(crate) fn set_aside(&mut self, unplaced: &Unplaced) {
        let Some((key, pod)) = self.pods.get_key_value(&unplaced.key) else { return };
        let (key, before) = (Arc::clone(key), pod.told);
        // Each decision must know of the room that is being made for one.
        if pods::nominated(&pod.pod).is_none() {
            self.hopeful.remove(&key);
        }
        if let Some(told) = before {
            self.told.remove(&(told, Arc::clone(&key)));
        }
        if let Some(told) = unplaced.told {
            self.told.insert((told, Arc::clone(&key)));
        }
        self.pods.get_mut(&key).expect("it was found above").told = unplaced.told;
    }

    /// Those that may fit by now, and those of which the user was told no later than `old`.
    pub fn due(&self, old: Timestamp) -> impl Iterator<Item = &WaitingPod> {
        let quiet = self.told.iter().take_while(move |(told, _)| *told <= old).map(|(_, key)| key);
        let quiet = quiet.filter(|key| !self.hopeful.contains(*key));
        self.hopeful.iter().chain(quiet).filter_map(|key| self.pods.get(key))
    }

    /// Of what is told later than `old`, when the first was.
    pub fn first_told_after(&self, old: Timestamp) -> Option<Timestamp> {
        self.told.iter().map(|(told, _)| *told).find(|told| *told > old)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pods.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    fn remove(&mut self, key: &Arc<Key>) {
        self.hopeful.remove(key);
        if let Some(told) = self.pods.remove(key).and_then(|pod| pod.told) {
            self.told.remove(&(told, Arc::clone(key)));
        }
    }
}
