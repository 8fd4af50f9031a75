//! Whether a pod may be on a node: selectors, affinity, taints.

use crate::selector::Labels;
use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Taint, Toleration,
};

/// Whether the node is one that `nodeSelector` and required node affinity ask for.
pub(super) fn is_selected(spec: &PodSpec, node: &Node) -> bool {
    if let Some(selector) = &spec.node_selector
        && !crate::selector::contains(selector, node.metadata.labels.as_ref())
    {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

/// The sum of the weights of the preferred terms that the node matches.
pub(super) fn preference(spec: &PodSpec, node: &Node) -> i64 {
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred =
        affinity.and_then(|node| node.preferred_during_scheduling_ignored_during_execution.as_ref());
    let matching = preferred.into_iter().flatten().filter(|term| term_matches(&term.preference, node));
    matching.map(|term| i64::from(term.weight)).sum()
}

/// A term matches when all it says does; one that says nothing matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels: &Labels| labels.get(key));
    let field = |key: &str| (key == "metadata.name").then_some(node.metadata.name.as_ref()).flatten();
    expressions.iter().all(|expression| requirement_holds(expression, label(&expression.key)))
        && fields.iter().all(|expression| requirement_holds(expression, field(&expression.key)))
}

fn requirement_holds(requirement: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let numbers = || {
        let wanted = values.first()?.parse::<i64>().ok()?;
        Some((value?.parse::<i64>().ok()?, wanted))
    };
    match (requirement.operator.as_str(), value) {
        ("In", Some(value)) => values.contains(value),
        ("NotIn", Some(value)) => !values.contains(value),
        ("NotIn" | "DoesNotExist", None) | ("Exists", Some(_)) => true,
        ("Gt", _) => numbers().is_some_and(|(value, wanted)| value > wanted),
        ("Lt", _) => numbers().is_some_and(|(value, wanted)| value < wanted),
        _ => false,
    }
}

/// Whether the node has a taint with one of these effects that the pod does not tolerate.
pub(super) fn has_untolerated(pod: &Pod, node: &Node, effects: &[&str]) -> bool {
    count_untolerated(pod, node, effects) > 0
}

/// How many of the node's taints with one of these effects the pod does not tolerate.
pub(super) fn count_untolerated(pod: &Pod, node: &Node, effects: &[&str]) -> usize {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let relevant = taints.iter().filter(|taint| effects.contains(&taint.effect.as_str()));
    relevant.filter(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint))).count()
}

/// Whether one toleration covers one taint: an empty key with `Exists` covers every key, an empty effect every effect.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && text(&toleration.value) == text(&taint.value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: serde_json::Value, expect: bool) {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1", "labels": {"zone": "a", "cores": "8"}},
            "spec": {"taints": [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]},
        }))
        .unwrap();
        let mut spec = spec;
        spec["containers"] = json!([]);
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let fits =
            is_selected(pod.spec.as_ref().unwrap(), &node) && !has_untolerated(&pod, &node, &["NoSchedule"]);
        assert_eq!(fits, expect, "{spec}");
    }

    fn affinity(terms: serde_json::Value) -> serde_json::Value {
        json!({"tolerations": [{"operator": "Exists"}], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    }

    #[test]
    fn selectors_and_affinity_choose_nodes() {
        check(json!({"tolerations": [{"operator": "Exists"}], "nodeSelector": {"zone": "a"}}), true);
        check(json!({"tolerations": [{"operator": "Exists"}], "nodeSelector": {"zone": "b"}}), false);
        check(
            affinity(json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}])),
            true,
        );
        check(
            affinity(json!([{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}])),
            false,
        );
        check(
            affinity(json!([{"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["4"]}]}])),
            true,
        );
        check(
            affinity(json!([{"matchExpressions": [{"key": "cores", "operator": "Lt", "values": ["4"]}]}])),
            false,
        );
        check(
            affinity(
                json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]),
            ),
            true,
        );
        check(affinity(json!([{}])), false);
        check(affinity(json!([{}, {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}])), true);
    }

    #[test]
    fn taints_keep_pods_away_unless_tolerated() {
        check(json!({}), false);
        check(json!({"tolerations": [{"key": "dedicated", "operator": "Exists"}]}), true);
        check(json!({"tolerations": [{"key": "dedicated", "value": "db"}]}), true);
        check(json!({"tolerations": [{"key": "dedicated", "value": "web"}]}), false);
        check(
            json!({"tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}]}),
            false,
        );
        check(json!({"tolerations": [{"value": "db"}]}), false);
    }
}
