//! Namespaces: where the objects of the others live, and whose end ends them.

use crate::resource::{NameRule, Resource, Scope, Strategy, Subresource};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Namespace"),
    plural: Cow::Borrowed("namespaces"),
    singular: Cow::Borrowed("namespace"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("ns")]),
    scope: Scope::Cluster,
    schema: Cow::Borrowed("io.k8s.api.core.v1.Namespace"),
    subresources: &[Subresource::Status],
    name_rule: NameRule::Label,
    strategy: Strategy { ..Strategy::PLAIN },
    columns: crate::printers::NAMESPACE,
    ..Resource::PLAIN
};
