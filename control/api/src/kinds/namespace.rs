//! Namespaces: where the objects of the others live, and whose end ends them.

use crate::object;
use crate::resource::{NameRule, Resource, Scope, Strategy, Subresource};
use crate::validate::{self, FieldError};
use serde_json::{Value, json};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Namespace"),
    plural: Cow::Borrowed("namespaces"),
    singular: Cow::Borrowed("namespace"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("ns")]),
    scope: Scope::Cluster,
    schema: Cow::Borrowed("io.k8s.api.core.v1.Namespace"),
    subresources: &[Subresource::Status],
    name_rule: NameRule::Label,
    strategy: Strategy {
        default,
        prepare_create,
        prepare_update,
        validate,
        validate_status,
        mark_deleted,
        delete_collection: false,
        ..Strategy::PLAIN
    },
    columns: crate::printers::NAMESPACE,
    ..Resource::PLAIN
};

/// The label by which selectors find a namespace by its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

fn default(namespace: &mut Value) {
    let name = object::name(namespace).to_owned();
    if !name.is_empty() {
        object::map_mut(namespace, &["metadata", "labels"]).insert(NAME_LABEL.to_owned(), name.into());
    }
}

fn prepare_create(namespace: &mut Value) {
    let map = object::map_mut(namespace, &[]);
    map.insert("status".to_owned(), json!({ "phase": "Active" }));
    let spec = object::map_mut(namespace, &["spec"]);
    let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(finalizers) = finalizers.as_array_mut().filter(|list| !list.contains(&json!("kubernetes"))) {
        finalizers.push("kubernetes".into());
    }
}

/// `spec.finalizers` are taken away by the namespace's controller alone.
fn prepare_update(new: &mut Value, old: &Value) {
    if let Some(finalizers) = object::at(old, &["spec", "finalizers"]) {
        object::map_mut(new, &["spec"]).insert("finalizers".to_owned(), finalizers.clone());
    }
}

/// Faults of `spec.finalizers`.
fn validate(namespace: &Value) -> Vec<FieldError> {
    let finalizers = object::list(namespace, &["spec", "finalizers"]).iter().filter_map(Value::as_str);
    finalizers
        .flat_map(|finalizer| {
            let mut faults = validate::qualified_name_faults(finalizer);
            faults.extend(validate::short_finalizer_fault(finalizer).map(str::to_owned));
            faults.into_iter().map(move |fault| FieldError::invalid("spec.finalizers", finalizer, fault))
        })
        .collect()
}

/// A namespace ends by being deleted, and by nothing else.
fn validate_status(namespace: &Value) -> Vec<FieldError> {
    let phase = object::text(namespace, &["status", "phase"]);
    let (shall, detail) = match object::at(namespace, &["metadata", "deletionTimestamp"]) {
        None => ("Active", "may only be 'Active' if `deletionTimestamp` is empty"),
        Some(_) => ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty"),
    };
    if phase == shall { Vec::new() } else { vec![FieldError::invalid("status.Phase", phase, detail)] }
}

fn mark_deleted(namespace: &mut Value) -> bool {
    let status = object::map_mut(namespace, &["status"]);
    status.insert("phase".to_owned(), "Terminating".into());
    !object::list(namespace, &["spec", "finalizers"]).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    #[test]
    fn the_phase_follows_the_deletion() {
        let check = |meta: Value, phase: &str, expect: Expect| {
            let namespace = json!({ "metadata": meta, "status": { "phase": phase } });
            let texts: Vec<String> = validate_status(&namespace).iter().map(ToString::to_string).collect();
            expect.assert_eq(&texts.join("\n"));
        };
        let deleted = json!({ "deletionTimestamp": "2026-01-02T03:04:05Z" });
        check(json!({}), "Active", expect![""]);
        check(deleted.clone(), "Terminating", expect![""]);
        check(
            json!({}),
            "Terminating",
            expect![[
                r#"status.Phase: Invalid value: "Terminating": may only be 'Active' if `deletionTimestamp` is empty"#
            ]],
        );
        check(
            deleted,
            "Active",
            expect![[
                r#"status.Phase: Invalid value: "Active": may only be 'Terminating' if `deletionTimestamp` is not empty"#
            ]],
        );
    }
}
