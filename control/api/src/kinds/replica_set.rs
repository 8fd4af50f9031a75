//! ReplicaSets.

use crate::resource::{Resource, Strategy, Subresource};
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
    strategy: Strategy { ..Strategy::PLAIN },
    columns: crate::printers::REPLICA_SET,
    ..Resource::PLAIN
};
