//! From a request's body to an object of a known type: JSON, YAML or protobuf.
//!
//! What the type does not know is pruned, and told as [`FieldValidation`] asks; a value of the wrong type is refused in
//! the words of upstream's decoder, which tools print as they are. Nulls are dropped as Go drops them.

mod bytes;
mod conform;
mod old_yaml;
mod parse;
mod time;

use crate::error::{ApiError, Reason};
use crate::object;
use crate::protobuf;
use crate::resource::{Resource, Resources};
use crate::schema::Schemas;
use conform::Conformed;
pub use conform::Origin;
pub(crate) use conform::json_type;
use serde_json::Value;

/// As many unknown and duplicate fields are told of one body, as upstream's decoder has it; no more are remembered.
const MAX_TOLD: usize = 100;

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

/// Reads a patch, with what is said of the fields that come twice in it.
pub fn patch(body: &[u8]) -> Result<(Value, Vec<String>), ApiError> {
    let (patch, duplicates) =
        parse::json(body).map_err(|cause| ApiError::bad_request(format!("error decoding patch: {cause}")))?;
    Ok((patch, duplicates.iter().map(|path| duplicate(path)).collect()))
}

/// Checks and prunes an object that did not come out of a body: what a patch made of another, of a type named by its
/// definition. `told` is what was said of the patch before. What is wrong is told without saying of what.
pub fn conform(
    resources: &Resources,
    type_name: &str,
    mut object: Value,
    origin: Origin,
    told: Vec<String>,
    validation: FieldValidation,
) -> Result<Decoded, String> {
    let warnings = finish(resources.schemas(), type_name, &mut object, origin, told, validation)?;
    Ok(Decoded { object, warnings })
}

fn decode_expected(
    resources: &Resources,
    expected: &Expected<'_>,
    content_type: &str,
    body: &[u8],
    validation: FieldValidation,
) -> Result<Decoded, ApiError> {
    let unreadable = |head: &str, cause: String| unrecognized(expected, head, &cause, body);
    let (origin, (mut object, duplicates)) = match media_type(content_type).as_str() {
        "" | "application/json" => {
            (Origin::Json, parse::json(body).map_err(|cause| unreadable("json parse error: ", cause))?)
        }
        "application/yaml" | "application/x-yaml" | "text/yaml" => {
            (Origin::Yaml, parse::yaml(body).map_err(|cause| unreadable("yaml: ", cause))?)
        }
        protobuf::CONTENT_TYPE => (Origin::Json, (protobuf::decode(body)?, Vec::new())),
        _ => {
            return Err(ApiError::new(
                Reason::UnsupportedMediaType,
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json, application/yaml, application/vnd.kubernetes.protobuf",
            ));
        }
    };
    if !object.is_object() {
        let cause = format!("cannot unmarshal {} into Go value of type struct", json_type(&object));
        return Err(unrecognized(expected, "json: ", &cause, body));
    }
    check_type(expected, &mut object)?;
    let told = duplicates.iter().map(|path| duplicate(path)).collect();
    let warnings = finish(resources.schemas(), expected.type_name, &mut object, origin, told, validation)
        .map_err(|cause| cannot_be_handled(expected, expected.kind, &cause))?;
    Ok(Decoded { object, warnings })
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

/// Holds an object against its type; gives the warnings, or why it is refused.
fn finish(
    schemas: &Schemas,
    type_name: &str,
    object: &mut Value,
    origin: Origin,
    mut told: Vec<String>,
    validation: FieldValidation,
) -> Result<Vec<String>, String> {
    let Conformed { mismatch, unknown } = conform::conform(schemas, type_name, object, origin);
    if let Some(mismatch) = mismatch {
        return Err(mismatch);
    }
    told.extend(unknown.iter().map(|path| format!("unknown field {path:?}")));
    told.truncate(MAX_TOLD);
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(told),
        FieldValidation::Strict if told.is_empty() => Ok(Vec::new()),
        FieldValidation::Strict => Err(format!("strict decoding error: {}", told.join(", "))),
    }
}

