//! What happens to an object between the request and the store: pure, and the same for every kind.
//!
//! A create is: defaults, managed fields, the kind's `admit` and `prepare_create`, metadata, validation. An update is: metadata that
//! is not the client's from the old object, the kind's `prepare_update` or `prepare_status`, defaults, managed fields,
//! generation, validation. What a kind sets by itself is nobody's field. What must be unique in the cluster is given out by the caller ([`Strategy::allocate`]
//! needs the other objects) between [`prepare_create`] and the write. Nothing here reads a clock or makes an id: both
//! come in through [`WriteContext`].
//!
//! [`Strategy::allocate`]: crate::resource::Strategy::allocate

mod binding;
mod scale;

pub use binding::{apply_binding, set_condition};
pub use scale::{apply_scale, scale_of};

use crate::error::ApiError;
use crate::object;
use crate::resource::{Others, Resource, Resources, Subresource};
use crate::validate::{self, FieldError};
use crate::{defaults, managed_fields};
use serde_json::{Map, Value};

/// What a write knows beside the object.
#[derive(Debug, Clone)]
pub struct WriteContext {
    /// The time of the write.
    pub now: jiff::Timestamp,
    /// The uid of an object that is created.
    pub uid: String,
    /// What is put behind a `generateName`; see [`name_suffix`].
    pub name_suffix: String,
    /// The namespace of the request's path.
    pub namespace: Option<String>,
    /// Who writes, for `managedFields`: `fieldManager`, or the user agent up to its first slash.
    pub manager: String,
}

/// An object that may be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// As it is to be stored, but for its resource version.
    pub object: Value,
    /// For `Warning:` headers.
    pub warnings: Vec<String>,
}

/// Five letters and digits that make no words, as upstream puts behind `generateName`.
pub fn name_suffix(random: &mut fastrand::Rng) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).map(|_| char::from(LETTERS[random.usize(..LETTERS.len())])).collect()
}

/// The manager's name from the request's `fieldManager`, or else its user agent.
pub fn manager_name(field_manager: Option<&str>, user_agent: &str) -> String {
    let name = match field_manager {
        Some(name) if !name.is_empty() => name,
        _ => user_agent.split('/').next().unwrap_or("").trim(),
    };
    let name = if name.is_empty() { "unknown" } else { name };
    name.chars().take(128).collect()
}

/// A new object, complete and checked; `others` finds those it refers to.
pub fn prepare_create(
    resources: &Resources,
    resource: &Resource,
    mut object: Value,
    context: &WriteContext,
    others: &Others<'_>,
) -> Result<Prepared, ApiError> {
    if !matches!(object::resource_version(&object), "" | "0") {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    set_type(resource, &mut object);
    let asked_name = object::name_or_prefix(&object).to_owned();
    name_and_namespace(resource, &mut object, context)?;
    defaults::apply(resources, resource, &mut object);
    object::meta_mut(&mut object).remove("managedFields");
    let writer = (context.manager.as_str(), context.now);
    managed_fields::record(resources, resource, None, &mut object, None, writer);
    (resource.strategy.admit)(&mut object, others)
        .map_err(|why| ApiError::forbidden(&resource.group, &resource.plural, &asked_name, &why))?;
    (resource.strategy.prepare_create)(&mut object);
    let meta = object::meta_mut(&mut object);
    for key in
        ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"]
    {
        meta.remove(key);
    }
    meta.insert("uid".to_owned(), Value::String(context.uid.clone()));
    meta.insert("creationTimestamp".to_owned(), object::time(context.now));
    if resource.strategy.generation.is_some() {
        meta.insert("generation".to_owned(), 1.into());
    }
    drop_empty_meta(meta);
    let mut errors = validate::object_meta(resource, &object);
    errors.extend((resource.strategy.validate)(&object));
    if !errors.is_empty() {
        return Err(invalid(resource, &object, &errors));
    }
    let warnings = (resource.strategy.warnings)(&object);
    Ok(Prepared { object, warnings })
}

/// A changed object, complete and checked. `new` is what the client wants to be there, whole.
pub fn prepare_update(
    resources: &Resources,
    resource: &Resource,
    subresource: Option<Subresource>,
    mut new: Value,
    old: &Value,
    context: &WriteContext,
) -> Result<Prepared, ApiError> {
    set_type(resource, &mut new);
    check_identity(resource, &new, old, context)?;
    keep_meta(&mut new, old);
    match subresource {
        Some(Subresource::Status) => {
            keep_all_but_status(&mut new, old);
            (resource.strategy.prepare_status)(&mut new, old);
        }
        Some(Subresource::Scale | Subresource::Log | Subresource::Binding) => (),
        None => {
            if resource.has(Subresource::Status) {
                keep_status(&mut new, old);
            }
            (resource.strategy.prepare_update)(&mut new, old);
        }
    }
    defaults::apply(resources, resource, &mut new);
    drop_empty_meta(object::meta_mut(&mut new));
    let writer = (context.manager.as_str(), context.now);
    managed_fields::record(resources, resource, subresource, &mut new, Some(old), writer);
    let is_of_spec = matches!(subresource, None | Some(Subresource::Scale));
    if is_of_spec && resource.strategy.generation.is_some_and(|counts| counts(&new, old)) {
        let generation = object::generation(old) + 1;
        object::meta_mut(&mut new).insert("generation".to_owned(), generation.into());
    }
    let mut errors = validate::update_meta(&new, old);
    errors.extend(validate::object_meta(resource, &new));
    // What was let in once stays as it is, whatever the rules are by now: its status and its end must not hang on them.
    if differs_in_substance(&new, old) {
        errors.extend((resource.strategy.validate)(&new));
    }
    if is_of_spec {
        errors.extend((resource.strategy.validate_update)(&new, old));
    }
    if subresource == Some(Subresource::Status) {
        errors.extend((resource.strategy.validate_status)(&new));
    }
    if !errors.is_empty() {
        return Err(invalid(resource, &new, &errors));
    }
    let warnings = if subresource.is_none() { (resource.strategy.warnings)(&new) } else { Vec::new() };
    Ok(Prepared { object: new, warnings })
}

/// Whether a write would change nothing but its own bookkeeping; then it is not done, and no event is sent.
pub fn is_noop(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return new == old };
    let differ = |key: &String| {
        if key == "metadata" { !same_meta(new.get(key), old.get(key)) } else { new.get(key) != old.get(key) }
    };
    !new.keys().chain(old.keys()).any(differ)
}

