//! Checks of one container.

use super::downward::{self, Reader};
use super::one_of;
use crate::object;
use crate::validate::{self, FieldError};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Faults of a container at `path`, in a pod with these volumes; how it is probed and hooked is not looked at.
pub(super) fn validate(
    container: &Value,
    path: &str,
    volumes: &BTreeSet<&str>,
    errors: &mut Vec<FieldError>,
) {
    let name = object::text(container, &["name"]);
    if name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    } else {
        let faults = validate::dns1123_label_faults(name);
        errors
            .extend(faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.name"), name, fault)));
    }
    let image = object::text(container, &["image"]);
    if image.is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    }
    one_of(container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    one_of(container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, errors);
    ports(object::list(container, &["ports"]), &format!("{path}.ports"), errors);
    for (index, variable) in object::list(container, &["env"]).iter().enumerate() {
        env(variable, &format!("{path}.env[{index}]"), errors);
    }
    for (index, source) in object::list(container, &["envFrom"]).iter().enumerate() {
        env_from(source, &format!("{path}.envFrom"), index, errors);
    }
    mounts(container, &format!("{path}.volumeMounts"), volumes, errors);
    devices(container, path, volumes, errors);
    resources(container, &format!("{path}.resources"), errors);
    resize_policy(container, path, errors);
    one_of(container, "restartPolicy", &["Always", "Never", "OnFailure"], path, errors);
    let has_rules = !object::list(container, &["restartPolicyRules"]).is_empty();
    if has_rules && object::text(container, &["restartPolicy"]).is_empty() {
        let detail = "must specify restartPolicy when restart rules are used";
        errors.push(FieldError::required(format!("{path}.restartPolicy"), detail));
    }
    for (index, rule) in object::list(container, &["restartPolicyRules"]).iter().enumerate() {
        restart_rule(rule, &format!("{path}.restartPolicyRules[{index}]"), errors);
    }
}

/// What is done when a resource of a running container is changed.
fn resize_policy(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    const RESOURCES: [&str; 2] = ["cpu", "memory"];
    const POLICIES: [&str; 2] = ["NotRequired", "RestartContainer"];
    let path = format!("{path}.resizePolicy");
    let mut seen = BTreeSet::new();
    for (index, rule) in object::list(container, &["resizePolicy"]).iter().enumerate() {
        let [name, policy] = ["resourceName", "restartPolicy"].map(|key| object::text(rule, &[key]));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}[{index}]"), name));
        }
        for (value, allowed) in [(name, &RESOURCES), (policy, &POLICIES)] {
            match value {
                "" => errors.push(FieldError::required(path.as_str(), "")),
                value if allowed.contains(&value) => (),
                value => errors.push(FieldError::not_supported(path.as_str(), value, allowed)),
            }
        }
    }
}

fn devices(container: &Value, path: &str, volumes: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    for (index, device) in object::list(container, &["volumeDevices"]).iter().enumerate() {
        let path = format!("{path}.volumeDevices[{index}]");
        let name = object::text(device, &["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
        if !volumes.contains(name) {
            errors.push(FieldError::not_found(format!("{path}.name"), name));
        }
        if object::text(device, &["devicePath"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.devicePath"), ""));
        }
    }
}

fn restart_rule(rule: &Value, path: &str, errors: &mut Vec<FieldError>) {
    const ACTIONS: [&str; 2] = ["Restart", "RestartAllContainers"];
    const OPERATORS: [&str; 2] = ["In", "NotIn"];
    let action = object::text(rule, &["action"]);
    if !ACTIONS.contains(&action) {
        errors.push(FieldError::not_supported(format!("{path}.action"), action, &ACTIONS));
    }
    let Some(codes) = object::at(rule, &["exitCodes"]) else {
        errors.push(FieldError::required(format!("{path}.exitCodes"), "must be specified"));
        return;
    };
    let operator = object::text(codes, &["operator"]);
    if !OPERATORS.contains(&operator) {
        errors.push(FieldError::not_supported(format!("{path}.exitCodes.operator"), operator, &OPERATORS));
    }
}

fn ports(ports: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let name = object::text(port, &["name"]);
        if !name.is_empty() {
            let faults = validate::port_name_faults(name);
            let is_well_formed = faults.is_empty();
            errors.extend(
                faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.name"), name, fault)),
            );
            if is_well_formed && !names.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), name));
            }
        }
        match object::integer(port, &["containerPort"]).unwrap_or(0) {
            0 => errors.push(FieldError::required(format!("{path}.containerPort"), "")),
            number => port_number(number, &format!("{path}.containerPort"), errors),
        }
        if let Some(number) = object::integer(port, &["hostPort"]).filter(|number| *number != 0) {
            port_number(number, &format!("{path}.hostPort"), errors);
        }
        match object::text(port, &["protocol"]) {
            "" => errors.push(FieldError::required(format!("{path}.protocol"), "")),
            _ => errors.extend(validate::protocol_fault(port, &path)),
        }
    }
}

