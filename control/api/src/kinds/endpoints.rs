//! Endpoints, the older form of EndpointSlices.

use crate::resource::{Resource, Strategy};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Endpoints"),
    plural: Cow::Borrowed("endpoints"),
    singular: Cow::Borrowed("endpoints"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("ep")]),
    schema: Cow::Borrowed("io.k8s.api.core.v1.Endpoints"),
    strategy: Strategy { ..Strategy::PLAIN },
    columns: crate::printers::ENDPOINTS,
    ..Resource::PLAIN
};
