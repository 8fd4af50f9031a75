//! `autoscaling/v1` Scale: a kind's replicas, seen and set without knowing the kind.

use crate::error::ApiError;
use crate::object;
use crate::selector::LabelSelector;
use crate::validate::FieldError;
use serde_json::{Value, json};

/// The Scale of an object with `spec.replicas`, `status.replicas` and `spec.selector`.
pub fn scale_of(object: &Value) -> Value {
    let mut meta = serde_json::Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object::at(object, &["metadata", key]) {
            meta.insert(key.to_owned(), value.clone());
        }
    }
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": {},
        "status": { "replicas": object::integer(object, &["status", "replicas"]).unwrap_or(0) },
    });
    if let Some(replicas) = object::integer(object, &["spec", "replicas"]).filter(|replicas| *replicas != 0) {
        scale["spec"]["replicas"] = replicas.into();
    }
    if let Some(selector) = object::at(object, &["spec", "selector"]) {
        let selector = LabelSelector::from_value(selector).map(|selector| selector.to_string());
        if let Ok(text) = selector
            && !text.is_empty()
        {
            scale["status"]["selector"] = text.into();
        }
    }
    scale
}

/// The object with the replicas of a Scale; a Scale that names another state is refused.
pub fn apply_scale(group: &str, plural: &str, object: &Value, scale: &Value) -> Result<Value, ApiError> {
    let name = object::name(object);
    let replicas = asked_replicas(scale)?;
    if replicas < 0 {
        let fault = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(ApiError::invalid("autoscaling", "Scale", name, &[fault]));
    }
    let named = object::name(scale);
    if named != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({named}) does not match the name on the URL ({name})"
        )));
    }
    let version = object::resource_version(scale);
    if !version.is_empty() && version != object::resource_version(object) {
        return Err(ApiError::modified(group, plural, name));
    }
    let uid = object::uid(scale);
    if !uid.is_empty() && uid != object::uid(object) {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            object::uid(object)
        );
        return Err(ApiError::conflict(group, plural, name, &why));
    }
    let mut scaled = object.clone();
    object::map_mut(&mut scaled, &["spec"]).insert("replicas".to_owned(), replicas.into());
    Ok(scaled)
}

/// The replicas a Scale asks for; none is a zero that was left out.
fn asked_replicas(scale: &Value) -> Result<i32, ApiError> {
    let Some(asked) = object::at(scale, &["spec", "replicas"]) else { return Ok(0) };
    let number = asked.as_i64().and_then(|number| i32::try_from(number).ok());
    number.ok_or_else(|| ApiError::bad_request(format!("spec.replicas of a Scale is no int32: {asked}")))
}
