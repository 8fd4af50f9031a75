//! Pods.

use super::{pod_admission, pod_spec, pod_warnings};
use crate::object;
use crate::quantity::Quantity;
use crate::resource::{Resource, Strategy, Subresource};
use crate::validate::{self, FieldError};
use crate::write;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Pod"),
    plural: Cow::Borrowed("pods"),
    singular: Cow::Borrowed("pod"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("po")]),
    categories: Cow::Borrowed(&[Cow::Borrowed("all")]),
    schema: Cow::Borrowed("io.k8s.api.core.v1.Pod"),
    subresources: &[Subresource::Status, Subresource::Log, Subresource::Binding],
    strategy: Strategy {
        default,
        admit: pod_admission::admit,
        awaits: pod_admission::awaits,
        prepare_create,
        prepare_update: pod_admission::keep,
        validate,
        validate_update,
        warnings: |pod| pod_warnings::of_spec(&pod["spec"], "spec"),
        delete_grace,
        generation: Some(write::differs_in_substance),
        return_deleted: true,
        ..Strategy::PLAIN
    },
    columns: crate::printers::POD,
    ..Resource::PLAIN
};

fn default(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec") else { return };
    pod_spec::default(spec);
    let is_on_host = object::flag(spec, &["hostNetwork"]);
    let Some(map) = spec.as_object_mut() else { return };
    pod_spec::set_absent(map, "enableServiceLinks", || true.into());
    for list in ["containers", "initContainers"] {
        for container in map.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            requests_from_limits(container);
            if is_on_host {
                host_ports(container);
            }
        }
    }
}

/// What is limited and not asked for is asked for as much as it may be.
fn requests_from_limits(container: &mut Value) {
    let Some(limits) =
        object::map(container, &["resources", "limits"]).filter(|limits| !limits.is_empty()).cloned()
    else {
        return;
    };
    let requests = object::map_mut(container, &["resources", "requests"]);
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

fn host_ports(container: &mut Value) {
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let number = object::integer(port, &["containerPort"]).unwrap_or(0);
        if object::integer(port, &["hostPort"]).unwrap_or(0) == 0
            && let Some(port) = port.as_object_mut()
        {
            port.insert("hostPort".to_owned(), number.into());
        }
    }
}

/// A new pod has not been seen by a node.
fn prepare_create(pod: &mut Value) {
    let qos = qos_class(&pod["spec"]);
    object::map_mut(pod, &[]).insert("status".to_owned(), json!({ "phase": "Pending", "qosClass": qos }));
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from what the containers ask for and may have at most.
fn qos_class(spec: &Value) -> &'static str {
    let containers = ["containers", "initContainers"].iter().flat_map(|list| object::list(spec, &[list]));
    let mut all_guaranteed = true;
    let mut any = false;
    for container in containers {
        let of = |which: &str| -> BTreeMap<&str, Quantity> {
            let list = object::map(container, &["resources", which]);
            list.into_iter()
                .flatten()
                .filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory"))
                .filter_map(|(name, value)| Some((name.as_str(), validate::quantity(value).ok()?)))
                .filter(|(_, quantity)| !quantity.is_zero())
                .collect()
        };
        let (requests, limits) = (of("requests"), of("limits"));
        any |= !requests.is_empty() || !limits.is_empty();
        all_guaranteed &= limits.len() == 2
            && requests.iter().all(|(name, request)| limits.get(name).is_some_and(|limit| limit == request));
    }
    match (any, all_guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn validate(pod: &Value) -> Vec<FieldError> {
    let Some(spec) = pod.get("spec") else { return vec![FieldError::required("spec.containers", "")] };
    let mut errors = annotations(pod);
    errors.extend(pod_spec::validate(spec, "spec"));
    for list in ["containers", "initContainers"] {
        for (index, container) in object::list(spec, &[list]).iter().enumerate() {
            let image = object::text(container, &["image"]);
            if image != image.trim() {
                let detail = "must not have leading or trailing whitespace";
                errors.push(FieldError::invalid(format!("spec.{list}[{index}].image"), image, detail));
            }
        }
    }
    if !object::list(spec, &["ephemeralContainers"]).is_empty() {
        errors.push(FieldError::forbidden("spec.ephemeralContainers", "cannot be set on create"));
    }
    let is_gated = !object::list(spec, &["schedulingGates"]).is_empty();
    if is_gated && !object::text(spec, &["nodeName"]).is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden("spec.nodeName", detail));
    }
    errors
}

