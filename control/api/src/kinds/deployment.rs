//! Deployments.

use super::pod_template;
use crate::object;
use crate::resource::{Resource, Strategy, Subresource};
use crate::validate::FieldError;
use crate::write;
use serde_json::{Value, json};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    group: Cow::Borrowed("apps"),
    kind: Cow::Borrowed("Deployment"),
    plural: Cow::Borrowed("deployments"),
    singular: Cow::Borrowed("deployment"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("deploy")]),
    categories: Cow::Borrowed(&[Cow::Borrowed("all")]),
    schema: Cow::Borrowed("io.k8s.api.apps.v1.Deployment"),
    subresources: &[Subresource::Status, Subresource::Scale],
    strategy: Strategy {
        default,
        prepare_create: |deployment| {
            object::map_mut(deployment, &[]).insert("status".to_owned(), json!({}));
        },
        validate,
        validate_update: pod_template::validate_update,
        warnings: pod_template::warnings,
        generation: Some(generation),
        ..Strategy::PLAIN
    },
    columns: crate::printers::DEPLOYMENT,
    ..Resource::PLAIN
};

/// What its controller writes of the newest ReplicaSet into the annotations.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Annotations are handed on to ReplicaSets, so they count. The revision does not: upstream's controller writes it
/// together with the status, which is never counted.
fn generation(new: &Value, old: &Value) -> bool {
    let annotations = |deployment| {
        let all = object::annotations(deployment).into_iter().flatten();
        all.filter(|(key, _)| *key != REVISION).collect::<Vec<_>>()
    };
    write::differs_in_substance(new, old) || annotations(new) != annotations(old)
}

fn default(deployment: &mut Value) {
    pod_template::default(deployment);
    if object::text(deployment, &["spec", "strategy", "type"]) == "RollingUpdate" {
        let rolling = object::map_mut(deployment, &["spec", "strategy", "rollingUpdate"]);
        for key in ["maxUnavailable", "maxSurge"] {
            rolling.entry(key).or_insert_with(|| "25%".into());
        }
    }
}

fn validate(deployment: &Value) -> Vec<FieldError> {
    let mut errors = pod_template::not_negative(
        deployment,
        &["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"],
    );
    errors.extend(pod_template::validate(deployment));
    validate_strategy(deployment, &mut errors);
    let seconds = |key| object::integer(deployment, &["spec", key]);
    if let (Some(deadline), ready) =
        (seconds("progressDeadlineSeconds"), seconds("minReadySeconds").unwrap_or(0))
        && deadline <= ready
    {
        let detail = "must be greater than minReadySeconds";
        errors.push(FieldError::invalid("spec.progressDeadlineSeconds", deadline, detail));
    }
    errors
}

fn validate_strategy(deployment: &Value, errors: &mut Vec<FieldError>) {
    let strategy = deployment.pointer("/spec/strategy").unwrap_or(&Value::Null);
    let path = "spec.strategy";
    let rolling = object::at(strategy, &["rollingUpdate"]);
    match object::text(strategy, &["type"]) {
        "Recreate" => {
            if rolling.is_some() {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.push(FieldError::forbidden(format!("{path}.rollingUpdate"), detail));
            }
        }
        "RollingUpdate" => match rolling {
            None => {
                let detail = "this should be defaulted and never be nil";
                errors.push(FieldError::required(format!("{path}.rollingUpdate"), detail));
            }
            Some(rolling) => {
                let path = format!("{path}.rollingUpdate");
                let unavailable = share(rolling, "maxUnavailable", &path, errors);
                let surge = share(rolling, "maxSurge", &path, errors);
                if unavailable == Some(0) && surge == Some(0) {
                    errors.push(FieldError::invalid(
                        format!("{path}.maxUnavailable"),
                        rolling.get("maxUnavailable").cloned().unwrap_or(Value::Null),
                        "may not be 0 when `maxSurge` is 0",
                    ));
                }
                if unavailable.is_some_and(|percent| percent > 100)
                    && rolling.get("maxUnavailable").is_some_and(Value::is_string)
                {
                    let value = rolling.get("maxUnavailable").cloned().unwrap_or(Value::Null);
                    errors.push(FieldError::invalid(
                        format!("{path}.maxUnavailable"),
                        value,
                        "must not be greater than 100%",
                    ));
                }
            }
        },
        _ => {
            errors.push(FieldError::not_supported(path, strategy.clone(), &["Recreate", "RollingUpdate"]));
        }
    }
}

/// The number of a count or a percentage; a fault when it is neither.
fn share(rolling: &Value, key: &str, path: &str, errors: &mut Vec<FieldError>) -> Option<i64> {
    match rolling.get(key)? {
        Value::Number(number) => {
            let number = number.as_i64()?;
            if number < 0 {
                let detail = crate::validate::NEGATIVE;
                errors.push(FieldError::invalid(format!("{path}.{key}"), number, detail));
            }
            Some(number)
        }
        Value::String(text) => {
            let digits =
                text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            let parsed = digits.and_then(|digits| digits.parse().ok());
            if parsed.is_none() {
                errors.push(FieldError::invalid(
                    format!("{path}.{key}"),
                    text.as_str(),
                    "a valid percent string must be a numeric string \
                     followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                ));
            }
            parsed
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_counts_the_spec_and_the_users_annotations() {
        let of = |annotations: Value| json!({ "metadata": { "annotations": annotations }, "spec": { "replicas": 1 } });
        let old = of(json!({ "a": "b" }));
        for (new, counts) in [
            (of(json!({ "a": "b" })), false),
            (of(json!({ "a": "b", REVISION: "2" })), false),
            (of(json!({ "a": "c" })), true),
            (json!({ "spec": { "replicas": 1 } }), true),
            (json!({ "metadata": { "annotations": { "a": "b" } }, "spec": { "replicas": 2 } }), true),
            (
                json!({ "metadata": { "annotations": { "a": "b" }, "labels": { "a": "b" } }, "spec": { "replicas": 1 } }),
                false,
            ),
        ] {
            assert_eq!(generation(&new, &old), counts, "{new}");
        }
    }
}
