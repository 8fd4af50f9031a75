//! What Pods and pod templates share: defaults, and checks of a pod's spec.

mod container;
mod volume;

use crate::object;
use crate::validate::{self, FieldError};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

pub(super) const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Defaults that depend on other fields of the spec.
pub(super) fn default(spec: &mut Value) {
    let Some(map) = spec.as_object_mut() else { return };
    let account = ["serviceAccountName", "serviceAccount"]
        .iter()
        .find_map(|key| map.get(*key)?.as_str().filter(|name| !name.is_empty()).map(str::to_owned));
    if let Some(account) = account {
        set_service_account(map, &account);
    }
    for list in CONTAINER_LISTS {
        for container in map.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let policy = pull_policy(object::text(container, &["image"]));
            let Some(container) = container.as_object_mut() else { continue };
            set_absent(container, "imagePullPolicy", || policy.into());
        }
    }
    for volume in map.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(volume) = volume.as_object_mut().filter(|volume| volume.keys().all(|key| key == "name")) {
            volume.insert("emptyDir".to_owned(), json!({}));
        }
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both say the same.
pub(super) fn set_service_account(spec: &mut Map<String, Value>, name: &str) {
    spec.insert("serviceAccountName".to_owned(), name.into());
    spec.insert("serviceAccount".to_owned(), name.into());
}

/// Puts a value where there is none, or an empty text.
pub(super) fn set_absent(map: &mut Map<String, Value>, key: &str, value: impl FnOnce() -> Value) {
    let absent = match map.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    };
    if absent {
        map.insert(key.to_owned(), value());
    }
}

/// An image without a tag, or with the tag `latest`, is looked for anew each time.
fn pull_policy(image: &str) -> &'static str {
    if image.is_empty() || image.contains('@') {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        None | Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

/// Faults of a pod's spec at `path`.
pub(super) fn validate(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let volumes = volume::validate(object::list(spec, &["volumes"]), &format!("{path}.volumes"), &mut errors);
    if object::list(spec, &["containers"]).is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let mut names = BTreeSet::new();
    for list in CONTAINER_LISTS {
        for (index, one) in object::list(spec, &[list]).iter().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            container::validate(one, &path, &volumes, &mut errors);
            let name = object::text(one, &["name"]);
            if !name.is_empty() && !names.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), name));
            }
        }
    }
    container::host_ports(spec, path, &mut errors);
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, &mut errors);
    one_of(
        spec,
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        path,
        &mut errors,
    );
    one_of(spec, "preemptionPolicy", &["Never", "PreemptLowerPriority"], path, &mut errors);
    errors.extend(validate::labels(object::map(spec, &["nodeSelector"]), &format!("{path}.nodeSelector")));
    if let Some(seconds) = object::integer(spec, &["activeDeadlineSeconds"])
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let path = format!("{path}.activeDeadlineSeconds");
        errors.push(FieldError::invalid(path, seconds, "must be between 1 and 2147483647, inclusive"));
    }
    for (key, is_label) in
        [("hostname", true), ("subdomain", true), ("serviceAccountName", false), ("nodeName", false)]
    {
        let text = object::text(spec, &[key]);
        if text.is_empty() {
            continue;
        }
        let faults = if is_label {
            validate::dns1123_label_faults(text)
        } else {
            validate::dns1123_subdomain_faults(text)
        };
        errors.extend(
            faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.{key}"), text, fault)),
        );
    }
    for (index, toleration) in object::list(spec, &["tolerations"]).iter().enumerate() {
        validate_toleration(toleration, &format!("{path}.tolerations[{index}]"), &mut errors);
    }
    if object::at(spec, &["securityContext"]).is_none() {
        errors.push(FieldError::required(format!("{path}.securityContext"), ""));
    }
    errors
}

