//! ReplicaSets.

use super::pod_template;
use crate::object;
use crate::resource::{Resource, Strategy, Subresource};
use crate::validate::FieldError;
use crate::write;
use serde_json::{Value, json};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    group: Cow::Borrowed("apps"),
    kind: Cow::Borrowed("ReplicaSet"),
    plural: Cow::Borrowed("replicasets"),
    singular: Cow::Borrowed("replicaset"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("rs")]),
    categories: Cow::Borrowed(&[Cow::Borrowed("all")]),
    schema: Cow::Borrowed("io.k8s.api.apps.v1.ReplicaSet"),
    subresources: &[Subresource::Status, Subresource::Scale],
    strategy: Strategy {
        default: pod_template::default,
        prepare_create,
        validate,
        validate_update: pod_template::validate_update,
        warnings: pod_template::warnings,
        generation: Some(write::differs_in_substance),
        ..Strategy::PLAIN
    },
    columns: crate::printers::REPLICA_SET,
    ..Resource::PLAIN
};

fn prepare_create(replica_set: &mut Value) {
    object::map_mut(replica_set, &[]).insert("status".to_owned(), json!({ "replicas": 0 }));
}

fn validate(replica_set: &Value) -> Vec<FieldError> {
    let mut errors = pod_template::not_negative(replica_set, &["replicas", "minReadySeconds"]);
    errors.extend(pod_template::validate(replica_set));
    errors
}
