//! Strategic merge patch: a merge patch that knows which lists are maps in disguise.
//!
//! The schema says by which key the elements of a list are matched. Directives in the patch say the rest: `$patch`
//! (`delete`, `replace`) beside other keys, `$retainKeys` (all other keys go), `$setElementOrder/<list>` (the order
//! that the client wants), `$deleteFromPrimitiveList/<list>`. Elements that the client does not know keep their place
//! relative to those it does.

use super::not_applicable;
use super::order::{Positions, go_text, in_order, no_merge_key, validate_order};
use crate::error::ApiError;
use crate::schema::{PatchStrategy, Schemas, Shape, Type};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

pub(super) const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// Lays a strategic merge patch over an object of a type.
pub fn strategic_merge(
    schemas: &Schemas,
    type_name: &str,
    original: Value,
    patch: &Value,
) -> Result<Value, ApiError> {
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(ApiError::bad_request("invalid JSON document"));
    };
    let at = schemas.types.get(type_name).map_or(At::Anything, At::Type);
    Merge { schemas }.maps(original, patch.clone(), at).map(Value::Object)
}

/// Where in the schema a map is.
#[derive(Debug, Clone, Copy)]
enum At<'a> {
    Type(&'a Type),
    /// A map with free keys, all of one shape.
    Map(&'a Shape),
    Anything,
}

#[derive(Debug, Clone, Copy)]
struct Merge<'a> {
    schemas: &'a Schemas,
}

static PLAIN: PatchStrategy = PatchStrategy { merge: false, merge_key: None, retain_keys: false };

impl<'a> Merge<'a> {
    /// What is known of a field: where its maps (or its list's maps) are, and how it is merged.
    fn field(self, at: At<'a>, key: &str) -> (At<'a>, &'a PatchStrategy) {
        match at {
            At::Type(known) => match known.fields.get(key) {
                Some(field) => (self.inside(&field.shape), &field.patch),
                None => (At::Anything, &PLAIN),
            },
            At::Map(shape) => (self.inside(shape), &PLAIN),
            At::Anything => (At::Anything, &PLAIN),
        }
    }

    fn inside(self, shape: &'a Shape) -> At<'a> {
        match shape {
            Shape::Ref(name) => self.schemas.types.get(name.as_ref()).map_or(At::Anything, At::Type),
            Shape::Map(values) => At::Map(values),
            Shape::Array(elements) => self.inside(elements),
            Shape::String(_)
            | Shape::Time
            | Shape::MicroTime
            | Shape::Integer(_)
            | Shape::Number
            | Shape::Boolean
            | Shape::IntOrString
            | Shape::Quantity
            | Shape::Any => At::Anything,
        }
    }

    fn maps(
        self,
        mut original: Map<String, Value>,
        mut patch: Map<String, Value>,
        at: At<'a>,
    ) -> Result<Map<String, Value>, ApiError> {
        if let Some(directive) = patch.remove(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => Ok(clean_map(patch)),
                Some("delete") => Ok(Map::new()),
                _ => Err(unknown_directive(&directive, patch)),
            };
        }
        retain_keys(&mut original, &mut patch)?;
        let orders: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
        for order in orders {
            self.set_order(&mut original, &mut patch, at, &order)?;
        }
        let mut deletions = Vec::new();
        for (key, value) in patch {
            if let Some(list) = key.strip_prefix(DELETE_FROM) {
                deletions.push((list.to_owned(), value));
                continue;
            }
            if key == SET_ORDER.trim_end_matches('/') || key == DELETE_FROM.trim_end_matches('/') {
                return Err(malformed_directive(&key));
            }
            self.entry(&mut original, key, value, at)?;
        }
        for (key, doomed) in deletions {
            delete_scalars(&mut original, &key, &doomed);
        }
        Ok(original)
    }