fn same_meta(new: Option<&Value>, old: Option<&Value>) -> bool {
    let empty = Map::new();
    let new = new.and_then(Value::as_object).unwrap_or(&empty);
    let old = old.and_then(Value::as_object).unwrap_or(&empty);
    let bookkeeping = |key: &str| matches!(key, "resourceVersion" | "managedFields");
    new.keys().chain(old.keys()).all(|key| bookkeeping(key) || new.get(key) == old.get(key))
}

fn set_type(resource: &Resource, object: &mut Value) {
    let map = object::map_mut(object, &[]);
    map.insert("apiVersion".to_owned(), Value::String(resource.api_version()));
    map.insert("kind".to_owned(), Value::String(resource.kind.to_string()));
}

fn name_and_namespace(
    resource: &Resource,
    object: &mut Value,
    context: &WriteContext,
) -> Result<(), ApiError> {
    let asked = object::namespace(object).to_owned();
    let meta = object::meta_mut(object);
    match context.namespace.as_deref().filter(|_| resource.is_namespaced()) {
        Some(namespace) => {
            if !asked.is_empty() && asked != namespace {
                return Err(ApiError::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            meta.insert("namespace".to_owned(), namespace.into());
        }
        None if !resource.is_namespaced() => {
            if !asked.is_empty() {
                return Err(ApiError::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
            meta.remove("namespace");
        }
        None => {
            if asked.is_empty() {
                return Err(ApiError::bad_request("an empty namespace may not be set during creation"));
            }
        }
    }
    let has_name = meta.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    let prefix = meta.get("generateName").and_then(Value::as_str).unwrap_or("");
    if !has_name && !prefix.is_empty() {
        let kept: String = prefix.chars().take(58).collect();
        meta.insert("name".to_owned(), Value::String(kept + &context.name_suffix));
    }
    Ok(())
}

fn check_identity(
    resource: &Resource,
    new: &Value,
    old: &Value,
    context: &WriteContext,
) -> Result<(), ApiError> {
    let name = object::name(old);
    if object::name(new).is_empty() {
        return Err(invalid(
            resource,
            new,
            &[FieldError::required("metadata.name", "name or generateName is required")],
        ));
    }
    if object::name(new) != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            object::name(new)
        )));
    }
    let asked = object::namespace(new);
    let own = context.namespace.as_deref().unwrap_or_else(|| object::namespace(old));
    if !asked.is_empty() && asked != own {
        return Err(ApiError::bad_request(format!(
            "the namespace of the object ({asked}) does not match the namespace on the URL ({own})"
        )));
    }
    let uid = object::uid(new);
    if !uid.is_empty() && uid != object::uid(old) {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            object::uid(old)
        );
        return Err(ApiError::conflict(&resource.group, &resource.plural, name, &why));
    }
    Ok(())
}

