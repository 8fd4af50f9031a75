//! A message's bytes to the JSON that Kubernetes writes for it.

use super::messages::{Count, Field, Form, MESSAGES, Mark, Message};
use super::wire::{Fault, Reader, Wire};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

/// Messages are nested no deeper: the deepest of upstream's own stays below 20, those that contain themselves aside.
const MAX_DEPTH: usize = 64;

/// A message as a JSON object.
pub(super) fn message(message: &Message, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Fault> {
    if depth > MAX_DEPTH {
        return Err(Fault::Depth);
    }
    let mut object = Map::new();
    let mut fields = Reader::new(bytes);
    while let Some((number, wire)) = fields.next()? {
        // Unknown numbers are passed over, as protobuf has it: a newer client's new fields.
        if let Some(field) = message.fields.get(&number) {
            read_field(&mut object, field, wire, depth)?;
        }
    }
    for field in
        message.fields.values().filter(|field| field.mark == Mark::Always && field.count == Count::One)
    {
        if let Some(zero) = zero(&field.form)
            && !object.contains_key(field.name)
        {
            object.insert(field.name.to_owned(), zero);
        }
    }
    Ok(object)
}

fn read_field(
    object: &mut Map<String, Value>,
    field: &Field,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), Fault> {
    match field.count {
        Count::One if field.mark == Mark::Inline => {
            let Form::Message(place) = field.form else { return Err(Fault::WireType(field.name.to_owned())) };
            object.extend(message(MESSAGES.at(place), wire.bytes(field.name)?, depth + 1)?);
        }
        Count::One => {
            let value = value(&field.form, field.name, wire, depth)?;
            let dropped = value.is_null() || (field.mark == Mark::Plain && is_zero(&value));
            if !dropped {
                object.insert(field.name.to_owned(), value);
            }
        }
        Count::Repeated => {
            let list = object.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            let list = list.as_array_mut().expect("only this arm writes a repeated field");
            if let (Form::Int32 | Form::Int64 | Form::Bool, Wire::Bytes(packed)) = (&field.form, wire) {
                let mut numbers = Reader::new(packed);
                while !numbers.is_empty() {
                    let number = Wire::Varint(numbers.varint()?);
                    list.push(value(&field.form, field.name, number, depth)?);
                }
            } else {
                list.push(value(&field.form, field.name, wire, depth)?);
            }
        }
        Count::Map => {
            let (mut key, mut entry) = ("", None);
            let mut fields = Reader::new(wire.bytes(field.name)?);
            while let Some((number, wire)) = fields.next()? {
                match number {
                    1 => key = wire.text(field.name)?,
                    2 => entry = Some(value(&field.form, field.name, wire, depth)?),
                    _ => {}
                }
            }
            let entry = entry.or_else(|| zero(&field.form)).unwrap_or(Value::Null);
            let map = object.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            map.as_object_mut().expect("only this arm writes a map field").insert(key.to_owned(), entry);
        }
    }
    Ok(())
}

fn value(form: &Form, name: &str, wire: Wire<'_>, depth: usize) -> Result<Value, Fault> {
    Ok(match form {
        Form::String => wire.text(name)?.into(),
        Form::Bytes => BASE64_STANDARD.encode(wire.bytes(name)?).into(),
        Form::Bool => (wire.varint(name)? != 0).into(),
        Form::Int64 => wire.varint(name)?.cast_signed().into(),
        Form::Int32 => int32(wire.varint(name)?, name)?.into(),
        Form::Double => match wire {
            Wire::Fixed64(bits) => serde_json::Number::from_f64(f64::from_bits(bits))
                .ok_or_else(|| Fault::Range(name.to_owned()))?
                .into(),
            Wire::Varint(_) | Wire::Bytes(_) | Wire::Fixed32 => return Err(Fault::WireType(name.to_owned())),
        },
        Form::Time => time(wire.bytes(name)?, name, "%Y-%m-%dT%H:%M:%SZ")?,
        Form::MicroTime => time(wire.bytes(name)?, name, "%Y-%m-%dT%H:%M:%S.%6fZ")?,
        Form::Duration => {
            let nanos = numbers(wire.bytes(name)?, name)?.0;
            // Go prints durations its own way; whole seconds are all that these messages hold.
            format!("{}s", nanos / 1_000_000_000).into()
        }
        Form::Quantity => {
            let mut text = "0";
            let mut fields = Reader::new(wire.bytes(name)?);
            while let Some((number, wire)) = fields.next()? {
                if number == 1 {
                    text = wire.text(name)?;
                }
            }
            text.into()
        }
        Form::IntOrString => int_or_string(wire.bytes(name)?, name)?,
        Form::Fields | Form::Raw => {
            let mut json: &[u8] = b"";
            let mut fields = Reader::new(wire.bytes(name)?);
            while let Some((number, wire)) = fields.next()? {
                if number == 1 {
                    json = wire.bytes(name)?;
                }
            }
            match serde_json::from_slice(json) {
                _ if json.is_empty() => Value::Null,
                Ok(value) => value,
                Err(_) => return Err(Fault::Json),
            }
        }
        Form::Message(place) => message(MESSAGES.at(*place), wire.bytes(name)?, depth + 1)?.into(),
        Form::Items(inner) => {
            let mut items = Vec::new();
            let mut fields = Reader::new(wire.bytes(name)?);
            while let Some((number, wire)) = fields.next()? {
                if number == 1 {
                    items.push(value(inner, name, wire, depth + 1)?);
                }
            }
            items.into()
        }
    })
}

fn int32(varint: u64, name: &str) -> Result<i32, Fault> {
    i32::try_from(varint.cast_signed()).ok().ok_or_else(|| Fault::Range(name.to_owned()))
}

/// Fields 1 and 2 of a message of two numbers.
fn numbers(bytes: &[u8], name: &str) -> Result<(i64, i32), Fault> {
    let (mut first, mut second) = (0, 0);
    let mut fields = Reader::new(bytes);
    while let Some((number, wire)) = fields.next()? {
        match number {
            1 => first = wire.varint(name)?.cast_signed(),
            2 => second = int32(wire.varint(name)?, name)?,
            _ => {}
        }
    }
    Ok((first, second))
}

/// Nothing at all is Go's zero time, which JSON leaves out.
fn time(bytes: &[u8], name: &str, format: &str) -> Result<Value, Fault> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (seconds, nanos) = numbers(bytes, name)?;
    match jiff::Timestamp::new(seconds, nanos) {
        Ok(time) => Ok(time.strftime(format).to_string().into()),
        Err(_) => Err(Fault::Range(name.to_owned())),
    }
}

fn int_or_string(bytes: &[u8], name: &str) -> Result<Value, Fault> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    let mut fields = Reader::new(bytes);
    while let Some((field, wire)) = fields.next()? {
        match field {
            1 => is_text = wire.varint(name)? == 1,
            2 => number = int32(wire.varint(name)?, name)?,
            3 => text = wire.text(name)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        // A Go struct is never left out, and the server tells `{}` from nothing nowhere.
        Value::Object(_) => false,
    }
}

/// What Go writes for a field that was not sent; none where it writes null.
fn zero(form: &Form) -> Option<Value> {
    match form {
        Form::String => Some("".into()),
        Form::Int32 | Form::Int64 => Some(0.into()),
        Form::Double => Some(0.0.into()),
        Form::Bool => Some(false.into()),
        Form::Bytes => Some("".into()),
        Form::Quantity => Some("0".into()),
        Form::Message(_) => Some(Value::Object(Map::new())),
        Form::Time
        | Form::MicroTime
        | Form::Duration
        | Form::IntOrString
        | Form::Fields
        | Form::Raw
        | Form::Items(_) => None,
    }
}
