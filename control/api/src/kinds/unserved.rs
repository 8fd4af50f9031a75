//! Tables of fields that are accepted and do not do what upstream says of them: each is said in a warning, so that no
//! field is ignored in silence.
//!
//! A field that begins to work loses its line; one that the schema gains and nobody reads gets one.

use crate::object;
use serde_json::Value;

/// A field that does not do what upstream says of it.
pub(super) struct Row {
    /// Its path, keys joined by dots.
    field: &'static str,
    /// Values by which nothing is asked that does not hold here anyway.
    fine: &'static [&'static str],
    /// What is said of it.
    text: &'static str,
}

/// A field of which any value is told.
pub(super) const fn row(field: &'static str, text: &'static str) -> Row {
    Row { field, fine: &[], text }
}

/// A field of which these values are fine.
pub(super) const fn unless(fine: &'static [&'static str], field: &'static str, text: &'static str) -> Row {
    Row { field, fine, text }
}

/// Tells of a field that is set in `value`, which is at `path`.
pub(super) fn tell(told: &mut Vec<String>, value: &Value, path: &str, row: &Row) {
    let keys: Vec<&str> = row.field.split('.').collect();
    let Some(found) = object::at(value, &keys).filter(|found| is_set(found)) else { return };
    if found.as_str().is_none_or(|text| !row.fine.contains(&text)) {
        told.push(format!("{path}.{}: {}", row.field, row.text));
    }
}

/// Whether a value says something: not false, zero or empty.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}
