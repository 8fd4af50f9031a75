//! What ConfigMaps and Secrets share: keys, size, and that an immutable one stays as it is.

use crate::object;
use crate::validate::{self, FieldError};
use serde_json::{Map, Value};

/// Most bytes of all values together, upstream's.
const MAX_BYTES: usize = 1024 * 1024;

/// Faults of the keys of these maps.
pub(super) fn validate_keys(object: &Value, maps: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for map in maps {
        for key in object::map(object, &[map]).into_iter().flat_map(Map::keys) {
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
    let length = |maps: &[&str], length_of: fn(&str) -> usize| -> usize {
        let values = maps.iter().filter_map(|map| object::map(object, &[map])).flat_map(Map::values);
        values.filter_map(Value::as_str).map(length_of).sum()
    };
    let bytes = length(text, str::len) + length(base64, decoded_len);
    (bytes > MAX_BYTES).then(|| FieldError::too_long(path, MAX_BYTES))
}

/// How many bytes a base64 text stands for, which is canonical.
fn decoded_len(text: &str) -> usize {
    let n_padding = text.bytes().rev().take(2).filter(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(n_padding)
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
        let is_empty = |value: &Value| object::map(value, &[map]).is_none_or(Map::is_empty);
        if new.get(map) != old.get(map) && !(is_empty(new) && is_empty(old)) {
            errors.push(FieldError::forbidden(*map, DETAIL));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    #[test]
    fn bytes_are_counted_as_what_they_are_decoded() {
        for length in 0..10 {
            assert_eq!(decoded_len(&STANDARD.encode(vec![7; length])), length);
        }
        let secret =
            |length: usize| json!({ "data": { "a": STANDARD.encode(vec![7; length]), "b": "YQ==" } });
        assert_eq!(too_big(&secret(MAX_BYTES - 1), "data", &[], &["data"]), None);
        assert!(too_big(&secret(MAX_BYTES), "data", &[], &["data"]).is_some());
    }
}