pub(super) fn port_number(number: i64, path: &str, errors: &mut Vec<FieldError>) {
    let faults = validate::port_number_faults(number);
    errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, number, fault)));
}

/// A port of the host may be asked for once in a pod.
pub(super) fn host_ports(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut taken = BTreeSet::new();
    for (index, container) in object::list(spec, &["containers"]).iter().enumerate() {
        for (n_port, port) in object::list(container, &["ports"]).iter().enumerate() {
            let Some(number) = object::integer(port, &["hostPort"]).filter(|number| *number != 0) else {
                continue;
            };
            let protocol = object::text(port, &["protocol"]);
            let ip = object::text(port, &["hostIP"]);
            if !taken.insert((protocol, ip, number)) {
                let shown = if ip.is_empty() {
                    format!("{protocol}//{number}")
                } else {
                    format!("{protocol}/{ip}/{number}")
                };
                let path = format!("{path}.containers[{index}].ports[{n_port}].hostPort");
                errors.push(FieldError::duplicate(path, shown));
            }
        }
    }
}

/// On the host's network a port is the host's port.
pub(super) fn host_network_ports(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if !object::flag(spec, &["hostNetwork"]) {
        return;
    }
    for (index, container) in object::list(spec, &["containers"]).iter().enumerate() {
        for (n_port, port) in object::list(container, &["ports"]).iter().enumerate() {
            let [outside, inside] =
                ["hostPort", "containerPort"].map(|key| object::integer(port, &[key]).unwrap_or(0));
            if outside != 0 && outside != inside {
                let path = format!("{path}.containers[{index}].ports[{n_port}].hostPort");
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(path, outside, detail));
            }
        }
    }
}

fn env(variable: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let name = object::text(variable, &["name"]);
    if name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    } else {
        let faults = validate::env_name_faults(name);
        errors
            .extend(faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.name"), name, fault)));
    }
    let Some(source) = object::at(variable, &["valueFrom"]) else { return };
    let path = format!("{path}.valueFrom");
    let n_sources = source.as_object().map_or(0, Map::len);
    if n_sources == 0 {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(FieldError::invalid(path.clone(), "", detail));
    } else if !object::text(variable, &["value"]).is_empty() {
        errors.push(FieldError::invalid(path.clone(), "", "may not be specified when `value` is not empty"));
    } else if n_sources > 1 {
        errors.push(FieldError::invalid(
            path.clone(),
            "",
            "may not have more than one field specified at a time",
        ));
    }
    downward::references(source, Reader::Environment, &path, errors);
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = object::at(source, &[kind]) {
            let path = format!("{path}.{kind}");
            object_name(object::text(reference, &["name"]), &path, errors);
            let key = object::text(reference, &["key"]);
            if key.is_empty() {
                errors.push(FieldError::required(format!("{path}.key"), ""));
            } else {
                let faults = validate::config_key_faults(key);
                errors.extend(
                    faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.key"), key, fault)),
                );
            }
        }
    }
}

