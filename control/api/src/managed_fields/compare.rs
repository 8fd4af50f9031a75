//! Which fields a write sets and which it removes, found by walking two states of an object along its type.

use super::FieldSet;
use crate::schema::{ListType, Schemas, Shape, Type};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What a write did.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Paths that were added or have another value.
    pub(super) set: FieldSet,
    /// Paths that are no more.
    pub(super) removed: FieldSet,
}

/// Metadata that nobody manages: the server's own.
const UNMANAGED: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
];

/// Structs that upstream's types always write, so that their being there says nothing.
const ALWAYS_THERE: &[&str] = &["metadata", "spec", "status", "template", "strategy", "loadBalancer"];

/// Compares `old` (nothing, for a create) with `new`.
pub(super) fn compare(
    schemas: &Schemas,
    type_name: &str,
    old: Option<&Value>,
    new: &Value,
    skip_status: bool,
) -> Comparison {
    let mut out = Comparison::default();
    let Some(definition) = schemas.get(type_name) else { return out };
    let old = stripped(old.unwrap_or(&Value::Null), skip_status);
    let new = stripped(new, skip_status);
    out.set = FieldSet::default();
    added(schemas, &Here::of_type(definition), &old, &new, &mut out.set);
    added(schemas, &Here::of_type(definition), &new, &old, &mut out.removed);
    // What has another value was found by both walks: it is set, not removed.
    let set = out.set.clone();
    out.removed.subtract(&set);
    out
}

fn stripped(object: &Value, skip_status: bool) -> Value {
    let mut out = Map::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => (),
            "status" if skip_status => (),
            "metadata" => {
                let meta = value.as_object().into_iter().flatten();
                let kept: Map<String, Value> = meta
                    .filter(|(key, _)| !UNMANAGED.contains(&key.as_str()))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                if !kept.is_empty() {
                    out.insert(key.clone(), Value::Object(kept));
                }
            }
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(out)
}

/// How the value at a path is to be walked.
enum Here<'a> {
    Struct(&'a Type),
    Map(&'a Shape),
    Set,
    Items(&'a [std::borrow::Cow<'static, str>], &'a Shape),
    Leaf,
}

impl<'a> Here<'a> {
    fn of_type(definition: &'a Type) -> Self {
        if definition.atomic { Self::Leaf } else { Self::Struct(definition) }
    }

    fn of_shape(schemas: &'a Schemas, shape: &'a Shape, list: &'a ListType, atomic_map: bool) -> Self {
        match shape {
            Shape::Ref(name) => schemas.get(name).map_or(Self::Leaf, Self::of_type),
            Shape::Map(inner) if !atomic_map => Self::Map(inner),
            Shape::Array(inner) => match list {
                ListType::Atomic => Self::Leaf,
                ListType::Set => Self::Set,
                ListType::Map(keys) => Self::Items(keys, inner),
            },
            Shape::Map(_)
            | Shape::String(_)
            | Shape::Time
            | Shape::MicroTime
            | Shape::Integer(_)
            | Shape::Number
            | Shape::Boolean
            | Shape::IntOrString
            | Shape::Quantity
            | Shape::Any => Self::Leaf,
        }
    }
}

/// Collects paths of `new` that `old` does not have, or has with another value.
fn added(schemas: &Schemas, here: &Here<'_>, old: &Value, new: &Value, out: &mut FieldSet) {
    let mut step = |element: String, inner: &Here<'_>, always: bool, was: Option<&Value>, is: &Value| {
        out.below(element, |below| {
            let hollow = match is {
                Value::Object(map) => map.is_empty(),
                Value::Array(list) => list.is_empty(),
                _ => true,
            };
            if was.is_none() && (!always || hollow) {
                below.insert();
            }
            added(schemas, inner, was.unwrap_or(&Value::Null), is, below);
        });
    };
    match (here, new) {
        (Here::Struct(definition), Value::Object(map)) => {
            for (name, is) in map {
                let Some(field) = definition.fields.get(name.as_str()) else { continue };
                let inner = Here::of_shape(schemas, &field.shape, &field.list, field.atomic_map);
                let always = match &field.shape {
                    Shape::Ref(_) => ALWAYS_THERE.contains(&name.as_str()),
                    Shape::Array(_) => definition.required.iter().any(|required| required == name),
                    _ => false,
                } && !matches!(inner, Here::Leaf);
                step(format!("f:{name}"), &inner, always, old.get(name), is);
            }
        }
        (Here::Map(shape), Value::Object(map)) => {
            for (key, is) in map {
                let inner = Here::of_shape(schemas, shape, &ListType::Atomic, false);
                step(format!("f:{key}"), &inner, false, old.get(key), is);
            }
        }
        (Here::Set, Value::Array(items)) => {
            let before = old.as_array().map_or(&[][..], Vec::as_slice);
            for item in items {
                let was = before.iter().find(|other| *other == item);
                step(format!("v:{item}"), &Here::Leaf, false, was, item);
            }
        }
        (Here::Items(keys, shape), Value::Array(items)) => {
            let before: BTreeMap<String, &Value> = old
                .as_array()
                .into_iter()
                .flatten()
                .map(|item| (key_of(schemas, keys, shape, item), item))
                .collect();
            for item in items {
                let key = key_of(schemas, keys, shape, item);
                let inner = Here::of_shape(schemas, shape, &ListType::Atomic, false);
                let was = before.get(&key).copied();
                step(format!("k:{key}"), &inner, false, was, item);
            }
        }
        _ => {
            if old != new {
                out.insert();
            }
        }
    }
}

/// `{"containerPort":80,"protocol":"TCP"}`: the keys of an element, with defaults for absent ones.
fn key_of(schemas: &Schemas, keys: &[std::borrow::Cow<'static, str>], shape: &Shape, item: &Value) -> String {
    let definition = shape.as_ref_name().and_then(|name| schemas.get(name));
    let key: BTreeMap<&str, &Value> = keys
        .iter()
        .filter_map(|key| {
            let default = || definition?.fields.get(key.as_ref())?.default.as_ref();
            Some((key.as_ref(), item.get(key.as_ref()).or_else(default)?))
        })
        .collect();
    serde_json::to_string(&key).expect("texts and numbers are always JSON")
}
