//! Namespaces on their way out: everything in them goes first, and of that the pods before what they may need to end
//! well: the Services, Secrets and rules they live by.

use crate::action::{Action, Plan, change};
use crate::controller::{Controller, Wake, itself};
use crate::object::{Change, Meta, NAMESPACES, PODS, cluster_key};
use crate::pods::time;
use crate::world::World;
use control_api::object::{Key, ResourceId};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use std::collections::BTreeMap;
use std::time::Duration;

/// The controller of namespaces.
pub(crate) static ROW: Controller = Controller {
    name: "namespace-controller",
    wakes: &[Wake::on("", "namespaces", itself), Wake::on_all(namespace_of_content)],
    reconcile,
};

/// The finalizer of a namespace's spec by which it waits for its content.
const OURS: &str = "kubernetes";

/// How soon to try again to delete what was made meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The namespace of what was deleted, if it is on its way out.
fn namespace_of_content(world: &World, change: &Change) -> Vec<Key> {
    let Some(name) = change.key.namespace.as_deref().filter(|_| change.after.is_none()) else {
        return Vec::new();
    };
    let ending = world.namespace(name).is_some_and(|namespace| namespace.metadata.is_deleting());
    // Only the last object of a kind makes a difference.
    let last = world.content(name).all(|(resource, _)| *resource != change.key.resource);
    if ending && last { vec![cluster_key(NAMESPACES, name)] } else { Vec::new() }
}

fn reconcile(world: &World, at: &Key, now: Timestamp) -> Plan {
    let Some(namespace) = world.namespace(&at.name).filter(|namespace| namespace.metadata.is_deleting())
    else {
        return Plan::nothing();
    };
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref()).unwrap_or_default();
    if !finalizers.iter().any(|name| name == OURS) {
        return Plan::nothing();
    }
    let content: Vec<(&ResourceId, usize)> = world.content(&at.name).collect();
    let mut actions: Vec<Action> =
        change_conditions(world, at, namespace, &content, now).into_iter().collect();
    if content.is_empty() {
        let kept = finalizers.iter().filter(|name| *name != OURS).cloned().collect();
        let revision = namespace.metadata.revision();
        actions.push(Action::Finalize { namespace: at.name.clone(), revision, kept });
        return Plan::from(actions);
    }
    let has_pods = content.iter().any(|(resource, _)| **resource == PODS);
    let turn = content.iter().filter(|(resource, _)| !has_pods || **resource == PODS);
    let deletes: Vec<Action> = turn
        .filter(|(resource, _)| has_undeleted(world, resource, &at.name))
        .map(|(resource, _)| Action::DeleteAll { resource: (*resource).clone(), namespace: at.name.clone() })
        .collect();
    if !deletes.is_empty() {
        actions.push(Action::Together(deletes));
    }
    Plan { look_again: Some(LOOK_AGAIN), ..Plan::from(actions) }
}

/// Whether an object of a kind has not been told to go.
fn has_undeleted(world: &World, resource: &ResourceId, namespace: &str) -> bool {
    world.in_namespace(resource, namespace).any(|(_, object)| !object.meta().is_deleting())
}

/// The five conditions of a namespace that ends.
fn change_conditions(
    world: &World,
    at: &Key,
    namespace: &Namespace,
    content: &[(&ResourceId, usize)],
    now: Timestamp,
) -> Option<Action> {
    let (remaining, finalizers) = remaining(world, &at.name, content);
    let content_left =
        (!remaining.is_empty()).then(|| format!("Some resources are remaining: {}", remaining.join(", ")));
    let finalizers_left = (!finalizers.is_empty()).then(|| {
        format!("Some content in the namespace has finalizers remaining: {}", finalizers.join(", "))
    });
    let facts = [
        (
            "NamespaceDeletionDiscoveryFailure",
            None,
            "",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            "",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            None,
            "",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            content_left,
            "SomeResourcesRemain",
            "ContentRemoved",
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            finalizers_left,
            "SomeFinalizersRemain",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ];
    let mut new = namespace.clone();
    let conditions = new.status.get_or_insert_default().conditions.get_or_insert_default();
    for (kind, problem, bad_reason, good_reason, good) in facts {
        let status = if problem.is_some() { "True" } else { "False" };
        let reason = if problem.is_some() { bad_reason } else { good_reason };
        let message = problem.unwrap_or_else(|| good.to_owned());
        let current = conditions.iter().position(|condition| condition.type_ == kind);
        let since = current.map(|at| &conditions[at]).filter(|current| current.status == status);
        let condition = NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            last_transition_time: since
                .map_or_else(|| Some(time(now)), |since| since.last_transition_time.clone()),
            reason: Some(reason.to_owned()),
            message: Some(message),
        };
        match current {
            Some(at) => conditions[at] = condition,
            None => conditions.push(condition),
        }
    }
    change(at, namespace.metadata.revision(), Some("status"), namespace, &new)
}

