//! A registry with a clock that stands still until told, and ids that count.

use control_api::decode::FieldValidation;
use control_api::{ApiError, Resource, Resources};
use control_registry::{
    Config, DeleteOptions, Deleted, List, ListOptions, PatchBody, PatchKind, Registry, WatchEvent,
    WatchOptions, WriteOptions, Written,
};
use control_store::{RingSize, Store, StoreOptions, Stored};
use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) struct World {
    pub(crate) registry: Registry,
    now: Arc<Mutex<Timestamp>>,
}

impl World {
    /// With the namespace `default`.
    pub(crate) async fn new() -> Self {
        Self::with_ring(10_000).await
    }

    /// The same with the account of its pods.
    pub(crate) async fn with_account() -> Self {
        let world = Self::new().await;
        world.create_account().await;
        world
    }

    /// Makes the account under which pods run, as a controller would.
    pub(crate) async fn create_account(&self) {
        self.create("serviceaccounts", json!({"metadata": {"name": "default"}})).await.unwrap();
    }

    pub(crate) async fn with_ring(events: usize) -> Self {
        let world = Self::empty(events);
        world.create("namespaces", json!({"metadata": {"name": "default"}})).await.unwrap();
        world
    }

    pub(crate) fn empty(events: usize) -> Self {
        let ring = RingSize { events, ..RingSize::default() };
        Self::over(Store::in_memory_with(StoreOptions { ring }))
    }

    /// Another registry over the same store, with the same seed.
    pub(crate) fn twin(&self) -> Self {
        Self::over(self.registry.store().clone())
    }

    fn over(store: Store) -> Self {
        let now = Arc::new(Mutex::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let (clock, ids) = (Arc::clone(&now), AtomicU64::new(1));
        let config = Config {
            clock: Arc::new(move || *clock.lock().unwrap()),
            uid: Arc::new(move || format!("uid-{}", ids.fetch_add(1, Ordering::Relaxed))),
            seed: Some(1),
            ..Config::default()
        };
        Self { registry: Registry::new(Arc::new(Resources::built_in()), store, config), now }
    }

    pub(crate) fn pass(&self, seconds: i64) {
        let mut now = self.now.lock().unwrap();
        *now = now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    pub(crate) fn resource(&self, plural: &str) -> Arc<Resource> {
        Arc::clone(self.registry.resources().iter().find(|resource| resource.plural == plural).unwrap())
    }

    fn namespace(resource: &Resource) -> Option<&'static str> {
        resource.is_namespaced().then_some("default")
    }

    pub(crate) async fn create(&self, plural: &str, object: Value) -> Result<Written, ApiError> {
        let resource = self.resource(plural);
        self.registry.create(&resource, Self::namespace(&resource), object, &by("test")).await
    }

    pub(crate) async fn config_map(&self, name: &str) -> Written {
        self.create("configmaps", json!({"metadata": {"name": name}})).await.unwrap()
    }

    pub(crate) async fn labelled(&self, name: &str, app: &str) -> Written {
        self.create("configmaps", json!({"metadata": {"name": name, "labels": {"app": app}}})).await.unwrap()
    }

    pub(crate) fn get(&self, plural: &str, name: &str) -> Result<Value, ApiError> {
        let resource = self.resource(plural);
        Ok(self.registry.get(&resource, Self::namespace(&resource), name)?.value())
    }

    pub(crate) async fn update(
        &self,
        plural: &str,
        subresource: Option<&str>,
        object: Value,
    ) -> Result<Written, ApiError> {
        let resource = self.resource(plural);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.registry
            .update(&resource, Self::namespace(&resource), &name, subresource, object, &by("test"))
            .await
    }

    /// Reads, changes, writes.
    pub(crate) async fn edit(
        &self,
        plural: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<Written, ApiError> {
        let mut object = self.get(plural, name)?;
        change(&mut object);
        self.update(plural, None, object).await
    }

    pub(crate) async fn patch(
        &self,
        plural: &str,
        name: &str,
        subresource: Option<&str>,
        kind: PatchKind,
        patch: Value,
    ) -> Result<Written, ApiError> {
        let resource = self.resource(plural);
        let body = PatchBody { kind, bytes: patch.to_string().into() };
        let namespace = Self::namespace(&resource);
        let validation = FieldValidation::Warn;
        self.registry.patch(&resource, namespace, name, subresource, body, validation, &by("test")).await
    }

    pub(crate) async fn delete(
        &self,
        plural: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        let resource = self.resource(plural);
        self.registry.delete(&resource, Self::namespace(&resource), name, options).await
    }

    pub(crate) fn list(&self, plural: &str, options: &ListOptions) -> Result<List, ApiError> {
        let resource = self.resource(plural);
        self.registry.list(&resource, Self::namespace(&resource), options)
    }

    pub(crate) fn watch(&self, plural: &str, options: &WatchOptions) -> Result<Watcher, ApiError> {
        let resource = self.resource(plural);
        Ok(Watcher(self.registry.watch(&resource, Self::namespace(&resource), options)?))
    }

    /// A watch of what happens from now on.
    pub(crate) fn watch_from_now(&self, plural: &str) -> Watcher {
        let resource_version = self.registry.store().snapshot().revision().to_string();
        self.watch(plural, &WatchOptions { resource_version, ..WatchOptions::default() }).unwrap()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.registry.store().snapshot().revision()
    }
}

pub(crate) fn by(manager: &str) -> WriteOptions {
    WriteOptions { dry_run: false, manager: manager.to_owned() }
}

pub(crate) fn dry_run() -> WriteOptions {
    WriteOptions { dry_run: true, manager: "test".to_owned() }
}

pub(crate) fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "main", "image": "hello"}]}})
}

