//! What the API answers when it refuses: upstream's reasons, codes and words, as `metav1.Status`.
//!
//! An [`ApiError`] is data for the caller. The internal cause of an [`ApiError::internal`] goes to the log of whoever
//! has one, not into the answer.

use crate::validate::FieldError;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt;

/// As many faults are told of one object: more help nobody, and a body may have a hundred thousand.
const MAX_FAULTS: usize = 1000;

/// `metav1.StatusReason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 409, on a create.
    AlreadyExists,
    /// 409, on an update or delete that names an older state.
    Conflict,
    /// 410, of something that is gone for good.
    Gone,
    /// 410, of a resource version that is too old.
    Expired,
    /// 422.
    Invalid,
    /// 400.
    BadRequest,
    /// 405.
    MethodNotAllowed,
    /// 406.
    NotAcceptable,
    /// 413.
    RequestEntityTooLarge,
    /// 415.
    UnsupportedMediaType,
    /// 429.
    TooManyRequests,
    /// 500.
    InternalError,
    /// 503.
    ServiceUnavailable,
    /// 504.
    Timeout,
    /// 500, and worth another try soon.
    ServerTimeout,
}

impl Reason {
    /// As it stands in a Status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Expired => "Expired",
            Self::Invalid => "Invalid",
            Self::BadRequest => "BadRequest",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::TooManyRequests => "TooManyRequests",
            Self::InternalError => "InternalError",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
            Self::ServerTimeout => "ServerTimeout",
        }
    }

    /// The HTTP status that goes with it.
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::ServerTimeout => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }
}

/// `metav1.StatusCause`.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// `FieldValueInvalid` and its like.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The field it is about; may be empty.
    pub field: String,
}

/// `metav1.StatusDetails`; empty members are left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The API group.
    pub group: String,
    /// The kind or plural.
    pub kind: String,
    /// The object's uid.
    pub uid: String,
    /// Every fault.
    pub causes: Vec<Cause>,
    /// Seconds after which another try makes sense.
    pub retry_after_seconds: Option<u32>,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// For programs.
    pub reason: Reason,
    /// HTTP status.
    pub code: u16,
    /// For people, and for tools that read upstream's words.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<Details>>,
}

impl ApiError {
    /// A reason with its usual code.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, code: reason.code(), message: message.into(), details: None }
    }

    /// The same with details.
    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    fn about(reason: Reason, group: &str, plural: &str, name: &str, message: String) -> Self {
        Self::new(reason, message).with_details(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: plural.to_owned(),
            ..Details::default()
        })
    }

    /// 404: no such object.
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(group, plural));
        Self::about(Reason::NotFound, group, plural, name, message)
    }

    /// 404: no such path.
    pub fn no_such_path() -> Self {
        Self::new(Reason::NotFound, "the server could not find the requested resource")
            .with_details(Details::default())
    }

    /// 409: the name is taken.
    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(group, plural));
        Self::about(Reason::AlreadyExists, group, plural, name, message)
    }

    /// 409, with the reason why.
    pub fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(group, plural));
        Self::about(Reason::Conflict, group, plural, name, message)
    }

    /// 409: the object has another resource version by now.
    pub fn modified(group: &str, plural: &str, name: &str) -> Self {
        Self::conflict(
            group,
            plural,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 422, with every fault; of very many the first ones, and how many there are besides.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let told = &errors[..errors.len().min(MAX_FAULTS)];
        let mut seen = BTreeSet::new();
        let mut texts: Vec<String> =
            told.iter().map(ToString::to_string).filter(|text| seen.insert(text.clone())).collect();
        if told.len() < errors.len() {
            texts.push(format!("and {} more", errors.len() - told.len()));
        }
        let faults =
            if let [only] = texts.as_slice() { only.clone() } else { format!("[{}]", texts.join(", ")) };
        let message = format!("{} {name:?} is invalid: {faults}", qualified(group, kind));
        let mut error = Self::about(Reason::Invalid, group, kind, name, message);
        if let Some(details) = &mut error.details {
            details.causes = told
                .iter()
                .map(|error| Cause {
                    reason: error.kind.cause().to_owned(),
                    message: error.body(),
                    field: error.path.clone(),
                })
                .collect();
        }
        error
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// 403, with the reason why.
    pub fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", qualified(group, plural))
        } else {
            format!("{} {name:?} is forbidden: {why}", qualified(group, plural))
        };
        Self::about(Reason::Forbidden, group, plural, name, message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(Reason::Unauthorized, "Unauthorized")
    }

    /// 410: it was there, and will not be again.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(Reason::Gone, message)
    }

    /// 410: the resource version or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(Reason::Expired, message)
    }

    /// 415.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(Reason::UnsupportedMediaType, message)
    }

    /// 406.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(Reason::NotAcceptable, message)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(Reason::RequestEntityTooLarge, message)
    }

    /// 429, with seconds to wait.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(Reason::TooManyRequests, message)
            .with_details(Details { retry_after_seconds: Some(retry_after_seconds), ..Details::default() })
    }

    /// 500. The words are for the client; what went wrong inside belongs into the log.
    pub fn internal(message: impl fmt::Display) -> Self {
        let text = message.to_string();
        Self::new(Reason::InternalError, format!("Internal error occurred: {text}")).with_details(Details {
            causes: vec![Cause { reason: String::new(), message: text, field: String::new() }],
            ..Details::default()
        })
    }

    /// 405.
    pub fn method_not_supported(group: &str, plural: &str, action: &str) -> Self {
        let message =
            format!("{action} is not supported on resources of kind {:?}", qualified(group, plural));
        Self::about(Reason::MethodNotAllowed, group, plural, "", message)
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Reason::ServiceUnavailable, message)
    }

    /// 504.
    pub fn timeout(message: impl fmt::Display, retry_after_seconds: u32) -> Self {
        Self::new(Reason::Timeout, format!("Timeout: {message}"))
            .with_details(Details { retry_after_seconds: Some(retry_after_seconds), ..Details::default() })
    }

    /// As `metav1.Status`.
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason.as_str(),
        });
        if let Some(details) = &self.details {
            status["details"] = details.to_value();
        }
        status["code"] = self.code.into();
        status
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in
            [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)]
        {
            if !text.is_empty() {
                out.insert(key.to_owned(), Value::String(text.clone()));
            }
        }
        if !self.causes.is_empty() {
            out.insert("causes".to_owned(), self.causes.iter().map(Cause::to_value).collect());
        }
        if let Some(seconds) = self.retry_after_seconds {
            out.insert("retryAfterSeconds".to_owned(), seconds.into());
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (key, text) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !text.is_empty() {
                out.insert(key.to_owned(), Value::String(text.clone()));
            }
        }
        Value::Object(out)
    }
}

