//! Field selectors: equality over the fields that each kind offers.

use crate::error::ApiError;
use crate::object;
use crate::resource::Resource;
use serde_json::Value;
use std::fmt;

/// Terms, all of which an object must meet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

/// `field=value` or `field!=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: String,
    paths: &'static [&'static [&'static str]],
    value: String,
    equal: bool,
    /// What stands for a field that is not there.
    absent: &'static str,
}

/// A field that one can select by: its label, where it is (the first path that is there counts), and its zero.
type Label = (&'static str, &'static [&'static [&'static str]], &'static str);

/// Fields of every kind.
const METADATA: &[Label] = &[
    ("metadata.name", &[&["metadata", "name"]], ""),
    ("metadata.namespace", &[&["metadata", "namespace"]], ""),
];

/// Fields of some kinds: (group, plural, labels).
const LABELS: &[(&str, &str, &[Label])] = &[
    (
        "",
        "pods",
        &[
            ("spec.nodeName", &[&["spec", "nodeName"]], ""),
            ("spec.restartPolicy", &[&["spec", "restartPolicy"]], ""),
            ("spec.schedulerName", &[&["spec", "schedulerName"]], ""),
            ("spec.serviceAccountName", &[&["spec", "serviceAccountName"]], ""),
            ("spec.hostNetwork", &[&["spec", "hostNetwork"]], "false"),
            ("status.phase", &[&["status", "phase"]], ""),
            ("status.podIP", &[&["status", "podIP"]], ""),
            ("status.podIPs", &[&["status", "podIP"]], ""),
            ("status.nominatedNodeName", &[&["status", "nominatedNodeName"]], ""),
        ],
    ),
    ("", "nodes", &[("spec.unschedulable", &[&["spec", "unschedulable"]], "false")]),
    ("", "namespaces", &[("status.phase", &[&["status", "phase"]], "")]),
    ("", "secrets", &[("type", &[&["type"]], "")]),
    (
        "",
        "services",
        &[("spec.clusterIP", &[&["spec", "clusterIP"]], ""), ("spec.type", &[&["spec", "type"]], "")],
    ),
    ("", "events", EVENT),
    ("events.k8s.io", "events", EVENT),
    ("apps", "replicasets", &[("status.replicas", &[&["status", "replicas"]], "0")]),
];

const EVENT: &[Label] = &[
    ("involvedObject.kind", &[&["involvedObject", "kind"], &["regarding", "kind"]], ""),
    ("involvedObject.namespace", &[&["involvedObject", "namespace"], &["regarding", "namespace"]], ""),
    ("involvedObject.name", &[&["involvedObject", "name"], &["regarding", "name"]], ""),
    ("involvedObject.uid", &[&["involvedObject", "uid"], &["regarding", "uid"]], ""),
    ("involvedObject.apiVersion", &[&["involvedObject", "apiVersion"], &["regarding", "apiVersion"]], ""),
    (
        "involvedObject.resourceVersion",
        &[&["involvedObject", "resourceVersion"], &["regarding", "resourceVersion"]],
        "",
    ),
    ("involvedObject.fieldPath", &[&["involvedObject", "fieldPath"], &["regarding", "fieldPath"]], ""),
    ("regarding.kind", &[&["regarding", "kind"], &["involvedObject", "kind"]], ""),
    ("regarding.namespace", &[&["regarding", "namespace"], &["involvedObject", "namespace"]], ""),
    ("regarding.name", &[&["regarding", "name"], &["involvedObject", "name"]], ""),
    ("regarding.uid", &[&["regarding", "uid"], &["involvedObject", "uid"]], ""),
    ("reason", &[&["reason"]], ""),
    ("type", &[&["type"]], ""),
    ("reportingComponent", &[&["reportingComponent"], &["reportingController"]], ""),
    (
        "source",
        &[
            &["source", "component"],
            &["deprecatedSource", "component"],
            &["reportingComponent"],
            &["reportingController"],
        ],
        "",
    ),
];

impl FieldSelector {
    /// Every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// The text form, as `?fieldSelector=` has it, for objects of a kind. A field that the kind does not offer is a bad
    /// request.
    pub fn parse(resource: &Resource, text: &str) -> Result<Self, ApiError> {
        let mut terms = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            let (field, equal, value) = split_term(&term).ok_or_else(|| {
                ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{term}'"))
            })?;
            let value = unescape(value).map_err(ApiError::bad_request)?;
            let (_, paths, absent) = label(resource, field)?;
            terms.push(Term { field: field.to_owned(), paths, value, equal, absent });
        }
        Ok(Self { terms })
    }

    /// Whether an object meets it.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| term.matches(object))
    }

    /// Whether it has no term, so that everything meets it.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The one value that a field must have, if the selector says so: `metadata.name=x` can be looked up.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{}{}{value}", term.field, if term.equal { "=" } else { "!=" })?;
        }
        Ok(())
    }
}

