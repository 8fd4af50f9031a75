//! Garbage: what its owners leave behind.
//!
//! An object is deleted when all its owners are gone. An owner deleted in the foreground waits for the dependents that
//! block it; one deleted as an orphaner first takes its references off its dependents. An owner is the object of that
//! UID: a newer one of the same name is another.

use crate::action::{Action, Plan, Propagation};
use crate::controller::{Controller, Wake};
use crate::object::{Change, Meta, Object};
use crate::world::World;
use control_api::object::Key;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The garbage collector.
pub(crate) static ROW: Controller =
    Controller { name: "garbage-collector-controller", wakes: &[Wake::on_all(concerned)], reconcile };

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What a change concerns: the object itself, if it has owners or is told how to go; its dependents, when it goes; the
/// owners that wait for it.
fn concerned(world: &World, change: &Change) -> Vec<Key> {
    let mut keys = BTreeSet::new();
    if let Some(after) = &change.after {
        let meta = after.meta();
        let new_owners = change.before.as_ref().map(|before| &before.meta().owner_references);
        let owners_changed = meta.owner_references.is_some() && new_owners != Some(&meta.owner_references);
        if owners_changed || is_waiting(meta) {
            keys.insert(change.key.clone());
        }
        // Owners need not be looked at again for every status write of a dependent.
        let began = |object: &Object| is_waiting(object.meta());
        if began(after) && !change.before.as_ref().is_some_and(began) {
            keys.extend(world.dependents(meta.uid_str()).cloned());
        }
    }
    if let Some(before) = &change.before {
        let meta = before.meta();
        let replaced = change.after.as_ref().is_some_and(|after| after.meta().uid != meta.uid);
        if change.after.is_none() || replaced {
            keys.extend(world.dependents(meta.uid_str()).cloned());
        }
        let released =
            change.after.as_ref().map(|after| &after.meta().owner_references) != Some(&meta.owner_references);
        if released {
            for owner in meta.owner_references.iter().flatten() {
                let key = world.owner_key(owner, meta.namespace_str());
                keys.extend(key.filter(|key| world.get(key).is_some_and(|owner| is_waiting(owner.meta()))));
            }
        }
    }
    keys.into_iter().collect()
}

/// Whether an object waits for its dependents before it goes.
fn is_waiting(meta: &ObjectMeta) -> bool {
    meta.is_deleting() && (meta.has_finalizer(FOREGROUND) || meta.has_finalizer(ORPHAN))
}

fn reconcile(world: &World, at: &Key, _: Timestamp) -> Plan {
    let Some(object) = world.get(at) else {
        return Plan::nothing();
    };
    let meta = object.meta();
    if meta.is_deleting() {
        if meta.has_finalizer(ORPHAN) {
            return orphan_dependents(world, at, meta);
        }
        if meta.has_finalizer(FOREGROUND) {
            return await_dependents(world, at, meta);
        }
        return Plan::nothing();
    }
    collect(world, at, meta)
}

/// What an owner reference points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// An object that stays, or one of a kind that is not known here.
    Solid,
    /// Nothing.
    Gone,
    /// An object that waits for its dependents to go.
    Waiting,
}

fn owner_state(world: &World, owner: &OwnerReference, namespace: &str) -> Owner {
    let Some(key) = world.owner_key(owner, namespace) else {
        return Owner::Solid;
    };
    // An object of the cluster cannot be owned by one of a namespace; such a reference is left alone.
    if namespace.is_empty() && key.namespace.is_some() {
        return Owner::Solid;
    }
    match world.get(&key) {
        Some(object) if object.meta().uid_str() == owner.uid => {
            let meta = object.meta();
            if meta.is_deleting() && meta.has_finalizer(FOREGROUND) { Owner::Waiting } else { Owner::Solid }
        }
        _ => Owner::Gone,
    }
}