/// Metadata that the server alone writes.
fn keep_meta(new: &mut Value, old: &Value) {
    let old = old.get("metadata");
    let meta = object::meta_mut(new);
    for key in [
        "uid",
        "namespace",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ] {
        keep(meta, old, key);
    }
    meta.remove("selfLink");
    if !meta.contains_key("generateName") {
        keep(meta, old, "generateName");
    }
}

fn keep(map: &mut Map<String, Value>, old: Option<&Value>, key: &str) {
    match old.and_then(|old| old.get(key)) {
        Some(value) => map.insert(key.to_owned(), value.clone()),
        None => map.remove(key),
    };
}

fn keep_status(new: &mut Value, old: &Value) {
    keep(object::map_mut(new, &[]), Some(old), "status");
}

/// A write of `status` leaves all else: what the client sent of it is not looked at.
fn keep_all_but_status(new: &mut Value, old: &Value) {
    let status = new.get_mut("status").map(Value::take);
    let managed = new.get_mut("metadata").and_then(|meta| meta.get_mut("managedFields")).map(Value::take);
    let mut kept = old.clone();
    let map = object::map_mut(&mut kept, &[]);
    match status {
        Some(status) => map.insert("status".to_owned(), status),
        None => map.remove("status"),
    };
    if let Some(managed) = managed {
        object::meta_mut(&mut kept).insert("managedFields".to_owned(), managed);
    }
    *new = kept;
}

fn drop_empty_meta(meta: &mut Map<String, Value>) {
    meta.retain(|_, value| match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    });
}

/// Whether two states of an object differ in more than metadata and status.
pub(crate) fn differs_in_substance(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return true };
    let counts = |key: &str| !matches!(key, "metadata" | "status" | "apiVersion" | "kind");
    new.keys().chain(old.keys()).any(|key| counts(key) && new.get(key) != old.get(key))
}

