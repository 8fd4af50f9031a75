//! What ConfigMaps and Secrets share: keys, size, and that an immutable one stays as it is.

use crate::object;
use crate::validate::{self, FieldError};
use serde_json::Value;

/// Most bytes of all values together, upstream's.
const MAX_BYTES: usize = 1024 * 1024;

/// Faults of the keys of these maps.
pub(super) fn validate_keys(object: &Value, maps: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for map in maps {
        for key in object::map(object, &[map]).into_iter().flat_map(serde_json::Map::keys) {
            let faults = validate::config_key_faults(key);
            errors.extend(
                faults
                    .into_iter()
                    .map(|fault| FieldError::invalid(format!("{map}[{key}]"), key.as_str(), fault)),
            );
        }
    }
    errors
}

/// A fault at `path` when the values are too big together; `base64` maps are counted as what they stand for.
pub(super) fn too_big(object: &Value, path: &str, text: &[&str], base64: &[&str]) -> Option<FieldError> {
    let length = |maps: &[&str]| -> usize {
        maps.iter()
            .filter_map(|map| object::map(object, &[map]))
            .flat_map(serde_json::Map::values)
            .filter_map(Value::as_str)
            .map(str::len)
            .sum()
    };
    (length(text) + length(base64) / 4 * 3 > MAX_BYTES).then(|| FieldError::too_long(path, MAX_BYTES))
}

/// Faults of a change to an object with `immutable: true`.
pub(super) fn validate_update(new: &Value, old: &Value, maps: &[&str]) -> Vec<FieldError> {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if !object::flag(old, &["immutable"]) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if !object::flag(new, &["immutable"]) {
        errors.push(FieldError::forbidden("immutable", DETAIL));
    }
    for map in maps {
        let is_empty = |value: &Value| object::map(value, &[map]).is_none_or(serde_json::Map::is_empty);
        if new.get(map) != old.get(map) && !(is_empty(new) && is_empty(old)) {
            errors.push(FieldError::forbidden(*map, DETAIL));
        }
    }
    errors
}
