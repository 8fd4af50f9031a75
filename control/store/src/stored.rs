//! An object as it is kept, and a change to make.

use crate::error::CommitError;
use bytes::Bytes;
use control_api::object::Key;
use serde_json::Value;

/// Maps and lists within each other, the object among them: so many are read back, and no more.
const MAX_DEPTH: usize = 127;

/// What an object may hold: the bound that etcd sets to a request. It is counted as protobuf would (see `check`), so
/// that what is escaped or quoted in JSON is taken as long as it is taken there.
const MAX_BYTES: usize = 1536 * 1024;

/// An object at one revision: encoded once, shared by list, watch and controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Which object it is.
    pub key: Key,
    /// The revision that wrote it; `metadata.resourceVersion` in the JSON says the same.
    pub revision: u64,
    /// The object as JSON, without spaces.
    pub json: Bytes,
}

impl Stored {
    /// An object as it is, if it is one that the store would take.
    pub fn new(key: Key, revision: u64, object: &Value) -> Result<Self, CommitError> {
        Self::within(key, revision, object, MAX_BYTES)
    }

    /// The object, decoded.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).expect("the store encodes nothing that cannot be read back")
    }

    /// Encodes `object` as of `revision`.
    pub(crate) fn encode(key: Key, revision: u64, mut object: Value) -> Result<Self, CommitError> {
        set_revision(&mut object, revision)?;
        Self::new(key, revision, &object)
    }

    /// Encodes the last state of an object that goes, however much it holds.
    pub(crate) fn encode_last(key: Key, revision: u64, mut object: Value) -> Result<Self, CommitError> {
        set_revision(&mut object, revision)?;
        Self::within(key, revision, &object, usize::MAX)
    }

    fn within(key: Key, revision: u64, object: &Value, max_bytes: usize) -> Result<Self, CommitError> {
        check(object, max_bytes)?;
        let json = serde_json::to_vec(object)
            .map_err(|error| CommitError::Malformed { reason: error.to_string() })?;
        // A vector that grew holds up to twice what is in it, and this is kept.
        Ok(Self { key, revision, json: json.into_boxed_slice().into() })
    }
}

fn set_revision(object: &mut Value, revision: u64) -> Result<(), CommitError> {
    let malformed = |reason: &str| CommitError::Malformed { reason: reason.to_owned() };
    let metadata = object
        .as_object_mut()
        .ok_or_else(|| malformed("it is not a JSON object"))?
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .ok_or_else(|| malformed("it has no metadata"))?;
    metadata.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
    Ok(())
}

/// Refuses what is nested too deep to be read back, and what holds too much. Not recursive, as the depth is what is in
/// question; two bytes are counted for each value, besides its own and those of its key.
fn check(object: &Value, max_bytes: usize) -> Result<(), CommitError> {
    let mut bytes = 0;
    let mut open = vec![(object, 0)];
    while let Some((value, around)) = open.pop() {
        let depth = around + 1;
        bytes += 2;
        match value {
            Value::Object(members) => {
                bytes += members.keys().map(String::len).sum::<usize>();
                open.extend(members.values().map(|member| (member, depth)));
            }
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth))),
            Value::String(text) => {
                bytes += text.len();
                continue;
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => continue,
        }
        if depth > MAX_DEPTH {
            return Err(CommitError::TooDeep { max: MAX_DEPTH });
        }
    }
    if bytes > max_bytes {
        return Err(CommitError::TooLarge { max: max_bytes });
    }
    Ok(())
}

/// A change to one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Put an object where none is.
    Create {
        /// Which object.
        key: Key,
        /// What to store; its resourceVersion is set by the store.
        object: Value,
        /// Another object and the revision at which it allowed this one, as a namespace does; any other state of it
        /// refuses the write.
        given: Option<(Key, u64)>,
    },
    /// Replace an object.
    Update {
        /// Which object.
        key: Key,
        /// The revision the change was decided on; another one refuses it.
        expect: u64,
        /// What to store; its resourceVersion is set by the store.
        object: Value,
    },
    /// Remove an object.
    Delete {
        /// Which object.
        key: Key,
        /// The revision the change was decided on; another one refuses it.
        expect: u64,
        /// The object's last state, as watchers are told it.
        last: Value,
    },
}

impl Write {
    /// Which object changes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Create { key, .. } | Self::Update { key, .. } | Self::Delete { key, .. } => key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_api::object::ResourceId;
    use serde_json::json;

    fn stored(object: &Value) -> Result<Stored, CommitError> {
        let key = Key { resource: ResourceId::new("", "configmaps"), namespace: None, name: "a".to_owned() };
        Stored::encode(key, 2, json!({ "metadata": {}, "data": object }))
    }

    #[test]
    fn what_is_taken_can_be_read_back() {
        let (mut taken, mut lists, mut maps) = (0, json!(1), json!(1));
        for depth in 1..200 {
            lists = json!([lists]);
            maps = json!({ "k": maps });
            let outcomes = [&lists, &maps].map(|nested| stored(nested).map(|stored| stored.value()));
            match outcomes {
                [Ok(_), Ok(_)] => taken = depth,
                [Err(CommitError::TooDeep { .. }), Err(CommitError::TooDeep { .. })] => {}
                other => panic!("{depth}: {other:?}"),
            }
        }
        assert_eq!(taken, MAX_DEPTH - 1, "nothing that could be read back is refused");
        let json = format!("{}{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
        assert!(serde_json::from_str::<Value>(&json).is_err());
    }

    #[test]
    fn what_holds_too_much_is_refused_however_it_is_written() {
        let refused = |object: &Value| match stored(object) {
            Ok(_) => false,
            Err(CommitError::TooLarge { max }) => max == MAX_BYTES,
            Err(other) => panic!("{other}"),
        };
        for (object, expect) in [
            (json!("x".repeat(MAX_BYTES)), true),
            (json!("x".repeat(MAX_BYTES - 100)), false),
            // In JSON, each of these takes two bytes.
            (json!("\n".repeat(MAX_BYTES - 100)), false),
            (json!({ "x".repeat(MAX_BYTES): 1 }), true),
            (json!(vec![0; MAX_BYTES / 2]), true),
            (json!(vec![0; MAX_BYTES / 4]), false),
        ] {
            assert_eq!(refused(&object), expect);
        }
    }
}
