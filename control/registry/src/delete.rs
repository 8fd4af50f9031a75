//! Delete: at once, after a grace, or when the last finalizer is gone.
//!
//! `plan` decides from the object and the options what a delete does to it; the registry carries that out.

use crate::list::List;
use crate::namespace;
use crate::options::{DeleteOptions, ListOptions, Propagation};
use crate::registry::{Registry, refusal, unsaved};
use control_api::{ApiError, Reason, Resource, object};
use control_store::{CommitError, Stored, Write};
use futures::stream::{self, StreamExt};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::sync::Arc;

/// The garbage collector leaves the dependents alone.
const ORPHAN: &str = "orphan";
/// The garbage collector deletes the dependents first.
const FOREGROUND: &str = "foregroundDeletion";

/// How many deletes of a collection wait for the disk together.
const AT_ONCE: usize = 64;

/// What a delete did.
#[derive(Debug, Clone)]
pub struct Deleted {
    /// The object: as it is now, or its last state.
    pub object: Arc<Stored>,
    /// It is gone; otherwise it is on its way out.
    pub gone: bool,
}

/// What a delete does to an object.
#[derive(Debug, PartialEq)]
enum Deletion {
    /// It goes; this was its last state.
    Remove(Value),
    /// It stays, marked, until somebody else is done with it.
    Mark(Value),
    /// It is on its way out already, and no faster for this.
    Pending,
}

impl Registry {
    /// Deletes an object, or begins to.
    pub async fn delete(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        namespace::check_deletable(resource, name)?;
        // Each turn that is lost is another write's progress.
        loop {
            let current = self.get(resource, namespace, name)?;
            let old = current.value();
            check_preconditions(resource, &old, options)?;
            let (key, expect) = (current.key.clone(), current.revision);
            let deletion = plan(resource, &old, options, self.now());
            let (new, gone) = match &deletion {
                Deletion::Pending => return Ok(Deleted { object: current, gone: false }),
                Deletion::Mark(new) => (new, false),
                Deletion::Remove(last) => (last, true),
            };
            if options.dry_run {
                return Ok(Deleted { object: unsaved(key, expect, new), gone });
            }
            let write = match deletion {
                Deletion::Remove(last) => Write::Delete { key, expect, last },
                Deletion::Mark(object) => Write::Update { key, expect, object },
                Deletion::Pending => return Ok(Deleted { object: current, gone: false }),
            };
            match self.store().commit(write).await {
                Ok(object) => return Ok(Deleted { object, gone }),
                Err(CommitError::Stale { .. }) => {}
                Err(error) => return Err(refusal(resource, name, &error)),
            }
        }
    }

    /// Deletes all objects that a list would show, and returns that list.
    pub async fn delete_collection(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        which: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<List, ApiError> {
        let list = self.list(resource, namespace, which)?;
        let deletes = list.items.clone().into_iter().map(|stored| async move {
            let key = &stored.key;
            self.delete(resource, key.namespace.as_deref(), &key.name, options).await
        });
        let mut outcomes = stream::iter(deletes).buffered(AT_ONCE);
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(_) => {}
                Err(error) if error.reason == Reason::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(list)
    }
}

fn check_preconditions(resource: &Resource, object: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    let conflict =
        |why: String| Err(ApiError::conflict(&resource.group, &resource.kind, object::name(object), &why));
    let (uid, version) = (object::uid(object), object::resource_version(object));
    if let Some(asked) = options.preconditions.uid.as_deref().filter(|asked| *asked != uid) {
        return conflict(format!(
            "the UID in the precondition ({asked}) does not match the UID in record ({uid}). \
             The object might have been deleted and then recreated"
        ));
    }
    if let Some(asked) = options.preconditions.resource_version.as_deref().filter(|asked| *asked != version) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record \
             ({version}). The object might have been modified"
        ));
    }
    Ok(())
}

fn plan(resource: &Resource, old: &Value, options: &DeleteOptions, now: Timestamp) -> Deletion {
    // As upstream has it: a negative grace is the shortest one that is still a grace.
    let asked = options.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let began = deleting(old);
    let grace = match &began {
        // Once set, the grace may only shrink.
        Some(began) if began.grace > 0 => match asked.filter(|seconds| *seconds < began.grace) {
            Some(seconds) => Some(Grace { seconds, from: began.at }),
            None => return Deletion::Pending,
        },
        Some(_) => None,
        None => (resource.strategy.delete_grace)(old, asked).map(|seconds| Grace { seconds, from: now }),
    };
    let mut new = with_finalizers(old, options.propagation_policy);
    let held_by_finalizer = object::finalizers(&new).next().is_some();
    let held_by_kind = (resource.strategy.mark_deleted)(&mut new);
    match grace {
        Some(grace) => mark(&mut new, old, grace),
        None if began.is_some() => {}
        None if held_by_kind => {
            object::meta_mut(&mut new).insert("deletionTimestamp".to_owned(), object::time(now));
        }
        None if held_by_finalizer => mark(&mut new, old, Grace { seconds: 0, from: now }),
        None => {}
    }
    if !held_by_kind && !held_by_finalizer && grace.is_none_or(|grace| grace.seconds == 0) {
        Deletion::Remove(new)
    } else if new == *old {
        Deletion::Pending
    } else {
        Deletion::Mark(new)
    }
}

#[derive(Clone, Copy)]
struct Grace {
    seconds: i64,
    /// When the deletion began.
    from: Timestamp,
}

/// A deletion that is going on.
struct Deleting {
    at: Timestamp,
    /// Seconds.
    grace: i64,
}

fn deleting(object: &Value) -> Option<Deleting> {
    let ends = object::deletion_timestamp(object)?;
    let grace = object::integer(object, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
    let at = ends.checked_sub(SignedDuration::from_secs(grace)).unwrap_or(ends);
    Some(Deleting { at, grace })
}

fn mark(new: &mut Value, old: &Value, grace: Grace) {
    let ends = grace.from.checked_add(SignedDuration::from_secs(grace.seconds)).unwrap_or(Timestamp::MAX);
    let generation = object::generation(old);
    let first = object::deletion_timestamp(old).is_none();
    let meta = object::meta_mut(new);
    meta.insert("deletionTimestamp".to_owned(), object::time(ends));
    meta.insert("deletionGracePeriodSeconds".to_owned(), grace.seconds.into());
    if first && generation > 0 {
        meta.insert("generation".to_owned(), (generation + 1).into());
    }
}

/// The object with the finalizers that make the garbage collector do what the policy says.
fn with_finalizers(old: &Value, policy: Option<Propagation>) -> Value {
    let has = |finalizer: &str| object::finalizers(old).any(|one| one == finalizer);
    let wanted = match policy {
        Some(Propagation::Background) => None,
        Some(Propagation::Foreground) => Some(FOREGROUND),
        Some(Propagation::Orphan) => Some(ORPHAN),
        None if has(ORPHAN) => Some(ORPHAN),
        None if has(FOREGROUND) => Some(FOREGROUND),
        None => None,
    };
    let mut finalizers: Vec<Value> = object::finalizers(old)
        .filter(|one| wanted == Some(one) || ![ORPHAN, FOREGROUND].contains(one))
        .map(Value::from)
        .collect();
    if let Some(wanted) = wanted.filter(|wanted| !has(wanted)) {
        finalizers.push(wanted.into());
    }
    let mut new = old.clone();
    let meta = object::meta_mut(&mut new);
    if finalizers.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".to_owned(), finalizers.into());
    }
    new
}