/// `deployments.apps`, `pods`, `Deployment.apps`.
fn qualified(group: &str, plural: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(error: &ApiError, expect: Expect) {
        expect.assert_eq(&format!("{} {}", error.code, error.to_status()));
    }

    #[test]
    fn a_missing_object_is_named_with_its_group() {
        check(
            &ApiError::not_found("apps", "deployments", "web"),
            expect![[
                r#"404 {"apiVersion":"v1","code":404,"details":{"group":"apps","kind":"deployments","name":"web"},"kind":"Status","message":"deployments.apps \"web\" not found","metadata":{},"reason":"NotFound","status":"Failure"}"#
            ]],
        );
    }

    #[test]
    fn every_fault_is_a_cause() {
        let faults =
            [FieldError::required("spec.containers", ""), FieldError::invalid("metadata.name", "A", "no")];
        check(
            &ApiError::invalid("", "Pod", "A", &faults),
            expect![[
                r#"422 {"apiVersion":"v1","code":422,"details":{"causes":[{"field":"spec.containers","message":"Required value","reason":"FieldValueRequired"},{"field":"metadata.name","message":"Invalid value: \"A\": no","reason":"FieldValueInvalid"}],"kind":"Pod","name":"A"},"kind":"Status","message":"Pod \"A\" is invalid: [spec.containers: Required value, metadata.name: Invalid value: \"A\": no]","metadata":{},"reason":"Invalid","status":"Failure"}"#
            ]],
        );
    }

    #[test]
    fn of_very_many_faults_the_first_are_told() {
        let faults: Vec<FieldError> =
            (0..100_000).map(|n| FieldError::required(format!("spec.containers[{n}].name"), "")).collect();
        let error = ApiError::invalid("", "Pod", "a", &faults);
        assert_eq!(error.details.unwrap().causes.len(), MAX_FAULTS);
        let end = "spec.containers[999].name: Required value, and 99000 more]";
        assert!(error.message.ends_with(end), "{}", &error.message[error.message.len() - 100..]);
    }

    #[test]
    fn a_fault_that_is_found_twice_is_told_once() {
        let fault = FieldError::required("spec", "");
        expect![[r#"Pod "a" is invalid: spec: Required value"#]]
            .assert_eq(&ApiError::invalid("", "Pod", "a", &[fault.clone(), fault]).message);
    }

    #[test]
    fn a_stale_write_is_told_so() {
        expect![[
            r#"Operation cannot be fulfilled on pods "a": the object has been modified; please apply your changes to the latest version and try again"#
        ]]
        .assert_eq(&ApiError::modified("", "pods", "a").message);
    }
}
