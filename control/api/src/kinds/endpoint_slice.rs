//! EndpointSlices.

use crate::resource::{Resource, Strategy};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    group: Cow::Borrowed("discovery.k8s.io"),
    kind: Cow::Borrowed("EndpointSlice"),
    plural: Cow::Borrowed("endpointslices"),
    singular: Cow::Borrowed("endpointslice"),
    schema: Cow::Borrowed("io.k8s.api.discovery.v1.EndpointSlice"),
    strategy: Strategy { ..Strategy::PLAIN },
    columns: crate::printers::ENDPOINT_SLICE,
    ..Resource::PLAIN
};
