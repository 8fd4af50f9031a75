//! Holding a value against its type: unknown fields go, nulls go, wrong types are found.

use crate::quantity::Quantity;
use crate::schema::{Schemas, Shape, Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use std::fmt::Write;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Conformed {
    /// The first value of a wrong type, in the words of Go's decoder.
    pub(super) mismatch: Option<String>,
    /// Paths of the fields that were pruned.
    pub(super) unknown: Vec<String>,
}

/// Prunes `value` to its type, in place.
pub(super) fn conform(schemas: &Schemas, type_name: &str, value: &mut Value) -> Conformed {
    let mut walk = Walk { schemas, path: Vec::new(), owner: "", found: Conformed::default() };
    walk.reference(type_name, value);
    walk.found
}

/// What Go's decoder calls the type of a JSON value.
pub(super) fn json_type(value: &Value) -> &'static str {
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
                if !definition.preserve_unknown {
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
            true
        });
    }

    fn shape(&mut self, shape: &'a Shape, value: &mut Value) {
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
                Value::String(text) => {
                    if let Some(fault) = format.as_deref().and_then(|format| format_fault(format, text)) {
                        self.fault(fault);
                    }
                }
                other => self.wrong(other, &go_type(shape)),
            },
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

fn format_fault(format: &str, text: &str) -> Option<String> {
    match format {
        "date-time" if text.parse::<jiff::Timestamp>().is_err() => Some(format!(
            "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
        )),
        "byte" => {
            let at = match STANDARD.decode(text) {
                Ok(_) => return None,
                Err(
                    base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _),
                ) => at,
                Err(base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding) => {
                    text.len()
                }
            };
            // Go's decoder skips line breaks, as they come out of `base64` on a command line.
            if text.contains(['\n', '\r']) && STANDARD.decode(text.replace(['\n', '\r'], "")).is_ok() {
                return None;
            }
            Some(format!("illegal base64 data at input byte {at}"))
        }
        _ => None,
    }
}

fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::String(_) => Value::String(String::new()),
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
        Shape::String(_) => "string".to_owned(),
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
