//! All objects at one revision.

use crate::key::KeyBytes;
use crate::ring::Event;
use crate::stored::Stored;
use control_api::object::{Key, ResourceId};
use imbl::OrdMap;
use std::ops::Bound;
use std::sync::Arc;

/// The revision of an empty store. Not 0: clients take resourceVersion "0" for "any".
pub(crate) const FIRST_REVISION: u64 = 1;

/// All objects as they were at one revision. Immutable; a clone shares everything.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) revision: u64,
    pub(crate) objects: OrdMap<KeyBytes, Arc<Stored>>,
}

impl Snapshot {
    /// What a new store holds.
    pub(crate) fn empty() -> Self {
        Self { revision: FIRST_REVISION, objects: OrdMap::new() }
    }

    /// The revision of the last write this snapshot contains.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many objects there are, of all resources.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is no object at all.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Arc<Stored>> {
        self.objects.get(&KeyBytes::of(key))
    }

    /// The objects of a resource, in all namespaces or in one, ordered by namespace and name.
    pub fn list(
        &self,
        resource: &ResourceId,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = &Arc<Stored>> + use<'_> {
        let prefix = KeyBytes::prefix(resource, namespace);
        let end = prefix.end();
        self.range(Bound::Included(prefix), end)
    }

    /// As [`Snapshot::list`], from the first object after `after` on, whether or not that one still exists.
    pub fn list_after(
        &self,
        resource: &ResourceId,
        namespace: Option<&str>,
        after: &Key,
    ) -> impl Iterator<Item = &Arc<Stored>> + use<'_> {
        let prefix = KeyBytes::prefix(resource, namespace);
        let end = prefix.end();
        let after = KeyBytes::of(after);
        let start = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        self.range(start, end)
    }

    /// This state without `events`, which are all that led to it after `revision`.
    pub(crate) fn rewound(mut self, revision: u64, events: &[Arc<Event>]) -> Self {
        for event in events.iter().rev() {
            let key = KeyBytes::of(&event.object.key);
            match &event.previous {
                Some(previous) => self.objects.insert(key, Arc::clone(previous)),
                None => self.objects.remove(&key),
            };
        }
        Self { revision: revision.min(self.revision), objects: self.objects }
    }

    fn range(&self, start: Bound<KeyBytes>, end: KeyBytes) -> impl Iterator<Item = &Arc<Stored>> + use<'_> {
        // A key past the end would make the range run backwards.
        let start = match start {
            Bound::Excluded(key) if key >= end => Bound::Included(end.clone()),
            start => start,
        };
        self.objects.range((start, Bound::Excluded(end))).map(|(_, stored)| stored)
    }
}
