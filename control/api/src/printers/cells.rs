//! What the cells of several kinds share: names, ages, selectors, containers.

use crate::object;
use crate::resource::Column;
use crate::selector::{LabelSelector, Operator};
use jiff::Timestamp;
use serde_json::Value;

/// What upstream prints for an empty value.
pub(super) const NONE: &str = "<none>";

/// The first column of nearly every kind.
pub(super) const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "Name must be unique within a namespace. Is required when creating resources, although some \
                  resources may allow a client to request the generation of an appropriate name automatically. \
                  Name is primarily intended for creation idempotence and configuration definition. Cannot be \
                  updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names",
    priority: 0,
    cell: |object, _| object::name(object).into(),
};

/// How long ago the object was made.
pub(super) const AGE: Column = Column {
    name: "Age",
    kind: "string",
    format: "",
    description: "CreationTimestamp is a timestamp representing the server time when this object was created. It is \
                  not guaranteed to be set in happens-before order across separate operations. Clients may not set \
                  this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. \
                  Read-only. Null for lists. More info: \
                  https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
    priority: 0,
    cell: |object, now| since(object::creation_timestamp(object), now).into(),
};

/// A text column.
pub(super) const fn text(
    name: &'static str,
    description: &'static str,
    cell: fn(&Value, Timestamp) -> Value,
) -> Column {
    Column { name, kind: "string", format: "", description, priority: 0, cell }
}

/// A number column.
pub(super) const fn integer(
    name: &'static str,
    description: &'static str,
    cell: fn(&Value, Timestamp) -> Value,
) -> Column {
    Column { name, kind: "integer", format: "", description, priority: 0, cell }
}

/// The same column, shown with `-o wide` only.
pub(super) const fn wide(column: Column) -> Column {
    Column { priority: 1, ..column }
}

/// How long ago something was; `<unknown>` when it is not said.
pub(super) fn since(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(|| "<unknown>".to_owned(), |then| human_duration(now.duration_since(then).as_secs()))
}

/// A duration in seconds with two or three significant figures, as upstream shortens it.
pub fn human_duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = seconds / 3600;
    let days = hours / 24;
    let pair = |large: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
    };
    if seconds < -1 {
        // Clocks of two machines may differ by a second or two, not by more.
        "<invalid>".to_owned()
    } else if seconds < 120 {
        format!("{}s", seconds.max(0))
    } else if minutes < 10 {
        pair(minutes, 'm', seconds % 60, 's')
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        pair(hours, 'h', minutes % 60, 'm')
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 192 {
        pair(days, 'd', hours % 24, 'h')
    } else if days < 730 {
        format!("{days}d")
    } else if days < 2920 {
        pair(days / 365, 'y', days % 365, 'd')
    } else {
        format!("{}y", days / 365)
    }
}

/// A text, or `<none>`.
pub(super) fn or_none(text: &str) -> Value {
    if text.is_empty() { NONE.into() } else { text.into() }
}

/// The number at a path, 0 when it is not there.
pub(super) fn number(object: &Value, path: &[&str]) -> i64 {
    object::integer(object, path).unwrap_or(0)
}

/// A map of labels as `a=1,b=2`.
pub(super) fn labels(object: &Value, path: &[&str]) -> Value {
    let pairs: Vec<String> = object::map(object, path)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    or_none(&pairs.join(","))
}

/// A `metav1.LabelSelector`.
pub(super) fn selector(object: &Value, path: &[&str]) -> Value {
    let Some(selector) = object::at(object, path) else { return NONE.into() };
    let Ok(selector) = LabelSelector::from_value(selector) else { return "<error>".into() };
    // Upstream prints sets of one value in the long form here.
    let parts: Vec<String> = selector
        .requirements()
        .iter()
        .map(|requirement| match requirement.operator {
            Operator::NotIn => {
                let values: Vec<&str> = requirement.values.iter().map(String::as_str).collect();
                format!("{} notin ({})", requirement.key, values.join(","))
            }
            _ => requirement.to_string(),
        })
        .collect();
    or_none(&parts.join(","))
}

/// Names of the containers of a template.
pub(super) const CONTAINERS: Column =
    wide(text("Containers", "Names of each container in the template.", |object, _| {
        containers(object, "name")
    }));

/// Their images.
pub(super) const IMAGES: Column =
    wide(text("Images", "Images referenced by each container in the template.", |object, _| {
        containers(object, "image")
    }));

fn containers(object: &Value, field: &str) -> Value {
    let containers = object::list(object, &["spec", "template", "spec", "containers"]);
    let texts: Vec<&str> = containers.iter().map(|container| object::text(container, &[field])).collect();
    texts.join(",").into()
}
