//! Answers: an object, a Status, a stream; each with the headers that go with it.

use crate::negotiate::Encoding;
use bytes::Bytes;
use control_api::error::ApiError;
use control_api::yaml::to_yaml;
use futures::{Stream, StreamExt};
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WARNING,
};
use http::{Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What warnings may be long together before they are cut, in characters.
const WARNINGS_CHARS: usize = 4096;
/// What each may be long then.
const WARNING_CHARS: usize = 256;

/// The media type of nearly everything.
pub(crate) const JSON: &str = "application/json";

const YAML: &str = "application/yaml";

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

/// JSON that is encoded already, written as asked.
pub(crate) fn json(code: StatusCode, bytes: Bytes, encoding: Encoding) -> Response<Body> {
    if encoding == Encoding::Json {
        return answer(code, JSON, full(bytes));
    }
    match serde_json::from_slice(&bytes) {
        Ok(parsed) => value(code, &parsed, encoding),
        Err(_) => answer(code, JSON, full(bytes)),
    }
}

/// A value, written as asked.
pub(crate) fn value(code: StatusCode, value: &Value, encoding: Encoding) -> Response<Body> {
    match encoding {
        Encoding::Json => answer(code, JSON, full(value.to_string())),
        Encoding::PrettyJson => answer(code, JSON, full(format!("{value:#}\n"))),
        Encoding::Yaml => answer(code, YAML, full(to_yaml(value))),
    }
}

/// The Status of a refusal.
pub(crate) fn error(error: &ApiError, encoding: Encoding) -> Response<Body> {
    let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = value(code, &error.to_status(), encoding);
    if let Some(seconds) = error.details.as_ref().and_then(|details| details.retry_after_seconds) {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// 405, with what would be allowed.
pub(crate) fn not_allowed(allowed: &str, encoding: Encoding) -> Response<Body> {
    use control_api::error::{Details, Reason};
    let refusal = ApiError::new(
        Reason::MethodNotAllowed,
        "the server does not allow this method on the requested resource",
    )
    .with_details(Details::default());
    let mut response = error(&refusal, encoding);
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
    for warning in told(warnings) {
        if let Ok(header) = HeaderValue::from_bytes(warning_text(&warning).as_bytes()) {
            response.headers_mut().append(WARNING, header);
        }
    }
}

/// What is told of so many warnings, as upstream bounds it: each once, and where they are too long together, each cut
/// and the last ones left out. A client reads only so much of headers.
fn told(warnings: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let once: Vec<&String> = warnings.iter().filter(|warning| seen.insert(*warning)).collect();
    let length = |text: &str| text.chars().count();
    let all: usize = once.iter().map(|warning| length(warning)).sum();
    let each = if all > WARNINGS_CHARS { WARNING_CHARS } else { WARNINGS_CHARS };
    let mut written = 0;
    let cut = once.into_iter().map(|warning| warning.chars().take(each).collect::<String>());
    cut.take_while(|warning| {
        let has_room = written < WARNINGS_CHARS;
        written += length(warning);
        has_room
    })
    .collect()
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
    use expect_test::{Expect, expect};

    #[test]
    fn a_warning_is_quoted() {
        assert_eq!(warning_text("unknown field \"spec.x\"\n"), r#"299 - "unknown field \"spec.x\"""#);
    }

    /// Warnings as `8x4096`: so many of such a length, all different.
    fn check(warnings: &str, expect: &Expect) {
        let (many, length) = warnings.split_once('x').unwrap();
        let length: usize = length.parse().unwrap();
        let warnings: Vec<String> =
            (0..many.parse().unwrap()).map(|nth: u32| format!("{nth:é<length$}")).collect();
        let told = told(&[warnings.clone(), warnings].concat());
        let lengths: BTreeSet<usize> = told.iter().map(|warning| warning.chars().count()).collect();
        expect.assert_eq(&format!("{} of {lengths:?}", told.len()));
    }

    #[test]
    fn many_warnings_are_cut_and_many_more_are_left_out() {
        check("3x10", &expect!["3 of {10}"]);
        check("1x4096", &expect!["1 of {4096}"]);
        check("1x4097", &expect!["1 of {256}"]);
        check("8x512", &expect!["8 of {512}"]);
        check("9x512", &expect!["9 of {256}"]);
        check("1000x512", &expect!["16 of {256}"]);
        check("1000x100", &expect!["41 of {100}"]);
    }
}
