//! Columns of Event.

use super::cells::{NAME, number, since, text, wide};
use crate::object;
use crate::resource::Column;
use jiff::Timestamp;
use serde_json::Value;

/// Columns of Event.
pub const EVENT: &[Column] = &[
    text(
        "Last Seen",
        "The time at which the most recent occurrence of this event was recorded.",
        |event, now| last_seen(event, now).into(),
    ),
    text(
        "Type",
        "Type of this event (Normal, Warning), new types could be added in the future",
        |event, _| object::text(event, &["type"]).into(),
    ),
    text(
        "Reason",
        "This should be a short, machine understandable string that gives the reason for the transition into the \
         object's current status.",
        |event, _| object::text(event, &["reason"]).into(),
    ),
    text("Object", "The object that this event is about.", |event, _| {
        let about = |field| object::text(event, &["involvedObject", field]);
        let kind = about("kind").to_lowercase();
        if about("name").is_empty() { kind.into() } else { format!("{kind}/{}", about("name")).into() }
    }),
    wide(text(
        "Subobject",
        "If referring to a piece of an object instead of an entire object, this string should contain a valid \
         JSON/Go field access statement, such as desiredState.manifest.containers[2].",
        |event, _| object::text(event, &["involvedObject", "fieldPath"]).into(),
    )),
    wide(text(
        "Source",
        "The component reporting this event. Should be a short machine understandable string.",
        |event, _| source(event).into(),
    )),
    text("Message", "A human-readable description of the status of this operation.", |event, _| {
        object::text(event, &["message"]).trim().into()
    }),
    wide(text(
        "First Seen",
        "The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)",
        |event, now| first_seen(event, now).into(),
    )),
    wide(text("Count", "The number of times this event has occurred.", |event, _| count(event).into())),
    wide(NAME),
];

fn first_seen(event: &Value, now: Timestamp) -> String {
    let first = object::timestamp(event, &["firstTimestamp"]);
    since(first.or_else(|| object::timestamp(event, &["eventTime"])), now)
}

fn last_seen(event: &Value, now: Timestamp) -> String {
    let last = object::timestamp(event, &["lastTimestamp"])
        .map_or_else(|| first_seen(event, now), |at| since(Some(at), now));
    let repeats = if object::at(event, &["series"]).is_some() {
        Some((
            since(object::timestamp(event, &["series", "lastObservedTime"]), now),
            number(event, &["series", "count"]),
        ))
    } else {
        (number(event, &["count"]) > 1).then(|| (last.clone(), number(event, &["count"])))
    };
    match repeats {
        Some((last, count)) => format!("{last} (x{count} over {})", first_seen(event, now)),
        None => last,
    }
}

fn count(event: &Value) -> i64 {
    match number(event, &["series", "count"]) {
        0 => number(event, &["count"]).max(1),
        count => count,
    }
}

fn source(event: &Value) -> String {
    let of = |component: &str, host: &str| {
        if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
    };
    match object::text(event, &["source", "component"]) {
        "" => of(object::text(event, &["reportingComponent"]), object::text(event, &["reportingInstance"])),
        component => of(component, object::text(event, &["source", "host"])),
    }
}
