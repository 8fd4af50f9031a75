//! The registry itself: reading one object, and the loop that every change goes through.

use crate::bootstrap;
use crate::config::Config;
use crate::options::WriteOptions;
use bytes::Bytes;
use control_api::object::{self, Key};
use control_api::write::{self, Prepared, WriteContext};
use control_api::{ApiError, Resource, Resources};
use control_store::{CommitError, Snapshot, Store, Stored, Write};
use jiff::Timestamp;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// The kinds, the store, and the rules between them. A clone is another handle of the same.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    resources: Arc<Resources>,
    store: Store,
    config: Config,
    random: Mutex<fastrand::Rng>,
    /// Held from choosing what is unique in the cluster until the choice is committed.
    allocating: Arc<tokio::sync::Mutex<()>>,
}

/// A write that was done (or, in a dry run, would have been).
#[derive(Debug, Clone)]
pub struct Written {
    /// The object now; of `scale`, the Scale.
    pub object: Arc<Stored>,
    /// It was not there before.
    pub created: bool,
    /// For `Warning:` headers.
    pub warnings: Vec<String>,
}

impl Registry {
    /// A registry of these kinds over this store.
    pub fn new(resources: Arc<Resources>, store: Store, config: Config) -> Self {
        let random = config.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let (random, allocating) = (Mutex::new(random), Arc::default());
        Self { inner: Arc::new(Inner { resources, store, config, random, allocating }) }
    }

    /// The kinds.
    pub fn resources(&self) -> &Arc<Resources> {
        &self.inner.resources
    }

    /// The store, for snapshots and raw watches; writes go through the registry.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The time, by the registry's clock.
    pub fn now(&self) -> Timestamp {
        (self.inner.config.clock)()
    }