    /// One key of a patch.
    fn entry(
        self,
        original: &mut Map<String, Value>,
        key: String,
        patched: Value,
        at: At<'a>,
    ) -> Result<(), ApiError> {
        let old = original.remove(&key);
        let merged = match (old, patched) {
            (_, Value::Null) => None,
            (Some(Value::Object(old)), Value::Object(new)) => {
                let (inside, _) = self.field(at, &key);
                Some(Value::Object(self.maps(old, new, inside)?))
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let (inside, strategy) = self.field(at, &key);
                Some(Value::Array(if strategy.merge {
                    self.lists(old, new, inside, strategy, &key)?
                } else {
                    new
                }))
            }
            (_, new) => clean(new),
        };
        if let Some(merged) = merged {
            original.insert(key, merged);
        }
        Ok(())
    }

    /// `$setElementOrder/<list>` with the list beside it, if any.
    fn set_order(
        self,
        original: &mut Map<String, Value>,
        patch: &mut Map<String, Value>,
        at: At<'a>,
        directive: &str,
    ) -> Result<(), ApiError> {
        let key = directive.strip_prefix(SET_ORDER).unwrap_or(directive).to_owned();
        let Some(Value::Array(order)) = patch.remove(directive) else {
            return Err(malformed_directive(directive));
        };
        let (inside, strategy) = self.field(at, &key);
        let merge_key = strategy.merge_key.as_deref();
        let old = take_list(original, &key)?;
        let new = take_list(patch, &key)?;
        validate_order(new.as_deref().unwrap_or(&[]), &order, merge_key)?;
        let server_order = Positions::of(old.as_deref().unwrap_or(&[]), merge_key);
        let merged = match (old, new) {
            (None, None) => return Ok(()),
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(clean).collect(),
            (Some(old), Some(new)) if strategy.merge => self.lists(old, new, inside, strategy, &key)?,
            (Some(_), Some(new)) => new,
        };
        let ordered = in_order(merged, &Positions::of(&order, merge_key), &server_order, merge_key)?;
        original.insert(key, Value::Array(ordered));
        Ok(())
    }

    fn lists(
        self,
        old: Vec<Value>,
        new: Vec<Value>,
        inside: At<'a>,
        strategy: &PatchStrategy,
        key: &str,
    ) -> Result<Vec<Value>, ApiError> {
        let Some(first) = old.first().or(new.first()) else { return Ok(old) };
        let same_type = |value: &Value| std::mem::discriminant(value) == std::mem::discriminant(first);
        if first.is_array() {
            return Err(not_applicable("lists of lists are not supported"));
        }
        if !old.iter().chain(&new).all(same_type) {
            return Err(ApiError::bad_request(format!("list element types are not identical: {key}")));
        }
        if !first.is_object() {
            return merge_scalars(old, new);
        }
        let Some(merge_key) = strategy.merge_key.as_deref() else {
            return Err(ApiError::bad_request(format!("cannot merge lists without merge key for {key}")));
        };
        self.lists_of_maps(old, new, inside, merge_key)
    }

    fn lists_of_maps(
        self,
        old: Vec<Value>,
        new: Vec<Value>,
        inside: At<'a>,
        merge_key: &str,
    ) -> Result<Vec<Value>, ApiError> {
        let (old, new) = apply_element_directives(old, new, merge_key)?;
        let server_order = Positions::of(&old, Some(merge_key));
        let mut positions = server_order.clone();
        let patch_order = Positions::of(&new, Some(merge_key));
        let mut merged = old;
        for element in new {
            let Some(value) = element.get(merge_key) else { return Err(no_merge_key(&element, merge_key)) };
            match positions.find(value) {
                Some(place) => {
                    let (Value::Object(old), Value::Object(new)) = (merged[place].take(), element) else {
                        return Err(ApiError::bad_request(format!("value for key {place} is not a map")));
                    };
                    merged[place] = Value::Object(self.maps(old, new, inside)?);
                }
                None => {
                    positions.insert(value, merged.len());
                    merged.extend(clean(element));
                }
            }
        }
        in_order(merged, &patch_order, &server_order, Some(merge_key))
    }
}

