//! Changes to make, as data: tests compare them, logs print them, the driver carries them out.

use crate::scheduler::waiting::Unplaced;
use crate::world::Registration;
use control_api::object::{Key, ResourceId};
use k8s_openapi::api::core::v1::ObjectReference;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// What to do, and when to look again if nothing changes meanwhile.
#[derive(Debug, Default)]
pub struct Plan {
    /// In this order; the first refusal ends the plan.
    pub actions: Vec<Action>,
    /// The decision depends on time: look again after this long.
    pub look_again: Option<Duration>,
    /// Pods that were found to fit on no node, if the plan is carried out: the world sets them aside.
    pub unplaced: Vec<Unplaced>,
    /// What it tells of a node's registration: the world remembers it, so that it is told once.
    pub registration: Option<Registration>,
}

/// A change to make.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make an object; its name and namespace are in its metadata. One that exists already is a refusal.
    Create {
        /// Of what kind.
        resource: ResourceId,
        /// The object.
        object: Box<Value>,
    },
    /// Change an object by a merge patch, if it is still the one the decision was made on.
    Patch {
        /// Which object.
        key: Key,
        /// The revision the decision was made on.
        revision: u64,
        /// `status`, or the object itself.
        sub: Option<&'static str>,
        /// The merge patch (RFC 7386).
        patch: Box<Value>,
    },
    /// Delete an object, if it is still the one that was meant.
    Delete {
        /// Which object.
        key: Key,
        /// Its UID.
        uid: String,
        /// The revision the decision was made on, where the decision depends on more than the UID.
        revision: Option<u64>,
        /// What becomes of its dependents.
        propagation: Propagation,
        /// Seconds of grace, when not the object's own.
        grace_secs: Option<i64>,
    },
    /// Delete all objects of a kind in a namespace.
    DeleteAll {
        /// Of what kind.
        resource: ResourceId,
        /// Where.
        namespace: String,
    },
    /// Give a pod its node.
    Bind {
        /// Which pod.
        key: Key,
        /// Its UID.
        uid: String,
        /// The node's name.
        node: String,
    },
    /// Say that a namespace is empty and may go.
    Finalize {
        /// The namespace's name.
        namespace: String,
        /// The revision the decision was made on.
        revision: u64,
        /// The finalizers of its spec that are somebody else's.
        kept: Vec<String>,
    },
    /// Tell the user something.
    Tell(Box<EventRecord>),
    /// An action with the event to tell when it is done, and the one when it is refused. The refusal's message is
    /// appended to the latter's.
    Told {
        /// What to do.
        action: Box<Self>,
        /// When it is done.
        done: Option<Box<EventRecord>>,
        /// When it is refused.
        refused: Option<Box<EventRecord>>,
    },
    /// Actions that do not depend on each other: all are tried, at the same time, then the first refusal counts.
    Together(Vec<Self>),
}

/// What becomes of the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay, without an owner.
    Orphan,
}

impl Propagation {
    /// As `propagationPolicy` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// Something that happened to an object, for the user to read.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRecord {
    /// The object.
    pub regarding: ObjectReference,
    /// `Normal` or `Warning`.
    pub type_: &'static str,
    /// Why, in one word, for example `ScalingReplicaSet`.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// Who says it, for example `deployment-controller`.
    pub component: &'static str,
}

impl Plan {
    /// Nothing to do.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Looks again after `delay`, or earlier if that was asked for already.
    pub fn look_again_in(&mut self, delay: Duration) {
        self.look_again = Some(self.look_again.map_or(delay, |earlier| earlier.min(delay)));
    }
}

impl From<Vec<Action>> for Plan {
    fn from(actions: Vec<Action>) -> Self {
        Self { actions, ..Self::default() }
    }
}

/// The patch that makes `new` of `old`, if they differ.
pub fn change<T: Serialize + PartialEq>(
    key: &Key,
    revision: u64,
    sub: Option<&'static str>,
    old: &T,
    new: &T,
) -> Option<Action> {
    if old == new {
        return None;
    }
    let old = serde_json::to_value(old).expect("API types have string keys and no failing serializers");
    let new = serde_json::to_value(new).expect("API types have string keys and no failing serializers");
    let patch = difference(&old, &new)?;
    Some(Action::Patch { key: key.clone(), revision, sub, patch: Box::new(patch) })
}

/// The merge patch from one value to another; none when they are equal.
fn difference(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return Some(new.clone());
    };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        match old.get(key) {
            Some(before) => {
                if let Some(inner) = difference(before, value) {
                    patch.insert(key.clone(), inner);
                }
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Some(Value::Object(patch))
}

impl Action {
    /// This action, and the event to tell when it is done.
    #[must_use]
    pub fn then_tell(self, event: EventRecord) -> Self {
        match self {
            Self::Told { action, refused, .. } => Self::Told { action, done: Some(Box::new(event)), refused },
            action => Self::Told { action: Box::new(action), done: Some(Box::new(event)), refused: None },
        }
    }

    /// This action, and the event to tell when it is refused.
    #[must_use]
    pub fn or_tell(self, event: EventRecord) -> Self {
        match self {
            Self::Told { action, done, .. } => Self::Told { action, done, refused: Some(Box::new(event)) },
            action => Self::Told { action: Box::new(action), done: None, refused: Some(Box::new(event)) },
        }
    }
}

impl fmt::Display for EventRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.regarding.name.as_deref().unwrap_or_default();
        write!(f, "{} {} {name}: {}", self.type_, self.reason, self.message)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { resource, object } => {
                let namespace = control_api::object::namespace(object);
                write!(f, "create {resource} {namespace}/{}", control_api::object::name(object))
            }
            Self::Patch { key, sub, patch, .. } => {
                write!(f, "patch {key}")?;
                if let Some(sub) = sub {
                    write!(f, " {sub}")?;
                }
                write!(f, " {patch}")
            }
            Self::Delete { key, propagation, grace_secs, .. } => {
                write!(f, "delete {key} {}", propagation.as_str())?;
                grace_secs.map_or(Ok(()), |secs| write!(f, " grace={secs}"))
            }
            Self::DeleteAll { resource, namespace } => write!(f, "delete all {resource} in {namespace}"),
            Self::Bind { key, node, .. } => write!(f, "bind {key} to {node}"),
            Self::Finalize { namespace, kept, .. } => {
                write!(f, "finalize {namespace}")?;
                if kept.is_empty() { Ok(()) } else { write!(f, " for us, not for {}", kept.join(", ")) }
            }
            Self::Tell(event) => write!(f, "tell {event}"),
            Self::Told { action, done, .. } => {
                write!(f, "{action}")?;
                done.as_ref().map_or(Ok(()), |event| write!(f, "\n  then {event}"))
            }
            Self::Together(actions) => {
                let lines: Vec<String> = actions.iter().map(Self::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for action in &self.actions {
            writeln!(f, "{action}")?;
        }
        if let Some(delay) = self.look_again {
            writeln!(f, "look again in {delay:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_difference_is_the_merge_patch_between_two_values() {
        let old = json!({"a": 1, "b": {"c": [1], "d": true}, "e": "gone"});
        let new = json!({"a": 1, "b": {"c": [1, 2], "d": true}, "f": {}});
        assert_eq!(difference(&old, &new), Some(json!({"b": {"c": [1, 2]}, "e": null, "f": {}})));
        assert_eq!(difference(&new, &new), None);
    }
}
