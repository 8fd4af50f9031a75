//! ServiceAccounts.

use crate::resource::{Resource, Strategy};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("ServiceAccount"),
    plural: Cow::Borrowed("serviceaccounts"),
    singular: Cow::Borrowed("serviceaccount"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("sa")]),
    schema: Cow::Borrowed("io.k8s.api.core.v1.ServiceAccount"),
    strategy: Strategy { return_deleted: true, ..Strategy::PLAIN },
    columns: crate::printers::SERVICE_ACCOUNT,
    ..Resource::PLAIN
};