pub(crate) fn deployment(name: &str) -> Value {
    let labels = json!({"app": name});
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "hello"}]}},
        },
    })
}

/// `404 NotFound: configmaps "a" not found`.
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T, ApiError>) -> String {
    let error = outcome.unwrap_err();
    format!("{} {}: {}", error.code, error.reason.as_str(), error.message)
}

pub(crate) fn names(items: &[Arc<Stored>]) -> String {
    items.iter().map(|stored| stored.key.name.as_str()).collect::<Vec<_>>().join(" ")
}

/// A watch, as lines of text.
pub(crate) struct Watcher(BoxStream<'static, WatchEvent>);

impl Watcher {
    /// The next line, or why there is none.
    pub(crate) async fn next(&mut self) -> String {
        match self.0.next().await {
            None => "END".to_owned(),
            Some(WatchEvent::Added(object)) => show("ADDED", &object),
            Some(WatchEvent::Modified(object)) => show("MODIFIED", &object),
            Some(WatchEvent::Deleted(object)) => show("DELETED", &object),
            Some(WatchEvent::Bookmark(object)) => format!("BOOKMARK {object}"),
            Some(WatchEvent::Error(error)) => format!("ERROR {}", error.to_status()),
        }
    }

    /// All lines that are there already.
    pub(crate) async fn ready(&mut self) -> String {
        let mut lines = Vec::new();
        loop {
            tokio::select! {
                biased;
                line = self.next() => lines.push(line),
                () = std::future::ready(()) => return lines.join("\n"),
            }
            if lines.last().is_some_and(|line| line == "END") {
                return lines.join("\n");
            }
        }
    }
}

fn show(kind: &str, stored: &Stored) -> String {
    let value = stored.value();
    assert_eq!(value["metadata"]["resourceVersion"], stored.revision.to_string());
    let labels = value["metadata"].get("labels").filter(|_| stored.key.resource.plural == "configmaps");
    let labels = labels.map(|labels| format!(" {labels}")).unwrap_or_default();
    format!("{kind} {} @{}{labels}", stored.key.name, stored.revision)
}
