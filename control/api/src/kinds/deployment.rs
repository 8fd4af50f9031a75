//! Deployments.

use crate::resource::{Resource, Strategy, Subresource};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    group: Cow::Borrowed("apps"),
    kind: Cow::Borrowed("Deployment"),
    plural: Cow::Borrowed("deployments"),
    singular: Cow::Borrowed("deployment"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("deploy")]),
    categories: Cow::Borrowed(&[Cow::Borrowed("all")]),
    schema: Cow::Borrowed("io.k8s.api.apps.v1.Deployment"),
    subresources: &[Subresource::Status, Subresource::Scale],
    strategy: Strategy { ..Strategy::PLAIN },
    columns: crate::printers::DEPLOYMENT,
    ..Resource::PLAIN
};
