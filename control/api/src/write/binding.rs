//! `binding` of a Pod: a scheduler's word that a node is to have it.

use crate::error::ApiError;
use crate::object;
use crate::validate::FieldError;
use serde_json::{Value, json};

/// Binds a Pod to the node that a `v1` Binding names: sets `spec.nodeName` and the `PodScheduled` condition.
pub fn apply_binding(pod: &Value, binding: &Value, now: jiff::Timestamp) -> Result<Value, ApiError> {
    let name = object::name(pod);
    let asked = object::namespace(binding);
    if !asked.is_empty() && asked != object::namespace(pod) {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if object::name(binding) != name {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    let target = object::text(binding, &["target", "name"]);
    let kind = object::text(binding, &["target", "kind"]);
    let mut errors = Vec::new();
    if !kind.is_empty() && kind != "Node" {
        errors.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if target.is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid("", "Binding", name, &errors));
    }
    let conflict = |why: String| Err(ApiError::conflict("", "pods/binding", name, &why));
    let uid = object::uid(binding);
    if !uid.is_empty() && uid != object::uid(pod) {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            object::uid(pod)
        ));
    }
    if object::deletion_timestamp(pod).is_some() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = object::text(pod, &["spec", "nodeName"]);
    if !node.is_empty() {
        return conflict(format!("pod {name} is already assigned to node {node:?}"));
    }
    if !object::list(pod, &["spec", "schedulingGates"]).is_empty() {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut bound = pod.clone();
    object::map_mut(&mut bound, &["spec"]).insert("nodeName".to_owned(), target.into());
    if let Some(annotations) = object::annotations(binding).filter(|annotations| !annotations.is_empty()) {
        let own = object::map_mut(&mut bound, &["metadata", "annotations"]);
        own.extend(annotations.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    set_condition(
        &mut bound,
        json!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": object::time(now),
        }),
    );
    Ok(bound)
}

/// Puts a condition into `status.conditions`, in the place of the one of the same type.
pub fn set_condition(object: &mut Value, mut condition: Value) {
    if let Some(map) = condition.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    let status = object::map_mut(object, &["status"]);
    let conditions = status.entry("conditions").or_insert_with(|| Value::Array(Vec::new()));
    let Some(conditions) = conditions.as_array_mut() else { return };
    let kind = object::text(&condition, &["type"]).to_owned();
    match conditions.iter_mut().find(|other| object::text(other, &["type"]) == kind) {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_pod_is_bound_once() {
        let pod = json!({ "metadata": { "name": "a", "uid": "1" }, "spec": {}, "status": { "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable" },
        ] } });
        let binding = json!({ "metadata": { "name": "a" }, "target": { "kind": "Node", "name": "n" } });
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let bound = apply_binding(&pod, &binding, now).unwrap();
        expect![[r#"{"nodeName":"n"} {"conditions":[{"lastTransitionTime":"2026-01-02T03:04:05Z","status":"True","type":"PodScheduled"}]}"#]]
            .assert_eq(&format!("{} {}", bound["spec"], bound["status"]));
        let error = apply_binding(&bound, &binding, now).unwrap_err();
        expect![[
            r#"Operation cannot be fulfilled on pods/binding "a": pod a is already assigned to node "n""#
        ]]
        .assert_eq(&error.message);
    }
}