fn duplicate(path: &str) -> String {
    format!("duplicate field {path:?}")
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
    fn of_very_many_unknown_fields_the_first_are_told() {
        let resources = Resources::built_in();
        let row = resources.by_plural("", "v1", "configmaps").unwrap();
        let fields: serde_json::Map<String, Value> =
            (0..100_000).map(|n| (format!("x{n}"), n.into())).collect();
        let (object, warn) = (Value::Object(fields), FieldValidation::Warn);
        let decoded = conform(&resources, &row.schema, object, Origin::Json, Vec::new(), warn).unwrap();
        assert_eq!(decoded.warnings.len(), 100);
    }

    fn check_patched(type_name: &str, origin: Origin, object: Value, expect: Expect) {
        let resources = Resources::built_in();
        let outcome = conform(&resources, type_name, object, origin, Vec::new(), FieldValidation::Warn);
        let told = |decoded: Decoded| format!("{} {:?}", decoded.object, decoded.warnings);
        expect.assert_eq(&outcome.map_or_else(|cause| cause, told));
    }

    #[test]
    fn a_patched_scale_is_held_against_its_type() {
        let check = |replicas: Value, expect: Expect| {
            let scale = serde_json::json!({ "spec": { "replicas": replicas, "more": 1 } });
            check_patched(SCALE.2, Origin::Json, scale, expect);
        };
        check(5.into(), expect![[r#"{"spec":{"replicas":5}} ["unknown field \"spec.more\""]"#]]);
        check(
            "5".into(),
            expect![
                "json: cannot unmarshal string into Go struct field ScaleSpec.spec.replicas of type int32"
            ],
        );
        check(
            2.5.into(),
            expect![
                "json: cannot unmarshal number 2.5 into Go struct field ScaleSpec.spec.replicas of type int32"
            ],
        );
        check(
            3_000_000_000_i64.into(),
            expect![
                "json: cannot unmarshal number 3000000000 into Go struct field ScaleSpec.spec.replicas of type int32"
            ],
        );
    }

    #[test]
    fn a_strategic_merge_is_told_of_wrong_types_as_upstreams_converter_tells_it() {
        let check = |spec: Value, expect: Expect| {
            let object = serde_json::json!({ "spec": spec });
            check_patched("io.k8s.api.apps.v1.Deployment", Origin::Merge, object, expect);
        };
        check(serde_json::json!({ "replicas": "a" }), expect!["unrecognized type: int32"]);
        check(serde_json::json!({ "replicas": 2.5 }), expect!["cannot convert float64 to int32"]);
        check(serde_json::json!("a"), expect!["cannot restore struct from: string"]);
        let of_template = |spec: Value| serde_json::json!({ "template": { "spec": spec } });
        check(
            of_template(serde_json::json!({ "containers": "a" })),
            expect!["cannot restore slice from string"],
        );
        check(
            of_template(serde_json::json!({ "nodeSelector": [] })),
            expect!["cannot restore map from slice"],
        );
        check(of_template(serde_json::json!({ "nodeName": 5 })), expect!["cannot convert int64 to string"]);
        check(of_template(serde_json::json!({ "hostNetwork": "a" })), expect!["unrecognized type: bool"]);
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
    fn zeros_go_where_they_say_nothing() {
        check(
            "Pod",
            FieldValidation::Strict,
            r#"{"metadata":{"labels":{},"finalizers":[]},"spec":{"hostNetwork":false,"nodeSelector":{},"terminationGracePeriodSeconds":0,"enableServiceLinks":false,
                "containers":[{"name":"","env":[],"tty":false,"resources":{},"ports":[{"containerPort":0,"protocol":""}],"livenessProbe":{"failureThreshold":0,"httpGet":{"port":0,"path":""}}}],
                "volumes":[{"name":"c","configMap":{"name":"","defaultMode":0,"items":[]}}]}}"#,
            expect![[
                r#"{"apiVersion":"v1","kind":"Pod","metadata":{},"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":0}},"name":"","ports":[{"containerPort":0}],"resources":{}}],"enableServiceLinks":false,"terminationGracePeriodSeconds":0,"volumes":[{"configMap":{"defaultMode":0},"name":"c"}]}} []"#
            ]],
        );
        check(
            "Service",
            FieldValidation::Strict,
            r#"{"metadata":{},"spec":{"type":"","sessionAffinity":"","ports":[{"port":80,"protocol":"","targetPort":0}],"externalIPs":[]}}"#,
            expect![[
                r#"{"apiVersion":"v1","kind":"Service","metadata":{},"spec":{"ports":[{"port":80,"targetPort":0}]}} []"#
            ]],
        );
    }

    #[test]
    fn times_and_bytes_are_written_one_way() {
        check(
            "Lease",
            FieldValidation::Strict,
            r#"{"metadata":{"creationTimestamp":"2026-01-02T03:04:05.678+01:00"},"spec":{"renewTime":"2026-01-02T03:04:05.678000+01:00"}}"#,
            expect![[
                r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"creationTimestamp":"2026-01-02T02:04:05Z"},"spec":{"renewTime":"2026-01-02T02:04:05.678000Z"}} []"#
            ]],
        );
        check(
            "Lease",
            FieldValidation::Strict,
            r#"{"spec":{"renewTime":"2026-01-02T03:04:05Z"}}"#,
            expect![[
                r#"400 Lease in version "v1" cannot be handled as a Lease: parsing time "2026-01-02T03:04:05Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#
            ]],
        );
        check(
            "Secret",
            FieldValidation::Strict,
            r#"{"data":{"a":"YWFh\nYWFh\n","b":"","c":null}}"#,
            expect![[r#"{"apiVersion":"v1","data":{"a":"YWFhYWFh","b":"","c":""},"kind":"Secret"} []"#]],
        );
        check(
            "Secret",
            FieldValidation::Strict,
            r#"{"data":{"a":"a!"}}"#,
            expect![[
                r#"400 Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 1"#
            ]],
        );
    }

    #[test]
    fn yaml_is_read_as_of_old() {
        check(
            "Pod",
            FieldValidation::Strict,
            "metadata:\n  labels:\n    a: yes\n    b: 0644\nspec:\n  hostNetwork: yes\n  hostPID: off\n  volumes:\n  - name: c\n    configMap:\n      defaultMode: 0644\n",
            expect![[
                r#"{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"a":"yes","b":"0644"}},"spec":{"hostNetwork":true,"volumes":[{"configMap":{"defaultMode":420},"name":"c"}]}} []"#
            ]],
        );
        check(
            "Pod",
            FieldValidation::Strict,
            "spec:\n  volumes:\n  - configMap:\n      defaultMode: 0888\n",
            expect![[
                r#"400 Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field ConfigMapVolumeSource.spec.volumes.configMap.defaultMode of type int32"#
            ]],
        );
        check(
            "Pod",
            FieldValidation::Strict,
            r#"{"spec":{"hostNetwork":"yes"}}"#,
            expect![[
                r#"400 Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"#
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

    #[test]
    fn upstreams_samples_hold_no_unknown_field() {
        let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
        let resources = Resources::built_in();
        for row in resources.iter() {
            let group = if row.group.is_empty() { "core" } else { &row.group };
            let path = folder.join(format!("{group}.{}.{}.json", row.version, row.kind));
            let body = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let decoded = decode(&resources, row, "application/json", &body, FieldValidation::Strict);
            let sample: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(decoded.unwrap().object, sample, "{}", row.kind);
        }
    }
}