/// Upstream does not say which of the sources is of no kind, or of two.
fn object_name(name: &str, path: &str, errors: &mut Vec<FieldError>) {
    let faults = validate::dns1123_subdomain_faults(name);
    errors.extend(faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.name"), name, fault)));
}

fn env_from(source: &Value, list_path: &str, index: usize, errors: &mut Vec<FieldError>) {
    let path = format!("{list_path}[{index}]");
    let prefix = object::text(source, &["prefix"]);
    if !prefix.is_empty() {
        let faults = validate::env_name_faults(prefix);
        errors.extend(
            faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.prefix"), prefix, fault)),
        );
    }
    let kinds: Vec<&str> = ["configMapRef", "secretRef"]
        .into_iter()
        .filter(|kind| object::at(source, &[kind]).is_some())
        .collect();
    match kinds.as_slice() {
        [] => {
            errors.push(FieldError::invalid(
                list_path,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ));
        }
        [kind] => match object::text(source, &[kind, "name"]) {
            "" => errors.push(FieldError::required(format!("{path}.{kind}.name"), "")),
            name => object_name(name, &format!("{path}.{kind}"), errors),
        },
        _ => {
            errors.push(FieldError::invalid(
                list_path,
                "",
                "may not have more than one field specified at a time",
            ));
        }
    }
}

fn mounts(container: &Value, list_path: &str, volumes: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    let is_privileged = object::flag(container, &["securityContext", "privileged"]);
    let mut places = BTreeSet::new();
    for (index, mount) in object::list(container, &["volumeMounts"]).iter().enumerate() {
        let path = format!("{list_path}[{index}]");
        let name = object::text(mount, &["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
        if !volumes.contains(name) {
            errors.push(FieldError::not_found(format!("{path}.name"), name));
        }
        let place = object::text(mount, &["mountPath"]);
        if place.is_empty() {
            errors.push(FieldError::required(format!("{path}.mountPath"), ""));
        }
        if !places.insert(place) {
            errors.push(FieldError::invalid(format!("{path}.mountPath"), place, "must be unique"));
        }
        let [part, expression] = ["subPath", "subPathExpr"].map(|key| object::text(mount, &[key]));
        if !part.is_empty() && !expression.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(format!("{path}.subPathExpr"), expression, detail));
        }
        // Upstream does not say of which of the mounts these are.
        super::volume::relative(part, &format!("{list_path}.subPath"), errors);
        super::volume::relative(expression, &format!("{list_path}.subPathExpr"), errors);
        let modes = ["Bidirectional", "HostToContainer", "None"];
        one_of(mount, "mountPropagation", &modes, list_path, errors);
        if object::text(mount, &["mountPropagation"]) == "Bidirectional" && !is_privileged {
            let detail = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(FieldError::forbidden(format!("{list_path}.mountPropagation"), detail));
        }
    }
}

fn resources(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let [limits, requests] =
        ["limits", "requests"].map(|which| object::map(container, &["resources", which]));
    amounts(limits, requests, path, errors);
    for (which, list) in [("limits", limits), ("requests", requests)] {
        for name in list.into_iter().flatten().map(|(name, _)| name).filter(|name| !is_known(name)) {
            let detail = "must be a standard resource for containers";
            errors.push(FieldError::invalid(format!("{path}.{which}[{name}]"), name.as_str(), detail));
        }
    }
}

/// Faults of what may be used, and what is asked for of it.
pub(super) fn amounts(
    limits: Option<&Map<String, Value>>,
    requests: Option<&Map<String, Value>>,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    for (which, list) in [("limits", limits), ("requests", requests)] {
        for (name, value) in list.into_iter().flatten() {
            let path = format!("{path}.{which}[{name}]");
            resource_name(name, &path, errors);
            let Ok(quantity) = validate::quantity(value) else { continue };
            if quantity.is_negative() {
                errors.push(FieldError::invalid(path.as_str(), value.clone(), validate::NEGATIVE));
            }
            if !is_native(name) && quantity.milli_value() % 1000 != 0 {
                errors.push(FieldError::invalid(path, value.clone(), "must be an integer"));
            }
        }
    }
    for (name, request) in requests.into_iter().flatten() {
        let limit = limits.and_then(|limits| limits.get(name)).map(validate::quantity);
        let (Ok(asked), shown) = (validate::quantity(request), request.clone()) else { continue };
        match limit {
            Some(Ok(most)) if asked != most && !may_be_overcommitted(name) => {
                let detail = format!("must be equal to {name} limit of {most}");
                errors.push(FieldError::invalid(format!("{path}.requests"), shown, detail));
            }
            Some(Ok(most)) if asked > most => {
                let detail = format!("must be less than or equal to {name} limit of {most}");
                errors.push(FieldError::invalid(format!("{path}.requests"), shown, detail));
            }
            None if !may_be_overcommitted(name) => {
                let detail = "Limit must be set for non overcommitable resources";
                errors.push(FieldError::required(format!("{path}.limits"), detail));
            }
            _ => (),
        }
    }
}

/// Whether more of a resource can be promised than there is: what Kubernetes itself knows, but for huge pages.
fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !name.starts_with("hugepages-")
}

/// Whether a resource is none of somebody's own.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn resource_name(name: &str, path: &str, errors: &mut Vec<FieldError>) {
    let faults = validate::qualified_name_faults(name);
    errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, name, fault)));
    if !is_known(name) {
        errors.push(FieldError::invalid(path, name, "must be a standard resource type or fully qualified"));
    }
}

/// Whether a resource is one that Kubernetes knows, or somebody's own.
fn is_known(name: &str) -> bool {
    name.contains('/')
        || matches!(name, "cpu" | "memory" | "ephemeral-storage")
        || name.starts_with("hugepages-")
}
