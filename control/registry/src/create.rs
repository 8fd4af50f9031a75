//! Create.

use crate::options::WriteOptions;
use crate::registry::{Registry, Written, allocate, refusal, rehearsed};
use control_api::object::{self, Key};
use control_api::write::{self, Prepared};
use control_api::{ApiError, Reason, Resource};
use control_store::{CommitError, Write};
use serde_json::Value;
use std::time::Duration;

/// How many generated names are tried before the create is given up.
const NAMES: usize = 8;

/// How long a create waits for what its namespace gets by itself: as long as upstream at most.
const PATIENCE: Duration = Duration::from_secs(2);

impl Registry {
    /// Stores a new object.
    pub async fn create(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        if !matches!(object::resource_version(&object), "" | "0") {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::new(Reason::InternalError, message));
        }
        let generated = object::name(&object).is_empty() && !object::generate_name(&object).is_empty();
        let mut tries = if generated { NAMES } else { 1 };
        loop {
            tries -= 1;
            match self.create_once(resource, namespace, object.clone(), options).await {
                Err(error) if error.reason == Reason::AlreadyExists && tries > 0 => {}
                outcome => return outcome,
            }
        }
    }

    /// One try, under one name; decided anew as often as its namespace has changed meanwhile.
    pub(crate) async fn create_once(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        self.await_given(resource, namespace, &object).await;
        loop {
            if let Some(written) = self.try_create(resource, namespace, object.clone(), options).await? {
                return Ok(written);
            }
        }
    }

    /// Waits until what a new object needs and its namespace gets by itself is there; not long, as it may never be.
    async fn await_given(&self, resource: &Resource, namespace: Option<&str>, object: &Value) {
        let Some(namespace) = namespace else { return };
        let Some(key) = (resource.strategy.awaits)(object, namespace) else { return };
        let mut revisions = self.store().revision_changed();
        let is_settled = || {
            let snapshot = self.store().snapshot();
            snapshot.get(&key).is_some()
                || self.check_namespace(&snapshot, resource, Some(namespace), "").is_err()
        };
        let settled = async { while !is_settled() && revisions.changed().await.is_ok() {} };
        // Late or not there: what it is needed for says so.
        let _ = tokio::time::timeout(PATIENCE, settled).await;
    }

    /// Decides and commits; none when the namespace changed between the two. A namespace that is found empty on its
    /// way out stays so by this: what was decided before it was marked is not committed after.
    async fn try_create(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Option<Written>, ApiError> {
        let held = self.hold_allocations(resource).await;
        let snapshot = self.store().snapshot();
        let given = self.check_namespace(&snapshot, resource, namespace, object::name_or_prefix(&object))?;
        let context = self.context(namespace, &options.manager);
        let others = |key: &Key| snapshot.get(key).map(|stored| stored.value());
        let Prepared { mut object, warnings } =
            write::prepare_create(self.resources(), resource, object, &context, &others)?;
        let key = Key::of(resource.id(), &object);
        let name = key.name.clone();
        if let Some(current) = snapshot.get(&key) {
            return Err(refusal(resource, &name, &CommitError::Exists { current: current.clone() }));
        }
        allocate(&snapshot, resource, &key, &mut object, None)?;
        if options.dry_run {
            let object = rehearsed(resource, key, 0, &object)?;
            return Ok(Some(Written { object, created: true, warnings }));
        }
        match self.commit(Write::Create { key, object, given }, held).await {
            Ok(object) => Ok(Some(Written { object, created: true, warnings })),
            Err(CommitError::Outdated) => Ok(None),
            Err(error) => Err(refusal(resource, &name, &error)),
        }
    }
}
