//! What a new pod takes from the cluster that it comes into, and for what it may not come in: upstream's admission of
//! pods, by accounts, priorities and tolerations.

use super::pod_spec;
use crate::object::{self, Key, ResourceId};
use crate::resource::Others;
use serde_json::{Map, Value, json};

const SERVICE_ACCOUNTS: ResourceId = ResourceId::new("", "serviceaccounts");

/// The account of pods that name none; a controller makes it in every namespace.
const DEFAULT_ACCOUNT: &str = "default";

/// What a pod does to pods of lower priority, in every class that there is.
const PREEMPTION: &str = "PreemptLowerPriority";

/// Completes a new pod; else why it is forbidden.
pub(super) fn admit(pod: &mut Value, others: &Others<'_>) -> Result<(), String> {
    admit_account(pod, others)?;
    let spec = object::map_mut(pod, &["spec"]);
    admit_priority(spec)?;
    add_default_tolerations(spec);
    Ok(())
}

/// The account that a new pod needs and that comes by itself in a new namespace.
pub(super) fn awaits(pod: &Value, namespace: &str) -> Option<Key> {
    let name = account(pod);
    (name == DEFAULT_ACCOUNT).then(|| account_key(namespace, name))
}

/// What an update may leave out, as it could not change it.
pub(super) fn keep(new: &mut Value, old: &Value) {
    let spec = object::map_mut(new, &["spec"]);
    for key in ["priority", "preemptionPolicy"] {
        if let Some(value) = object::at(old, &["spec", key]) {
            spec.entry(key).or_insert_with(|| value.clone());
        }
    }
    add_default_tolerations(spec);
}

/// The name of a pod's account.
fn account(pod: &Value) -> &str {
    let named = |key| Some(object::text(pod, &["spec", key])).filter(|name| !name.is_empty());
    named("serviceAccountName").or_else(|| named("serviceAccount")).unwrap_or(DEFAULT_ACCOUNT)
}

fn account_key(namespace: &str, name: &str) -> Key {
    Key { resource: SERVICE_ACCOUNTS, namespace: Some(namespace.to_owned()), name: name.to_owned() }
}

/// A pod runs under an account that is there, and pulls its images with that one's secrets unless it names its own.
fn admit_account(pod: &mut Value, others: &Others<'_>) -> Result<(), String> {
    let (namespace, name) = (object::namespace(pod).to_owned(), account(pod).to_owned());
    let account = others(&account_key(&namespace, &name)).ok_or_else(|| {
        format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found")
    })?;
    let spec = object::map_mut(pod, &["spec"]);
    pod_spec::set_service_account(spec, &name);
    let secrets = object::list(&account, &["imagePullSecrets"]);
    let names_none = spec.get("imagePullSecrets").and_then(Value::as_array).is_none_or(Vec::is_empty);
    if names_none && !secrets.is_empty() {
        spec.insert("imagePullSecrets".to_owned(), secrets.into());
    }
    Ok(())
}

/// A pod's priority is that of its class; one that says another itself is refused.
fn admit_priority(spec: &mut Map<String, Value>) -> Result<(), String> {
    let class = spec.get("priorityClassName").and_then(Value::as_str).unwrap_or("");
    let priority =
        priority_of(class).ok_or_else(|| format!("no PriorityClass with name {class} was found"))?;
    if let Some(given) = spec.get("priority").and_then(Value::as_i64).filter(|given| *given != priority) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
             computed {priority} from the given PriorityClass name"
        ));
    }
    if let Some(given) =
        spec.get("preemptionPolicy").and_then(Value::as_str).filter(|given| *given != PREEMPTION)
    {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {PREEMPTION} from the given PriorityClass name"
        ));
    }
    spec.insert("priority".to_owned(), priority.into());
    spec.insert("preemptionPolicy".to_owned(), PREEMPTION.into());
    Ok(())
}

/// The priority of a class; there are those that upstream always has.
fn priority_of(class: &str) -> Option<i64> {
    match class {
        "" => Some(0),
        "system-cluster-critical" => Some(2_000_000_000),
        "system-node-critical" => Some(2_000_001_000),
        _ => None,
    }
}

