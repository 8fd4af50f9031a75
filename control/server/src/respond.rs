//! Answers: JSON of an object, of a Status, of a stream; each with the headers that go with it.

use bytes::Bytes;
use control_api::error::ApiError;
use futures::{Stream, StreamExt};
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WARNING,
};
use http::{Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::Value;
use std::io;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The media type of nearly everything.
pub(crate) const JSON: &str = "application/json";

/// A body of known bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes in pieces.
pub(crate) fn streamed(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(stream.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// An answer with a body and its type.
pub(crate) fn answer(code: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Plain text.
pub(crate) fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    answer(code, "text/plain; charset=utf-8", full(text))
}

/// JSON that is encoded already; for people, it is laid out over lines.
pub(crate) fn json(code: StatusCode, bytes: Bytes, pretty: bool) -> Response<Body> {
    let bytes = match pretty {
        false => bytes,
        true => laid_out(&bytes).map_or(bytes, Bytes::from),
    };
    answer(code, JSON, full(bytes))
}

fn laid_out(bytes: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let mut text = serde_json::to_vec_pretty(&value).ok()?;
    text.push(b'\n');
    Some(text)
}

/// JSON of a value.
pub(crate) fn value(code: StatusCode, value: &Value, pretty: bool) -> Response<Body> {
    let text = if pretty { format!("{value:#}\n") } else { value.to_string() };
    answer(code, JSON, full(text))
}

/// The Status of a refusal.
pub(crate) fn error(error: &ApiError, pretty: bool) -> Response<Body> {
    let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = value(code, &error.to_status(), pretty);
    if let Some(seconds) = error.details.as_ref().and_then(|details| details.retry_after_seconds) {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// 405, with what would be allowed.
pub(crate) fn not_allowed(allowed: &str, pretty: bool) -> Response<Body> {
    use control_api::error::{Details, Reason};
    let refusal = ApiError::new(
        Reason::MethodNotAllowed,
        "the server does not allow this method on the requested resource",
    )
    .with_details(Details::default());
    let mut response = error(&refusal, pretty);
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

/// Leaves the head of an answer, which tells the length of the body that it would have.
pub(crate) fn drop_body(response: &mut Response<Body>) {
    let body = std::mem::replace(response.body_mut(), full(""));
    if let Some(length) = body.size_hint().exact() {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
}

/// Adds `Warning` headers; `kubectl` prints them.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        if let Ok(header) = HeaderValue::from_bytes(warning_text(warning).as_bytes()) {
            response.headers_mut().append(WARNING, header);
        }
    }
}

/// `299 - "text"`, quoted as a header asks for it: no control characters, quotes and backslashes escaped.
fn warning_text(text: &str) -> String {
    let mut quoted = String::from("299 - \"");
    for character in text.chars().filter(|c| !c.is_control()) {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

/// Sets a header to a text that we made.
pub(crate) fn set(response: &mut Response<Body>, name: HeaderName, text: &str) {
    if let Ok(header) = HeaderValue::from_str(text) {
        response.headers_mut().insert(name, header);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_quoted() {
        assert_eq!(warning_text("unknown field \"spec.x\"\n"), r#"299 - "unknown field \"spec.x\"""#);
    }
}
