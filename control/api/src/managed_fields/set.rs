//! A set of field paths, and its `fieldsV1` form.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A tree of path elements (`f:spec`, `k:{"name":"web"}`, `v:"a"`), some of which are members of the set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet {
    member: bool,
    children: BTreeMap<String, Self>,
}

impl FieldSet {
    /// Reads `fieldsV1`. An element with nothing below it is a member; `.` says so of one with something below.
    pub fn from_value(value: &Value) -> Self {
        Self { member: false, ..Self::node(value) }
    }

    fn node(value: &Value) -> Self {
        let mut set = Self::default();
        for (element, below) in value.as_object().into_iter().flatten() {
            if element == "." {
                set.member = true;
            } else {
                set.children.insert(element.clone(), Self::node(below));
            }
        }
        set.member |= set.children.is_empty();
        set
    }

    /// As `fieldsV1`.
    pub fn to_value(&self) -> Value {
        let mut out = Map::new();
        for (element, child) in &self.children {
            let mut below = child.to_value();
            if let Some(map) = below.as_object_mut().filter(|map| child.member && !map.is_empty()) {
                map.insert(".".to_owned(), Value::Object(Map::new()));
            }
            out.insert(element.clone(), below);
        }
        Value::Object(out)
    }

    /// Whether no path is in it.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Adds all paths of `other`.
    pub fn unite(&mut self, other: &Self) {
        self.member |= other.member;
        for (element, child) in &other.children {
            self.children.entry(element.clone()).or_default().unite(child);
        }
    }

    /// Takes out all paths of `other`.
    pub fn subtract(&mut self, other: &Self) {
        self.member &= !other.member;
        self.children.retain(|element, child| {
            if let Some(other) = other.children.get(element) {
                child.subtract(other);
            }
            !child.is_empty()
        });
    }

    /// Makes the path that ends here a member.
    pub(super) fn insert(&mut self) {
        self.member = true;
    }

    /// The set below an element, for as long as `fill` fills it; an empty one is not kept.
    pub(super) fn below(&mut self, element: String, fill: impl FnOnce(&mut Self)) {
        let mut child = self.children.remove(&element).unwrap_or_default();
        fill(&mut child);
        if !child.is_empty() {
            self.children.insert(element, child);
        }
    }
}
