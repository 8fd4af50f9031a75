//! Checks of what a pod and its containers are on their host: users, groups, privileges, profiles. Little of it has an
//! effect here, and all of it is checked.

use super::{one_of, volume};
use crate::object;
use crate::validate::FieldError;
use serde_json::Value;
use std::collections::BTreeSet;

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// Longest path of a profile on the host.
const MAX_PROFILE_BYTES: usize = 4095;

/// Longest name of a kernel parameter.
const MAX_SYSCTL_CHARS: usize = 253;

/// Faults of a pod's `securityContext`, and of what its spec says of the host beside it.
pub(super) fn of_pod(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let Some(context) = object::at(spec, &["securityContext"]) else {
        errors.push(FieldError::required(format!("{path}.securityContext"), ""));
        return;
    };
    let below = format!("{path}.securityContext");
    ids(context, &["fsGroup", "runAsUser", "runAsGroup"], &below, errors);
    let groups = object::list(context, &["supplementalGroups"]).iter().filter_map(Value::as_i64);
    for (index, group) in groups.enumerate() {
        id(group, format!("{below}.supplementalGroups[{index}]"), errors);
    }
    if object::flag(spec, &["shareProcessNamespace"]) && object::flag(spec, &["hostPID"]) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(format!("{below}.shareProcessNamespace"), true, detail));
    }
    sysctls(object::list(context, &["sysctls"]), &format!("{below}.sysctls"), errors);
    one_of(context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], &below, errors);
    profiles(context, &below, errors);
    one_of(context, "supplementalGroupsPolicy", &["Merge", "Strict"], &below, errors);
    one_of(context, "seLinuxChangePolicy", &["Recursive"], &below, errors);
    if is_own_user_space(spec) {
        // Upstream writes two of these names with a capital letter.
        for (key, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
            if object::flag(spec, &[key]) {
                let path = format!("{path}.{shown}");
                errors.push(FieldError::forbidden(path, "when `hostUsers` is false"));
            }
        }
    }
}

/// Faults of the `securityContext` of a container of the pod with this spec.
pub(super) fn of_container(container: &Value, spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let Some(context) = object::at(container, &["securityContext"]) else { return };
    ids(context, &["runAsUser", "runAsGroup"], path, errors);
    one_of(context, "procMount", &["Default", "Unmasked"], path, errors);
    if object::text(context, &["procMount"]) == "Unmasked" && !is_own_user_space(spec) {
        let detail = "`hostUsers` must be false to use `Unmasked`";
        errors.push(FieldError::invalid(format!("{path}.procMount"), "Unmasked", detail));
    }
    profiles(context, path, errors);
    if object::at(context, &["allowPrivilegeEscalation"]) == Some(&Value::Bool(false)) {
        let mut contradicts = |what: &str| {
            let detail = format!("cannot set `allowPrivilegeEscalation` to false and {what}");
            errors.push(FieldError::invalid(path, context.clone(), detail));
        };
        if object::flag(context, &["privileged"]) {
            contradicts("`privileged` to true");
        }
        for capability in object::list(context, &["capabilities", "add"]) {
            if capability == "CAP_SYS_ADMIN" {
                contradicts("`capabilities.Add` CAP_SYS_ADMIN");
            }
        }
    }
}

/// Whether the pod's users are none of the host's.
fn is_own_user_space(spec: &Value) -> bool {
    object::at(spec, &["hostUsers"]) == Some(&Value::Bool(false))
}

fn ids(context: &Value, keys: &[&str], path: &str, errors: &mut Vec<FieldError>) {
    for key in keys {
        if let Some(number) = object::integer(context, &[key]) {
            id(number, format!("{path}.{key}"), errors);
        }
    }
}

/// A fault of a user's or group's number.
fn id(number: i64, path: String, errors: &mut Vec<FieldError>) {
    if !(0..=i64::from(i32::MAX)).contains(&number) {
        errors.push(FieldError::invalid(path, number, "must be between 0 and 2147483647, inclusive"));
    }
}

fn sysctls(sysctls: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    let mut names = BTreeSet::new();
    for (index, sysctl) in sysctls.iter().enumerate() {
        let path = format!("{path}[{index}].name");
        let name = object::text(sysctl, &["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else if !is_sysctl(name) {
            let detail = format!(
                "must have at most {MAX_SYSCTL_CHARS} characters and match regex \
                 ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            );
            errors.push(FieldError::invalid(path, name, detail));
        } else if !names.insert(name) {
            errors.push(FieldError::duplicate(path, name));
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part = |part: &str| {
        part.starts_with(end) && part.ends_with(end) && part.chars().all(|c| end(c) || matches!(c, '-' | '_'))
    };
    name.len() <= MAX_SYSCTL_CHARS && name.split(['.', '/']).all(is_part)
}

/// Faults of the profiles by which a kernel confines processes.
fn profiles(context: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(profile) = object::at(context, &["seccompProfile"]) {
        let path = format!("{path}.seccompProfile");
        profile_type(profile, "seccompProfile", &path, errors);
        let file = object::at(profile, &["localhostProfile"]).and_then(Value::as_str);
        let path = format!("{path}.localhostProfile");
        match (object::text(profile, &["type"]) == "Localhost", file) {
            (true, None) => {
                errors.push(FieldError::required(path, "must be set when seccomp type is Localhost"));
            }
            (true, Some(file)) => volume::relative(file, &path, errors),
            (false, Some(_)) => {
                let detail = "can only be set when seccomp type is Localhost";
                errors.push(FieldError::invalid(path, profile.clone(), detail));
            }
            (false, None) => (),
        }
    }
    if let Some(profile) = object::at(context, &["appArmorProfile"]) {
        let path = format!("{path}.appArmorProfile");
        profile_type(profile, "appArmorProfile", &path, errors);
        let kind = object::text(profile, &["type"]);
        let file = object::at(profile, &["localhostProfile"]).and_then(Value::as_str);
        let path = format!("{path}.localhostProfile");
        match (kind, file) {
            ("Localhost", None) => {
                errors.push(FieldError::required(path, "must be set when AppArmor type is Localhost"));
            }
            ("Localhost", Some(file)) => {
                if file != file.trim() {
                    let detail = "must not be padded with whitespace";
                    errors.push(FieldError::invalid(path.as_str(), file, detail));
                } else if file.is_empty() {
                    let detail = "must be set when AppArmor type is Localhost";
                    errors.push(FieldError::required(path.as_str(), detail));
                }
                if file.len() > MAX_PROFILE_BYTES {
                    errors.push(FieldError::too_long(path, MAX_PROFILE_BYTES));
                }
            }
            ("RuntimeDefault" | "Unconfined", Some(file)) => {
                let detail = "can only be set when AppArmor type is Localhost";
                errors.push(FieldError::invalid(path, file, detail));
            }
            _ => (),
        }
    }
}

fn profile_type(profile: &Value, field: &str, path: &str, errors: &mut Vec<FieldError>) {
    let path = format!("{path}.type");
    match object::text(profile, &["type"]) {
        "" => errors.push(FieldError::required(path, format!("type is required when {field} is set"))),
        kind if PROFILES.contains(&kind) => (),
        kind => errors.push(FieldError::not_supported(path, kind, &PROFILES)),
    }
}