impl Term {
    fn matches(&self, object: &Value) -> bool {
        let found = self.paths.iter().find_map(|path| object::at(object, path));
        let same = match found {
            None => self.value == self.absent,
            Some(Value::String(text)) if text.is_empty() => self.value == self.absent,
            Some(Value::String(text)) => *text == self.value,
            Some(other) => {
                let shown = other.to_string();
                shown == self.value
            }
        };
        same == self.equal
    }
}

fn label(resource: &Resource, field: &str) -> Result<Label, ApiError> {
    let own = LABELS
        .iter()
        .find(|(group, plural, _)| *group == resource.group && *plural == resource.plural)
        .map(|(_, _, labels)| *labels);
    if let Some(found) = METADATA.iter().chain(own.unwrap_or(&[])).find(|(label, _, _)| *label == field) {
        return Ok(*found);
    }
    Err(ApiError::bad_request(if own.is_some() {
        format!("field label not supported: {field}")
    } else {
        format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    }))
}

/// Splits at commas that no backslash precedes.
fn split_terms(text: &str) -> Vec<String> {
    let (mut terms, mut term, mut escaped) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            _ if escaped => {
                term.push(c);
                escaped = false;
            }
            '\\' => {
                term.push(c);
                escaped = true;
            }
            ',' => terms.push(std::mem::take(&mut term)),
            _ => term.push(c),
        }
    }
    terms.push(term);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (at, _) in term.char_indices() {
        let rest = &term[at..];
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..at], equal, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                Some(next) => {
                    return Err(format!("invalid field selector: invalid escape sequence: \\{next}"));
                }
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => {
                return Err(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                ));
            }
            _ => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Resources;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(plural: &str, text: &str, object: Value, expect: Expect) {
        let resources = Resources::built_in();
        let resource = resources.by_plural("", "v1", plural).unwrap();
        let out = match FieldSelector::parse(resource, text) {
            Err(error) => format!("{}: {}", error.code, error.message),
            Ok(selector) => format!("{selector} => {}", selector.matches(&object)),
        };
        expect.assert_eq(&out);
    }

    #[test]
    fn fields_are_compared_as_text() {
        let pod = json!({"metadata": {"name": "web", "namespace": "a"}, "spec": {"nodeName": "n,1"}, "status": {"phase": "Running"}});
        check("pods", "metadata.name=web", pod.clone(), expect!["metadata.name=web => true"]);
        check(
            "pods",
            "status.phase!=Running,metadata.name==web",
            pod.clone(),
            expect!["status.phase!=Running,metadata.name=web => false"],
        );
        check("pods", r"spec.nodeName=n\,1", pod.clone(), expect![r"spec.nodeName=n\,1 => true"]);
        check("pods", "spec.hostNetwork=false", pod.clone(), expect!["spec.hostNetwork=false => true"]);
        check("pods", "spec.nodeName=", pod, expect!["spec.nodeName= => false"]);
        check("nodes", "spec.unschedulable=false", json!({}), expect!["spec.unschedulable=false => true"]);
        check(
            "nodes",
            "spec.unschedulable=true",
            json!({"spec": {"unschedulable": true}}),
            expect!["spec.unschedulable=true => true"],
        );
        let event = json!({"involvedObject": {"kind": "Pod", "name": "web"}, "type": "Normal", "source": {"component": "s"}});
        check(
            "events",
            "involvedObject.kind=Pod,involvedObject.name=web,type=Normal,source=s",
            event,
            expect!["involvedObject.kind=Pod,involvedObject.name=web,type=Normal,source=s => true"],
        );
    }

    #[test]
    fn unknown_fields_and_malformed_terms_are_refused() {
        check("pods", "spec.color=red", json!({}), expect!["400: field label not supported: spec.color"]);
        check(
            "configmaps",
            "data.x=y",
            json!({}),
            expect![[
                r#"400: "data.x" is not a known field selector: only "metadata.name", "metadata.namespace""#
            ]],
        );
        check(
            "pods",
            "metadata.name",
            json!({}),
            expect!["400: invalid selector: 'metadata.name'; can't understand 'metadata.name'"],
        );
        check(
            "pods",
            r"metadata.name=\x",
            json!({}),
            expect![r"400: invalid field selector: invalid escape sequence: \x"],
        );
        check(
            "pods",
            "metadata.name=a=b",
            json!({}),
            expect!["400: invalid field selector: unescaped character in value: 61"],
        );
    }
}
