//! Carries out plans through the registry.

use crate::events::EventRecorder;
use control_api::decode::FieldValidation;
use control_api::object::{self, Key, ResourceId};
use control_api::{ApiError, Reason, Resource};
use control_plan::{Action, EventRecord, Propagation};
use control_registry::{
    DeleteOptions, ListOptions, PatchBody, PatchKind, Preconditions, Registry, WriteOptions,
};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a plan was not carried out to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The world is not what the decision was made on: look again.
    Stale(String),
    /// The API does not want it: the message is told to the user.
    Refused(String),
}

/// Carries out one plan.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) registry: Registry,
    pub(crate) recorder: EventRecorder,
    pub(crate) parallel_actions: usize,
    /// Who writes, in `managedFields`.
    pub(crate) manager: &'static str,
    /// Our own writes of this plan: an object decided on at the first revision is at the second one now, and nobody
    /// else wrote it in between.
    moved: Mutex<BTreeMap<(Key, u64), u64>>,
}

impl Executor {
    pub(crate) fn new(
        registry: Registry,
        recorder: EventRecorder,
        parallel_actions: usize,
        controller: &'static str,
    ) -> Self {
        // As upstream: its scheduler is a program of its own.
        let manager =
            if controller == "default-scheduler" { "kube-scheduler" } else { "kube-controller-manager" };
        Self { registry, recorder, parallel_actions, manager, moved: Mutex::new(BTreeMap::new()) }
    }

    /// In order, until the first refusal.
    pub(crate) async fn carry_out(&self, actions: Vec<Action>) -> Result<(), Refusal> {
        for action in actions {
            self.perform(action).await?;
        }
        Ok(())
    }

