//! Keeps the world in step with the store.

use control_api::Resources;
use control_api::object::{Key, ResourceId};
use control_plan::{Change, Object, Settings, World};
use control_store::{Event, EventKind, Gone, Store, Stored, Watch};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reads the store's events of every kind into a world.
#[derive(Debug)]
pub(crate) struct Feed {
    store: Store,
    resources: Vec<ResourceId>,
    watches: Vec<Watch>,
    pub(crate) world: World,
}

impl Feed {
    pub(crate) fn new(store: Store, resources: &Resources, root_ca: String, started: Timestamp) -> Self {
        let ids: BTreeSet<ResourceId> = resources.iter().map(|resource| resource.id()).collect();
        let kinds = resources.iter().map(|row| {
            ((row.group.clone().into_owned(), row.kind.clone().into_owned()), (row.id(), row.is_namespaced()))
        });
        let settings = Settings { root_ca, kinds: kinds.collect() };
        Self {
            store,
            resources: ids.into_iter().collect(),
            watches: Vec::new(),
            world: World::new(settings, started),
        }
    }

    /// Takes in all that was acknowledged so far. Every change is in the world before the first is returned.
    pub(crate) fn catch_up(&mut self, now: Timestamp) -> Vec<Change> {
        if self.watches.is_empty() {
            return self.read_everything(now);
        }
        match self.drain() {
            Ok(events) => events.iter().filter_map(|event| self.apply(event, now)).collect(),
            Err(gone) => {
                tracing::warn!(%gone, "the driver fell behind the store's events and reads everything anew");
                self.read_everything(now)
            }
        }
    }

    /// New events of all kinds, in the order of their revisions.
    fn drain(&mut self) -> Result<Vec<Arc<Event>>, Gone> {
        let mut events = Vec::new();
        for watch in &mut self.watches {
            while let Some(event) = watch.try_next()? {
                events.push(event);
            }
        }
        events.sort_by_key(|event| event.revision);
        Ok(events)
    }

    fn apply(&mut self, event: &Event, now: Timestamp) -> Option<Change> {
        let key = event.object.key.clone();
        let after = match event.kind {
            EventKind::Added | EventKind::Modified => Some(parse(&event.object)?),
            EventKind::Deleted => None,
        };
        Some(self.world.apply(key, event.revision, after, now))
    }

    /// Makes the world what the store is, from a snapshot; what differs is told as changes.
    fn read_everything(&mut self, now: Timestamp) -> Vec<Change> {
        let snapshot = self.store.snapshot();
        // From the snapshot's revision on; only if the ring turns over within these lines must it be done again.
        let watches = self.resources.iter().map(|id| self.store.watch(id, None, snapshot.revision()));
        let Ok(watches) = watches.collect::<Result<Vec<_>, Gone>>() else {
            return self.read_everything(now);
        };
        self.watches = watches;
        let mut changes = Vec::new();
        let mut present: BTreeSet<Key> = BTreeSet::new();
        for resource in &self.resources {
            for stored in snapshot.list(resource, None) {
                present.insert(stored.key.clone());
                let known =
                    self.world.get(&stored.key).and_then(|object| object.meta().resource_version.clone());
                if known.is_some_and(|known| known == stored.revision.to_string()) {
                    continue;
                }
                if let Some(object) = parse(stored) {
                    changes.push(self.world.apply(stored.key.clone(), stored.revision, Some(object), now));
                }
            }
        }
        let gone: Vec<Key> = self
            .world
            .everything()
            .map(|(key, _)| key)
            .filter(|key| !present.contains(key))
            .cloned()
            .collect();
        for key in gone {
            changes.push(self.world.apply(key, snapshot.revision(), None, now));
        }
        changes
    }
}

/// The object, typed. One that cannot be read is logged and left as it was.
fn parse(stored: &Stored) -> Option<Object> {
    match Object::parse(&stored.key, &stored.json) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(key = %stored.key, %error, "a stored object cannot be read by controllers");
            None
        }
    }
}
