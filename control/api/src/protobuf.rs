//! Kubernetes' protobuf: request bodies turned into JSON values, and back.
//!
//! Typed clients send `application/vnd.kubernetes.protobuf`: four magic bytes, then a `runtime.Unknown` that names the
//! kind and holds the message. One generic walk over a table of field numbers (`protobuf/messages.txt`) does every
//! kind; the result is the JSON that the same client would have sent, so that everything behind sees one form only.

mod decode;
mod encode;
mod messages;
mod wire;

use crate::error::ApiError;
use messages::{MESSAGES, Message};
use serde_json::Value;
pub(crate) use wire::Writer;
use wire::{Fault, Reader, Wire};

/// The media type of these bodies.
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every body begins with.
const MAGIC: &[u8; 4] = b"k8s\0";

/// The object that a protobuf body holds, as JSON with its `apiVersion` and `kind`.
///
/// A body that is no protobuf, is cut short, is nested too deep or holds a kind that is not in the table is a bad
/// request.
pub fn decode(body: &[u8]) -> Result<Value, ApiError> {
    decode_body(body).map_err(|fault| ApiError::bad_request(fault.to_string()))
}

/// An object as a protobuf body; none when its kind is not in the table or a field does not fit its message.
pub fn encode(object: &Value) -> Option<Vec<u8>> {
    let api_version = object.get("apiVersion")?.as_str()?;
    let kind = object.get("kind")?.as_str()?;
    let message = MESSAGES.of_kind(api_version, kind)?;
    let mut raw = Writer::default();
    encode::message(&mut raw, message, object)?;
    let mut type_meta = Writer::default();
    type_meta.bytes(1, api_version.as_bytes());
    type_meta.bytes(2, kind.as_bytes());
    let mut unknown = Writer::default();
    unknown.bytes(1, &type_meta.into_bytes());
    unknown.bytes(2, &raw.into_bytes());
    unknown.bytes(3, b"");
    unknown.bytes(4, b"");
    let mut body = MAGIC.to_vec();
    body.extend_from_slice(&unknown.into_bytes());
    Some(body)
}

/// The JSON names of the fields of a message (`core.v1.Pod`) of which a zero is the same as nothing.
pub(crate) fn fields_that_omit_zero(message: &str) -> Vec<&'static str> {
    MESSAGES.named(message).map(Message::fields_that_omit_zero).unwrap_or_default()
}

fn decode_body(body: &[u8]) -> Result<Value, Fault> {
    let envelope = Envelope::read(body.strip_prefix(MAGIC).ok_or(Fault::Magic)?)?;
    let mut object = if envelope.content_type.is_empty() || envelope.content_type == CONTENT_TYPE {
        let message = MESSAGES
            .of_kind(envelope.api_version, envelope.kind)
            .ok_or_else(|| Fault::Kind(envelope.kind.to_owned(), envelope.api_version.to_owned()))?;
        decode::message(message, envelope.raw, 0)?
    } else if envelope.content_type == "application/json" {
        match serde_json::from_slice(envelope.raw) {
            Ok(Value::Object(object)) => object,
            _ => return Err(Fault::Json),
        }
    } else {
        return Err(Fault::ContentType(envelope.content_type.to_owned()));
    };
    if !envelope.api_version.is_empty() {
        object.insert("apiVersion".to_owned(), envelope.api_version.into());
    }
    if !envelope.kind.is_empty() {
        object.insert("kind".to_owned(), envelope.kind.into());
    }
    Ok(Value::Object(object))
}

/// `runtime.Unknown`.
#[derive(Debug, Default)]
struct Envelope<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
    content_type: &'a str,
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut envelope = Self::default();
        let mut fields = Reader::new(bytes);
        while let Some((number, wire)) = fields.next()? {
            match (number, wire) {
                (1, Wire::Bytes(type_meta)) => {
                    let mut fields = Reader::new(type_meta);
                    while let Some((number, wire)) = fields.next()? {
                        match number {
                            1 => envelope.api_version = wire.text("apiVersion")?,
                            2 => envelope.kind = wire.text("kind")?,
                            _ => {}
                        }
                    }
                }
                (2, Wire::Bytes(raw)) => envelope.raw = raw,
                (3, wire) if !wire.text("contentEncoding")?.is_empty() => {
                    return Err(Fault::ContentType(wire.text("contentEncoding")?.to_owned()));
                }
                (4, wire) => envelope.content_type = wire.text("contentType")?,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests;
