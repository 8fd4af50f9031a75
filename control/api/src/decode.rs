//! From a request's body to an object of a known type: JSON, YAML or protobuf.
//!
//! What the type does not know is pruned, and told as [`FieldValidation`] asks; a value of the wrong type is refused in
//! the words of upstream's decoder, which tools print as they are. Nulls are dropped as Go drops them.

mod conform;
mod parse;

use crate::error::{ApiError, Reason};
use crate::object;
use crate::protobuf;
use crate::resource::{Resource, Resources};
use crate::schema::Schemas;
use conform::Conformed;
use serde_json::Value;

/// What becomes of fields that a type does not know, or that come twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// They are dropped without a word.
    Ignore,
    /// They are dropped, each with a warning: the default.
    #[default]
    Warn,
    /// They are refused.
    Strict,
}

impl FieldValidation {
    /// From the query parameter `fieldValidation`; empty is the default.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => {
                let fault = crate::validate::FieldError::not_supported(
                    "fieldValidation",
                    other,
                    &["Ignore", "Strict", "Warn"],
                );
                Err(ApiError::invalid("meta.k8s.io", "CreateOptions", "", &[fault]))
            }
        }
    }
}

/// An object out of a body.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// It holds only what its type knows.
    pub object: Value,
    /// For `Warning:` headers.
    pub warnings: Vec<String>,
}

/// What a body was read as, to be named in a refusal.
struct Expected<'a> {
    kind: &'a str,
    api_version: &'a str,
    type_name: &'a str,
}

/// Reads a body as an object of `resource`.
pub fn decode(
    resources: &Resources,
    resource: &Resource,
    content_type: &str,
    body: &[u8],
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    let api_version = resource.api_version();
    let expected = Expected { kind: &resource.kind, api_version: &api_version, type_name: &resource.schema };
    decode_expected(resources, &expected, content_type, body, validation)
}

/// Reads a body as something that is no resource of its own: `DeleteOptions`, `Scale`, `Binding`.
pub fn decode_as(
    resources: &Resources,
    (api_version, kind, type_name): (&str, &str, &str),
    content_type: &str,
    body: &[u8],
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    decode_expected(resources, &Expected { kind, api_version, type_name }, content_type, body, validation)
}