/// A pod stays five minutes on a node that is not ready or not reachable, unless it says otherwise.
fn add_default_tolerations(spec: &mut Map<String, Value>) {
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(tolerations) = tolerations.as_array_mut() else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerates = |toleration: &Value| {
            let its_key = object::text(toleration, &["key"]);
            (its_key == key || its_key.is_empty())
                && matches!(object::text(toleration, &["effect"]), "NoExecute" | "")
        };
        if !tolerations.iter().any(tolerates) {
            tolerations.push(
                json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Of a namespace `a` with the accounts `default` and `puller`.
    fn check(spec: Value, expect: Expect) {
        let others = |key: &Key| match (key.namespace.as_deref(), key.name.as_str()) {
            (Some("a"), "default") => Some(json!({})),
            (Some("a"), "puller") => Some(json!({ "imagePullSecrets": [{ "name": "theirs" }] })),
            _ => None,
        };
        let mut pod = json!({ "metadata": { "namespace": "a", "name": "p" }, "spec": spec });
        let outcome = admit(&mut pod, &others);
        if let Some(spec) = pod["spec"].as_object_mut() {
            spec.remove("tolerations");
        }
        expect.assert_eq(&outcome.map_or_else(|why| why, |()| pod["spec"].to_string()));
    }

    #[test]
    fn a_pod_runs_under_an_account_that_is_there() {
        check(
            json!({}),
            expect![[
                r#"{"preemptionPolicy":"PreemptLowerPriority","priority":0,"serviceAccount":"default","serviceAccountName":"default"}"#
            ]],
        );
        check(
            json!({ "serviceAccountName": "puller" }),
            expect![[
                r#"{"imagePullSecrets":[{"name":"theirs"}],"preemptionPolicy":"PreemptLowerPriority","priority":0,"serviceAccount":"puller","serviceAccountName":"puller"}"#
            ]],
        );
        check(
            json!({ "serviceAccount": "puller", "imagePullSecrets": [{ "name": "mine" }] }),
            expect![[
                r#"{"imagePullSecrets":[{"name":"mine"}],"preemptionPolicy":"PreemptLowerPriority","priority":0,"serviceAccount":"puller","serviceAccountName":"puller"}"#
            ]],
        );
        check(
            json!({ "serviceAccountName": "nobody" }),
            expect![[r#"error looking up service account a/nobody: serviceaccount "nobody" not found"#]],
        );
    }

    #[test]
    fn a_pods_priority_is_that_of_its_class() {
        check(
            json!({ "priorityClassName": "system-node-critical", "priority": 2_000_001_000 }),
            expect![[
                r#"{"preemptionPolicy":"PreemptLowerPriority","priority":2000001000,"priorityClassName":"system-node-critical","serviceAccount":"default","serviceAccountName":"default"}"#
            ]],
        );
        check(json!({ "priorityClassName": "gold" }), expect!["no PriorityClass with name gold was found"]);
        check(
            json!({ "priority": 5 }),
            expect![
                "the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name"
            ],
        );
        check(
            json!({ "preemptionPolicy": "Never" }),
            expect![
                "the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller computed PreemptLowerPriority from the given PriorityClass name"
            ],
        );
    }

    #[test]
    fn only_the_account_that_comes_by_itself_is_waited_for() {
        let awaited = |spec: Value| awaits(&json!({ "spec": spec }), "a").map(|key| key.to_string());
        assert_eq!(awaited(json!({})).as_deref(), Some("serviceaccounts a/default"));
        assert_eq!(
            awaited(json!({ "serviceAccountName": "default" })).as_deref(),
            Some("serviceaccounts a/default")
        );
        assert_eq!(awaited(json!({ "serviceAccountName": "other" })), None);
    }

    #[test]
    fn an_update_may_leave_out_what_admission_set() {
        let old = json!({ "spec": { "priority": 7, "preemptionPolicy": "Never" } });
        let mut new = json!({ "spec": { "tolerations": [{ "operator": "Exists" }] } });
        keep(&mut new, &old);
        expect![[
            r#"{"spec":{"preemptionPolicy":"Never","priority":7,"tolerations":[{"operator":"Exists"}]}}"#
        ]]
        .assert_eq(&new.to_string());
    }
}
