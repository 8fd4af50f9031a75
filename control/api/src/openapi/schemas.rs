//! Named schemas: types of [`Schemas`](crate::Schemas), lists of kinds, and the few that are no structs.

use super::Dialect;
use crate::discovery::response_kind;
use crate::resource::{Resource, Resources};
use crate::schema::{Field, ListType, Shape, Type};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
pub(super) const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(super) const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// The wanted schemas and all that they refer to.
pub(super) fn closure(
    resources: &Resources,
    wanted: BTreeSet<String>,
    dialect: Dialect,
) -> Map<String, Value> {
    let kinds = kinds_by_schema(resources);
    let lists: BTreeMap<String, &Resource> =
        resources.iter().map(|resource| (list_schema(resource), resource.as_ref())).collect();
    let (mut done, mut todo) = (BTreeMap::new(), wanted);
    while let Some(name) = todo.pop_first() {
        if done.contains_key(&name) {
            continue;
        }
        let mut found = BTreeSet::new();
        let schema = if let Some(known) = resources.schemas().types.get(name.as_str()) {
            let mut schema = type_schema(known, dialect, &mut found);
            if let Some(kinds) = kinds.get(&name) {
                schema["x-kubernetes-group-version-kind"] = kinds.clone().into();
            }
            schema
        } else if let Some(resource) = lists.get(&name) {
            found.extend([resource.schema.to_string(), LIST_META.to_owned()]);
            list_type(resource, dialect)
        } else {
            scalar(&name)
        };
        todo.extend(found);
        done.insert(name, schema);
    }
    done.into_iter().collect()
}

/// Definition name of a kind's list.
pub(super) fn list_schema(resource: &Resource) -> String {
    format!("{}List", resource.schema)
}

/// `x-kubernetes-group-version-kind`, by definition name.
fn kinds_by_schema(resources: &Resources) -> BTreeMap<String, Vec<Value>> {
    let mut kinds: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut add = |schema: String, (group, version, kind): (&str, &str, &str)| {
        let entry = json!({"group": group, "version": version, "kind": kind});
        let all = kinds.entry(schema).or_default();
        if !all.contains(&entry) {
            all.push(entry);
        }
    };
    for resource in resources.iter() {
        add(resource.schema.to_string(), (&resource.group, &resource.version, &resource.kind));
        for subresource in resource.subresources {
            let gvk = response_kind(resource, *subresource);
            if gvk.2 != resource.kind {
                add(kind_schema(resource, gvk), gvk);
            }
        }
        let options = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions".to_owned();
        add(options, (&resource.group, &resource.version, "DeleteOptions"));
    }
    add("io.k8s.apimachinery.pkg.apis.meta.v1.Status".to_owned(), ("", "v1", "Status"));
    kinds
}

/// Definition name of a kind that a resource or one of its subresources holds.
pub(super) fn kind_schema(resource: &Resource, (group, version, kind): (&str, &str, &str)) -> String {
    if kind == resource.kind {
        return resource.schema.to_string();
    }
    let group = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or(group) };
    format!("io.k8s.api.{group}.{version}.{kind}")
}

fn list_type(resource: &Resource, dialect: Dialect) -> Value {
    let (group, version, kind) = (&resource.group, &resource.version, resource.list_kind());
    json!({
        "description": format!("{kind} is a list of {}", resource.plural),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": API_VERSION},
            "kind": {"type": "string", "description": KIND},
            "metadata": described(dialect.reference(LIST_META), "Standard list metadata.", None, dialect),
            "items": {
                "description": format!("items is the list of {}.", resource.plural),
                "type": "array",
                "items": described(dialect.reference(&resource.schema), "", Some(&json!({})), dialect),
            },
        },
        "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": kind}],
    })
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should \
                           convert recognized schemas to the latest internal value, and may reject unrecognized values.";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer \
                    this from the endpoint the client submits requests to. Cannot be updated. In CamelCase.";

/// Types that are no structs.
fn scalar(name: &str) -> Value {
    match name {
        QUANTITY => json!({
            "description": "Quantity is a fixed-point representation of a number, such as 1.5, 500m or 2Gi.",
            "oneOf": [{"type": "string"}, {"type": "number"}],
        }),
        INT_OR_STRING => json!({
            "description": "IntOrString is a type that can hold an int32 or a string.",
            "format": "int-or-string",
            "oneOf": [{"type": "integer"}, {"type": "string"}],
        }),
        PATCH => json!({
            "description": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.",
            "type": "object",
        }),
        _ => json!({"type": "object"}),
    }
}

