//! Kubernetes JSON to a message's bytes.

use super::messages::{Count, Field, Form, MESSAGES, Mark, Message};
use super::wire::Writer;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// Writes an object's fields in the order of their numbers, as upstream does; none when a value has the wrong type.
pub(super) fn message(out: &mut Writer, message: &Message, object: &Value) -> Option<()> {
    let fields = object.as_object()?;
    for (number, field) in &message.fields {
        if field.mark == Mark::Inline {
            let Form::Message(place) = field.form else { return None };
            let mut inner = Writer::default();
            self::message(&mut inner, MESSAGES.at(place), object)?;
            out.bytes(*number, &inner.into_bytes());
            continue;
        }
        match fields.get(field.name) {
            None | Some(Value::Null) => write_absent(out, *number, field),
            Some(present) => write_field(out, *number, field, present)?,
        }
    }
    Some(())
}

/// Upstream's messages carry the zero of every field that is no pointer.
fn write_absent(out: &mut Writer, number: u32, field: &Field) {
    if field.count != Count::One || field.mark == Mark::Pointer {
        return;
    }
    match field.form {
        Form::String => out.bytes(number, b""),
        Form::Int32 | Form::Int64 | Form::Bool => out.varint(number, 0),
        Form::Double => out.fixed64(number, 0),
        Form::Time | Form::MicroTime => out.bytes(number, b""),
        Form::Message(place) => {
            let mut inner = Writer::default();
            for (number, field) in &MESSAGES.at(place).fields {
                write_absent(&mut inner, *number, field);
            }
            out.bytes(number, &inner.into_bytes());
        }
        Form::Bytes
        | Form::Duration
        | Form::Quantity
        | Form::IntOrString
        | Form::Fields
        | Form::Raw
        | Form::Items(_) => {}
    }
}

fn write_field(out: &mut Writer, number: u32, field: &Field, present: &Value) -> Option<()> {
    match field.count {
        Count::One => write(out, number, &field.form, present)?,
        Count::Repeated => {
            for item in present.as_array()? {
                write(out, number, &field.form, item)?;
            }
        }
        Count::Map => {
            for (key, value) in present.as_object()? {
                let mut entry = Writer::default();
                entry.bytes(1, key.as_bytes());
                write(&mut entry, 2, &field.form, value)?;
                out.bytes(number, &entry.into_bytes());
            }
        }
    }
    Some(())
}

fn write(out: &mut Writer, number: u32, form: &Form, value: &Value) -> Option<()> {
    match form {
        Form::String => out.bytes(number, value.as_str()?.as_bytes()),
        Form::Bytes => out.bytes(number, &BASE64_STANDARD.decode(value.as_str()?).ok()?),
        Form::Bool => out.varint(number, u64::from(value.as_bool()?)),
        Form::Int32 => out.varint(number, i64::from(int32(value)?).cast_unsigned()),
        Form::Int64 => out.varint(number, value.as_i64()?.cast_unsigned()),
        Form::Double => out.fixed64(number, value.as_f64()?.to_bits()),
        Form::Time
        | Form::MicroTime
        | Form::Duration
        | Form::Quantity
        | Form::IntOrString
        | Form::Fields
        | Form::Raw
        | Form::Message(_)
        | Form::Items(_) => out.bytes(number, &nested(form, value)?),
    }
    Some(())
}

/// The bytes of a form that is a message on the wire.
fn nested(form: &Form, value: &Value) -> Option<Vec<u8>> {
    let mut inner = Writer::default();
    match form {
        Form::Time | Form::MicroTime => {
            let time: jiff::Timestamp = value.as_str()?.parse().ok()?;
            inner.varint(1, time.as_second().cast_unsigned());
            inner.varint(2, i64::from(time.subsec_nanosecond()).cast_unsigned());
        }
        Form::Duration => {
            let seconds: i64 = value.as_str()?.strip_suffix('s')?.parse().ok()?;
            inner.varint(1, seconds.checked_mul(1_000_000_000)?.cast_unsigned());
        }
        Form::Quantity => match value {
            Value::String(text) => inner.bytes(1, text.as_bytes()),
            other => inner.bytes(1, other.as_number()?.to_string().as_bytes()),
        },
        Form::IntOrString => {
            let text = value.as_str();
            inner.varint(1, u64::from(text.is_some()));
            inner.varint(2, if text.is_some() { 0 } else { i64::from(int32(value)?).cast_unsigned() });
            inner.bytes(3, text.unwrap_or("").as_bytes());
        }
        Form::Fields | Form::Raw => inner.bytes(1, &serde_json::to_vec(value).ok()?),
        Form::Message(place) => message(&mut inner, MESSAGES.at(*place), value)?,
        Form::Items(item_form) => {
            for item in value.as_array()? {
                write(&mut inner, 1, item_form, item)?;
            }
        }
        Form::String | Form::Bytes | Form::Bool | Form::Int32 | Form::Int64 | Form::Double => return None,
    }
    Some(inner.into_bytes())
}

fn int32(value: &Value) -> Option<i32> {
    i32::try_from(value.as_i64()?).ok()
}