/// What is left per kind, and what finalizers hold it.
fn remaining(world: &World, namespace: &str, content: &[(&ResourceId, usize)]) -> (Vec<String>, Vec<String>) {
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    let mut left = Vec::new();
    for (resource, _) in content {
        // What goes at once is not left; pods end in their own time.
        let waiting = world
            .in_namespace(resource, namespace)
            .map(|(_, object)| object.meta())
            .filter(|meta| meta.is_deleting());
        let mut count = 0;
        for meta in waiting {
            count += 1;
            for finalizer in meta.finalizers.iter().flatten() {
                *held.entry(finalizer).or_default() += 1;
            }
        }
        if count > 0 {
            let dot = if resource.group.is_empty() { "." } else { "" };
            left.push(format!("{resource}{dot} has {count} resource instances"));
        }
    }
    let held =
        held.into_iter().map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"));
    (left, held.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::CONFIG_MAPS;
    use crate::testing::{add_pods, now, world};
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(config_maps: usize, pods: &str, expect: Expect) {
        let mut world = world(&[(
            NAMESPACES,
            json!({"metadata": {"name": "default", "uid": "u", "resourceVersion": "4", "deletionTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"finalizers": ["example.com/also", "kubernetes"]}, "status": {"phase": "Terminating"}}),
        )]);
        for at in 0..config_maps {
            let map = json!({"metadata": {"name": format!("c{at}"), "namespace": "default", "uid": format!("u{at}")}});
            crate::testing::add(&mut world, &CONFIG_MAPS, &map);
        }
        add_pods(&mut world, pods);
        let plan = reconcile(&world, &cluster_key(NAMESPACES, "default"), now());
        let lines: Vec<String> = plan
            .actions
            .iter()
            .map(|action| match action {
                Action::Patch { patch, .. } => {
                    let conditions = control_api::object::list(patch, &["status", "conditions"]);
                    let lines = conditions
                        .iter()
                        .map(|c| format!("{}={} {}", c["reason"], c["status"], c["message"]));
                    lines.collect::<Vec<_>>().join("\n")
                }
                other => other.to_string(),
            })
            .collect();
        expect.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn pods_go_then_the_rest_then_the_namespace() {
        check(
            2,
            "a:running",
            expect![[r#"
            "ResourcesDiscovered"="False" "All resources successfully discovered"
            "ParsedGroupVersions"="False" "All legacy kube types successfully parsed"
            "ContentDeleted"="False" "All content successfully deleted, may be waiting on finalization"
            "ContentRemoved"="False" "All content successfully removed"
            "ContentHasNoFinalizers"="False" "All content-preserving finalizers finished"
            delete all pods in default"#]],
        );
        check(
            2,
            "a:running deleting",
            expect![[r#"
            "ResourcesDiscovered"="False" "All resources successfully discovered"
            "ParsedGroupVersions"="False" "All legacy kube types successfully parsed"
            "ContentDeleted"="False" "All content successfully deleted, may be waiting on finalization"
            "SomeResourcesRemain"="True" "Some resources are remaining: pods. has 1 resource instances"
            "ContentHasNoFinalizers"="False" "All content-preserving finalizers finished""#]],
        );
        check(
            2,
            "",
            expect![[r#"
            "ResourcesDiscovered"="False" "All resources successfully discovered"
            "ParsedGroupVersions"="False" "All legacy kube types successfully parsed"
            "ContentDeleted"="False" "All content successfully deleted, may be waiting on finalization"
            "ContentRemoved"="False" "All content successfully removed"
            "ContentHasNoFinalizers"="False" "All content-preserving finalizers finished"
            delete all configmaps in default"#]],
        );
        check(
            0,
            "",
            expect![[r#"
            "ResourcesDiscovered"="False" "All resources successfully discovered"
            "ParsedGroupVersions"="False" "All legacy kube types successfully parsed"
            "ContentDeleted"="False" "All content successfully deleted, may be waiting on finalization"
            "ContentRemoved"="False" "All content successfully removed"
            "ContentHasNoFinalizers"="False" "All content-preserving finalizers finished"
            finalize default for us, not for example.com/also"#]],
        );
    }
}
