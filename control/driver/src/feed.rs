//! Keeps the world in step with the store.

use crate::shared_pods::SharedPods;
use control_api::Resources;
use control_api::object::{Key, ResourceId};
use control_plan::object::PODS;
use control_plan::{Change, Object, Settings, World};
use control_store::{Event, EventKind, Gone, Store, Stored};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Events taken from the store at a time, so that its lock is not held for long.
const BATCH: usize = 256;

/// Reads the store's events of every kind into a world.
#[derive(Debug)]
pub(crate) struct Feed {
    store: Store,
    resources: Vec<ResourceId>,
    /// The revision that the world shows; none before it was first read.
    cursor: Option<u64>,
    pub(crate) pods: SharedPods,
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
            cursor: None,
            pods: SharedPods::default(),
            world: World::new(settings, started),
        }
    }

    /// Takes in all that was acknowledged so far. Every change is in the world before the first is returned.
    pub(crate) fn catch_up(&mut self, now: Timestamp) -> Vec<Change> {
        let Some(cursor) = self.cursor else { return self.read_everything(now) };
        match self.drain(cursor) {
            Ok(events) => events.iter().filter_map(|event| self.apply(event, now)).collect(),
            Err(gone) => {
                tracing::warn!(%gone, "the driver fell behind the store's events and reads everything anew");
                self.read_everything(now)
            }
        }
    }

    /// New events of all kinds, in the order of their revisions: the world never shows one kind later than another.
    fn drain(&mut self, mut cursor: u64) -> Result<Vec<Arc<Event>>, Gone> {
        let mut events = Vec::new();
        loop {
            let batch = self.store.events_after(cursor, BATCH)?;
            let Some(last) = batch.last() else { break };
            cursor = last.revision;
            events.extend(batch);
        }
        self.cursor = Some(cursor);
        Ok(events)
    }

    fn apply(&mut self, event: &Event, now: Timestamp) -> Option<Change> {
        let key = event.object.key.clone();
        let after = match event.kind {
            EventKind::Added | EventKind::Modified => Some(self.parse(&event.object)?),
            EventKind::Deleted => {
                self.pods.forget(&key);
                None
            }
        };
        Some(self.world.apply(key, event.revision, after, now))
    }

    /// Makes the world what the store is, from a snapshot; what differs is told as changes.
    fn read_everything(&mut self, now: Timestamp) -> Vec<Change> {
        let snapshot = self.store.snapshot();
        self.cursor = Some(snapshot.revision());
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
                if let Some(object) = self.parse(stored) {
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
            self.pods.forget(&key);
            changes.push(self.world.apply(key, snapshot.revision(), None, now));
        }
        changes
    }

    /// The object, typed. One that cannot be read is logged and left as it was.
    fn parse(&self, stored: &Stored) -> Option<Object> {
        let parsed = match stored.key.resource == PODS {
            true => self.pods.decode(stored).map(Object::Pod),
            false => Object::parse(&stored.key, &stored.json),
        };
        parsed
            .inspect_err(
                |error| tracing::error!(key = %stored.key, %error, "a stored object cannot be read by controllers"),
            )
            .ok()
    }
}
