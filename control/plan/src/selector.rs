//! Label selectors over typed objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;

/// Labels as typed metadata holds them.
pub type Labels = BTreeMap<String, String>;

/// Whether a `metav1.LabelSelector` selects these labels. An empty one selects everything; one with an operator that
/// does not exist, nothing.
pub fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    let exact = selector.match_labels.iter().flatten().all(|(key, wanted)| value(key) == Some(wanted));
    exact
        && selector.match_expressions.iter().flatten().all(|expression| {
            let values = expression.values.as_deref().unwrap_or_default();
            match (expression.operator.as_str(), value(&expression.key)) {
                ("In", Some(value)) => values.contains(value),
                ("NotIn", Some(value)) => !values.contains(value),
                ("NotIn" | "DoesNotExist", None) | ("Exists", Some(_)) => true,
                _ => false,
            }
        })
}

/// Whether a selector says anything; an empty one must not be used to own things.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether all pairs of a plain selector (that of a Service) are among these labels.
pub fn contains(selector: &Labels, labels: Option<&Labels>) -> bool {
    selector.iter().all(|(key, wanted)| labels.and_then(|labels| labels.get(key)) == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    fn check(operator: &str, values: &[&str], labels: &[(&str, &str)], expect: bool) {
        let selector = LabelSelector {
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: "app".into(),
                operator: operator.into(),
                values: Some(values.iter().map(|&value| value.into()).collect()),
            }]),
            match_labels: None,
        };
        let labels = labels.iter().map(|&(key, value)| (key.into(), value.into())).collect();
        assert_eq!(selects(&selector, Some(&labels)), expect, "{operator} {values:?} {labels:?}");
    }

    #[test]
    fn expressions_select_as_upstreams_do() {
        check("In", &["web", "db"], &[("app", "web")], true);
        check("In", &["web", "db"], &[("app", "x")], false);
        check("In", &["web"], &[], false);
        check("NotIn", &["web"], &[("app", "web")], false);
        check("NotIn", &["web"], &[], true);
        check("Exists", &[], &[("app", "")], true);
        check("Exists", &[], &[], false);
        check("DoesNotExist", &[], &[("app", "")], false);
        check("DoesNotExist", &[], &[], true);
        check("Near", &[], &[("app", "")], false);
    }
}
