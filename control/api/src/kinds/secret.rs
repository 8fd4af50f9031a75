//! Secrets.

use crate::resource::{Resource, Strategy};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Secret"),
    plural: Cow::Borrowed("secrets"),
    singular: Cow::Borrowed("secret"),
    schema: Cow::Borrowed("io.k8s.api.core.v1.Secret"),
    strategy: Strategy { ..Strategy::PLAIN },
    columns: crate::printers::SECRET,
    ..Resource::PLAIN
};
