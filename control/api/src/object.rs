//! Reading and changing the parts that every object has.

use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;

/// A kind's place in the API without its version: objects are the same in every version of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId {
    /// API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// Name in paths, for example `pods`.
    pub plural: Cow<'static, str>,
}

impl ResourceId {
    /// Of a group (empty for the core group) and a plural.
    pub const fn new(group: &'static str, plural: &'static str) -> Self {
        Self { group: Cow::Borrowed(group), plural: Cow::Borrowed(plural) }
    }
}

impl fmt::Display for ResourceId {
    /// `pods`, `deployments.apps`: as upstream names a group-resource in messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.plural)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// Where one object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Of what kind it is.
    pub resource: ResourceId,
    /// Its namespace; none for kinds of the cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of an object of a resource, as its metadata says.
    pub fn of(resource: ResourceId, object: &Value) -> Self {
        let namespace = namespace(object);
        Self {
            resource,
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            name: name(object).to_owned(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.resource, self.name),
            None => write!(f, "{} {}", self.resource, self.name),
        }
    }
}

/// The text at a path of keys; empty when it is not there.
pub fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or("")
}

/// The whole number at a path of keys.
pub fn integer(object: &Value, path: &[&str]) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

/// Whether the value at a path of keys is `true`.
pub fn flag(object: &Value, path: &[&str]) -> bool {
    at(object, path).and_then(Value::as_bool).unwrap_or(false)
}

/// The list at a path of keys; empty when it is not there.
pub fn list<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The map at a path of keys.
pub fn map<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Map<String, Value>> {
    at(object, path).and_then(Value::as_object)
}

/// The value at a path of keys; none when it is null or not there.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    let mut value = object;
    for key in path {
        value = value.get(key)?;
    }
    (!value.is_null()).then_some(value)
}

/// The map at a path of keys, made (with all maps above it) when it is not there or is no map.
pub fn map_mut<'a>(object: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    let mut value = object;
    for key in path {
        value = as_map(value).entry(*key).or_insert(Value::Null);
    }
    as_map(value)
}

fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was made a map one line above")
}

/// `apiVersion`.
pub fn api_version(object: &Value) -> &str {
    text(object, &["apiVersion"])
}

/// `kind`.
pub fn kind(object: &Value) -> &str {
    text(object, &["kind"])
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

/// `metadata.generateName`.
pub fn generate_name(object: &Value) -> &str {
    text(object, &["metadata", "generateName"])
}

/// `metadata.name`, or of an object that has none yet what stands in its place, `metadata.generateName`.
pub fn name_or_prefix(object: &Value) -> &str {
    match name(object) {
        "" => generate_name(object),
        name => name,
    }
}

/// `metadata.namespace`; empty for kinds of the cluster.
pub fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

/// `metadata.resourceVersion`.
pub fn resource_version(object: &Value) -> &str {
    text(object, &["metadata", "resourceVersion"])
}

/// `metadata.generation`; 0 when it is not there.
pub fn generation(object: &Value) -> i64 {
    integer(object, &["metadata", "generation"]).unwrap_or(0)
}

/// `metadata.creationTimestamp`.
pub fn creation_timestamp(object: &Value) -> Option<jiff::Timestamp> {
    timestamp(object, &["metadata", "creationTimestamp"])
}

/// `metadata.deletionTimestamp`: set once the object is on its way out.
pub fn deletion_timestamp(object: &Value) -> Option<jiff::Timestamp> {
    timestamp(object, &["metadata", "deletionTimestamp"])
}

/// The RFC 3339 time at a path of keys; none when it is not there or makes no sense.
pub fn timestamp(object: &Value, path: &[&str]) -> Option<jiff::Timestamp> {
    text(object, path).parse().ok()
}

/// A time as `metav1.Time` has it: whole seconds, UTC.
pub fn time(now: jiff::Timestamp) -> Value {
    Value::String(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A time as `metav1.MicroTime` has it: microseconds, UTC.
pub fn micro_time(now: jiff::Timestamp) -> Value {
    Value::String(now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
}

/// `metadata.labels`.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    map(object, &["metadata", "labels"])
}

/// The value of a label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

/// `metadata.annotations`.
pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    map(object, &["metadata", "annotations"])
}

/// The value of an annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    list(object, &["metadata", "finalizers"]).iter().filter_map(Value::as_str)
}

/// `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> &[Value] {
    list(object, &["metadata", "ownerReferences"])
}

/// The owner reference that says `controller: true`.
pub fn controller(object: &Value) -> Option<&Value> {
    owner_references(object).iter().find(|owner| flag(owner, &["controller"]))
}

/// `metadata`, made when it is not there.
pub fn meta_mut(object: &mut Value) -> &mut Map<String, Value> {
    map_mut(object, &["metadata"])
}

/// Sets `metadata.resourceVersion`.
pub fn set_resource_version(object: &mut Value, revision: u64) {
    meta_mut(object).insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
}

/// The condition of a type under `status.conditions`.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, &["status", "conditions"]).iter().find(|condition| text(condition, &["type"]) == kind)
}
