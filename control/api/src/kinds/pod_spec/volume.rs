//! Checks of a pod's volumes.

use super::downward::{self, Reader};
use crate::object;
use crate::validate::{self, FieldError};
use serde_json::Value;
use std::collections::BTreeSet;

/// Faults of volumes; gives their names, for the mounts to be held against.
pub(super) fn validate<'a>(
    volumes: &'a [Value],
    path: &str,
    errors: &mut Vec<FieldError>,
) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let n_before = errors.len();
        let mut sources = volume.as_object().into_iter().flatten().filter(|(key, _)| *key != "name");
        match sources.next() {
            None => errors.push(FieldError::required(path.clone(), "must specify a volume type")),
            Some((kind, source)) => source_faults(kind, source, &format!("{path}.{kind}"), errors),
        }
        for (kind, _) in sources {
            let path = format!("{path}.{kind}");
            errors.push(FieldError::forbidden(path, "may not specify more than 1 volume type"));
        }
        let name = object::text(volume, &["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
            continue;
        }
        let faults = validate::dns1123_label_faults(name);
        errors
            .extend(faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.name"), name, fault)));
        if names.contains(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
        // One that is at fault is not there for others.
        if errors.len() == n_before {
            names.insert(name);
        }
    }
    names
}

fn source_faults(kind: &str, source: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut need = |key: &str| {
        if object::text(source, &[key]).is_empty() {
            errors.push(FieldError::required(format!("{path}.{key}"), ""));
        }
    };
    match kind {
        "configMap" => need("name"),
        "secret" => need("secretName"),
        "persistentVolumeClaim" => need("claimName"),
        "csi" => need("driver"),
        "gitRepo" => need("repository"),
        "nfs" => {
            need("server");
            need("path");
        }
        "image" => {
            need("reference");
            super::one_of(source, "pullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
        }
        "ephemeral" if object::at(source, &["volumeClaimTemplate"]).is_none() => {
            errors.push(FieldError::required(format!("{path}.volumeClaimTemplate"), ""));
        }
        "hostPath" => {
            let host = object::text(source, &["path"]);
            need("path");
            if host.split('/').any(|part| part == "..") {
                errors.push(FieldError::invalid(format!("{path}.path"), host, "must not contain '..'"));
            }
            let kinds = [
                "",
                "BlockDevice",
                "CharDevice",
                "Directory",
                "DirectoryOrCreate",
                "File",
                "FileOrCreate",
                "Socket",
            ];
            super::one_of(source, "type", &kinds, path, errors);
        }
        "emptyDir" => {
            if let Some(limit) = source.get("sizeLimit")
                && validate::quantity(limit).is_ok_and(|limit| limit.is_negative())
            {
                let detail = "SizeLimit field must be a valid resource quantity";
                errors.push(FieldError::forbidden(format!("{path}.sizeLimit"), detail));
            }
        }
        _ => (),
    }
    if matches!(kind, "configMap" | "secret" | "downwardAPI" | "projected") {
        mode(source, "defaultMode", path, errors);
    }
    match kind {
        "configMap" | "secret" => keys(source, path, errors),
        "downwardAPI" => own_fields(source, path, errors),
        "projected" => projected(source, path, errors),
        _ => (),
    }
}

/// The keys of a ConfigMap or Secret that become files.
fn keys(source: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (index, item) in object::list(source, &["items"]).iter().enumerate() {
        let path = format!("{path}.items[{index}]");
        if object::text(item, &["key"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.key"), ""));
        }
        file(item, &path, errors);
    }
}

/// The fields of the pod that become files. Upstream does not say which of the items is at fault.
fn own_fields(source: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for item in object::list(source, &["items"]) {
        file(item, path, errors);
        match ["fieldRef", "resourceFieldRef"].map(|kind| object::at(item, &[kind]).is_some()) {
            [true, true] => {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(path, "resource", detail));
            }
            [false, false] => {
                let detail = "one of fieldRef and resourceFieldRef is required";
                errors.push(FieldError::required(path, detail));
            }
            _ => (),
        }
        downward::references(item, Reader::Volume, path, errors);
    }
}

/// Several sources in one folder: no two of them may write the same file. A source of no kind writes none.
fn projected(volume: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut files = BTreeSet::new();
    for (index, source) in object::list(volume, &["sources"]).iter().enumerate() {
        let source_path = format!("{path}.sources[{index}]");
        for kind in ["secret", "configMap"] {
            let Some(given) = object::at(source, &[kind]) else { continue };
            let kind_path = format!("{source_path}.{kind}");
            let name = object::text(given, &["name"]);
            if name.is_empty() {
                errors.push(FieldError::required(format!("{kind_path}.name"), ""));
            }
            keys(given, &kind_path, errors);
            errors.extend(conflicts(given, &mut files).map(|_| conflict(path, name)));
        }
        if let Some(given) = object::at(source, &["downwardAPI"]) {
            own_fields(given, &format!("{source_path}.downwardAPI"), errors);
            errors.extend(conflicts(given, &mut files).map(|file| conflict(path, file)));
        }
        if let Some(token) = object::at(source, &["serviceAccountToken"]) {
            errors.extend(expiration_fault(token, &format!("{source_path}.serviceAccountToken")));
            // Upstream does not say of which source the path is.
            let file = object::text(token, &["path"]);
            if file.is_empty() {
                errors.push(FieldError::required(format!("{path}.path"), ""));
            }
            below(file, &format!("{path}.path"), errors);
        }
        if source.as_object().is_some_and(|source| source.len() > 1) {
            let detail = "may not specify more than 1 volume type per source";
            errors.push(FieldError::forbidden(source_path, detail));
        }
    }
}

/// The files of a source that an earlier one has.
fn conflicts<'a>(source: &'a Value, files: &mut BTreeSet<&'a str>) -> impl Iterator<Item = &'a str> {
    let paths = object::list(source, &["items"]).iter().map(|item| object::text(item, &["path"]));
    paths.filter(move |path| !path.is_empty() && !files.insert(path))
}

fn conflict(path: &str, value: &str) -> FieldError {
    FieldError::invalid(path, value, "conflicting duplicate paths")
}

fn expiration_fault(token: &Value, path: &str) -> Option<FieldError> {
    let seconds = object::integer(token, &["expirationSeconds"]).unwrap_or(0);
    let detail = match seconds {
        ..600 => "may not specify a duration less than 10 minutes",
        600..=0x1_0000_0000 => return None,
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    Some(FieldError::invalid(format!("{path}.expirationSeconds"), seconds, detail))
}

/// Where a file of a volume is, and who may do what with it.
fn file(item: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let file = object::text(item, &["path"]);
    if file.is_empty() {
        errors.push(FieldError::required(format!("{path}.path"), ""));
    }
    below(file, &format!("{path}.path"), errors);
    mode(item, "mode", path, errors);
}

/// Faults of a file's path: it stays below its volume, and names nothing that the volume keeps for itself.
fn below(text: &str, path: &str, errors: &mut Vec<FieldError>) {
    relative(text, path, errors);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.push(FieldError::invalid(path, text, "must not start with '..'"));
    }
}

fn mode(value: &Value, key: &str, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(mode) = object::integer(value, &[key])
        && !(0..=0o777).contains(&mode)
    {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(format!("{path}.{key}"), mode, detail));
    }
}

/// Faults of a path that has to stay below where it starts.
pub(super) fn relative(text: &str, path: &str, errors: &mut Vec<FieldError>) {
    if text.starts_with('/') {
        errors.push(FieldError::invalid(path, text, "must be a relative path"));
    }
    if text.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, text, "must not contain '..'"));
    }
}
