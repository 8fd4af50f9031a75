//! JSON patch: operations one after the other, each measured before it is done.
//!
//! A few operations can make much of little: `copy` doubles what is there, `move` and `copy` into ever deeper places
//! nest it deeper than any recursion survives. So what is copied counts against a limit, as upstream has it, and
//! nothing is written deeper than a body could have been.

use super::not_applicable;
use crate::error::ApiError;
use json_patch::PatchOperation;
use json_patch::jsonptr::Pointer;
use serde_json::Value;
use std::io;

/// More operations than this are refused, as each may copy a part of the object.
const MAX_OPERATIONS: usize = 10_000;

/// Most bytes that all `copy` operations of a patch add, written as JSON.
const MAX_COPY_BYTES: usize = 3 * 1024 * 1024;

/// Levels of nesting, those above a written value and its own; `serde_json` reads no more out of a body.
const MAX_DEPTH: usize = 128;

/// Most values that are looked at to find how deep what is written is; a patch of the largest body stays below.
const MAX_MEASURED: usize = 8 * 1024 * 1024;

/// Applies a list of operations (`add`, `remove`, `replace`, `move`, `copy`, `test`), all or none.
pub fn json_patch(mut object: Value, patch: &Value) -> Result<Value, ApiError> {
    let n_operations = patch.as_array().map_or(0, Vec::len);
    if n_operations > MAX_OPERATIONS {
        return Err(ApiError::too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {n_operations}"
        )));
    }
    let patch: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    let mut spent = Spent::default();
    for operation in patch.0 {
        spent.allow(&object, &operation)?;
        json_patch::patch_unsafe(&mut object, &[operation])
            .map_err(|error| not_applicable(&error.to_string()))?;
    }
    Ok(object)
}

/// What the operations of one patch have used up.
#[derive(Debug, Default)]
struct Spent {
    copied_bytes: usize,
    measured: usize,
}

impl Spent {
    /// Refuses an operation that would make too much of `object`. One that cannot be done is let through, to be
    /// refused for that.
    fn allow(&mut self, object: &Value, operation: &PatchOperation) -> Result<(), ApiError> {
        let written = match operation {
            PatchOperation::Add(add) => Some(&add.value),
            PatchOperation::Replace(replace) => Some(&replace.value),
            PatchOperation::Move(moved) => object.pointer(moved.from.as_str()),
            PatchOperation::Copy(copy) => {
                let source = object.pointer(copy.from.as_str());
                self.copied_bytes += source.map_or(0, encoded_len);
                source
            }
            PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
        };
        if self.copied_bytes > MAX_COPY_BYTES {
            return Err(not_applicable(&format!(
                "Unable to complete the copy, the accumulated size increase of JSON Patch copy is {}, exceeding the \
                 limit {MAX_COPY_BYTES}",
                self.copied_bytes
            )));
        }
        match written {
            Some(written) => self.allow_depth(operation.path(), written),
            None => Ok(()),
        }
    }

    fn allow_depth(&mut self, path: &Pointer, written: &Value) -> Result<(), ApiError> {
        let n_above = path.count();
        let mut level = vec![written];
        let mut depth = 0;
        while !level.is_empty() {
            self.measured += level.len();
            if self.measured > MAX_MEASURED {
                return Err(ApiError::too_large("the values that a JSON patch moves are too many"));
            }
            if n_above + depth > MAX_DEPTH {
                return Err(not_applicable("exceeded max depth"));
            }
            level = level.into_iter().flat_map(children).collect();
            depth += 1;
        }
        Ok(())
    }
}

/// The values directly in a list or map; none in any other.
fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(map) => Box::new(map.values()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Box::new(std::iter::empty()),
    }
}

/// How long a value is as JSON; it is not deeper than what was allowed, so that writing it may recurse.
fn encoded_len(value: &Value) -> usize {
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).expect("counting bytes does not fail, and keys are texts");
    counter.0
}

/// Counts what is written to it.
struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
