//! Leases.

use crate::resource::{Resource, Strategy};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    group: Cow::Borrowed("coordination.k8s.io"),
    kind: Cow::Borrowed("Lease"),
    plural: Cow::Borrowed("leases"),
    singular: Cow::Borrowed("lease"),
    schema: Cow::Borrowed("io.k8s.api.coordination.v1.Lease"),
    strategy: Strategy { ..Strategy::PLAIN },
    columns: crate::printers::LEASE,
    ..Resource::PLAIN
};
