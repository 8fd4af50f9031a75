//! Events, in the form of the core group.

use crate::object;
use crate::resource::{Resource, Strategy};
use crate::validate::FieldError;
use serde_json::Value;
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Event"),
    plural: Cow::Borrowed("events"),
    singular: Cow::Borrowed("event"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("ev")]),
    schema: Cow::Borrowed("io.k8s.api.core.v1.Event"),
    strategy: Strategy { validate, create_on_update: true, ..Strategy::PLAIN },
    columns: crate::printers::EVENT,
    ..Resource::PLAIN
};

fn validate(event: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let about = object::text(event, &["involvedObject", "namespace"]);
    let namespace = object::namespace(event);
    // Events about what lives in no namespace are kept in `default`.
    let fits =
        if about.is_empty() { matches!(namespace, "default" | "kube-system") } else { about == namespace };
    if !fits {
        errors.push(FieldError::invalid("involvedObject.namespace", about, "does not match event.namespace"));
    }
    if object::at(event, &["eventTime"]).is_some() {
        for key in ["reportingComponent", "reportingInstance", "action", "reason"] {
            let path = if key == "reportingComponent" { "reportingController" } else { key };
            if object::text(event, &[key]).is_empty() {
                errors.push(FieldError::required(path, ""));
            }
        }
    }
    errors
}
