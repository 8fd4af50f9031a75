//! The shape of every object the API serves, as data.
//!
//! A [`Schemas`] is a set of named types (`io.k8s.api.core.v1.Pod`), built once from `k8s-openapi`'s JSON schemas and
//! our table of facts (defaults, patch and list strategies). Strict decoding, pruning, defaulting, strategic merge,
//! managed fields and OpenAPI all read it; none of them names a kind.

mod build;

use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Named types, by their OpenAPI definition name.
#[derive(Debug, Default)]
pub struct Schemas {
    /// Types by definition name, for example `io.k8s.api.core.v1.Pod`.
    pub types: BTreeMap<Cow<'static, str>, Type>,
}

/// One object type.
#[derive(Debug, Clone)]
pub struct Type {
    /// What the type is, in a sentence or more: `kubectl explain` prints it.
    pub doc: Cow<'static, str>,
    /// Fields by JSON name.
    pub fields: BTreeMap<Cow<'static, str>, Field>,
    /// JSON names of fields that must be present.
    pub required: Vec<Cow<'static, str>>,
    /// Unknown fields are kept, not pruned (CRDs with `x-kubernetes-preserve-unknown-fields`, `JSON`).
    pub preserve_unknown: bool,
    /// Server-side apply takes it as a whole (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
}

/// One field of a [`Type`].
#[derive(Debug, Clone)]
pub struct Field {
    /// What the field means.
    pub doc: Cow<'static, str>,
    /// What it holds.
    pub shape: Shape,
    /// The value that stands for an absent one.
    pub default: Option<Value>,
    /// A false, zero or empty value of it is the same as none (Go's `omitempty` of what is no pointer).
    pub omits_zero: bool,
    /// How strategic merge patch treats it.
    pub patch: PatchStrategy,
    /// How server-side apply treats it, when it is a list.
    pub list: ListType,
    /// Server-side apply takes the map as a whole (`x-kubernetes-map-type: atomic`), when it is one.
    pub atomic_map: bool,
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Text; the format is OpenAPI's (`byte`), if any.
    String(Option<Cow<'static, str>>),
    /// A time in whole seconds (`metav1.Time`).
    Time,
    /// A time in microseconds (`metav1.MicroTime`).
    MicroTime,
    /// A whole number; `int32` or `int64`.
    Integer(Cow<'static, str>),
    /// A floating-point number.
    Number,
    /// true or false.
    Boolean,
    /// A number or a text (`metav1.IntOrString`).
    IntOrString,
    /// A `resource.Quantity`: text or number on the wire.
    Quantity,
    /// A list.
    Array(Box<Self>),
    /// An object with free keys.
    Map(Box<Self>),
    /// Another type of the same [`Schemas`].
    Ref(Cow<'static, str>),
    /// Anything at all (`RawExtension`, `FieldsV1`).
    Any,
}

/// `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists are merged instead of replaced; maps are merged always.
    pub merge: bool,
    /// The key by which elements of a merged list of objects are matched; none for a list of scalars.
    pub merge_key: Option<Cow<'static, str>>,
    /// Fields that a patch does not mention are cleared (`retainKeys`).
    pub retain_keys: bool,
}

/// `x-kubernetes-list-type` and `x-kubernetes-list-map-keys`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    #[default]
    Atomic,
    /// Scalars, each at most once.
    Set,
    /// Objects told apart by these keys.
    Map(Vec<Cow<'static, str>>),
}

impl Schemas {
    /// The type of a definition name.
    pub fn get(&self, name: &str) -> Option<&Type> {
        self.types.get(name)
    }

    /// The field at a path of JSON names below a type; list elements and map values need no step of their own.
    pub fn field(&self, type_name: &str, path: &[&str]) -> Option<&Field> {
        let (last, parents) = path.split_last()?;
        let mut current = self.get(type_name)?;
        for step in parents {
            current = self.get(current.fields.get(*step)?.shape.innermost().as_ref_name()?)?;
        }
        current.fields.get(*last)
    }
}

impl Shape {
    /// The element of a list of lists, the value of a map of maps; itself when it is neither.
    pub fn innermost(&self) -> &Self {
        match self {
            Self::Array(inner) | Self::Map(inner) => inner.innermost(),
            Self::String(_)
            | Self::Time
            | Self::MicroTime
            | Self::Integer(_)
            | Self::Number
            | Self::Boolean
            | Self::IntOrString
            | Self::Quantity
            | Self::Ref(_)
            | Self::Any => self,
        }
    }

    /// The name of the type it refers to.
    pub fn as_ref_name(&self) -> Option<&str> {
        if let Self::Ref(name) = self { Some(name) } else { None }
    }
}
