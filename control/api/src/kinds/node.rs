//! Nodes.

use crate::resource::{Resource, Scope, Strategy, Subresource};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Node"),
    plural: Cow::Borrowed("nodes"),
    singular: Cow::Borrowed("node"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("no")]),
    scope: Scope::Cluster,
    schema: Cow::Borrowed("io.k8s.api.core.v1.Node"),
    subresources: &[Subresource::Status],
    strategy: Strategy { ..Strategy::PLAIN },
    columns: crate::printers::NODE,
    ..Resource::PLAIN
};