/// A fault when a text is set and none of `allowed`.
pub(super) fn one_of(value: &Value, key: &str, allowed: &[&str], path: &str, errors: &mut Vec<FieldError>) {
    let text = object::text(value, &[key]);
    if !text.is_empty() && !allowed.contains(&text) {
        let mut sorted = allowed.to_vec();
        sorted.sort_unstable();
        errors.push(FieldError::not_supported(format!("{path}.{key}"), text, &sorted));
    }
}

fn validate_toleration(toleration: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let text = |key| object::text(toleration, &[key]);
    let key = text("key");
    if !key.is_empty() {
        let faults = validate::qualified_name_faults(key);
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.key"), key, fault)));
    }
    let operator = text("operator");
    if key.is_empty() && operator != "Exists" {
        let detail =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.push(FieldError::invalid(format!("{path}.operator"), operator, detail));
    }
    if object::at(toleration, &["tolerationSeconds"]).is_some() && text("effect") != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.push(FieldError::invalid(format!("{path}.effect"), text("effect"), detail));
    }
    match operator {
        "" | "Equal" => {
            let value = text("value");
            let faults = validate::label_value_faults(value);
            if !faults.is_empty() {
                errors.push(FieldError::invalid(format!("{path}.operator"), value, faults.join(";")));
            }
        }
        "Exists" => {
            if !text("value").is_empty() {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(format!("{path}.operator"), toleration.clone(), detail));
            }
        }
        other => {
            errors.push(FieldError::not_supported(format!("{path}.operator"), other, &["Equal", "Exists"]));
        }
    }
    one_of(toleration, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"], path, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    pub(super) fn check(spec: &Value, expect: Expect) {
        let texts: Vec<String> = validate(spec, "spec").iter().map(ToString::to_string).collect();
        expect.assert_eq(&texts.join("\n"));
    }

    #[test]
    fn the_pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("web", "Always"),
            ("web:latest", "Always"),
            ("web:1", "IfNotPresent"),
            ("registry:5000/web", "Always"),
            ("registry:5000/web:1", "IfNotPresent"),
            ("web@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn every_fault_of_a_spec_is_told() {
        check(
            &json!({
                "securityContext": {}, "restartPolicy": "Sometimes", "activeDeadlineSeconds": 0,
                "volumes": [{ "name": "a", "emptyDir": {} }, { "name": "a", "emptyDir": {}, "hostPath": { "path": "" } }],
                "containers": [
                    { "name": "A", "ports": [{ "containerPort": 70000, "protocol": "tcp" }] },
                    { "name": "b", "image": "b", "volumeMounts": [{ "name": "z", "mountPath": "/z" }],
                      "env": [{ "name": "A=B" }, { "name": "C", "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "spec.foo" } } }],
                      "resources": { "requests": { "cpu": "2", "gold": "1" }, "limits": { "cpu": "1" } } },
                    { "name": "b", "image": "b", "livenessProbe": {} },
                ],
                "tolerations": [{ "operator": "Equal" }],
            }),
            expect![[r#"
                spec.volumes[1].hostPath: Forbidden: may not specify more than 1 volume type
                spec.volumes[1].name: Duplicate value: "a"
                spec.containers[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.containers[0].image: Required value
                spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
                spec.containers[0].ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"
                spec.containers[1].env[0].name: Invalid value: "A=B": a valid environment variable name must consist only of printable ASCII characters other than '='
                spec.containers[1].env[1].valueFrom.fieldRef.fieldPath: Invalid value: "spec.foo": error converting fieldPath: field label not supported: spec.foo
                spec.containers[1].volumeMounts[0].name: Not found: "z"
                spec.containers[1].resources.requests[gold]: Invalid value: "gold": must be a standard resource type or fully qualified
                spec.containers[1].resources.requests[gold]: Invalid value: "gold": must be a standard resource for containers
                spec.containers[1].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
                spec.containers[2].livenessProbe: Required value: must specify a handler type
                spec.containers[2].name: Duplicate value: "b"
                spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"
                spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
                spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys""#]],
        );
    }
}
