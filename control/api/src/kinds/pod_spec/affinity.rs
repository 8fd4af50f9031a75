//! Checks of affinity: what nodes a pod wants, and beside which other pods.

use crate::object;
use crate::validate::{self, FieldError};
use serde_json::Value;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NOT_AN_OPERATOR: &str = "not a valid selector operator";

/// Faults of `affinity` at `path`.
pub(super) fn validate(affinity: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(node) = object::at(affinity, &["nodeAffinity"]) {
        node_affinity(node, &format!("{path}.nodeAffinity"), errors);
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        if let Some(pod) = object::at(affinity, &[key]) {
            pod_affinity(pod, &format!("{path}.{key}"), errors);
        }
    }
}

fn node_affinity(affinity: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(selector) = object::at(affinity, &[REQUIRED]) {
        let path = format!("{path}.{REQUIRED}.nodeSelectorTerms");
        let terms = object::list(selector, &["nodeSelectorTerms"]);
        if terms.is_empty() {
            errors.push(FieldError::required(path.as_str(), "must have at least one node selector term"));
        }
        for (index, term) in terms.iter().enumerate() {
            node_term(term, Values::OfLabels, &format!("{path}[{index}]"), errors);
        }
    }
    for (index, weighted) in object::list(affinity, &[PREFERRED]).iter().enumerate() {
        let path = format!("{path}.{PREFERRED}[{index}]");
        weight(weighted, &path, errors);
        node_term(&weighted["preference"], Values::Any, &format!("{path}.preference"), errors);
    }
}

/// What the values of a requirement have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    /// Such as a label can have.
    OfLabels,
    /// Whatever: a preference may be for what cannot be.
    Any,
}

fn node_term(term: &Value, values: Values, path: &str, errors: &mut Vec<FieldError>) {
    for (index, requirement) in object::list(term, &["matchExpressions"]).iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        if matches!(object::text(requirement, &["operator"]), "Gt" | "Lt") {
            if object::list(requirement, &["values"]).len() != 1 {
                let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.push(FieldError::required(format!("{path}.values"), detail));
            }
        } else {
            operator(requirement, &path, errors);
        }
        key_and_values(requirement, values, &path, errors);
    }
    for (index, requirement) in object::list(term, &["matchFields"]).iter().enumerate() {
        node_field(requirement, &format!("{path}.matchFields[{index}]"), errors);
    }
}

/// The operators that requirements of nodes and of pods share.
fn operator(requirement: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let has_values = !object::list(requirement, &["values"]).is_empty();
    match object::text(requirement, &["operator"]) {
        "In" | "NotIn" if has_values => (),
        "In" | "NotIn" => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(format!("{path}.values"), detail));
        }
        "Exists" | "DoesNotExist" if !has_values => (),
        "Exists" | "DoesNotExist" => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(format!("{path}.values"), detail));
        }
        other => errors.push(FieldError::invalid(format!("{path}.operator"), other, NOT_AN_OPERATOR)),
    }
}

fn key_and_values(requirement: &Value, values: Values, path: &str, errors: &mut Vec<FieldError>) {
    label_name(object::text(requirement, &["key"]), &format!("{path}.key"), errors);
    if values == Values::Any {
        return;
    }
    let texts = object::list(requirement, &["values"]).iter().filter_map(Value::as_str);
    for (index, text) in texts.enumerate() {
        let faults = validate::label_value_faults(text);
        let path = format!("{path}.values[{index}]");
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path.as_str(), text, fault)));
    }
}

fn label_name(name: &str, path: &str, errors: &mut Vec<FieldError>) {
    let faults = validate::qualified_name_faults(name);
    errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, name, fault)));
}

/// Of a node's fields only its name can be asked for.
fn node_field(requirement: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let values = object::list(requirement, &["values"]);
    match object::text(requirement, &["operator"]) {
        "In" | "NotIn" if values.len() == 1 => (),
        "In" | "NotIn" => {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(FieldError::required(format!("{path}.values"), detail));
        }
        other => errors.push(FieldError::invalid(format!("{path}.operator"), other, NOT_AN_OPERATOR)),
    }
    let key = object::text(requirement, &["key"]);
    if key != "metadata.name" {
        errors.push(FieldError::invalid(format!("{path}.key"), key, "not a valid field selector key"));
        return;
    }
    for (index, name) in values.iter().filter_map(Value::as_str).enumerate() {
        let faults = validate::dns1123_subdomain_faults(name);
        let path = format!("{path}.values[{index}]");
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path.as_str(), name, fault)));
    }
}

fn pod_affinity(affinity: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (index, term) in object::list(affinity, &[REQUIRED]).iter().enumerate() {
        pod_term(term, &format!("{path}.{REQUIRED}[{index}]"), errors);
    }
    for (index, weighted) in object::list(affinity, &[PREFERRED]).iter().enumerate() {
        let path = format!("{path}.{PREFERRED}[{index}]");
        weight(weighted, &path, errors);
        pod_term(&weighted["podAffinityTerm"], &format!("{path}.podAffinityTerm"), errors);
    }
}

fn pod_term(term: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for key in ["labelSelector", "namespaceSelector"] {
        label_selector(term, key, path, errors);
    }
    for name in object::list(term, &["namespaces"]).iter().filter_map(Value::as_str) {
        let faults = validate::dns1123_label_faults(name);
        let path = format!("{path}.namespace");
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path.as_str(), name, fault)));
    }
    let topology = object::text(term, &["topologyKey"]);
    let path = format!("{path}.topologyKey");
    if topology.is_empty() {
        errors.push(FieldError::required(path.as_str(), "can not be empty"));
    }
    label_name(topology, &path, errors);
}

/// Faults of the label selector that is at `key` of `value`.
pub(crate) fn label_selector(value: &Value, key: &str, path: &str, errors: &mut Vec<FieldError>) {
    let path = format!("{path}.{key}");
    let labels = object::map(value, &[key, "matchLabels"]);
    errors.extend(validate::labels(labels, &format!("{path}.matchLabels")));
    for (index, requirement) in object::list(value, &[key, "matchExpressions"]).iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        operator(requirement, &path, errors);
        key_and_values(requirement, Values::OfLabels, &path, errors);
    }
}

fn weight(weighted: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let weight = object::integer(weighted, &["weight"]).unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(format!("{path}.weight"), weight, "must be in the range 1-100"));
    }
}
