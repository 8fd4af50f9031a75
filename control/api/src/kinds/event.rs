//! Events, in the form of the core group.

use crate::resource::{Resource, Strategy};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Event"),
    plural: Cow::Borrowed("events"),
    singular: Cow::Borrowed("event"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("ev")]),
    schema: Cow::Borrowed("io.k8s.api.core.v1.Event"),
    strategy: Strategy { ..Strategy::PLAIN },
    columns: crate::printers::EVENT,
    ..Resource::PLAIN
};