/// `$patch` in the elements of a merged list: deletes from the old list, or replaces it. The directives' elements go.
fn apply_element_directives(
    mut old: Vec<Value>,
    new: Vec<Value>,
    merge_key: &str,
) -> Result<(Vec<Value>, Vec<Value>), ApiError> {
    let (mut kept, mut doomed, mut replace) = (Vec::with_capacity(new.len()), BTreeSet::new(), false);
    for element in new {
        match element.get(DIRECTIVE).map(|directive| directive.as_str()) {
            None => kept.push(element),
            Some(Some("delete")) => match element.get(merge_key) {
                Some(value) => {
                    doomed.insert(value.to_string());
                }
                None => return Err(no_merge_key(&element, merge_key)),
            },
            Some(Some("replace")) => replace = true,
            Some(Some("merge")) => {
                return Err(ApiError::bad_request("merging lists cannot yet be specified in the patch"));
            }
            Some(_) => {
                return Err(ApiError::bad_request(format!(
                    "unknown patch type: {} in map: {}",
                    go_text(&element[DIRECTIVE]),
                    go_text(&element)
                )));
            }
        }
    }
    if replace {
        return Ok((kept.into_iter().filter_map(clean).collect(), Vec::new()));
    }
    if !doomed.is_empty() {
        old.retain(|element| element.get(merge_key).is_none_or(|value| !doomed.contains(&value.to_string())));
    }
    Ok((old, kept))
}

fn merge_scalars(old: Vec<Value>, new: Vec<Value>) -> Result<Vec<Value>, ApiError> {
    let patch_order = Positions::of(&new, None);
    let server_order = Positions::of(&old, None);
    let mut seen = BTreeSet::new();
    let all = old.into_iter().chain(new).filter(|value| seen.insert(value.to_string())).collect();
    in_order(all, &patch_order, &server_order, None)
}

fn delete_scalars(original: &mut Map<String, Value>, key: &str, doomed: &Value) {
    match (original.get_mut(key), doomed) {
        (Some(Value::Array(list)), Value::Array(doomed)) => list.retain(|value| !doomed.contains(value)),
        (Some(_), Value::Null) => {
            original.remove(key);
        }
        _ => {}
    }
}

/// `$retainKeys`: every key of the patch must be in it; every key of the object that is not goes.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), ApiError> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(retained) = directive else { return Err(malformed_retain_keys()) };
    let retained: BTreeSet<&str> = retained.iter().filter_map(Value::as_str).collect();
    let is_directive = |key: &str| key.starts_with(SET_ORDER) || key.starts_with(DELETE_FROM);
    for (key, value) in patch.iter() {
        if !value.is_null() && !is_directive(key) && !retained.contains(key.as_str()) {
            return Err(malformed_retain_keys());
        }
    }
    original.retain(|key, _| retained.contains(key.as_str()));
    Ok(())
}

fn take_list(map: &mut Map<String, Value>, key: &str) -> Result<Option<Vec<Value>>, ApiError> {
    match map.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(other) => {
            let kind = match other {
                Value::Object(_) => "map[string]interface {}",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                Value::Number(_) | Value::Array(_) | Value::Null => "float64",
            };
            Err(ApiError::bad_request(format!("expected a []interface {{}}, but received a {kind}")))
        }
    }
}

/// A new value without nulls and directives; none when it is itself a directive.
fn clean(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => Some(Value::Object(clean_map(map))),
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(clean).collect())),
        other => Some(other),
    }
}

fn clean_map(map: Map<String, Value>) -> Map<String, Value> {
    let is_directive =
        |key: &str| key == RETAIN_KEYS || key.starts_with(SET_ORDER) || key.starts_with(DELETE_FROM);
    map.into_iter()
        .filter(|(key, value)| !value.is_null() && !is_directive(key))
        .filter_map(|(key, value)| Some((key, clean(value)?)))
        .collect()
}

fn malformed_retain_keys() -> ApiError {
    ApiError::bad_request("invalid patch format of retainKeys")
}

fn malformed_directive(key: &str) -> ApiError {
    ApiError::bad_request(if key.starts_with("$d") {
        "invalid patch format of primitive list"
    } else {
        "invalid patch format of setElementOrder list"
    })
}

fn unknown_directive(directive: &Value, mut patch: Map<String, Value>) -> ApiError {
    patch.insert(DIRECTIVE.to_owned(), directive.clone());
    let patch = go_text(&Value::Object(patch));
    ApiError::bad_request(format!("unknown patch type: {} in map: {patch}", go_text(directive)))
}