/// Deletes an object without owners left; takes references to gone owners off one that has others.
fn collect(world: &World, at: &Key, meta: &ObjectMeta) -> Plan {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let states: Vec<Owner> =
        owners.iter().map(|owner| owner_state(world, owner, meta.namespace_str())).collect();
    if states.is_empty() || states.iter().all(|state| *state == Owner::Solid) {
        return Plan::nothing();
    }
    if states.contains(&Owner::Solid) {
        let kept: Vec<&OwnerReference> = owners
            .iter()
            .zip(&states)
            .filter(|(_, state)| **state == Owner::Solid)
            .map(|(owner, _)| owner)
            .collect();
        return Plan::from(vec![patch(at, meta, "ownerReferences", json!(kept))]);
    }
    let has_dependents = world.dependents(meta.uid_str()).next().is_some();
    let foreground = states.contains(&Owner::Waiting) && has_dependents;
    if foreground && blocks_any(meta) && has_waiting_dependent(world, meta) {
        // Perhaps a ring, in which each would wait for the next for ever: it is opened here.
        let free = |owner: &OwnerReference| OwnerReference {
            block_owner_deletion: owner.block_owner_deletion.map(|_| false),
            ..owner.clone()
        };
        let freed: Vec<OwnerReference> = owners.iter().map(free).collect();
        return Plan::from(vec![patch(at, meta, "ownerReferences", json!(freed))]);
    }
    let propagation = if foreground {
        Propagation::Foreground
    } else if meta.has_finalizer(ORPHAN) {
        Propagation::Orphan
    } else if meta.has_finalizer(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    Plan::from(vec![Action::Delete {
        key: at.clone(),
        uid: meta.uid_str().to_owned(),
        revision: Some(meta.revision()),
        propagation,
        grace_secs: None,
    }])
}

/// Whether an owner waits for the object.
fn blocks_any(meta: &ObjectMeta) -> bool {
    meta.owner_references.iter().flatten().any(|owner| owner.block_owner_deletion == Some(true))
}

/// Whether something that the object owns waits for its own dependents.
fn has_waiting_dependent(world: &World, meta: &ObjectMeta) -> bool {
    let dependents = world.dependents(meta.uid_str()).filter_map(|key| world.get(key));
    dependents
        .map(Object::meta)
        .any(|dependent| dependent.is_deleting() && dependent.has_finalizer(FOREGROUND))
}

/// Foreground: lets the object go once no dependent blocks it. Dependents are woken by its wait, and delete themselves.
fn await_dependents(world: &World, at: &Key, meta: &ObjectMeta) -> Plan {
    let blocks = |key: &&Key| {
        world.get(key).is_some_and(|dependent| {
            let owners = dependent.meta().owner_references.iter().flatten();
            let mut ours = owners.filter(|owner| Some(&owner.uid) == meta.uid.as_ref());
            ours.any(|owner| owner.block_owner_deletion == Some(true))
        })
    };
    if world.dependents(meta.uid_str()).any(|key| blocks(&key)) {
        return Plan::nothing();
    }
    Plan::from(vec![without_finalizer(at, meta, FOREGROUND)])
}

/// Orphan: takes the references off all dependents, then lets the object go.
fn orphan_dependents(world: &World, at: &Key, meta: &ObjectMeta) -> Plan {
    let mut releases = Vec::new();
    for key in world.dependents(meta.uid_str()) {
        let Some(dependent) = world.get(key).map(Object::meta) else { continue };
        let owners = dependent.owner_references.iter().flatten();
        let kept: Vec<&OwnerReference> =
            owners.filter(|owner| Some(&owner.uid) != meta.uid.as_ref()).collect();
        releases.push(patch(key, dependent, "ownerReferences", json!(kept)));
    }
    let mut actions = Vec::new();
    if !releases.is_empty() {
        actions.push(Action::Together(releases));
    }
    actions.push(without_finalizer(at, meta, ORPHAN));
    Plan::from(actions)
}

fn without_finalizer(at: &Key, meta: &ObjectMeta, name: &str) -> Action {
    let kept: Vec<&String> =
        meta.finalizers.iter().flatten().filter(|finalizer| *finalizer != name).collect();
    patch(at, meta, "finalizers", json!(kept))
}

/// Replaces a list of the metadata; an empty one is taken away.
fn patch(at: &Key, meta: &ObjectMeta, field: &str, list: Value) -> Action {
    let list = if list.as_array().is_some_and(Vec::is_empty) { Value::Null } else { list };
    let patch = json!({"metadata": {field: list}});
    Action::Patch { key: at.clone(), revision: meta.revision(), sub: None, patch: Box::new(patch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{CONFIG_MAPS, key};
    use crate::testing::{now, world};
    use expect_test::{Expect, expect};

    /// Objects are config maps: `name owner,owner:block finalizer deleting`; an owner is `name` or `name/uid`.
    fn check(objects: &str, expect: Expect) {
        let parse = |line: &str| {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap();
            let mut object = json!({"metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "1"}});
            for word in words {
                match word {
                    "deleting" => object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
                    "foregroundDeletion" | "orphan" => object["metadata"]["finalizers"] = json!([word]),
                    owners => {
                        let owner = |text: &str| {
                            let (text, block) =
                                text.strip_suffix(":block").map_or((text, false), |text| (text, true));
                            let (name, uid) = text
                                .split_once('/')
                                .map_or((text, format!("uid-{text}")), |(n, u)| (n, u.into()));
                            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": block})
                        };
                        object["metadata"]["ownerReferences"] = owners.split(',').map(owner).collect();
                    }
                }
            }
            (CONFIG_MAPS, object)
        };
        let objects: Vec<_> = objects.split(';').map(parse).collect();
        let world = world(&objects);
        let plans = objects.iter().map(|(_, object)| {
            let at = key(CONFIG_MAPS, "default", object["metadata"]["name"].as_str().unwrap());
            reconcile(&world, &at, now()).to_string()
        });
        expect.assert_eq(&plans.collect::<String>());
    }

    #[test]
    fn what_has_no_owner_left_goes() {
        check(
            "a; b a; c gone; d a/another-uid",
            expect![[r#"
            delete configmaps default/c Background
            delete configmaps default/d Background
        "#]],
        );
        check(
            "a; b a,gone",
            expect![[r#"
            patch configmaps default/b {"metadata":{"ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":false,"kind":"ConfigMap","name":"a","uid":"uid-a"}]}}
        "#]],
        );
    }

    #[test]
    fn foreground_waits_for_what_blocks() {
        check(
            "a foregroundDeletion deleting; b a:block; c a",
            expect![[r#"
            delete configmaps default/b Background
            delete configmaps default/c Background
        "#]],
        );
        check(
            "a foregroundDeletion deleting; b a:block; c b:block",
            expect![[r#"
            delete configmaps default/b Foreground
        "#]],
        );
        check("a foregroundDeletion deleting; b a:block deleting", expect![""]);
        check(
            "a foregroundDeletion deleting; b a",
            expect![[r#"
            patch configmaps default/a {"metadata":{"finalizers":null}}
            delete configmaps default/b Background
        "#]],
        );
    }

    #[test]
    fn a_ring_of_owners_that_wait_is_opened() {
        check(
            "a b:block foregroundDeletion deleting; b a:block",
            expect![[r#"
            patch configmaps default/b {"metadata":{"ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":false,"kind":"ConfigMap","name":"a","uid":"uid-a"}]}}
        "#]],
        );
        check(
            "a b:block foregroundDeletion deleting; b a",
            expect![[r#"
            patch configmaps default/a {"metadata":{"finalizers":null}}
            delete configmaps default/b Foreground
        "#]],
        );
    }

    #[test]
    fn orphans_are_released_before_their_owner_goes() {
        check(
            "a orphan deleting; b a; c a,d; d",
            expect![[r#"
            patch configmaps default/b {"metadata":{"ownerReferences":null}}
            patch configmaps default/c {"metadata":{"ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":false,"kind":"ConfigMap","name":"d","uid":"uid-d"}]}}
            patch configmaps default/a {"metadata":{"finalizers":null}}
        "#]],
        );
    }
}
