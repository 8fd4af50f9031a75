//! ConfigMaps.

use crate::resource::{Resource, Strategy};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("ConfigMap"),
    plural: Cow::Borrowed("configmaps"),
    singular: Cow::Borrowed("configmap"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("cm")]),
    schema: Cow::Borrowed("io.k8s.api.core.v1.ConfigMap"),
    strategy: Strategy { ..Strategy::PLAIN },
    columns: crate::printers::CONFIG_MAP,
    ..Resource::PLAIN
};
