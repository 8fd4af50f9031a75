//! What Pods and pod templates share: defaults, and checks of a pod's spec.

mod affinity;
mod container;
mod downward;
mod lifecycle;
mod names;
mod security;
mod spread;
mod volume;

pub(super) use affinity::label_selector;

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
    let grace_secs = object::integer(spec, &["terminationGracePeriodSeconds"]);
    let mut names = BTreeSet::new();
    for list in CONTAINER_LISTS {
        for (index, one) in object::list(spec, &[list]).iter().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            container::validate(one, &path, &volumes, &mut errors);
            security::of_container(one, spec, &format!("{path}.securityContext"), &mut errors);
            if list != "initContainers" || object::text(one, &["restartPolicy"]) == "Always" {
                lifecycle::validate(one, grace_secs, &path, &mut errors);
            } else {
                lifecycle::forbid(one, &path, &mut errors);
            }
            let name = object::text(one, &["name"]);
            if !name.is_empty() && !names.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), name));
            }
        }
    }
    container::host_ports(spec, path, &mut errors);
    container::host_network_ports(spec, path, &mut errors);
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, &mut errors);
    one_of(
        spec,
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        path,
        &mut errors,
    );
    one_of(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], path, &mut errors);
    errors.extend(validate::labels(object::map(spec, &["nodeSelector"]), &format!("{path}.nodeSelector")));
    if let Some(seconds) = object::integer(spec, &["activeDeadlineSeconds"])
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let path = format!("{path}.activeDeadlineSeconds");
        errors.push(FieldError::invalid(path, seconds, "must be between 1 and 2147483647, inclusive"));
    }
    for (key, is_label) in [
        ("hostname", true),
        ("subdomain", true),
        ("serviceAccountName", false),
        ("nodeName", false),
        ("priorityClassName", false),
        ("runtimeClassName", false),
    ] {
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
    if let Some(value) = object::at(spec, &["affinity"]) {
        affinity::validate(value, &format!("{path}.affinity"), &mut errors);
    }
    scheduling_gates(
        object::list(spec, &["schedulingGates"]),
        &format!("{path}.schedulingGates"),
        &mut errors,
    );
    security::of_pod(spec, path, &mut errors);
    names::dns(spec, path, &mut errors);
    names::host_aliases(object::list(spec, &["hostAliases"]), &format!("{path}.hostAliases"), &mut errors);
    for (index, gate) in object::list(spec, &["readinessGates"]).iter().enumerate() {
        let path = format!("{path}.readinessGates[{index}].conditionType");
        let condition = object::text(gate, &["conditionType"]);
        let faults = validate::qualified_name_faults(condition);
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path.as_str(), condition, fault)));
    }
    spread::validate(
        object::list(spec, &["topologySpreadConstraints"]),
        &format!("{path}.topologySpreadConstraints"),
        &mut errors,
    );
    hostname_override(spec, path, &mut errors);
    let overhead = object::map(spec, &["overhead"]);
    container::amounts(overhead, None, &format!("{path}.overhead"), &mut errors);
    let [limits, requests] = ["limits", "requests"].map(|which| object::map(spec, &["resources", which]));
    container::amounts(limits, requests, &format!("{path}.resources"), &mut errors);
    if let Some(os) = object::at(spec, &["os"]) {
        match object::text(os, &["name"]) {
            "" => errors.push(FieldError::required(format!("{path}.os.name"), "")),
            "linux" | "windows" => (),
            other => {
                errors.push(FieldError::not_supported(format!("{path}.os"), other, &["linux", "windows"]));
            }
        }
    }
    errors
}

/// A name that stands in the place of all others which the pod would have on itself.
fn hostname_override(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    const MAX_BYTES: usize = 64;
    let path = format!("{path}.hostnameOverride");
    let Some(name) = object::at(spec, &["hostnameOverride"]).and_then(Value::as_str) else { return };
    for key in ["setHostnameAsFQDN", "hostNetwork"] {
        if object::flag(spec, &[key]) {
            errors.push(FieldError::forbidden(
                path.as_str(),
                format!("may not be specified when {key} is true"),
            ));
        }
    }
    if name.len() > MAX_BYTES {
        errors.push(FieldError::too_long(path.as_str(), MAX_BYTES));
    }
    let faults = validate::dns1123_subdomain_faults(name);
    errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path.as_str(), name, fault)));
}

fn scheduling_gates(gates: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    let mut names = BTreeSet::new();
    for (index, gate) in gates.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let name = object::text(gate, &["name"]);
        let faults = validate::qualified_name_faults(name);
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path.as_str(), name, fault)));
        if !names.insert(name) {
            errors.push(FieldError::duplicate(path, name));
        }
    }
}