    /// One object.
    pub fn get(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Arc<Stored>, ApiError> {
        find(&self.inner.store.snapshot(), resource, namespace, name)
    }

    /// The `autoscaling/v1` Scale of one object.
    pub fn get_scale(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, ApiError> {
        Ok(write::scale_of(&self.get(resource, namespace, name)?.value()))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn random<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.inner.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn context(&self, namespace: Option<&str>, manager: &str) -> WriteContext {
        WriteContext {
            now: self.now(),
            uid: (self.inner.config.uid)(),
            name_suffix: self.random(write::name_suffix),
            namespace: namespace.map(str::to_owned),
            manager: manager.to_owned(),
        }
    }

    /// Keeps others from choosing unique values, if the kind has any, until the guard is dropped.
    pub(crate) async fn hold_allocations(&self, resource: &Resource) -> Option<OwnedMutexGuard<()>> {
        match resource.strategy.allocate {
            Some(_) => Some(Arc::clone(&self.inner.allocating).lock_owned().await),
            None => None,
        }
    }

    /// Carries out a write, and lets go of what was held for it once the write is in the store.
    pub(crate) async fn commit(
        &self,
        write: Write,
        held: Option<OwnedMutexGuard<()>>,
    ) -> Result<Arc<Stored>, CommitError> {
        let Some(held) = held else { return self.inner.store.commit(write).await };
        let store = self.inner.store.clone();
        // The store carries a write out though nobody waits for it any more. So must the guard outlive a caller that
        // goes away; else the next one would choose from a state in which the choice does not show yet.
        let committing = tokio::runtime::Handle::current().spawn(async move {
            let outcome = store.commit(write).await;
            drop(held);
            outcome
        });
        committing.await.unwrap_or(Err(CommitError::Closed))
    }

    /// Changes one object: `decide` says from its present state what it is to be. Decided anew as often as another write
    /// came between, which is that one's progress; a `decide` that insists on a revision refuses then by itself.
    pub(crate) async fn modify(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        options: &WriteOptions,
        mut decide: impl FnMut(&Value) -> Result<Prepared, ApiError>,
    ) -> Result<Written, ApiError> {
        loop {
            let held = self.hold_allocations(resource).await;
            let snapshot = self.inner.store.snapshot();
            let current = find(&snapshot, resource, namespace, name)?;
            let old = current.value();
            let Prepared { object: mut new, warnings } = decide(&old)?;
            allocate(&snapshot, resource, &current.key, &mut new, Some(&old))?;
            let ends = ends_with_update(resource, &new, &old);
            if !ends && write::is_noop(&new, &old) {
                return Ok(Written { object: current, created: false, warnings });
            }
            let (key, expect) = (current.key.clone(), current.revision);
            if options.dry_run {
                let object = rehearsed(resource, key, expect, &new)?;
                return Ok(Written { object, created: false, warnings });
            }
            let write = if ends {
                Write::Delete { key, expect, last: new }
            } else {
                Write::Update { key, expect, object: new }
            };
            match self.commit(write, held).await {
                Ok(object) => return Ok(Written { object, created: false, warnings }),
                Err(CommitError::Stale { .. }) => {}
                Err(error) => return Err(refusal(resource, name, &error)),
            }
        }
    }
}

/// One object of a state of the world.
pub(crate) fn find(
    snapshot: &Snapshot,
    resource: &Resource,
    namespace: Option<&str>,
    name: &str,
) -> Result<Arc<Stored>, ApiError> {
    snapshot.get(&key(resource, namespace, name)).cloned().ok_or_else(|| not_found(resource, name))
}

/// Gives an object what must be unique among the others of its kind.
pub(crate) fn allocate(
    snapshot: &Snapshot,
    resource: &Resource,
    key: &Key,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let Some(allocate) = resource.strategy.allocate else { return Ok(()) };
    let others = snapshot.list(&key.resource, None).filter(|other| other.key != *key);
    allocate(object, old, &mut others.map(|other| other.value()).chain(bootstrap::reserved(key)))
}

/// Where an object of a kind is.
pub(crate) fn key(resource: &Resource, namespace: Option<&str>, name: &str) -> Key {
    let namespace = namespace.filter(|_| resource.is_namespaced()).map(str::to_owned);
    Key { resource: resource.id(), namespace, name: name.to_owned() }
}

pub(crate) fn not_found(resource: &Resource, name: &str) -> ApiError {
    ApiError::not_found(&resource.group, &resource.plural, name)
}

/// What a client is told when the store refuses.
pub(crate) fn refusal(resource: &Resource, name: &str, error: &CommitError) -> ApiError {
    match error {
        CommitError::Exists { .. } => ApiError::already_exists(&resource.group, &resource.plural, name),
        CommitError::NotFound => not_found(resource, name),
        CommitError::Stale { .. } | CommitError::Outdated => {
            ApiError::modified(&resource.group, &resource.plural, name)
        }
        CommitError::TooDeep { .. } => ApiError::bad_request(error.to_string()),
        // In the words for a body that is too large: clients know those, and etcd's are of no use here.
        CommitError::TooLarge { max } => {
            ApiError::too_large(format!("Request entity too large: limit is {max}"))
        }
        CommitError::Closed => ApiError::unavailable(error.to_string()),
        CommitError::Malformed { .. } | CommitError::Io(_) => {
            tracing::error!(resource = %resource.plural, name, error = %error, "a write failed");
            ApiError::internal(error)
        }
    }
}

/// An object that a dry run shows, if the store would take it. It keeps the resource version that it has.
pub(crate) fn rehearsed(
    resource: &Resource,
    key: Key,
    revision: u64,
    object: &Value,
) -> Result<Arc<Stored>, ApiError> {
    let name = key.name.clone();
    Stored::new(key, revision, object).map(Arc::new).map_err(|error| refusal(resource, &name, &error))
}

/// An object that is shown in another form than the one it is stored in. It keeps the resource version that it has.
pub(crate) fn unsaved(key: Key, revision: u64, object: &Value) -> Arc<Stored> {
    let json = serde_json::to_vec(object).expect("a JSON value can be written");
    Arc::new(Stored { key, revision, json: Bytes::from(json) })
}

/// Whether an object that is being deleted goes with this update, because nothing holds it any more.
fn ends_with_update(resource: &Resource, new: &Value, old: &Value) -> bool {
    object::deletion_timestamp(old).is_some()
        && object::finalizers(new).next().is_none()
        && object::integer(old, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) == 0
        && !is_held_by_kind(resource, new)
}

/// Whether an object's kind has a hold of its own, as the content of a namespace is one.
fn is_held_by_kind(resource: &Resource, object: &Value) -> bool {
    (resource.strategy.mark_deleted)(&mut object.clone())
}