/// Faults of annotations that mean something in a pod.
fn annotations(pod: &Value) -> Vec<FieldError> {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    let mut errors = Vec::new();
    let mut fault = |key: &str, value: &str, detail: &str| {
        errors.push(FieldError::invalid(format!("metadata.annotations[{key}]"), value, detail));
    };
    if let Some(value) = object::annotation(pod, MIRROR)
        && object::text(pod, &["spec", "nodeName"]).is_empty()
    {
        fault(MIRROR, value, "must set spec.nodeName if mirror pod annotation is set");
    }
    if let Some(cost) = object::annotation(pod, COST)
        && !is_deletion_cost(cost)
    {
        fault(COST, cost, "must be a 32bit integer");
    }
    errors
}

/// Whether a text is a number as Go reads it, without a plus or zeros before it.
fn is_deletion_cost(text: &str) -> bool {
    text.parse::<i32>().is_ok_and(|number| number.to_string() == text)
}

/// Of a pod's spec only images, an earlier deadline, further tolerations and fewer gates may change.
fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    const SAID: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
        `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
        tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
    let mut errors =
        if object::annotations(new) == object::annotations(old) { Vec::new() } else { annotations(new) };
    let (mut munged, old_spec) = (new["spec"].clone(), &old["spec"]);
    for (list, what) in [("containers", "containers"), ("initContainers", "init containers")] {
        let was = object::list(old_spec, &[list]);
        let is = munged.get_mut(list).and_then(Value::as_array_mut);
        if is.as_ref().map_or(0, |is| is.len()) != was.len() {
            let detail = format!("pod updates may not add or remove {what}");
            return vec![FieldError::forbidden(format!("spec.{list}"), detail)];
        }
        for (container, was) in is.into_iter().flatten().zip(was) {
            container["image"] = was["image"].clone();
        }
    }
    let deadline = |spec: &Value| object::integer(spec, &["activeDeadlineSeconds"]);
    match (deadline(&new["spec"]), deadline(old_spec)) {
        (Some(is), Some(was)) if is > was => {
            let detail = format!("must be less than or equal to previous value {was}");
            errors.push(FieldError::invalid("spec.activeDeadlineSeconds", is, detail));
        }
        (None, Some(was)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid("spec.activeDeadlineSeconds", was, detail));
        }
        _ => (),
    }
    let tolerations = |spec| object::list(spec, &["tolerations"]).iter().map(toleration_but_seconds);
    let kept: BTreeSet<_> = tolerations(&new["spec"]).collect();
    if !tolerations(old_spec).all(|toleration| kept.contains(&toleration)) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden("spec.tolerations", detail));
    }
    errors.extend(added_gates(&new["spec"], old_spec));
    let negative = object::integer(old_spec, &["terminationGracePeriodSeconds"]).is_some_and(|secs| secs < 0);
    let map = object::map_mut(&mut munged, &[]);
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates", "terminationGracePeriodSeconds"] {
        if key == "terminationGracePeriodSeconds"
            && !(negative && map.get(key).and_then(Value::as_i64) == Some(1))
        {
            continue;
        }
        match old_spec.get(key) {
            Some(value) => map.insert(key.to_owned(), value.clone()),
            None => map.remove(key),
        };
    }
    if &munged != old_spec {
        errors.push(FieldError::forbidden("spec", SAID));
    }
    errors
}

/// What of a toleration an update has to leave.
fn toleration_but_seconds(toleration: &Value) -> [&str; 4] {
    ["key", "operator", "value", "effect"].map(|key| object::text(toleration, &[key]))
}

/// Faults of gates that an update adds; it may only take them away.
fn added_gates(new: &Value, old: &Value) -> Vec<FieldError> {
    let names =
        |spec| object::list(spec, &["schedulingGates"]).iter().map(|gate| object::text(gate, &["name"]));
    let were: BTreeSet<&str> = names(old).collect();
    let added = names(new).enumerate().filter(|(_, name)| !were.contains(name));
    added
        .map(|(index, name)| {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            FieldError::forbidden(format!("spec.schedulingGates[{index}].name"), detail)
        })
        .collect()
}

/// A pod that no node has, or that has ended, goes at once.
fn delete_grace(pod: &Value, asked: Option<i64>) -> Option<i64> {
    let is_over = matches!(object::text(pod, &["status", "phase"]), "Failed" | "Succeeded");
    if object::text(pod, &["spec", "nodeName"]).is_empty() || is_over {
        return Some(0);
    }
    let own = || object::integer(pod, &["spec", "terminationGracePeriodSeconds"]);
    let secs = asked.or_else(own).unwrap_or(0);
    Some(if secs < 0 { 1 } else { secs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn pod() -> Value {
        json!({ "spec": {
            "containers": [{ "name": "a", "image": "a:1" }],
            "tolerations": [{ "key": "k", "operator": "Exists" }],
            "terminationGracePeriodSeconds": 30, "nodeName": "n",
            "schedulingGates": [{ "name": "a" }, { "name": "b" }],
        } })
    }

    fn check_update(change: impl FnOnce(&mut Value), expect: Expect) {
        let mut new = pod();
        change(&mut new);
        let texts: Vec<String> = validate_update(&new, &pod()).iter().map(ToString::to_string).collect();
        expect.assert_eq(&texts.join("\n"));
    }

    #[test]
    fn an_update_may_change_images_and_little_else() {
        check_update(|pod| pod["spec"]["containers"][0]["image"] = "a:2".into(), expect![""]);
        check_update(|pod| pod["spec"]["activeDeadlineSeconds"] = 5.into(), expect![""]);
        check_update(
            |pod| pod["spec"]["containers"][0]["command"] = json!(["x"]),
            expect![
                "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
            ],
        );
        check_update(
            |pod| pod["spec"]["tolerations"] = json!([]),
            expect![
                "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
            ],
        );
        check_update(|pod| pod["spec"]["tolerations"][0]["tolerationSeconds"] = 5.into(), expect![""]);
        check_update(
            |pod| pod["spec"]["tolerations"] = json!([{ "key": "k", "operator": "Exists" }, { "key": "l" }]),
            expect![""],
        );
        check_update(|pod| pod["spec"]["schedulingGates"] = json!([{ "name": "b" }]), expect![""]);
        check_update(|pod| drop(pod["spec"].as_object_mut().unwrap().remove("schedulingGates")), expect![""]);
        check_update(
            |pod| pod["spec"]["schedulingGates"] = json!([{ "name": "a" }, { "name": "c" }]),
            expect![
                "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'c'"
            ],
        );
        check_update(
            |pod| pod["spec"]["containers"] = json!([]),
            expect!["spec.containers: Forbidden: pod updates may not add or remove containers"],
        );
    }

    #[test]
    fn what_only_pods_are_asked_is_looked_into() {
        let mut pod = pod();
        pod["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "a",
            "controller.kubernetes.io/pod-deletion-cost": "+5" });
        pod["spec"]["securityContext"] = json!({});
        pod["spec"]["containers"][0]["image"] = " a".into();
        pod["spec"]["ephemeralContainers"] = json!([{ "name": "e", "image": "e" }]);
        let told = |pod: &Value| validate(pod).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        expect![[r#"
            metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+5": must be a 32bit integer
            spec.containers[0].image: Invalid value: " a": must not have leading or trailing whitespace
            spec.ephemeralContainers: Forbidden: cannot be set on create
            spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"#]].assert_eq(&told(&pod));
        pod["spec"].as_object_mut().unwrap().remove("nodeName");
        expect![[r#"
            metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "a": must set spec.nodeName if mirror pod annotation is set
            metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+5": must be a 32bit integer
            spec.containers[0].image: Invalid value: " a": must not have leading or trailing whitespace
            spec.ephemeralContainers: Forbidden: cannot be set on create"#]].assert_eq(&told(&pod));
    }

    #[test]
    fn grace_is_the_requests_then_the_pods_and_none_for_one_that_does_not_run() {
        assert_eq!(delete_grace(&pod(), None), Some(30));
        assert_eq!(delete_grace(&pod(), Some(5)), Some(5));
        assert_eq!(delete_grace(&pod(), Some(-3)), Some(1));
        assert_eq!(delete_grace(&json!({ "spec": {} }), Some(5)), Some(0));
    }

    #[test]
    fn the_qos_class_follows_requests_and_limits() {
        let of = |resources: Value| qos_class(&json!({ "containers": [{ "resources": resources }] }));
        assert_eq!(of(json!({})), "BestEffort");
        assert_eq!(of(json!({ "requests": { "cpu": "1" } })), "Burstable");
        let both = json!({ "cpu": "1", "memory": "1Gi" });
        assert_eq!(of(json!({ "limits": both, "requests": both })), "Guaranteed");
    }
}
