//! What the kinds that make pods from a template share: selector and template, their defaults and checks.

use super::{pod_spec, pod_warnings};
use crate::object;
use crate::selector::LabelSelector;
use crate::validate::{self, FieldError};
use serde_json::Value;

const NO_SELECTOR: &str = "invalid label selector";

/// Defaults of the template's spec.
pub(super) fn default(object: &mut Value) {
    if let Some(spec) = object.pointer_mut("/spec/template/spec") {
        pod_spec::default(spec);
    }
}

/// Faults of `spec.selector` and `spec.template`, and of one against the other.
pub(super) fn validate(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let template = object.pointer("/spec/template").unwrap_or(&Value::Null);
    selector_faults(object, template, &mut errors);
    // Upstream says no more of a template that it cannot hold against its selector.
    if errors.iter().any(|error| error.detail == NO_SELECTOR) {
        return errors;
    }
    let labels = object::map(template, &["metadata", "labels"]);
    errors.extend(validate::labels(labels, "spec.template.labels"));
    let annotations = object::map(template, &["metadata", "annotations"]);
    errors.extend(validate::annotations(annotations, "spec.template.annotations"));
    let Some(spec) = template.get("spec") else {
        errors.push(FieldError::required("spec.template.spec.containers", ""));
        return errors;
    };
    errors.extend(pod_spec::validate(spec, "spec.template.spec"));
    if !object::list(spec, &["ephemeralContainers"]).is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden("spec.template.spec.ephemeralContainers", detail));
    }
    let policy = object::text(spec, &["restartPolicy"]);
    if policy != "Always" {
        errors.push(FieldError::not_supported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
    if object::at(spec, &["activeDeadlineSeconds"]).is_some() {
        let detail = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.push(FieldError::forbidden("spec.template.spec.activeDeadlineSeconds", detail));
    }
    errors
}

fn selector_faults(object: &Value, template: &Value, errors: &mut Vec<FieldError>) {
    let labels = object::map(template, &["metadata", "labels"]);
    let no_match = || {
        let labels = labels.map_or(Value::Null, |labels| Value::Object(labels.clone()));
        let detail = "`selector` does not match template `labels`";
        FieldError::invalid("spec.template.metadata.labels", labels, detail)
    };
    let Some(selector) = object::at(object, &["spec", "selector"]) else {
        errors.extend([FieldError::required("spec.selector", ""), no_match()]);
        return;
    };
    let n_before = errors.len();
    pod_spec::label_selector(&object["spec"], "selector", "spec", errors);
    match LabelSelector::from_value(selector) {
        _ if errors.len() > n_before => {
            errors.push(FieldError::invalid("spec.selector", selector.clone(), NO_SELECTOR));
        }
        Err(_) => errors.push(FieldError::invalid("spec.selector", selector.clone(), NO_SELECTOR)),
        Ok(parsed) if parsed.is_everything() => errors.push(FieldError::invalid(
            "spec.selector",
            selector.clone(),
            "empty selector is invalid for deployment",
        )),
        Ok(parsed) if parsed.matches_labels(labels) => (),
        Ok(_) => errors.push(no_match()),
    }
}

/// Faults of whole numbers under `spec` that may not be below zero.
pub(super) fn not_negative(object: &Value, keys: &[&str]) -> Vec<FieldError> {
    keys.iter()
        .filter_map(|key| {
            let number = object::integer(object, &["spec", key]).filter(|number| *number < 0)?;
            Some(FieldError::invalid(format!("spec.{key}"), number, validate::NEGATIVE))
        })
        .collect()
}

/// The selector is what an object's pods are known by, so it stays.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    validate::immutable(new, old, &["spec", "selector"]).into_iter().collect()
}

/// Warnings for the template.
pub(super) fn warnings(object: &Value) -> Vec<String> {
    object
        .pointer("/spec/template/spec")
        .map(|spec| pod_warnings::of_spec(spec, "spec.template.spec"))
        .unwrap_or_default()
}