/// `metav1.DeleteOptions`, for [`decode_as`]: any group's version is taken, as clients send it with the object's.
pub const DELETE_OPTIONS: (&str, &str, &str) =
    ("v1", "DeleteOptions", "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
/// `autoscaling/v1` Scale, for [`decode_as`].
pub const SCALE: (&str, &str, &str) = ("autoscaling/v1", "Scale", "io.k8s.api.autoscaling.v1.Scale");
/// `v1` Binding, for [`decode_as`].
pub const BINDING: (&str, &str, &str) = ("v1", "Binding", "io.k8s.api.core.v1.Binding");

/// Checks and prunes an object that did not come out of a body: what a patch made of another.
pub fn conform(
    resources: &Resources,
    resource: &Resource,
    object: Value,
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    let api_version = resource.api_version();
    let expected = Expected { kind: &resource.kind, api_version: &api_version, type_name: &resource.schema };
    finish(resources.schemas(), &expected, object, Vec::new(), validation)
}

fn decode_expected(
    resources: &Resources,
    expected: &Expected<'_>,
    content_type: &str,
    body: &[u8],
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    let (mut object, duplicates) = match media_type(content_type).as_str() {
        "" | "application/json" => {
            parse::json(body).map_err(|cause| unrecognized(expected, "json parse error: ", &cause, body))?
        }
        "application/yaml" | "application/x-yaml" | "text/yaml" => {
            parse::yaml(body).map_err(|cause| unrecognized(expected, "yaml: ", &cause, body))?
        }
        protobuf::CONTENT_TYPE => (protobuf::decode(body)?, Vec::new()),
        _ => {
            return Err(ApiError::new(
                Reason::UnsupportedMediaType,
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json, application/yaml, application/vnd.kubernetes.protobuf",
            ));
        }
    };
    if !object.is_object() {
        let cause = format!("cannot unmarshal {} into Go value of type struct", conform::json_type(&object));
        return Err(unrecognized(expected, "json: ", &cause, body));
    }
    check_type(expected, &mut object)?;
    finish(resources.schemas(), expected, object, duplicates, validation)
}

/// `application/json` of `application/json; charset=utf-8`.
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Fills in an absent `kind` and `apiVersion`, and refuses others than expected.
fn check_type(expected: &Expected<'_>, object: &mut Value) -> Result<(), ApiError> {
    let kind = object::kind(object).to_owned();
    let api_version = object::api_version(object).to_owned();
    let is_options = expected.kind == "DeleteOptions";
    if !api_version.is_empty() && api_version != expected.api_version && !is_options {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            expected.api_version
        )));
    }
    if !kind.is_empty() && kind != expected.kind {
        let go_package = if expected.api_version.contains('/') {
            expected.api_version.split('/').next().unwrap_or("")
        } else {
            "core"
        };
        let cause = format!("converting (v1.{kind}) to ({go_package}.{}): unknown conversion", expected.kind);
        return Err(cannot_be_handled(expected, &kind, &cause));
    }
    let map = object::map_mut(object, &[]);
    for (key, is, shall) in
        [("kind", &kind, expected.kind), ("apiVersion", &api_version, expected.api_version)]
    {
        // A value of another type stays: it is refused with its type.
        if is.is_empty() && map.get(key).is_none_or(|value| value.is_null() || value.is_string()) {
            map.insert(key.to_owned(), shall.into());
        }
    }
    Ok(())
}

fn finish(
    schemas: &Schemas,
    expected: &Expected<'_>,
    mut object: Value,
    duplicates: Vec<String>,
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    let Conformed { mismatch, unknown } = conform::conform(schemas, expected.type_name, &mut object);
    if let Some(mismatch) = mismatch {
        return Err(cannot_be_handled(expected, expected.kind, &mismatch));
    }
    let mut told: Vec<String> = duplicates.iter().map(|path| format!("duplicate field {path:?}")).collect();
    told.extend(unknown.iter().map(|path| format!("unknown field {path:?}")));
    let warnings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => told,
        FieldValidation::Strict if told.is_empty() => Vec::new(),
        FieldValidation::Strict => {
            let cause = format!("strict decoding error: {}", told.join(", "));
            return Err(cannot_be_handled(expected, expected.kind, &cause));
        }
    };
    Ok(Decoded { object, warnings })
}

fn cannot_be_handled(expected: &Expected<'_>, kind: &str, cause: &str) -> ApiError {
    let version = expected.api_version.rsplit('/').next().unwrap_or("");
    ApiError::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {}: {cause}",
        expected.kind
    ))
}

fn unrecognized(expected: &Expected<'_>, head: &str, cause: &str, body: &[u8]) -> ApiError {
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): couldn't get version/kind; {head}{cause} ({})",
        expected.kind,
        summary(body)
    ))
}

