//! Faults of an object's fields, in upstream's words, and the checks that every kind shares.
//!
//! A check takes a value and a path and appends to a list: one request is told of all its faults at once.

mod format;
mod meta;

pub use format::*;
pub use meta::*;

use serde_json::Value;
use std::fmt;

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// The value is not there.
    Required,
    /// The value is there and malformed.
    Invalid,
    /// The value is none of an enumeration.
    NotSupported,
    /// The value is not permitted here, whatever it is.
    Forbidden,
    /// The value occurs more than once.
    Duplicate,
    /// The value refers to something that is not there.
    NotFound,
    /// The text is longer than allowed.
    TooLong,
    /// The list has more elements than allowed.
    TooMany,
    /// The value has the wrong type.
    TypeInvalid,
    /// We failed, not the caller.
    Internal,
}

impl FieldErrorKind {
    /// The `reason` of a `metav1.StatusCause`.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotFound => "FieldValueNotFound",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn head(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Invalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate value",
            Self::NotFound => "Not found",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TypeInvalid => "Invalid value",
            Self::Internal => "Internal error",
        }
    }
}

/// One fault of one field; prints as upstream's `field.Error`.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// Where, for example `spec.containers[0].name`.
    pub path: String,
    /// The offending value; null where the kind shows none.
    pub value: Value,
    /// Why, in a sentence; may be empty.
    pub detail: String,
}

impl FieldError {
    /// A value that has to be there is not.
    pub fn required(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind: FieldErrorKind::Required, path: path.into(), value: Value::Null, detail: detail.into() }
    }

    /// A malformed value.
    pub fn invalid(path: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self { kind: FieldErrorKind::Invalid, path: path.into(), value: value.into(), detail: detail.into() }
    }

    /// A value that is none of `supported`.
    pub fn not_supported(path: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        Self {
            kind: FieldErrorKind::NotSupported,
            path: path.into(),
            value: value.into(),
            detail: format!("supported values: {}", quoted.join(", ")),
        }
    }

    /// A value that may not be here at all.
    pub fn forbidden(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind: FieldErrorKind::Forbidden, path: path.into(), value: Value::Null, detail: detail.into() }
    }

    /// A value that occurs twice.
    pub fn duplicate(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            kind: FieldErrorKind::Duplicate,
            path: path.into(),
            value: value.into(),
            detail: String::new(),
        }
    }

    /// A reference to something that is not there.
    pub fn not_found(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { kind: FieldErrorKind::NotFound, path: path.into(), value: value.into(), detail: String::new() }
    }

    /// A text of more than `max` bytes.
    pub fn too_long(path: impl Into<String>, max: usize) -> Self {
        Self {
            kind: FieldErrorKind::TooLong,
            path: path.into(),
            value: Value::Null,
            detail: format!("may not be more than {max} bytes"),
        }
    }

    /// A list of `is` elements, which may have `most`.
    pub fn too_many(path: impl Into<String>, is: usize, most: usize) -> Self {
        Self {
            kind: FieldErrorKind::TooMany,
            path: path.into(),
            value: is.into(),
            detail: format!("must have at most {most} {}", if most == 1 { "item" } else { "items" }),
        }
    }

    /// The text without the path, as it stands in a `StatusCause`.
    pub fn body(&self) -> String {
        let head = self.kind.head();
        let mut text = match self.kind {
            FieldErrorKind::Required
            | FieldErrorKind::Forbidden
            | FieldErrorKind::TooLong
            | FieldErrorKind::Internal => head.to_owned(),
            FieldErrorKind::Invalid
            | FieldErrorKind::NotSupported
            | FieldErrorKind::Duplicate
            | FieldErrorKind::NotFound
            | FieldErrorKind::TooMany
            | FieldErrorKind::TypeInvalid => format!("{head}: {}", printed(&self.value)),
        };
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// A value as Go's `%#v`-like printing in field errors shows it: texts quoted, numbers bare, the rest as JSON.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}
