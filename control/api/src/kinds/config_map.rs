//! ConfigMaps.

use super::data;
use crate::object;
use crate::resource::{Resource, Strategy};
use crate::validate::FieldError;
use serde_json::{Map, Value};
use std::borrow::Cow;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("ConfigMap"),
    plural: Cow::Borrowed("configmaps"),
    singular: Cow::Borrowed("configmap"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("cm")]),
    schema: Cow::Borrowed("io.k8s.api.core.v1.ConfigMap"),
    strategy: Strategy {
        validate,
        validate_update: |new, old| data::validate_update(new, old, &["data", "binaryData"]),
        ..Strategy::PLAIN
    },
    columns: crate::printers::CONFIG_MAP,
    ..Resource::PLAIN
};

fn validate(config_map: &Value) -> Vec<FieldError> {
    let mut errors = data::validate_keys(config_map, &["data", "binaryData"]);
    let text = object::map(config_map, &["data"]);
    let bytes = object::map(config_map, &["binaryData"]);
    for key in text.into_iter().flat_map(Map::keys) {
        if bytes.is_some_and(|bytes| bytes.contains_key(key)) {
            let detail = "duplicate of key present in binaryData";
            errors.push(FieldError::invalid(format!("data[{key}]"), key.as_str(), detail));
        }
    }
    // The whole object is meant: upstream writes that path so.
    errors.extend(data::too_big(config_map, "[]", &["data"], &["binaryData"]));
    errors
}
