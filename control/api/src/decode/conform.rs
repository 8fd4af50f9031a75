//! Holding a value against its type: unknown fields go, nulls and zeros that say nothing go, wrong types are found,
//! and what can be written in several ways is written in one.

use super::time::{self, Precision};
use super::{MAX_TOLD, bytes, old_yaml};
use crate::quantity::Quantity;
use crate::schema::{Schemas, Shape, Type};
use serde_json::{Map, Value};
use std::fmt::Write;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Conformed {
    /// The first value of a wrong type, in the words of Go's decoder.
    pub(super) mismatch: Option<String>,
    /// Paths of the first fields that were pruned.
    pub(super) unknown: Vec<String>,
}

/// What a value was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A text is a text.
    Json,
    /// A text may be a number or truth value of YAML 1.1.
    Yaml,
    /// It is what a strategic merge made: upstream converts that without writing JSON, and has other words for it.
    Merge,
}

/// Prunes `value` to its type, in place.
pub(super) fn conform(schemas: &Schemas, type_name: &str, value: &mut Value, origin: Origin) -> Conformed {
    let mut walk = Walk { schemas, origin, path: Vec::new(), owner: "", found: Conformed::default() };
    walk.reference(type_name, value);
    walk.found
}

/// What Go's decoder calls the type of a JSON value.
pub(crate) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

enum Step {
    Field(String),
    Index(usize),
    Key(String),
}

struct Walk<'a> {
    schemas: &'a Schemas,
    origin: Origin,
    path: Vec<Step>,
    /// Definition name of the innermost type that holds the current value.
    owner: &'a str,
    found: Conformed,
}

impl<'a> Walk<'a> {
    fn reference(&mut self, name: &str, value: &mut Value) {
        let Some((name, definition)) = self.schemas.types.get_key_value(name) else { return };
        match value {
            Value::Object(map) => {
                let above = std::mem::replace(&mut self.owner, name.as_ref());
                self.fields(definition, map);
                self.owner = above;
            }
            other => self.wrong(other, &go_struct(name)),
        }
    }

    fn fields(&mut self, definition: &'a Type, map: &mut Map<String, Value>) {
        map.retain(|name, value| {
            let Some(field) = definition.fields.get(name.as_str()) else {
                if !definition.preserve_unknown && self.found.unknown.len() < MAX_TOLD {
                    self.path.push(Step::Field(name.clone()));
                    let path = self.full_path();
                    self.found.unknown.push(path);
                    self.path.pop();
                }
                return definition.preserve_unknown;
            };
            if value.is_null() {
                return false;
            }
            self.path.push(Step::Field(name.clone()));
            self.shape(&field.shape, value);
            self.path.pop();
            !(field.omits_zero && is_zero(&field.shape, value))
        });
    }

    fn shape(&mut self, shape: &'a Shape, value: &mut Value) {
        if self.origin == Origin::Yaml
            && let Value::String(text) = &*value
            && let Some(meaning) = old_yaml::meaning(shape, text)
        {
            *value = meaning;
        }
        match shape {
            Shape::Ref(name) => self.reference(name, value),
            Shape::Array(inner) => match value {
                Value::Array(items) => {
                    for (index, item) in items.iter_mut().enumerate() {
                        self.path.push(Step::Index(index));
                        self.element(inner, item);
                        self.path.pop();
                    }
                }
                other => self.wrong(other, &go_type(shape)),
            },
            Shape::Map(inner) => match value {
                Value::Object(map) => {
                    for (key, item) in map.iter_mut() {
                        self.path.push(Step::Key(key.clone()));
                        self.element(inner, item);
                        self.path.pop();
                    }
                }
                other => self.wrong(other, &go_type(shape)),
            },
            Shape::String(format) => match value {
                Value::String(text) if format.as_deref() == Some("byte") => {
                    let canonical = bytes::canonical(text);
                    self.rewrite(value, canonical);
                }
                Value::String(_) => (),
                other => self.wrong(other, &go_type(shape)),
            },
            Shape::Time => self.time(value, Precision::Seconds),
            Shape::MicroTime => self.time(value, Precision::Micros),
            Shape::Integer(format) => self.integer(format, value),
            Shape::Number => {
                if !value.is_number() {
                    self.wrong(value, "float64");
                }
            }
            Shape::Boolean => {
                if !value.is_boolean() {
                    self.wrong(value, "bool");
                }
            }
            Shape::IntOrString => {
                if !value.is_string() {
                    self.integer("int32", value);
                }
            }
            Shape::Quantity => self.quantity(value),
            Shape::Any => (),
        }
    }

    /// An element of a list or a value of a map: null is the zero value there.
    fn element(&mut self, shape: &'a Shape, value: &mut Value) {
        if value.is_null() {
            *value = zero(shape);
        }
        self.shape(shape, value);
    }

    fn integer(&mut self, format: &str, value: &Value) {
        let fits = match value.as_i64() {
            Some(number) if format == "int32" => i32::try_from(number).is_ok(),
            Some(_) => true,
            None => false,
        };
        if !fits {
            self.wrong(value, if format == "int32" { "int32" } else { "int64" });
        }
    }

    fn time(&mut self, value: &mut Value, precision: Precision) {
        match value {
            Value::String(text) => {
                let canonical = time::canonical(text, precision);
                self.rewrite(value, canonical);
            }
            other => self.wrong(other, "string"),
        }
    }

