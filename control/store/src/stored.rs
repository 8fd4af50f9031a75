//! An object as it is kept, and a change to make.

use bytes::Bytes;
use control_api::object::Key;
use serde_json::Value;

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
    /// The object, decoded.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json)
            .expect("the store encoded this JSON itself, or checked it when it was opened")
    }

    /// Encodes `object` as of `revision`.
    pub(crate) fn encode(key: Key, revision: u64, mut object: Value) -> Result<Self, String> {
        let metadata = object
            .as_object_mut()
            .ok_or("it is not a JSON object")?
            .get_mut("metadata")
            .and_then(Value::as_object_mut)
            .ok_or("it has no metadata")?;
        metadata.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
        let json = serde_json::to_vec(&object).map_err(|error| error.to_string())?;
        // A vector that grew holds up to twice what is in it, and this is kept.
        Ok(Self { key, revision, json: json.into_boxed_slice().into() })
    }
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
