//! Nodes.

use crate::object;
use crate::resource::{Resource, Scope, Strategy, Subresource};
use crate::validate::{self, FieldError};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Node"),
    plural: Cow::Borrowed("nodes"),
    singular: Cow::Borrowed("node"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("no")]),
    scope: Scope::Cluster,
    schema: Cow::Borrowed("io.k8s.api.core.v1.Node"),
    subresources: &[Subresource::Status],
    strategy: Strategy { default, validate, ..Strategy::PLAIN },
    columns: crate::printers::NODE,
    ..Resource::PLAIN
};

/// What can be given out is all there is, unless the node says less.
fn default(node: &mut Value) {
    if object::at(node, &["status", "allocatable"]).is_none()
        && let Some(capacity) = object::at(node, &["status", "capacity"]).cloned()
    {
        object::map_mut(node, &["status"]).insert("allocatable".to_owned(), capacity);
    }
}

fn validate(node: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, taint) in object::list(node, &["spec", "taints"]).iter().enumerate() {
        let path = format!("spec.taints[{index}]");
        let (key, effect) = (object::text(taint, &["key"]), object::text(taint, &["effect"]));
        let mut told = |field: &str, value: &str, faults: Vec<String>| {
            if !faults.is_empty() {
                errors.push(FieldError::invalid(format!("{path}.{field}"), value, faults.join(";")));
            }
        };
        told("key", key, validate::qualified_name_faults(key));
        let value = object::text(taint, &["value"]);
        told("value", value, validate::label_value_faults(value));
        let effects = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
        if effect.is_empty() {
            errors.push(FieldError::required(format!("{path}.effect"), ""));
        } else if !effects.contains(&effect) {
            errors.push(FieldError::not_supported(format!("{path}.effect"), effect, &effects));
        }
        if !seen.insert((key, effect)) {
            let detail = "taints must be unique by key and effect pair";
            errors
                .push(FieldError { detail: detail.to_owned(), ..FieldError::duplicate(path, taint.clone()) });
        }
    }
    errors
}