    /// Puts the one way of writing a value in the place of how it is written.
    fn rewrite(&mut self, value: &mut Value, canonical: Result<impl Into<Value>, String>) {
        match canonical {
            Ok(canonical) => *value = canonical.into(),
            Err(fault) => self.fault(fault),
        }
    }

    fn quantity(&mut self, value: &mut Value) {
        if !value.is_string() && !value.is_number() {
            self.fault(
                "quantities must match the regular expression \
                 '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                    .to_owned(),
            );
            return;
        }
        match Quantity::from_value(value) {
            Ok(quantity) => *value = Value::String(quantity.to_string()),
            Err(error) => self.fault(error.to_string()),
        }
    }

    /// Remembers the first value of a wrong type.
    fn wrong(&mut self, value: &Value, go_type: &str) {
        if value.is_null() {
            return;
        }
        if self.origin == Origin::Merge
            && let Some(fault) = inconvertible(value, go_type)
        {
            self.fault(fault);
            return;
        }
        let is = match value {
            Value::Number(number) if go_type.starts_with("int") => format!("number {number}"),
            other => json_type(other).to_owned(),
        };
        let mut names = String::new();
        for step in &self.path {
            if let Step::Field(name) = step {
                let dot = if names.is_empty() { "" } else { "." };
                write!(names, "{dot}{name}").expect("writing to a String does not fail");
            }
        }
        let into = if names.is_empty() {
            format!("Go value of type {go_type}")
        } else {
            let owner = self.owner.rsplit('.').next().unwrap_or("");
            format!("Go struct field {owner}.{names} of type {go_type}")
        };
        self.fault(format!("json: cannot unmarshal {is} into {into}"));
    }

    fn fault(&mut self, text: String) {
        self.found.mismatch.get_or_insert(text);
    }

    fn full_path(&self) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) | Step::Key(name) => {
                    let dot = if out.is_empty() { "" } else { "." };
                    write!(out, "{dot}{name}")
                }
                Step::Index(index) => write!(out, "[{index}]"),
            }
            .expect("writing to a String does not fail");
        }
        out
    }
}

/// What upstream's converter of maps says of a value of a wrong type; none of types that it reads as JSON.
fn inconvertible(value: &Value, go_type: &str) -> Option<String> {
    let is = match value {
        Value::Null => return None,
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    };
    Some(match go_type {
        "string" | "int32" | "int64" if is == "int64" => format!("cannot convert {is} to {go_type}"),
        "int32" | "int64" if is == "float64" => format!("cannot convert {is} to {go_type}"),
        "string" | "int32" | "int64" | "float64" | "bool" => format!("unrecognized type: {go_type}"),
        "intstr.IntOrString" | "resource.Quantity" => return None,
        "v1.ResourceList" => format!("cannot restore map from {is}"),
        _ if go_type.starts_with("map[") => format!("cannot restore map from {is}"),
        _ if go_type.starts_with("[]") => format!("cannot restore slice from {is}"),
        _ => format!("cannot restore struct from: {is}"),
    })
}

/// Whether Go leaves out a value of this shape: a scalar's zero, an empty list or map, never a struct.
fn is_zero(shape: &Shape, value: &Value) -> bool {
    match (shape, value) {
        (Shape::String(_), Value::String(text)) => text.is_empty(),
        (Shape::Integer(_) | Shape::Number, Value::Number(number)) => number.as_f64() == Some(0.0),
        (Shape::Boolean, Value::Bool(flag)) => !flag,
        (Shape::Array(_), Value::Array(items)) => items.is_empty(),
        (Shape::Map(_), Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}

fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::String(_) => Value::String(String::new()),
        // No list or map of times is known; Go writes null for the zero time.
        Shape::Time | Shape::MicroTime => Value::Null,
        Shape::Integer(_) | Shape::Number | Shape::IntOrString => 0.into(),
        Shape::Boolean => false.into(),
        Shape::Quantity => Value::String("0".to_owned()),
        Shape::Array(_) => Value::Array(Vec::new()),
        Shape::Map(_) | Shape::Ref(_) => Value::Object(Map::new()),
        Shape::Any => Value::Null,
    }
}

/// `v1.PodSpec` of `io.k8s.api.core.v1.PodSpec`.
fn go_struct(name: &str) -> String {
    let mut parts = name.rsplit('.');
    let last = parts.next().unwrap_or("");
    format!("{}.{last}", parts.next().unwrap_or(""))
}

fn go_type(shape: &Shape) -> String {
    match shape {
        Shape::String(Some(format)) if format == "byte" => "[]uint8".to_owned(),
        Shape::String(_) | Shape::Time | Shape::MicroTime => "string".to_owned(),
        Shape::Integer(format) => format.to_string(),
        Shape::Number => "float64".to_owned(),
        Shape::Boolean => "bool".to_owned(),
        Shape::IntOrString => "intstr.IntOrString".to_owned(),
        Shape::Quantity => "resource.Quantity".to_owned(),
        Shape::Array(inner) => format!("[]{}", go_type(inner)),
        Shape::Map(inner) if **inner == Shape::Quantity => "v1.ResourceList".to_owned(),
        Shape::Map(inner) => format!("map[string]{}", go_type(inner)),
        Shape::Ref(name) => go_struct(name),
        Shape::Any => "interface {}".to_owned(),
    }
}
