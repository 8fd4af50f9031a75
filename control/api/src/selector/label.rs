//! Label selectors.

use super::parse::Parser;
use crate::error::ApiError;
use crate::object;
use crate::validate::FieldError;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt;

/// Requirements, all of which labels must meet. None at all: everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    /// Meets nothing (a selector that is not there, where that selects nothing).
    nothing: bool,
}

/// One thing that labels must meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How its value is held against `values`.
    pub operator: Operator,
    /// Values, ordered.
    pub values: BTreeSet<String>,
}

/// How a requirement compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Has one of the values; printed as `key=value` when there is one.
    In,
    /// Has none of the values, or not the label at all; printed as `key!=value` when there is one.
    NotIn,
    /// Has the label.
    Exists,
    /// Has not the label.
    DoesNotExist,
    /// Has a whole number above the value.
    GreaterThan,
    /// Has a whole number below the value.
    LessThan,
}

impl LabelSelector {
    /// Every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// No object.
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Objects with these labels.
    pub fn of_map(labels: &Map<String, Value>) -> Self {
        let requirements = labels.iter().map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: BTreeSet::from([value.as_str().unwrap_or("").to_owned()]),
        });
        Self { requirements: requirements.collect(), nothing: false }
    }

    /// The text form, as `?labelSelector=` has it.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut requirements = Parser::new(text).requirements().map_err(ApiError::bad_request)?;
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(Self { requirements, nothing: false })
    }

    /// A `metav1.LabelSelector`: null selects nothing, `{}` everything.
    pub fn from_value(selector: &Value) -> Result<Self, ApiError> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut all = object::map(selector, &["matchLabels"]).map(Self::of_map).unwrap_or_default();
        for expression in object::list(selector, &["matchExpressions"]) {
            let operator = match object::text(expression, &["operator"]) {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(ApiError::bad_request(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            let values = object::list(expression, &["values"]);
            let values = values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            let requirement =
                Requirement { key: object::text(expression, &["key"]).to_owned(), operator, values };
            requirement.validate().map_err(ApiError::bad_request)?;
            all.requirements.push(requirement);
        }
        all.requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(all)
    }

    /// Whether an object's labels meet it.
    pub fn matches(&self, object: &Value) -> bool {
        self.matches_labels(object::labels(object))
    }

    /// Whether labels meet it.
    pub fn matches_labels(&self, labels: Option<&Map<String, Value>>) -> bool {
        let value_of = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
        !self.nothing
            && self.requirements.iter().all(|requirement| requirement.matches(value_of(&requirement.key)))
    }

    /// Whether it has no requirement, so that everything meets it.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Its requirements, by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl fmt::Display for LabelSelector {
    /// The text form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.requirements.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compare(value, |label, bound| label > bound),
            Operator::LessThan => self.compare(value, |label, bound| label < bound),
        }
    }

    fn compare(&self, value: Option<&str>, holds: fn(i64, i64) -> bool) -> bool {
        let label = value.and_then(|value| value.parse().ok());
        let bound = self.values.first().and_then(|bound| bound.parse().ok());
        matches!((label, bound), (Some(label), Some(bound)) if holds(label, bound))
    }

    /// Upstream's words for what is wrong with it.
    pub(super) fn validate(&self) -> Result<(), String> {
        let mut errors = Vec::new();
        let key_faults = crate::validate::qualified_name_faults(&self.key);
        if !key_faults.is_empty() {
            errors.push(FieldError::invalid("key", self.key.as_str(), key_faults.join("; ")));
        }
        let listed: Vec<&str> = self.values.iter().map(String::as_str).collect();
        let listed = Value::from(listed);
        match self.operator {
            Operator::In | Operator::NotIn if self.values.is_empty() => errors.push(FieldError::invalid(
                "values",
                listed,
                "for 'in', 'notin' operators, values set can't be empty",
            )),
            Operator::Exists | Operator::DoesNotExist if !self.values.is_empty() => {
                errors.push(FieldError::invalid(
                    "values",
                    listed,
                    "values set must be empty for exists and does not exist",
                ));
            }
            Operator::GreaterThan | Operator::LessThan => {
                let bound = self.values.first().map_or("", String::as_str);
                if bound.parse::<i64>().is_err() {
                    errors.push(FieldError::invalid(
                        "values[0]",
                        bound,
                        "for 'Gt', 'Lt' operators, the value must be an integer",
                    ));
                }
            }
            Operator::In | Operator::NotIn | Operator::Exists | Operator::DoesNotExist => {}
        }
        for value in &self.values {
            let faults = crate::validate::label_value_faults(value);
            if !faults.is_empty() {
                errors.push(FieldError::invalid(
                    format!("values[0][{}]", self.key),
                    value.as_str(),
                    faults.join("; "),
                ));
            }
        }
        match errors.as_slice() {
            [] => Ok(()),
            [only] => Err(only.to_string()),
            all => Err(format!("[{}]", all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let key = &self.key;
        match self.operator {
            Operator::In if self.values.len() == 1 => write!(f, "{key}={values}"),
            Operator::NotIn if self.values.len() == 1 => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;
    use serde_json::json;

    /// How a selector prints again, and which of these labels it takes.
    fn check(text: &str, expect: Expect) {
        let out = match LabelSelector::parse(text) {
            Err(error) => format!("{}: {}", error.code, error.message),
            Ok(selector) => {
                let all = [json!({}), json!({"a": "1"}), json!({"a": "2", "b": ""}), json!({"b": "x"})];
                let taken = all.iter().filter(|labels| selector.matches_labels(labels.as_object()));
                format!("{selector} => {}", taken.map(ToString::to_string).collect::<Vec<_>>().join(" "))
            }
        };
        expect.assert_eq(&out);
    }

    #[test]
    fn every_operator_takes_what_upstream_takes() {
        check("", expect![[r#" => {} {"a":"1"} {"a":"2","b":""} {"b":"x"}"#]]);
        check("a=1", expect![[r#"a=1 => {"a":"1"}"#]]);
        check("a == 1 ", expect![[r#"a=1 => {"a":"1"}"#]]);
        check("a!=1", expect![[r#"a!=1 => {} {"a":"2","b":""} {"b":"x"}"#]]);
        check("a in (1, 2)", expect![[r#"a in (1,2) => {"a":"1"} {"a":"2","b":""}"#]]);
        check("a notin (1,3)", expect![[r#"a notin (1,3) => {} {"a":"2","b":""} {"b":"x"}"#]]);
        check("a", expect![[r#"a => {"a":"1"} {"a":"2","b":""}"#]]);
        check("!a", expect!["!a => {} {\"b\":\"x\"}"]);
        check("b=", expect![[r#"b= => {"a":"2","b":""}"#]]);
        check("b in (,x)", expect![[r#"b in (,x) => {"a":"2","b":""} {"b":"x"}"#]]);
        check("a>1", expect![[r#"a>1 => {"a":"2","b":""}"#]]);
        check("a<2", expect![[r#"a<2 => {"a":"1"}"#]]);
        check("b,a=2", expect![[r#"a=2,b => {"a":"2","b":""}"#]]);
        check("in=1", expect!["in=1 => "]);
    }

    #[test]
    fn what_is_no_selector_is_refused_in_upstreams_words() {
        check("a=1,", expect!["400: found '', expected: identifier after ','"]);
        check("=1", expect!["400: found '=', expected: !, identifier, or 'end of string'"]);
        check("a in 1", expect!["400: unable to parse requirement: found '1' expected: '('"]);
        check("a in (1", expect!["400: unable to parse requirement: found '', expected: ',' or ')'"]);
        check(
            "a b",
            expect!["400: unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"],
        );
        check("a=1 b=2", expect!["400: found 'b', expected: ',' or 'end of string'"]);
        check(
            "a>x",
            expect![[
                r#"400: unable to parse requirement: values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer"#
            ]],
        );
        check("!", expect!["400: unable to parse requirement: found '', expected: identifier"]);
    }

    #[test]
    fn a_metav1_selector_is_the_same_thing() {
        let selector = LabelSelector::from_value(&json!({"matchLabels": {"a": "1"},
            "matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["x"]}, {"key": "c", "operator": "DoesNotExist"}]}));
        expect!["a=1,b!=x,!c"].assert_eq(&selector.unwrap().to_string());
        assert!(!LabelSelector::from_value(&Value::Null).unwrap().matches(&json!({})));
        assert!(LabelSelector::from_value(&json!({})).unwrap().matches(&json!({})));
        let bad = LabelSelector::from_value(&json!({"matchExpressions": [{"key": "b", "operator": "Like"}]}));
        expect![[r#""Like" is not a valid label selector operator"#]].assert_eq(&bad.unwrap_err().message);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_parsed_again(text in "[ab!=,() <>1]{0,16}|(a|b)(=|!=|==)(1|2)?(,!?c)?|a (in|notin) \\((x|y|)(,x|,z)?\\)") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
            }
        }
    }
}
