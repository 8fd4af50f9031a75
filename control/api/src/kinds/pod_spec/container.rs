//! Checks of one container.

use super::downward::{self, Reader};
use super::one_of;
use crate::object;
use crate::validate::{self, FieldError};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

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
    } else if image != image.trim() {
        let detail = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(format!("{path}.image"), image, detail));
    }
    one_of(container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    one_of(container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, errors);
    ports(object::list(container, &["ports"]), &format!("{path}.ports"), errors);
    for (index, variable) in object::list(container, &["env"]).iter().enumerate() {
        env(variable, &format!("{path}.env[{index}]"), errors);
    }
    for (index, source) in object::list(container, &["envFrom"]).iter().enumerate() {
        env_from(source, &format!("{path}.envFrom[{index}]"), errors);
    }
    mounts(object::list(container, &["volumeMounts"]), &format!("{path}.volumeMounts"), volumes, errors);
    resources(container, &format!("{path}.resources"), errors);
    one_of(container, "restartPolicy", &["Always", "Never", "OnFailure"], path, errors);
    let has_rules = !object::list(container, &["restartPolicyRules"]).is_empty();
    if has_rules && object::text(container, &["restartPolicy"]).is_empty() {
        let detail = "must specify restartPolicy when restart rules are used";
        errors.push(FieldError::required(format!("{path}.restartPolicy"), detail));
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
            _ => one_of(port, "protocol", &PROTOCOLS, &path, errors),
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
            if object::text(reference, &["name"]).is_empty() {
                errors.push(FieldError::required(format!("{path}.name"), ""));
            }
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

fn env_from(source: &Value, path: &str, errors: &mut Vec<FieldError>) {
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
            errors.push(FieldError::invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"));
        }
        [kind] => {
            if object::text(source, &[kind, "name"]).is_empty() {
                errors.push(FieldError::required(format!("{path}.{kind}.name"), ""));
            }
        }
        _ => {
            errors.push(FieldError::invalid(
                path,
                "",
                "may not have more than one field specified at a time",
            ));
        }
    }
}

fn mounts(mounts: &[Value], path: &str, volumes: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    let mut places = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let name = object::text(mount, &["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !volumes.contains(name) {
            errors.push(FieldError::not_found(format!("{path}.name"), name));
        }
        let place = object::text(mount, &["mountPath"]);
        if place.is_empty() {
            errors.push(FieldError::required(format!("{path}.mountPath"), ""));
        } else if !places.insert(place) {
            errors.push(FieldError::invalid(format!("{path}.mountPath"), place, "must be unique"));
        }
        let [part, expression] = ["subPath", "subPathExpr"].map(|key| object::text(mount, &[key]));
        if !part.is_empty() && !expression.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(format!("{path}.subPathExpr"), expression, detail));
        }
        super::volume::relative(part, &format!("{path}.subPath"), errors);
        super::volume::relative(expression, &format!("{path}.subPathExpr"), errors);
    }
}

fn resources(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let limits = object::map(container, &["resources", "limits"]);
    let requests = object::map(container, &["resources", "requests"]);
    for (which, list) in [("limits", limits), ("requests", requests)] {
        for (name, value) in list.into_iter().flatten() {
            let path = format!("{path}.{which}[{name}]");
            resource_name(name, &path, errors);
            if validate::quantity(value).is_ok_and(|quantity| quantity.is_negative()) {
                errors.push(FieldError::invalid(path, value.clone(), validate::NEGATIVE));
            }
        }
    }
    for (name, request) in requests.into_iter().flatten() {
        let Some(limit) = limits.and_then(|limits| limits.get(name)) else { continue };
        let (Ok(asked), Ok(most)) = (validate::quantity(request), validate::quantity(limit)) else {
            continue;
        };
        if asked > most {
            let detail = format!("must be less than or equal to {name} limit of {most}");
            errors.push(FieldError::invalid(format!("{path}.requests"), request.clone(), detail));
        }
    }
}

fn resource_name(name: &str, path: &str, errors: &mut Vec<FieldError>) {
    let faults = validate::qualified_name_faults(name);
    errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, name, fault)));
    let is_standard =
        matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !name.contains('/') && !is_standard {
        errors.push(FieldError::invalid(path, name, "must be a standard resource type or fully qualified"));
        errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
    }
}
