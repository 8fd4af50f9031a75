//! Events, in the form of the core group.

use crate::object;
use crate::resource::{NameRule, Resource, Strategy};
use crate::validate::{self, FieldError};
use serde_json::Value;
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Event"),
    plural: Cow::Borrowed("events"),
    singular: Cow::Borrowed("event"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("ev")]),
    schema: Cow::Borrowed("io.k8s.api.core.v1.Event"),
    name_rule: NameRule::PathSegment,
    strategy: Strategy { validate, free_finalizers: true, create_on_update: true, ..Strategy::PLAIN },
    columns: crate::printers::EVENT,
    ..Resource::PLAIN
};

fn validate(event: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let about = object::text(event, &["involvedObject", "namespace"]);
    let namespace = object::namespace(event);
    // Those of the newer form name their time.
    let is_new = object::at(event, &["eventTime"]).is_some();
    // Events about what lives in no namespace are kept in `default`.
    let fits = match about {
        "" => namespace == "default" || is_new && namespace == "kube-system",
        about => is_new || about == namespace,
    };
    if !fits {
        errors.push(FieldError::invalid("involvedObject.namespace", about, "does not match event.namespace"));
    }
    if !is_new {
        return errors;
    }
    let controller = object::text(event, &["reportingComponent"]);
    if controller.is_empty() {
        errors.push(FieldError::required("reportingComponent", ""));
    }
    let faults = validate::qualified_name_faults(controller);
    errors
        .extend(faults.into_iter().map(|fault| FieldError::invalid("reportingComponent", controller, fault)));
    for (key, is_required, most) in [
        ("reportingInstance", true, 128),
        ("action", true, 128),
        ("reason", true, 128),
        ("message", false, 1024),
    ] {
        let text = object::text(event, &[key]);
        if text.is_empty() && is_required {
            errors.push(FieldError::required(key, ""));
        }
        if text.len() > most {
            errors.push(FieldError::invalid(key, "", format!("can have at most {most} characters")));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(mut event: Value, namespace: &str, expect: Expect) {
        event["metadata"]["namespace"] = namespace.into();
        let texts: Vec<String> = validate(&event).iter().map(ToString::to_string).collect();
        expect.assert_eq(&texts.join("\n"));
    }

    #[test]
    fn an_event_is_where_its_object_is() {
        check(json!({ "involvedObject": { "namespace": "a" } }), "a", expect![[""]]);
        check(json!({}), "default", expect![[""]]);
        let refused =
            expect![[r#"involvedObject.namespace: Invalid value: "": does not match event.namespace"#]];
        check(json!({}), "kube-system", refused);
    }

    #[test]
    fn an_event_with_a_time_says_who_did_what() {
        let event = json!({ "eventTime": "2026-01-02T03:04:05.000000Z", "involvedObject": { "namespace": "a" },
            "reportingInstance": "x".repeat(129), "message": "y".repeat(1025) });
        check(
            event,
            "a",
            expect![[r#"
                reportingComponent: Required value
                reportingComponent: Invalid value: "": name part must be non-empty
                reportingComponent: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                reportingInstance: Invalid value: "": can have at most 128 characters
                action: Required value
                reason: Required value
                message: Invalid value: "": can have at most 1024 characters"#]],
        );
    }
}