/// The start of a body, for people: text when it looks like JSON, else hexadecimal.
fn summary(body: &[u8]) -> String {
    const MOST: usize = 30;
    let start = &body[..body.len().min(MOST)];
    let dots = if body.len() > MOST { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{dots}", String::from_utf8_lossy(start)),
        Some(_) => {
            let hex: String = start.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{hex}{dots}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(kind: &str, validation: FieldValidation, body: &str, expect: Expect) {
        let resources = Resources::built_in();
        let row = resources.iter().find(|row| row.kind == kind).unwrap();
        let content_type = if body.starts_with('{') { "application/json" } else { "application/yaml" };
        let text = match decode(&resources, row, content_type, body.as_bytes(), validation) {
            Ok(decoded) => format!("{} {:?}", decoded.object, decoded.warnings),
            Err(error) => format!("{} {}", error.code, error.message),
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn unknown_fields_are_pruned_with_a_warning() {
        check(
            "Deployment",
            FieldValidation::Warn,
            r#"{"metadata":{"name":"a"},"spec":{"foo":1,"template":{"spec":{"containers":[{"name":"c","imag":"x"}]}}}}"#,
            expect![[
                r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"template":{"spec":{"containers":[{"name":"c"}]}}}} ["unknown field \"spec.foo\"", "unknown field \"spec.template.spec.containers[0].imag\""]"#
            ]],
        );
    }

    #[test]
    fn strict_refuses_unknown_and_duplicate_fields() {
        check(
            "Deployment",
            FieldValidation::Strict,
            r#"{"metadata":{"name":"a"},"spec":{"replicas":1,"replicas":2,"foo":1}}"#,
            expect![[
                r#"400 Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: duplicate field "spec.replicas", unknown field "spec.foo""#
            ]],
        );
    }

    #[test]
    fn a_wrong_type_is_told_as_go_tells_it() {
        check(
            "Deployment",
            FieldValidation::Strict,
            r#"{"spec":{"replicas":"three"}}"#,
            expect![[
                r#"400 Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"#
            ]],
        );
        check(
            "Pod",
            FieldValidation::Ignore,
            "spec:\n  containers:\n  - name: a\n    env:\n    - name: A\n      value: 1\n",
            expect![[
                r#"400 Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string"#
            ]],
        );
        check(
            "Pod",
            FieldValidation::Ignore,
            r#"{"spec":{"containers":{}}}"#,
            expect![[
                r#"400 Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container"#
            ]],
        );
        check(
            "Pod",
            FieldValidation::Ignore,
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"lots"}}}]}}"#,
            expect![[
                r#"400 Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#
            ]],
        );
    }

    #[test]
    fn nulls_go_and_quantities_become_canonical() {
        check(
            "Pod",
            FieldValidation::Strict,
            r#"{"metadata":{"labels":{"a":null},"creationTimestamp":null},"spec":{"containers":[{"resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}}}]}}"#,
            expect![[
                r#"{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"a":""}},"spec":{"containers":[{"resources":{"limits":{"cpu":"500m","memory":"1Gi"}}}]}} []"#
            ]],
        );
    }

    #[test]
    fn another_kind_or_version_is_refused() {
        check(
            "Deployment",
            FieldValidation::Warn,
            r#"{"apiVersion":"apps/v1beta1","kind":"Deployment"}"#,
            expect![
                "400 the API version in the data (apps/v1beta1) does not match the expected API version (apps/v1)"
            ],
        );
        check(
            "Pod",
            FieldValidation::Warn,
            r#"{"apiVersion":"v1","kind":"Service"}"#,
            expect![[
                r#"400 Service in version "v1" cannot be handled as a Pod: converting (v1.Service) to (core.Pod): unknown conversion"#
            ]],
        );
        check(
            "Pod",
            FieldValidation::Warn,
            r#"{"apiVersion":"#,
            expect![[
                r#"400 the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: EOF while parsing a value at line 1 column 14 ({"apiVersion":)"#
            ]],
        );
    }

    /// A sample of a kind with every field set; none where the samples are not.
    fn golden(name: &str) -> Option<Vec<u8>> {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden"));
        std::fs::read(folder.join(name)).ok()
    }

    #[test]
    fn upstreams_samples_hold_no_unknown_field() {
        let resources = Resources::built_in();
        for row in resources.iter() {
            let group = if row.group.is_empty() { "core" } else { &row.group };
            let Some(body) = golden(&format!("{group}.{}.{}.json", row.version, row.kind)) else { continue };
            let decoded = decode(&resources, row, "application/json", &body, FieldValidation::Strict);
            assert!(decoded.is_ok(), "{}: {decoded:?}", row.kind);
        }
    }
}
