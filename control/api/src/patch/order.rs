//! The order of merged lists, and what tells their elements apart.

use super::strategic::DIRECTIVE;
use crate::error::ApiError;
use serde_json::Value;
use std::collections::BTreeMap;

/// Where each element of a list is, by its merge key's value or by itself; the first of equals counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Positions(BTreeMap<String, usize>);

impl Positions {
    pub(super) fn of(list: &[Value], merge_key: Option<&str>) -> Self {
        let mut positions = Self::default();
        for (place, element) in list.iter().enumerate() {
            if let Some(value) = identity(element, merge_key) {
                positions.insert(value, place);
            }
        }
        positions
    }

    pub(super) fn find(&self, value: &Value) -> Option<usize> {
        self.0.get(&value.to_string()).copied()
    }

    pub(super) fn insert(&mut self, value: &Value, place: usize) {
        self.0.entry(value.to_string()).or_insert(place);
    }
}

/// What tells an element from others.
pub(super) fn identity<'v>(element: &'v Value, merge_key: Option<&str>) -> Option<&'v Value> {
    match merge_key {
        Some(key) => element.get(key),
        None => Some(element),
    }
}

/// The elements that the patch knows in its order, the others in the server's, the two woven together so that an
/// element stands before those it stood before.
pub(super) fn in_order(
    merged: Vec<Value>,
    patch_order: &Positions,
    server_order: &Positions,
    merge_key: Option<&str>,
) -> Result<Vec<Value>, ApiError> {
    let (mut known, mut others) = (Vec::new(), Vec::new());
    for element in merged {
        let Some(value) = identity(&element, merge_key) else {
            return Err(no_merge_key(&element, merge_key.unwrap_or("")));
        };
        let server_place = server_order.find(value);
        match patch_order.find(value) {
            Some(place) => known.push((place, server_place, element)),
            None => others.push((server_place, element)),
        }
    }
    known.sort_by_key(|(place, _, _)| *place);
    others.sort_by_key(|(place, _)| *place);
    let mut out = Vec::with_capacity(known.len() + others.len());
    let (mut known, mut others) = (known.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), known.peek()) {
            (None, None) => return Ok(out),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((Some(other), _)), Some((_, Some(known), _))) => other < known,
            (Some(_), Some(_)) => false,
        };
        if other_first {
            out.extend(others.next().map(|(_, element)| element));
        } else {
            out.extend(known.next().map(|(_, _, element)| element));
        }
    }
}

/// The patch's elements must stand in the order's order, and all be in it.
pub(super) fn validate_order(
    new: &[Value],
    order: &[Value],
    merge_key: Option<&str>,
) -> Result<(), ApiError> {
    if new.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut ordered = order.iter();
    for element in new.iter().filter(|element| element.get(DIRECTIVE).is_none()) {
        let Some(value) = identity(element, merge_key) else {
            return Err(no_merge_key(element, merge_key.unwrap_or("")));
        };
        let mut found = false;
        for candidate in ordered.by_ref() {
            let Some(candidate) = identity(candidate, merge_key) else {
                return Err(no_merge_key(candidate, merge_key.unwrap_or("")));
            };
            if candidate == value {
                found = true;
                break;
            }
        }
        if !found {
            let (new, order) = (go_list(new), go_list(order));
            return Err(ApiError::bad_request(format!(
                "The order in patch list:\n{new}\n doesn't match $setElementOrder list:\n{order}\n"
            )));
        }
    }
    Ok(())
}

pub(super) fn no_merge_key(element: &Value, merge_key: &str) -> ApiError {
    let element = go_text(element);
    ApiError::bad_request(format!("map: {element} does not contain declared merge key: {merge_key}"))
}

/// A value as Go's `%v` prints it: upstream's messages show maps that way.
pub fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => go_list(list),
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn go_list(list: &[Value]) -> String {
    format!("[{}]", list.iter().map(go_text).collect::<Vec<_>>().join(" "))
}