fn type_schema(known: &Type, dialect: Dialect, found: &mut BTreeSet<String>) -> Value {
    let mut schema = Map::from_iter([("type".to_owned(), "object".into())]);
    if !known.doc.is_empty() {
        schema.insert("description".to_owned(), known.doc.as_ref().into());
    }
    if !known.required.is_empty() {
        schema.insert("required".to_owned(), json!(known.required));
    }
    if !known.fields.is_empty() {
        let fields = known.fields.iter();
        let fields: Map<String, Value> =
            fields.map(|(name, field)| (name.to_string(), field_schema(field, dialect, found))).collect();
        schema.insert("properties".to_owned(), fields.into());
    }
    if known.atomic {
        schema.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
    }
    if known.preserve_unknown {
        schema.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
    }
    schema.into()
}

fn field_schema(field: &Field, dialect: Dialect, found: &mut BTreeSet<String>) -> Value {
    let schema = shape(&field.shape, dialect, found);
    let mut schema = described(schema, &field.doc, field.default.as_ref(), dialect);
    if field.patch.merge || field.patch.retain_keys {
        let strategy = match (field.patch.merge, field.patch.retain_keys) {
            (true, true) => "merge,retainKeys",
            (true, false) => "merge",
            _ => "retainKeys",
        };
        schema["x-kubernetes-patch-strategy"] = strategy.into();
    }
    if let Some(key) = &field.patch.merge_key {
        schema["x-kubernetes-patch-merge-key"] = key.as_ref().into();
    }
    match &field.list {
        ListType::Atomic if matches!(field.shape, Shape::Array(_)) => {
            schema["x-kubernetes-list-type"] = "atomic".into();
        }
        ListType::Atomic => {}
        ListType::Set => schema["x-kubernetes-list-type"] = "set".into(),
        ListType::Map(keys) => {
            schema["x-kubernetes-list-type"] = "map".into();
            schema["x-kubernetes-list-map-keys"] = json!(keys);
        }
    }
    if field.atomic_map {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    schema
}

/// A schema with what stands beside it: version 3 lets nothing stand beside a reference, so that goes into `allOf`.
fn described(schema: Value, doc: &str, default: Option<&Value>, dialect: Dialect) -> Value {
    let mut schema = if dialect == Dialect::V3 && schema.get("$ref").is_some() {
        json!({"allOf": [schema]})
    } else {
        schema
    };
    if !doc.is_empty() {
        schema["description"] = doc.into();
    }
    if let Some(default) = default {
        schema["default"] = default.clone();
    }
    schema
}

fn shape(shape: &Shape, dialect: Dialect, found: &mut BTreeSet<String>) -> Value {
    let formatted = |kind: &str, format: Option<&str>| match format {
        Some(format) => json!({"type": kind, "format": format}),
        None => json!({"type": kind}),
    };
    match shape {
        Shape::String(format) => formatted("string", format.as_deref()),
        Shape::Time | Shape::MicroTime => formatted("string", Some("date-time")),
        Shape::Integer(format) => formatted("integer", Some(format)),
        Shape::Number => formatted("number", Some("double")),
        Shape::Boolean => formatted("boolean", None),
        Shape::IntOrString => refer(INT_OR_STRING, dialect, found),
        Shape::Quantity => refer(QUANTITY, dialect, found),
        Shape::Array(items) => json!({"type": "array", "items": self::shape(items, dialect, found)}),
        Shape::Map(values) => {
            json!({"type": "object", "additionalProperties": self::shape(values, dialect, found)})
        }
        Shape::Ref(name) => refer(name, dialect, found),
        Shape::Any => formatted("object", None),
    }
}

fn refer(name: &str, dialect: Dialect, found: &mut BTreeSet<String>) -> Value {
    // Version 2 has no `oneOf`: upstream says text there.
    match (dialect, name) {
        (Dialect::V2, QUANTITY) => return json!({"type": "string"}),
        (Dialect::V2, INT_OR_STRING) => return json!({"type": "string", "format": "int-or-string"}),
        _ => {}
    }
    found.insert(name.to_owned());
    dialect.reference(name)
}
