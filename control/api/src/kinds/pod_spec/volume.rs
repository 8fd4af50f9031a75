//! Checks of a pod's volumes.

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
        if !names.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
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
        "hostPath" => {
            let host = object::text(source, &["path"]);
            need("path");
            if host.split('/').any(|part| part == "..") {
                errors.push(FieldError::invalid(format!("{path}.path"), host, "must not contain '..'"));
            }
            let kinds = [
                "DirectoryOrCreate",
                "Directory",
                "FileOrCreate",
                "File",
                "Socket",
                "CharDevice",
                "BlockDevice",
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
    if matches!(kind, "configMap" | "secret") {
        for (index, item) in object::list(source, &["items"]).iter().enumerate() {
            let path = format!("{path}.items[{index}]");
            if object::text(item, &["key"]).is_empty() {
                errors.push(FieldError::required(format!("{path}.key"), ""));
            }
            if object::text(item, &["path"]).is_empty() {
                errors.push(FieldError::required(format!("{path}.path"), ""));
            }
            relative(object::text(item, &["path"]), &format!("{path}.path"), errors);
            mode(item, "mode", &path, errors);
        }
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
