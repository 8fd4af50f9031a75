//! Patches: JSON patch (RFC 6902), merge patch (RFC 7386) and Kubernetes' strategic merge patch.
//!
//! Each takes an object and gives the patched one; what the result may be is decided by whoever writes it.

mod json;
mod order;
mod strategic;

pub use json::json_patch;
pub use order::go_text;
pub use strategic::strategic_merge;

use crate::error::{ApiError, Cause, Details, Reason};
use serde_json::{Map, Value};

/// Lays a merge patch over an object: maps are merged, null removes, everything else replaces.
pub fn merge_patch(object: Value, patch: &Value) -> Result<Value, ApiError> {
    if !patch.is_object() {
        return Err(ApiError::bad_request("Invalid JSON Patch"));
    }
    Ok(merge(object, patch))
}

fn merge(object: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut merged = match object {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    for (key, value) in patch {
        if value.is_null() {
            merged.remove(key);
        } else {
            let old = merged.remove(key).unwrap_or(Value::Null);
            merged.insert(key.clone(), merge(old, value));
        }
    }
    Value::Object(merged)
}

/// A well-formed patch that does not fit the object: 422 in upstream's words, with what exactly as the cause.
fn not_applicable(why: &str) -> ApiError {
    let cause = Cause {
        reason: "UnexpectedServerResponse".to_owned(),
        message: why.to_owned(),
        field: String::new(),
    };
    ApiError::new(Reason::Invalid, "the server rejected our request due to an error in our request")
        .with_details(Details { causes: vec![cause], ..Details::default() })
}

#[cfg(test)]
mod tests;
