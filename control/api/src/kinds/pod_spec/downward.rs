//! Checks of references to the pod's own fields and to what its containers may use.

use crate::object;
use crate::validate::{self, FieldError};
use serde_json::Value;

/// Who reads a reference: not all can be read everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// A container's variable; a resource is the container's own, if none is named.
    Environment,
    /// A file of a volume; a resource is that of a container which is named.
    Volume,
}

/// Fields that can be referred to at all.
const FIELDS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// What amounts other than CPU can be told in.
const DIVISORS: &str = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";

/// Faults of the `fieldRef` and `resourceFieldRef` in `source`, as far as there are.
pub(super) fn references(source: &Value, reader: Reader, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(reference) = object::at(source, &["fieldRef"]) {
        field(reference, reader, &format!("{path}.fieldRef"), errors);
    }
    if let Some(reference) = object::at(source, &["resourceFieldRef"]) {
        resource(reference, reader, &format!("{path}.resourceFieldRef"), errors);
    }
}

impl Reader {
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Environment => &[
                "metadata.name",
                "metadata.namespace",
                "metadata.uid",
                "spec.nodeName",
                "spec.serviceAccountName",
                "status.hostIP",
                "status.hostIPs",
                "status.podIP",
                "status.podIPs",
            ],
            Self::Volume => &[
                "metadata.annotations",
                "metadata.labels",
                "metadata.name",
                "metadata.namespace",
                "metadata.uid",
            ],
        }
    }
}

fn field(reference: &Value, reader: Reader, path: &str, errors: &mut Vec<FieldError>) {
    let field = object::text(reference, &["fieldPath"]);
    if field.is_empty() {
        errors.push(FieldError::required(format!("{path}.fieldPath"), ""));
        return;
    }
    let unconvertible = |why: &str| {
        let detail = format!("error converting fieldPath: field label {why}: {field}");
        FieldError::invalid(format!("{path}.fieldPath"), field, detail)
    };
    match subscript(field) {
        Some((map @ ("metadata.annotations" | "metadata.labels"), key)) => {
            let key = if map == "metadata.annotations" { key.to_lowercase() } else { key.to_owned() };
            let faults = validate::qualified_name_faults(&key);
            errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, key.as_str(), fault)));
        }
        Some(_) => errors.push(unconvertible("does not support subscript")),
        None if !FIELDS.contains(&field) => errors.push(unconvertible("not supported")),
        None if !reader.fields().contains(&field) => {
            errors.push(FieldError::not_supported(format!("{path}.fieldPath"), field, reader.fields()));
        }
        None => (),
    }
}

/// `metadata.labels` and `a` of `metadata.labels['a']`.
fn subscript(field: &str) -> Option<(&str, &str)> {
    field.strip_suffix("']")?.split_once("['").filter(|(map, _)| !map.is_empty())
}

fn resource(reference: &Value, reader: Reader, path: &str, errors: &mut Vec<FieldError>) {
    let name = object::text(reference, &["resource"]);
    let is_huge = name.starts_with("requests.hugepages-") || name.starts_with("limits.hugepages-");
    if reader == Reader::Volume && object::text(reference, &["containerName"]).is_empty() {
        errors.push(FieldError::required(format!("{path}.containerName"), ""));
    } else if name.is_empty() {
        errors.push(FieldError::required(format!("{path}.resource"), ""));
    } else if !RESOURCES.contains(&name) && !is_huge {
        errors.push(FieldError::not_supported(format!("{path}.resource"), name, &RESOURCES));
    }
    let divisor = object::at(reference, &["divisor"]).and_then(|divisor| validate::quantity(divisor).ok());
    let Some(divisor) = divisor.filter(|divisor| !divisor.is_zero()).map(|divisor| divisor.to_string())
    else {
        return;
    };
    let what = match name.split_once('.').map(|(_, what)| what) {
        Some("cpu") => {
            if !["1m", "1"].contains(&divisor.as_str()) {
                let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.push(FieldError::invalid(format!("{path}.divisor"), name, detail));
            }
            return;
        }
        Some("memory") => "memory",
        Some("ephemeral-storage") => "local ephemeral storage",
        Some(_) if is_huge => "hugepages",
        _ => return,
    };
    if !DIVISORS.split(", ").any(|one| one == divisor) {
        let detail = format!("only divisor's values {DIVISORS} are supported with the {what} resource");
        errors.push(FieldError::invalid(format!("{path}.divisor"), name, detail));
    }
}
