//! What upstream knows of built-in types and `k8s-openapi` does not tell: how lists merge, and defaults.

mod lists;
mod values;

use crate::schema::{Field, ListType, PatchStrategy, Schemas};
use lists::{Apply, Patch};
use serde_json::Value;
use std::borrow::Cow;

/// Adds the facts to the fields of the types they are about.
pub(crate) fn add_to(schemas: &mut Schemas) {
    for (type_name, field, patch, apply) in lists::FIELDS {
        let field = field_mut(schemas, type_name, field);
        field.patch = patch_strategy(*patch);
        field.list = list_type(*apply);
    }
    for name in lists::ATOMIC_TYPES {
        if let Some(target) = schemas.types.get_mut(full_name(name).as_str()) {
            target.atomic = true;
        }
    }
    for (type_name, field) in lists::ATOMIC_MAPS {
        field_mut(schemas, type_name, field).atomic_map = true;
    }
    for (type_name, field, value) in values::VALUES {
        field_mut(schemas, type_name, field).default =
            Some(serde_json::from_str::<Value>(value).expect("the table holds JSON; a test reads all of it"));
    }
}

fn field_mut<'a>(schemas: &'a mut Schemas, type_name: &str, field: &str) -> &'a mut Field {
    schemas
        .types
        .get_mut(full_name(type_name).as_str())
        .and_then(|target| target.fields.get_mut(field))
        .expect("every fact is about a field that there is; a test builds all of them")
}

fn full_name(name: &str) -> String {
    if name.starts_with("meta.") {
        format!("io.k8s.apimachinery.pkg.apis.{name}")
    } else {
        format!("io.k8s.api.{name}")
    }
}

fn patch_strategy(patch: Patch) -> PatchStrategy {
    let (merge, merge_key, retain_keys) = match patch {
        Patch::Replace => (false, None, false),
        Patch::Merge(key) => (true, Some(key), false),
        Patch::MergeScalars => (true, None, false),
        Patch::MergeRetainingKeys(key) => (true, Some(key), true),
        Patch::RetainKeys => (false, None, true),
    };
    PatchStrategy { merge, merge_key: merge_key.map(Cow::Borrowed), retain_keys }
}

fn list_type(apply: Apply) -> ListType {
    match apply {
        Apply::Atomic => ListType::Atomic,
        Apply::Set => ListType::Set,
        Apply::Map(keys) => ListType::Map(keys.iter().copied().map(Cow::Borrowed).collect()),
    }
}