/// A fault when a text is set and none of `allowed`, which are told in their order.
pub(super) fn one_of(value: &Value, key: &str, allowed: &[&str], path: &str, errors: &mut Vec<FieldError>) {
    let text = object::text(value, &[key]);
    if !text.is_empty() && !allowed.contains(&text) {
        errors.push(FieldError::not_supported(format!("{path}.{key}"), text, allowed));
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
                errors.push(FieldError::invalid(format!("{path}.operator"), text("value"), detail));
            }
        }
        other => {
            let operators: &[&str] = if matches!(other, "Gt" | "Lt") {
                &["Equal", "Exists", "Lt", "Gt"]
            } else {
                &["Equal", "Exists"]
            };
            errors.push(FieldError::not_supported(format!("{path}.operator"), other, operators));
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
                spec.containers[1].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
                spec.containers[1].resources.requests[gold]: Invalid value: "gold": must be a standard resource for containers
                spec.containers[2].livenessProbe: Required value: must specify a handler type
                spec.containers[2].name: Duplicate value: "b"
                spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"
                spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
                spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys""#]],
        );
    }

    /// Faults of a spec with these containers, init containers or other fields, and nothing else wrong.
    fn check_part(part: Value, expect: Expect) {
        let container = json!({ "name": "c", "image": "c" });
        let mut spec =
            json!({ "securityContext": {}, "terminationGracePeriodSeconds": 30, "containers": [container] });
        for (key, value) in part.as_object().unwrap() {
            spec[key] = value.clone();
        }
        for list in CONTAINER_LISTS {
            for one in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                one["image"] = "i".into();
            }
        }
        check(&spec, expect);
    }

    #[test]
    fn how_a_pod_finds_names_is_looked_into() {
        check_part(
            json!({ "dnsPolicy": "None" }),
            expect!["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        );
        check_part(
            json!({ "dnsPolicy": "None", "dnsConfig": { "searches": ["A"] } }),
            expect![
                "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"
            ],
        );
        check_part(
            json!({
                "dnsConfig": { "nameservers": ["1.2.3.4", "x", "1.1.1.1", "2.2.2.2"], "searches": ["_a_b.c", ".", "A"],
                    "options": [{ "value": "3" }] },
                "hostAliases": [{ "ip": "x", "hostnames": ["a", "B"] }],
                "hostnameOverride": "A", "setHostnameAsFQDN": true,
            }),
            expect![[r#"
                spec.dnsConfig.nameservers: Invalid value: ["1.2.3.4","x","1.1.1.1","2.2.2.2"]: must not have more than 3 nameservers
                spec.dnsConfig.nameservers[1]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
                spec.dnsConfig.searches[2]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')
                spec.dnsConfig.options[0]: Required value: must not be empty
                spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
                spec.hostAliases[0].hostnames[1]: Invalid value: "B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true
                spec.hostnameOverride: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#]],
        );
    }

    #[test]
    fn what_a_pod_is_on_its_host_is_looked_into() {
        let of_container =
            |context: Value| json!({ "containers": [{ "name": "c", "securityContext": context }] });
        check_part(
            of_container(
                json!({ "privileged": true, "allowPrivilegeEscalation": false, "procMount": "Unmasked",
                "capabilities": { "add": ["NET_ADMIN", "CAP_SYS_ADMIN"] }, "runAsUser": -1 }),
            ),
            expect![[r#"
                spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
                spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`
                spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"capabilities":{"add":["NET_ADMIN","CAP_SYS_ADMIN"]},"privileged":true,"procMount":"Unmasked","runAsUser":-1}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
                spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"capabilities":{"add":["NET_ADMIN","CAP_SYS_ADMIN"]},"privileged":true,"procMount":"Unmasked","runAsUser":-1}: cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"#]],
        );
        check_part(
            of_container(json!({ "seccompProfile": { "type": "Localhost", "localhostProfile": "../a" },
                "appArmorProfile": { "type": "Unconfined", "localhostProfile": "a" } })),
            expect![[r#"
                spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: "../a": must not contain '..'
                spec.containers[0].securityContext.appArmorProfile.localhostProfile: Invalid value: "a": can only be set when AppArmor type is Localhost"#]],
        );
        check_part(
            json!({ "securityContext": { "fsGroup": 3_000_000_000_i64, "supplementalGroups": [1, -1], "fsGroupChangePolicy": "x",
                    "sysctls": [{ "name": "kernel.a" }, { "name": "kernel.a" }, { "name": "A" }],
                    "seccompProfile": { "localhostProfile": "a" }, "appArmorProfile": { "type": "Localhost" } },
                "hostUsers": false, "hostPID": true, "shareProcessNamespace": true, "os": { "name": "mac" } }),
            expect![[r#"
                spec.securityContext.fsGroup: Invalid value: 3000000000: must be between 0 and 2147483647, inclusive
                spec.securityContext.supplementalGroups[1]: Invalid value: -1: must be between 0 and 2147483647, inclusive
                spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled
                spec.securityContext.sysctls[1].name: Duplicate value: "kernel.a"
                spec.securityContext.sysctls[2].name: Invalid value: "A": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$
                spec.securityContext.fsGroupChangePolicy: Unsupported value: "x": supported values: "Always", "OnRootMismatch"
                spec.securityContext.seccompProfile.type: Required value: type is required when seccompProfile is set
                spec.securityContext.seccompProfile.localhostProfile: Invalid value: {"localhostProfile":"a"}: can only be set when seccomp type is Localhost
                spec.securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is Localhost
                spec.HostPID: Forbidden: when `hostUsers` is false
                spec.os: Unsupported value: "mac": supported values: "linux", "windows""#]],
        );
    }

    #[test]
    fn where_a_pod_may_be_is_looked_into() {
        let spread = |key: &str, action: &str| json!({ "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": action });
        let mut never = spread("a", "ScheduleAnyway");
        never["minDomains"] = 0.into();
        never["nodeTaintsPolicy"] = "x".into();
        never["labelSelector"] = json!({ "matchExpressions": [{ "key": "a", "operator": "In" }] });
        check_part(
            json!({
                "topologySpreadConstraints": [spread("a", "DoNotSchedule"), spread("a", "DoNotSchedule"), {}, never],
                "readinessGates": [{ "conditionType": "a b" }],
                "overhead": { "cpu": "-1" },
                "resources": { "requests": { "cpu": "2" }, "limits": { "cpu": "1" } },
                "tolerations": [{ "key": "a", "operator": "Gt", "value": "1" }, { "key": "a", "operator": "Exists", "value": "1" }],
            }),
            expect![[r#"
                spec.tolerations[0].operator: Unsupported value: "Gt": supported values: "Equal", "Exists", "Lt", "Gt"
                spec.tolerations[1].operator: Invalid value: "1": value must be empty when `operator` is 'Exists'
                spec.readinessGates[0].conditionType: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{a, DoNotSchedule}"
                spec.topologySpreadConstraints[2].maxSkew: Invalid value: 0: must be greater than zero
                spec.topologySpreadConstraints[2].topologyKey: Required value: can not be empty
                spec.topologySpreadConstraints[2].whenUnsatisfiable: Unsupported value: "": supported values: "DoNotSchedule", "ScheduleAnyway"
                spec.topologySpreadConstraints[3].minDomains: Invalid value: 0: must be greater than zero
                spec.topologySpreadConstraints[3].minDomains: Invalid value: 0: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway
                spec.topologySpreadConstraints[3].nodeTaintsPolicy: Unsupported value: "x": supported values: "Honor", "Ignore"
                spec.topologySpreadConstraints[3].labelSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
                spec.overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0
                spec.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#]],
        );
    }

    #[test]
    fn what_a_container_asks_for_is_looked_into() {
        check_part(
            json!({ "containers": [{ "name": "c",
                "resources": { "limits": { "a.io/x": "1.5", "a.io/y": "2" }, "requests": { "a.io/y": "1", "a.io/z": "1" } },
                "resizePolicy": [{ "resourceName": "gpu", "restartPolicy": "x" }],
                "volumeDevices": [{ "name": "x" }],
                "volumeMounts": [{ "name": "x", "mountPath": "/x", "mountPropagation": "Bidirectional" }],
                "livenessProbe": { "httpGet": { "port": 80, "httpHeaders": [{ "name": "a b" }] }, "terminationGracePeriodSeconds": 0 },
                "readinessProbe": { "tcpSocket": { "port": 80 }, "terminationGracePeriodSeconds": 5 } }] }),
            expect![[r#"
                spec.containers[0].volumeMounts[0].name: Not found: "x"
                spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers
                spec.containers[0].volumeDevices[0].name: Not found: "x"
                spec.containers[0].volumeDevices[0].devicePath: Required value
                spec.containers[0].resources.limits[a.io/x]: Invalid value: "1.5": must be an integer
                spec.containers[0].resources.requests: Invalid value: "1": must be equal to a.io/y limit of 2
                spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources
                spec.containers[0].resizePolicy: Unsupported value: "gpu": supported values: "cpu", "memory"
                spec.containers[0].resizePolicy: Unsupported value: "x": supported values: "NotRequired", "RestartContainer"
                spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')
                spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0
                spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes"#]],
        );
        check_part(
            json!({ "hostNetwork": true,
                "containers": [{ "name": "c", "ports": [{ "containerPort": 80, "hostPort": 81, "protocol": "TCP" }] }] }),
            expect![
                "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"
            ],
        );
    }

    #[test]
    fn an_init_container_is_neither_probed_nor_hooked_unless_it_stays() {
        let probed = |policy: Value| {
            json!({ "name": "i", "restartPolicy": policy, "readinessProbe": { "tcpSocket": { "port": 80 } },
                "livenessProbe": { "tcpSocket": { "port": 80 } }, "startupProbe": { "tcpSocket": { "port": 80 } },
                "lifecycle": { "preStop": { "sleep": { "seconds": 1 } } } })
        };
        check_part(json!({ "initContainers": [probed(json!("Always"))] }), expect![""]);
        check_part(
            json!({ "initContainers": [probed(Value::Null)] }),
            expect![[r#"
            spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always
            spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
            spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
            spec.initContainers[0].startupProbe: Forbidden: may not be set for init containers without restartPolicy=Always"#]],
        );
        check_part(
            json!({ "initContainers": [{ "name": "i", "restartPolicy": "Sometimes" }],
                "containers": [{ "name": "c", "restartPolicyRules": [{ "action": "Restart" }] }] }),
            expect![[r#"
                spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used
                spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified
                spec.initContainers[0].restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure""#]],
        );
    }

    #[test]
    fn hooks_probes_variables_and_mounts_are_looked_into() {
        check_part(
            json!({ "containers": [{ "name": "c",
                "livenessProbe": { "httpGet": { "port": 80, "scheme": "FOO" } },
                "lifecycle": { "preStop": { "sleep": { "seconds": -5 } }, "postStart": { "sleep": { "seconds": 31 } } } }] }),
            expect![[r#"
                spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "FOO": supported values: "HTTP", "HTTPS"
                spec.containers[0].lifecycle.postStart.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)
                spec.containers[0].lifecycle.preStop.sleep: Invalid value: -5: must be non-negative and less than terminationGracePeriodSeconds (30)"#]],
        );
        check_part(
            json!({ "volumes": [{ "name": "v", "emptyDir": {} }], "containers": [{ "name": "c",
                "env": [
                    { "name": "A", "valueFrom": { "resourceFieldRef": { "resource": "foo" } } },
                    { "name": "B", "valueFrom": { "resourceFieldRef": { "resource": "limits.cpu", "divisor": "2" } } },
                    { "name": "C", "valueFrom": { "resourceFieldRef": { "resource": "limits.memory", "divisor": "1Mi" } } },
                    { "name": "D", "valueFrom": { "fieldRef": { "fieldPath": "status.phase" } } },
                    { "name": "E", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['a b']" } } },
                    { "name": "F", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['a']" } } },
                    { "name": "G", "valueFrom": { "fieldRef": { "fieldPath": "spec['a']" } } },
                ],
                "volumeMounts": [{ "name": "v", "mountPath": "/a", "subPath": "a", "subPathExpr": "/$(A)" }] }] }),
            expect![[r#"
                spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "foo": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"
                spec.containers[0].env[1].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource
                spec.containers[0].env[3].valueFrom.fieldRef.fieldPath: Unsupported value: "status.phase": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"
                spec.containers[0].env[4].valueFrom.fieldRef: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                spec.containers[0].env[6].valueFrom.fieldRef.fieldPath: Invalid value: "spec['a']": error converting fieldPath: field label does not support subscript: spec['a']
                spec.containers[0].volumeMounts[0].subPathExpr: Invalid value: "/$(A)": subPathExpr and subPath are mutually exclusive
                spec.containers[0].volumeMounts.subPathExpr: Invalid value: "/$(A)": must be a relative path"#]],
        );
    }

    #[test]
    fn affinity_is_looked_into() {
        let required = |terms: Value| {
            json!({ "affinity": { "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } } })
        };
        check_part(
            required(json!([])),
            expect![
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term"
            ],
        );
        check_part(
            required(json!([{ "matchExpressions": [
                { "key": "a", "operator": "Foo" }, { "key": "a", "operator": "In" }, { "key": "a", "operator": "Gt" },
                { "key": "a", "operator": "Exists", "values": ["x"] }, { "key": "", "operator": "Exists" },
                { "key": "a", "operator": "In", "values": ["a b"] }, { "key": "a", "operator": "Lt", "values": ["4"] },
            ] }, { "matchFields": [
                { "key": "metadata.name", "operator": "In", "values": ["n"] }, { "key": "spec", "operator": "Exists" },
                { "key": "metadata.name", "operator": "In", "values": [] },
            ] }])),
            expect![[r#"
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator: Invalid value: "Foo": not a valid selector operator
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[1].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[2].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[3].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[4].key: Invalid value: "": name part must be non-empty
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[4].key: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[5].values[0]: Invalid value: "a b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[1].matchFields[1].operator: Invalid value: "Exists": not a valid selector operator
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[1].matchFields[1].key: Invalid value: "spec": not a valid field selector key
                spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[1].matchFields[2].values: Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field selector"#]],
        );
        let term = json!({ "topologyKey": "", "labelSelector": { "matchExpressions": [{ "key": "a", "operator": "Gt", "values": ["1"] }] } });
        check_part(
            json!({ "affinity": {
                "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
                    { "weight": 101, "preference": { "matchExpressions": [{ "key": "a", "operator": "In", "values": ["a b"] }] } },
                    { "weight": 1, "preference": {} } ] },
                "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{ "topologyKey": "kubernetes.io/hostname" }, term] },
                "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 0, "podAffinityTerm": { "topologyKey": "a" } }] },
            } }),
            expect![[r#"
                spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100
                spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[1].labelSelector.matchExpressions[0].operator: Invalid value: "Gt": not a valid selector operator
                spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[1].topologyKey: Required value: can not be empty
                spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[1].topologyKey: Invalid value: "": name part must be non-empty
                spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[1].topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100"#]],
        );
    }

    #[test]
    fn files_stay_below_their_volume_and_name_what_there_is() {
        let field = |path: &str, field: &str| json!({ "path": path, "fieldRef": { "fieldPath": field } });
        check_part(
            json!({ "volumes": [
                { "name": "a", "downwardAPI": { "items": [
                    field("../x", "metadata.name"), field("/x", "spec.foo"), field("x", "spec.nodeName"), { "path": "" },
                    { "path": "cpu", "mode": 1000, "resourceFieldRef": { "resource": "limits.cpu" } },
                    field("labels", "metadata.labels"),
                ] } },
                { "name": "b", "projected": { "sources": [
                    { "configMap": { "items": [{ "key": "a", "path": "/a" }] } },
                    { "secret": { "name": "s", "items": [{ "key": "", "path": "..a" }, { "key": "b", "path": "same" }] } },
                    { "downwardAPI": { "items": [field("same", "metadata.uid")] } },
                    { "secret": { "name": "s" }, "configMap": { "name": "c" } },
                    { "serviceAccountToken": { "path": "../t", "expirationSeconds": 60 } },
                ] } },
            ] }),
            expect![[r#"
                spec.volumes[0].downwardAPI.path: Invalid value: "../x": must not contain '..'
                spec.volumes[0].downwardAPI.path: Invalid value: "/x": must be a relative path
                spec.volumes[0].downwardAPI.fieldRef.fieldPath: Invalid value: "spec.foo": error converting fieldPath: field label not supported: spec.foo
                spec.volumes[0].downwardAPI.fieldRef.fieldPath: Unsupported value: "spec.nodeName": supported values: "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"
                spec.volumes[0].downwardAPI.path: Required value
                spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required
                spec.volumes[0].downwardAPI.mode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive
                spec.volumes[0].downwardAPI.resourceFieldRef.containerName: Required value
                spec.volumes[1].projected.sources[0].configMap.name: Required value
                spec.volumes[1].projected.sources[0].configMap.items[0].path: Invalid value: "/a": must be a relative path
                spec.volumes[1].projected.sources[1].secret.items[0].key: Required value
                spec.volumes[1].projected.sources[1].secret.items[0].path: Invalid value: "..a": must not start with '..'
                spec.volumes[1].projected: Invalid value: "same": conflicting duplicate paths
                spec.volumes[1].projected.sources[3]: Forbidden: may not specify more than 1 volume type per source
                spec.volumes[1].projected.sources[4].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes
                spec.volumes[1].projected.path: Invalid value: "../t": must not contain '..'"#]],
        );
    }

    #[test]
    fn gates_have_names_of_their_own() {
        check_part(
            json!({ "schedulingGates": [{ "name": "a/b" }, { "name": "a/b" }, { "name": "" }] }),
            expect![[r#"
                spec.schedulingGates[1]: Duplicate value: "a/b"
                spec.schedulingGates[2]: Invalid value: "": name part must be non-empty
                spec.schedulingGates[2]: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#]],
        );
    }
}
