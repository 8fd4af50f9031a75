//! Pods.

use crate::resource::{Resource, Strategy, Subresource};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Pod"),
    plural: Cow::Borrowed("pods"),
    singular: Cow::Borrowed("pod"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("po")]),
    categories: Cow::Borrowed(&[Cow::Borrowed("all")]),
    schema: Cow::Borrowed("io.k8s.api.core.v1.Pod"),
    subresources: &[Subresource::Status, Subresource::Log, Subresource::Binding],
    strategy: Strategy { ..Strategy::PLAIN },
    columns: crate::printers::POD,
    ..Resource::PLAIN
};
