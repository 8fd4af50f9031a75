//! Checks of how a container is asked whether it lives, and what is done when it starts and ends.

use super::container::port_number;
use super::one_of;
use crate::object;
use crate::validate::{self, FieldError};
use serde_json::Value;

const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex \
    used for validation is '[-A-Za-z0-9]+')";

const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];

/// Faults of the probes and hooks of a container that runs beside others; `grace_secs` is what the pod has to end.
pub(super) fn validate(container: &Value, grace_secs: Option<i64>, path: &str, errors: &mut Vec<FieldError>) {
    for probe in PROBES {
        if let Some(value) = object::at(container, &[probe]) {
            validate_probe(value, &format!("{path}.{probe}"), probe != "readinessProbe", errors);
        }
    }
    for hook in ["postStart", "preStop"] {
        let path = format!("{path}.lifecycle.{hook}");
        let Some(value) = object::at(container, &["lifecycle", hook]) else { continue };
        handler(value, &["exec", "httpGet", "tcpSocket", "sleep"], &path, errors);
        let sleep_secs =
            object::at(value, &["sleep"]).map(|sleep| object::integer(sleep, &["seconds"]).unwrap_or(0));
        if let (Some(seconds), Some(grace_secs)) = (sleep_secs, grace_secs)
            && !(0..=grace_secs).contains(&seconds)
        {
            let detail =
                format!("must be non-negative and less than terminationGracePeriodSeconds ({grace_secs})");
            errors.push(FieldError::invalid(format!("{path}.sleep"), seconds, detail));
        }
    }
}

/// Faults of an init container that others wait for: it is neither asked nor told anything.
pub(super) fn forbid(container: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for key in ["lifecycle"].into_iter().chain(PROBES) {
        if object::at(container, &[key]).is_some() {
            let detail = "may not be set for init containers without restartPolicy=Always";
            errors.push(FieldError::forbidden(format!("{path}.{key}"), detail));
        }
    }
}

fn validate_probe(probe: &Value, path: &str, succeeds_once: bool, errors: &mut Vec<FieldError>) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], path, errors);
    for key in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        if let Some(number) = object::integer(probe, &[key]).filter(|number| *number < 0) {
            errors.push(FieldError::invalid(format!("{path}.{key}"), number, validate::NEGATIVE));
        }
    }
    if let Some(seconds) = object::integer(probe, &["terminationGracePeriodSeconds"]) {
        let path = format!("{path}.terminationGracePeriodSeconds");
        if seconds <= 0 {
            errors.push(FieldError::invalid(path.as_str(), seconds, "must be greater than 0"));
        }
        if !succeeds_once {
            errors.push(FieldError::invalid(path, seconds, "must not be set for readinessProbes"));
        }
    }
    if let Some(number) = object::integer(probe, &["successThreshold"])
        && succeeds_once
        && number != 1
    {
        errors.push(FieldError::invalid(format!("{path}.successThreshold"), number, "must be 1"));
    }
}

/// Exactly one of `kinds`, and that one complete.
fn handler(value: &Value, kinds: &[&str], path: &str, errors: &mut Vec<FieldError>) {
    let mut given = kinds.iter().filter(|kind| object::at(value, &[kind]).is_some());
    match given.next().copied() {
        None => errors.push(FieldError::required(path, "must specify a handler type")),
        Some("exec") => {
            if object::list(value, &["exec", "command"]).is_empty() {
                errors.push(FieldError::required(format!("{path}.exec.command"), ""));
            }
        }
        Some("sleep") => (),
        Some(kind) => {
            let path = format!("{path}.{kind}");
            port(&value[kind], &format!("{path}.port"), errors);
            if kind == "httpGet" {
                one_of(&value[kind], "scheme", &["HTTP", "HTTPS"], &path, errors);
                for header in object::list(&value[kind], &["httpHeaders"]) {
                    let name = object::text(header, &["name"]);
                    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                        errors.push(FieldError::invalid(format!("{path}.httpHeaders"), name, HEADER));
                    }
                }
            }
        }
    }
    for kind in given {
        errors.push(FieldError::forbidden(
            format!("{path}.{kind}"),
            "may not specify more than 1 handler type",
        ));
    }
}

fn port(action: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match object::at(action, &["port"]) {
        Some(Value::Number(number)) => port_number(number.as_i64().unwrap_or(0), path, errors),
        Some(Value::String(name)) => {
            let faults = validate::port_name_faults(name);
            errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, name.as_str(), fault)));
        }
        _ => errors.push(FieldError::required(path, "")),
    }
}
