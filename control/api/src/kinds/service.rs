//! Services.

use crate::resource::{NameRule, Resource, Strategy, Subresource};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Service"),
    plural: Cow::Borrowed("services"),
    singular: Cow::Borrowed("service"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("svc")]),
    categories: Cow::Borrowed(&[Cow::Borrowed("all")]),
    schema: Cow::Borrowed("io.k8s.api.core.v1.Service"),
    subresources: &[Subresource::Status],
    name_rule: NameRule::Label,
    strategy: Strategy { ..Strategy::PLAIN },
    columns: crate::printers::SERVICE,
    ..Resource::PLAIN
};