    fn perform(&self, action: Action) -> BoxFuture<'_, Result<(), Refusal>> {
        async move {
            match action {
                Action::Create { resource, object } => self.create(&resource, *object).await,
                Action::Patch { key, revision, sub, patch } => self.patch(&key, revision, sub, *patch).await,
                Action::Delete { key, uid, revision, propagation, grace_secs } => {
                    self.delete(&key, uid, revision, propagation, grace_secs).await
                }
                Action::DeleteAll { resource, namespace } => self.delete_all(&resource, &namespace).await,
                Action::Bind { key, uid, node } => self.bind(&key, &uid, &node).await,
                Action::Finalize { namespace, revision, kept } => {
                    let key =
                        Key { resource: ResourceId::new("", "namespaces"), namespace: None, name: namespace };
                    let patch = json!({"spec": {"finalizers": kept}});
                    self.patch(&key, revision, Some("finalize"), patch).await
                }
                Action::Tell(event) => {
                    self.recorder.record(*event);
                    Ok(())
                }
                Action::Told { action, done, refused } => {
                    let outcome = self.perform(*action).await;
                    self.tell(&outcome, done, refused);
                    outcome
                }
                Action::Together(actions) => self.together(actions).await,
            }
        }
        .boxed()
    }

    fn tell(
        &self,
        outcome: &Result<(), Refusal>,
        done: Option<Box<EventRecord>>,
        refused: Option<Box<EventRecord>>,
    ) {
        match outcome {
            Ok(()) => {
                if let Some(event) = done {
                    self.recorder.record(*event);
                }
            }
            Err(Refusal::Refused(message)) => {
                if let Some(mut event) = refused {
                    event.message.push_str(message);
                    self.recorder.record(*event);
                }
            }
            // The next plan will do it, or find it unneeded.
            Err(Refusal::Stale(_)) => {}
        }
    }

    async fn together(&self, actions: Vec<Action>) -> Result<(), Refusal> {
        let outcomes = stream::iter(actions.into_iter().map(|action| self.perform(action)));
        let outcomes: Vec<_> = outcomes.buffered(self.parallel_actions.max(1)).collect().await;
        // What the API does not want is worth more than what is merely late.
        let mut refusals: Vec<Refusal> = outcomes.into_iter().filter_map(Result::err).collect();
        refusals.sort_by_key(|refusal| matches!(refusal, Refusal::Stale(_)));
        refusals.into_iter().next().map_or(Ok(()), Err)
    }

    async fn create(&self, resource: &ResourceId, object: Value) -> Result<(), Refusal> {
        let row = self.row(resource)?;
        let namespace = object::namespace(&object).to_owned();
        let namespace = row.is_namespaced().then_some(namespace);
        let outcome = self.registry.create(&row, namespace.as_deref(), object, &self.options()).await;
        outcome.map(|_| ()).map_err(refusal)
    }

    async fn patch(
        &self,
        key: &Key,
        revision: u64,
        sub: Option<&str>,
        mut patch: Value,
    ) -> Result<(), Refusal> {
        let row = self.row(&key.resource)?;
        let decided = (key.clone(), revision);
        let current = self.moved.lock().unwrap_or_else(PoisonError::into_inner).get(&decided).copied();
        object::set_resource_version(&mut patch, current.unwrap_or(revision));
        let body = PatchBody { kind: PatchKind::Merge, bytes: patch.to_string().into() };
        let namespace = key.namespace.as_deref();
        let validation = FieldValidation::Ignore;
        let options = self.options();
        let outcome = self.registry.patch(&row, namespace, &key.name, sub, body, validation, &options).await;
        let written = outcome.map_err(refusal)?;
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).insert(decided, written.object.revision);
        Ok(())
    }

    async fn delete(
        &self,
        key: &Key,
        uid: String,
        revision: Option<u64>,
        propagation: Propagation,
        grace_secs: Option<i64>,
    ) -> Result<(), Refusal> {
        let row = self.row(&key.resource)?;
        let options = DeleteOptions {
            grace_period_seconds: grace_secs,
            propagation_policy: Some(match propagation {
                Propagation::Background => control_registry::Propagation::Background,
                Propagation::Foreground => control_registry::Propagation::Foreground,
                Propagation::Orphan => control_registry::Propagation::Orphan,
            }),
            preconditions: Preconditions {
                uid: Some(uid),
                resource_version: revision.map(|revision| revision.to_string()),
            },
            ..DeleteOptions::default()
        };
        match self.registry.delete(&row, key.namespace.as_deref(), &key.name, &options).await {
            Ok(_) => Ok(()),
            // Somebody else did.
            Err(error) if error.reason == Reason::NotFound => Ok(()),
            Err(error) => Err(refusal(error)),
        }
    }

    async fn delete_all(&self, resource: &ResourceId, namespace: &str) -> Result<(), Refusal> {
        let row = self.row(resource)?;
        let (lists, deletes) = (ListOptions::default(), DeleteOptions::default());
        let outcome = self.registry.delete_collection(&row, Some(namespace), &lists, &deletes).await;
        outcome.map(|_| ()).map_err(refusal)
    }

    async fn bind(&self, key: &Key, uid: &str, node: &str) -> Result<(), Refusal> {
        let namespace = key.namespace.as_deref().unwrap_or_default();
        let outcome = self.registry.bind(namespace, &key.name, uid, node, &self.options()).await;
        outcome.map(|_| ()).map_err(refusal)
    }

    fn row(&self, resource: &ResourceId) -> Result<Arc<Resource>, Refusal> {
        let row = self.registry.resources().by_id(resource).cloned();
        row.ok_or_else(|| Refusal::Refused(format!("the kind {resource} is not served")))
    }

    fn options(&self) -> WriteOptions {
        WriteOptions { manager: self.manager.to_owned(), ..WriteOptions::default() }
    }
}

/// What a refusal means for the plan.
fn refusal(error: ApiError) -> Refusal {
    let ending = error
        .details
        .iter()
        .flat_map(|details| &details.causes)
        .any(|cause| cause.reason == "NamespaceTerminating");
    match error.reason {
        Reason::Conflict | Reason::NotFound | Reason::AlreadyExists => Refusal::Stale(error.message),
        // What is made in a namespace on its way out would go at once.
        Reason::Forbidden if ending => Refusal::Stale(error.message),
        _ => Refusal::Refused(error.message),
    }
}
