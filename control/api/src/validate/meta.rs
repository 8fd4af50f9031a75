//! Checks of the metadata that every object has.

use super::{FieldError, label_value_faults, qualified_name_faults};
use crate::object;
use crate::resource::{NameRule, Resource, Scope};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Most bytes of all annotations together, upstream's.
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// Faults of `metadata`.
pub fn object_meta(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let name = object::name(object);
    let prefix = object::generate_name(object);
    let faults_of_name = |name: &str| match resource.name_rule {
        NameRule::Subdomain => super::dns1123_subdomain_faults(name),
        NameRule::Label => super::dns1123_label_faults(name),
        NameRule::PathSegment => super::path_segment_faults(name),
    };
    if !prefix.is_empty() {
        // A prefix may end where no whole name may.
        let masked = format!("{}a", prefix.trim_end_matches('-'));
        errors.extend(
            faults_of_name(&masked)
                .into_iter()
                .map(|fault| FieldError::invalid("metadata.generateName", prefix, fault)),
        );
    }
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        errors.extend(
            faults_of_name(name).into_iter().map(|fault| FieldError::invalid("metadata.name", name, fault)),
        );
    }
    let namespace = object::namespace(object);
    if resource.scope == Scope::Namespaced {
        if namespace.is_empty() {
            errors.push(FieldError::required("metadata.namespace", ""));
        } else {
            errors.extend(
                super::dns1123_label_faults(namespace)
                    .into_iter()
                    .map(|fault| FieldError::invalid("metadata.namespace", namespace, fault)),
            );
        }
    }
    errors.extend(labels(object::labels(object), "metadata.labels"));
    errors.extend(annotations(object::annotations(object), "metadata.annotations"));
    errors.extend(owners(object));
    errors.extend(finalizers(object));
    if !resource.strategy.free_finalizers {
        errors.extend(short_finalizers(object));
    }
    errors
}

/// Faults of labels: keys and values.
pub fn labels(labels: Option<&Map<String, Value>>, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.into_iter().flatten() {
        errors.extend(
            qualified_name_faults(key)
                .into_iter()
                .map(|fault| fault.replace("a qualified name must", "a valid label key must"))
                .map(|fault| FieldError::invalid(path, key.as_str(), fault)),
        );
        let value = value.as_str().unwrap_or("");
        errors.extend(
            label_value_faults(value).into_iter().map(|fault| FieldError::invalid(path, value, fault)),
        );
    }
    errors
}

/// Faults of annotations: keys, and the size of all together.
pub fn annotations(annotations: Option<&Map<String, Value>>, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in annotations.into_iter().flatten() {
        let faults = qualified_name_faults(&key.to_lowercase());
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, key.as_str(), fault)));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > MAX_ANNOTATION_BYTES {
        errors.push(FieldError::too_long(path, MAX_ANNOTATION_BYTES));
    }
    errors
}

fn owners(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controllers: Vec<String> = Vec::new();
    for owner in object::owner_references(object) {
        let path = "metadata.ownerReferences";
        for (key, detail) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            let value = object::text(owner, &[key]);
            if value.is_empty() {
                errors.push(FieldError::invalid(format!("{path}.{key}"), value, detail));
            }
        }
        if object::api_version(owner) == "v1" && object::kind(owner) == "Event" {
            errors.push(FieldError::invalid(
                path,
                owner.clone(),
                "/v1, Kind=Event is disallowed from being an owner",
            ));
        }
        if object::flag(owner, &["controller"]) {
            controllers.push(format!("{}/{}", object::kind(owner), object::text(owner, &["name"])));
        }
    }
    if let [first, second, ..] = controllers.as_slice() {
        errors.push(FieldError::invalid(
            "metadata.ownerReferences",
            Value::Array(object::owner_references(object).to_vec()),
            format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
            ),
        ));
    }
    errors
}

fn finalizers(object: &Value) -> Vec<FieldError> {
    let path = "metadata.finalizers";
    let mut errors = Vec::new();
    let mut ends = [false; 2];
    for finalizer in object::finalizers(object) {
        errors.extend(
            qualified_name_faults(finalizer)
                .into_iter()
                .map(|fault| FieldError::invalid(path, finalizer, fault)),
        );
        ends[0] |= finalizer == "orphan";
        ends[1] |= finalizer == "foregroundDeletion";
    }
    if ends == [true, true] {
        errors.push(FieldError::invalid(
            path,
            Value::Array(object::list(object, &["metadata", "finalizers"]).to_vec()),
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
    errors
}

/// A fault of a finalizer without a domain, which could be anybody's: there are few that everybody knows.
pub fn short_finalizer_fault(finalizer: &str) -> Option<&'static str> {
    let is_known = matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion");
    (!finalizer.contains('/') && !is_known)
        .then_some("name is neither a standard finalizer name nor is it fully qualified")
}

fn short_finalizers(object: &Value) -> Vec<FieldError> {
    let finalizers = object::finalizers(object).enumerate();
    finalizers
        .filter_map(|(index, finalizer)| {
            let detail = short_finalizer_fault(finalizer)?;
            Some(FieldError::invalid(format!("metadata.finalizers[{index}]"), finalizer, detail))
        })
        .collect()
}

/// Faults of a change of `metadata`: what is not the server's own, and may still not change.
pub fn update_meta(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if object::deletion_timestamp(old).is_some() {
        let before: BTreeSet<&str> = object::finalizers(old).collect();
        let added: Vec<&str> = object::finalizers(new).filter(|one| !before.contains(one)).collect();
        if !added.is_empty() {
            let quoted: Vec<String> = added.iter().map(|one| format!("{one:?}")).collect();
            errors.push(FieldError::forbidden(
                "metadata.finalizers",
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    quoted.join(", ")
                ),
            ));
        }
    }
    errors
}

/// A fault when a field that may not change has changed.
pub fn immutable(new: &Value, old: &Value, path: &[&str]) -> Option<FieldError> {
    let (is, was) = (object::at(new, path), object::at(old, path));
    (is != was)
        .then(|| FieldError::invalid(path.join("."), is.cloned().unwrap_or(Value::Null), super::IMMUTABLE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Resources;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(plural: &str, meta: Value, expect: Expect) {
        let resources = Resources::built_in();
        let row = resources.iter().find(|row| row.plural == plural).unwrap();
        let mut object = json!({ "metadata": meta });
        object["metadata"]["name"] = "a".into();
        object["metadata"]["namespace"] = "b".into();
        let texts: Vec<String> = object_meta(row, &object).iter().map(ToString::to_string).collect();
        expect.assert_eq(&texts.join("\n"));
    }

    #[test]
    fn a_finalizer_is_a_standard_one_or_has_a_domain() {
        check(
            "configmaps",
            json!({ "finalizers": ["orphan", "example.com/a", "kubernetes", "foo"] }),
            expect![[
                r#"metadata.finalizers[3]: Invalid value: "foo": name is neither a standard finalizer name nor is it fully qualified"#
            ]],
        );
        // As upstream has it of this kind.
        check("leases", json!({ "finalizers": ["foo"] }), expect![[""]]);
        check(
            "configmaps",
            json!({ "finalizers": ["orphan", "foregroundDeletion"] }),
            expect![[
                r#"metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set"#
            ]],
        );
    }
}
