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
    strategy: Strategy { default, validate, validate_status, ..Strategy::PLAIN },
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
        // Upstream writes this path so.
        let path = format!("metadata.taints[{index}]");
        let (key, effect) = (object::text(taint, &["key"]), object::text(taint, &["effect"]));
        let mut told = |field: &str, value: &str, faults: Vec<String>| {
            if !faults.is_empty() {
                errors.push(FieldError::invalid(format!("{path}.{field}"), value, faults.join(";")));
            }
        };
        for fault in validate::qualified_name_faults(key) {
            told("key", key, vec![fault]);
        }
        let value = object::text(taint, &["value"]);
        told("value", value, validate::label_value_faults(value));
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
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
    errors.extend(validate_status(node));
    let ranges = object::list(node, &["spec", "podCIDRs"]);
    for (index, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
        if !validate::is_cidr(range) {
            errors.push(FieldError::invalid(format!("spec.podCIDRs[{index}]"), range, validate::NOT_A_CIDR));
        }
    }
    let families: BTreeSet<bool> =
        ranges.iter().filter_map(Value::as_str).map(|range| range.contains(':')).collect();
    if families.len() < ranges.len() {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid("spec.podCIDRs", ranges, detail));
    }
    errors
}

/// Faults of what there is on a node.
fn validate_status(node: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for which in ["capacity", "allocatable"] {
        for (name, amount) in object::map(node, &["status", which]).into_iter().flatten() {
            if validate::quantity(amount).is_ok_and(|amount| amount.is_negative()) {
                let path = format!("status.{which}.{name}");
                errors.push(FieldError::invalid(path, amount.clone(), validate::NEGATIVE));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn taints_ranges_and_amounts_are_looked_into() {
        let node = json!({
            "spec": { "podCIDRs": ["10.0.0.0/24", "10.0.1.0/24", "x"],
                "taints": [{ "key": "a b", "effect": "X" }, { "key": "a", "effect": "NoSchedule" }, { "key": "a", "effect": "NoSchedule" }] },
            "status": { "capacity": { "cpu": "-1" } },
        });
        let texts: Vec<String> = validate(&node).iter().map(ToString::to_string).collect();
        expect![[r#"
            metadata.taints[0].key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            metadata.taints[0].effect: Unsupported value: "X": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"
            metadata.taints[2]: Duplicate value: {"effect":"NoSchedule","key":"a"}: taints must be unique by key and effect pair
            status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0
            spec.podCIDRs[2]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
            spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24","x"]: may specify no more than one CIDR for each IP family"#]].assert_eq(&texts.join("\n"));
    }
}