fn invalid(resource: &Resource, object: &Value, errors: &[FieldError]) -> ApiError {
    ApiError::invalid(&resource.group, &resource.kind, object::name(object), errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;
    use std::sync::Arc;

    fn context(namespace: Option<&str>) -> WriteContext {
        WriteContext {
            now: "2026-01-02T03:04:05Z".parse().unwrap(),
            uid: "u-2".to_owned(),
            name_suffix: "abcde".to_owned(),
            namespace: namespace.map(str::to_owned),
            manager: "test".to_owned(),
        }
    }

    fn deployment() -> (Resources, Arc<Resource>, Value) {
        let resources = Resources::built_in();
        let row = Arc::clone(resources.by_plural("apps", "v1", "deployments").unwrap());
        let object = json!({ "metadata": { "name": "web" }, "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": "web:1" }] },
            },
        } });
        let mut old =
            prepare_create(&resources, &row, object, &context(Some("a")), &|_| None).unwrap().object;
        object::set_resource_version(&mut old, 7);
        (resources, row, old)
    }

    fn check(change: impl FnOnce(&mut Value), subresource: Option<Subresource>, expect: Expect) {
        let (resources, row, old) = deployment();
        let mut new = old.clone();
        change(&mut new);
        let text = match prepare_update(&resources, &row, subresource, new, &old, &context(Some("a"))) {
            Ok(Prepared { mut object, .. }) => {
                let noop = is_noop(&object, &old);
                object::meta_mut(&mut object).remove("managedFields");
                format!(
                    "{} replicas {} status {} noop {noop}",
                    object["metadata"], object["spec"]["replicas"], object["status"]
                )
            }
            Err(error) => format!("{} {}", error.code, error.message),
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn what_was_let_in_by_other_rules_may_stay() {
        let (resources, row, mut old) = deployment();
        old["spec"]["template"]["spec"]["containers"][0]["name"] = "Web".into();
        let update = |change: fn(&mut Value), subresource| {
            let mut new = old.clone();
            change(&mut new);
            prepare_update(&resources, &row, subresource, new, &old, &context(Some("a")))
                .map_err(|error| error.code)
        };
        assert!(update(|new| new["status"]["replicas"] = 1.into(), Some(Subresource::Status)).is_ok());
        assert!(update(|new| new["metadata"]["labels"] = json!({ "a": "b" }), None).is_ok());
        assert_eq!(update(|new| new["spec"]["replicas"] = 3.into(), None), Err(422));
    }

    #[test]
    fn an_update_keeps_what_is_the_servers() {
        check(
            |_| (),
            None,
            expect![[
                r#"{"creationTimestamp":"2026-01-02T03:04:05Z","generation":1,"name":"web","namespace":"a","resourceVersion":"7","uid":"u-2"} replicas 1 status {} noop true"#
            ]],
        );
        check(
            |new| {
                new["spec"]["replicas"] = 3.into();
                new["status"] = json!({ "replicas": 9 });
                new["metadata"] = json!({ "name": "web", "labels": { "a": "b" }, "generation": 99 });
            },
            None,
            expect![[
                r#"{"creationTimestamp":"2026-01-02T03:04:05Z","generation":2,"labels":{"a":"b"},"name":"web","namespace":"a","resourceVersion":"7","uid":"u-2"} replicas 3 status {} noop false"#
            ]],
        );
        check(
            |new| {
                new["spec"]["replicas"] = 3.into();
                new["status"] = json!({ "replicas": 9 });
            },
            Some(Subresource::Status),
            expect![[
                r#"{"creationTimestamp":"2026-01-02T03:04:05Z","generation":1,"name":"web","namespace":"a","resourceVersion":"7","uid":"u-2"} replicas 1 status {"replicas":9} noop false"#
            ]],
        );
    }

    #[test]
    fn an_update_of_what_may_not_change_is_refused() {
        check(
            |new| new["metadata"]["name"] = "other".into(),
            None,
            expect!["400 the name of the object (other) does not match the name on the URL (web)"],
        );
        check(
            |new| new["metadata"]["namespace"] = "b".into(),
            None,
            expect!["400 the namespace of the object (b) does not match the namespace on the URL (a)"],
        );
        check(
            |new| new["metadata"]["uid"] = "other".into(),
            None,
            expect![[
                r#"409 Operation cannot be fulfilled on deployments.apps "web": Precondition failed: UID in precondition: other, UID in object meta: u-2"#
            ]],
        );
        check(
            |new| {
                new["spec"]["selector"]["matchLabels"] = json!({ "b": "c" });
                new["spec"]["template"]["metadata"]["labels"] = json!({ "b": "c" });
            },
            None,
            expect![[
                r#"422 Deployment.apps "web" is invalid: spec.selector: Invalid value: {"matchLabels":{"b":"c"}}: field is immutable"#
            ]],
        );
    }

    #[test]
    fn a_create_is_refused_a_foreign_namespace_and_a_resource_version() {
        let (resources, row, _) = deployment();
        for (object, expect) in [
            (
                json!({ "metadata": { "name": "a", "namespace": "b" } }),
                expect![
                    "the namespace of the provided object does not match the namespace sent on the request"
                ],
            ),
            (
                json!({ "metadata": { "name": "a", "resourceVersion": "1" } }),
                expect!["resourceVersion should not be set on objects to be created"],
            ),
        ] {
            let error = prepare_create(&resources, &row, object, &context(Some("a")), &|_| None).unwrap_err();
            expect.assert_eq(&error.message);
        }
    }

    #[test]
    fn a_create_may_name_the_resource_version_of_nothing() {
        let (resources, row, mut object) = deployment();
        object["metadata"]["resourceVersion"] = "0".into();
        let created =
            prepare_create(&resources, &row, object, &context(Some("a")), &|_| None).unwrap().object;
        assert_eq!(object::resource_version(&created), "");
    }

    #[test]
    fn a_scale_shows_and_sets_replicas() {
        let (_, row, old) = deployment();
        let mut scale = scale_of(&old);
        expect![[r#"{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"creationTimestamp":"2026-01-02T03:04:05Z","name":"web","namespace":"a","resourceVersion":"7","uid":"u-2"},"spec":{"replicas":1},"status":{"replicas":0,"selector":"app=web"}}"#]]
            .assert_eq(&scale.to_string());
        scale["spec"]["replicas"] = 4.into();
        let scaled = apply_scale(&row.group, &row.plural, &old, &scale).unwrap();
        assert_eq!(scaled["spec"]["replicas"], 4);
        scale["metadata"]["resourceVersion"] = "6".into();
        assert_eq!(apply_scale(&row.group, &row.plural, &old, &scale).unwrap_err().code, 409);
        for replicas in [json!("5"), json!(2.5), json!(3_000_000_000_i64)] {
            scale["spec"]["replicas"] = replicas;
            assert_eq!(apply_scale(&row.group, &row.plural, &old, &scale).unwrap_err().code, 400);
        }
    }

    #[test]
    fn names_are_made_of_letters_that_make_no_words() {
        let mut random = fastrand::Rng::with_seed(1);
        let suffix = name_suffix(&mut random);
        assert!(suffix.len() == 5 && !suffix.contains(['a', 'e', 'i', 'o', 'u', '0', '1', '3']), "{suffix}");
        assert_eq!(manager_name(None, "kubectl/v1.30 (linux)"), "kubectl");
        assert_eq!(manager_name(Some("kubectl-create"), "kubectl/v1.30"), "kubectl-create");
    }
}
