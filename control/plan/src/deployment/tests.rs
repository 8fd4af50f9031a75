//! Tables: a deployment, its replica sets, and the step that follows.

use super::*;
use crate::testing::{add, now, world};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

/// A deployment `web` of template `v<n>`, with spec fields on top.
fn deployment(version: u32, spec: &Value) -> Value {
    let mut deployment = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "uid-web", "resourceVersion": "9", "generation": 2},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 1,
            "template": template(version),
        },
        "status": {},
    });
    for (name, value) in spec.as_object().unwrap() {
        deployment["spec"][name] = value.clone();
    }
    deployment
}

fn template(version: u32) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": format!("v{version}")}]}})
}

/// A replica set per word: `v1=4/3`: of template 1, 4 wanted, 3 available; `@n`: written when n were desired.
fn replica_sets(words: &str) -> Vec<Value> {
    let parse = |word: &str| {
        let (sizes, desired) = word.split_once('@').unwrap_or((word, "4"));
        let (version, sizes) = sizes[1..].split_once('=').unwrap();
        let (wanted, available) = sizes.split_once('/').unwrap();
        let (version, wanted): (u32, i32) = (version.parse().unwrap(), wanted.parse().unwrap());
        let (available, desired): (i32, i32) = (available.parse().unwrap(), desired.parse().unwrap());
        let mut template = template(version);
        template["metadata"]["labels"]["pod-template-hash"] = json!(format!("h{version}"));
        json!({
            "metadata": {"name": format!("web-h{version}"), "namespace": "default", "uid": format!("uid-h{version}"),
                "resourceVersion": "5", "generation": 1, "creationTimestamp": format!("2026-01-01T00:0{version}:00Z"),
                "labels": {"app": "web", "pod-template-hash": format!("h{version}")},
                "annotations": {"deployment.kubernetes.io/revision": version.to_string(),
                    "deployment.kubernetes.io/desired-replicas": desired.to_string(),
                    "deployment.kubernetes.io/max-replicas": (desired + 1).to_string()},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "uid-web", "controller": true}]},
            "spec": {"replicas": wanted, "selector": {"matchLabels": {"app": "web", "pod-template-hash": format!("h{version}")}},
                "template": template},
            "status": {"replicas": wanted, "readyReplicas": available, "availableReplicas": available, "observedGeneration": 1},
        })
    };
    words.split_whitespace().map(parse).collect()
}

fn plan(deployment: &Value, sets: &str, refusal: Option<&str>, at: Timestamp) -> Plan {
    let mut world = world(&[(DEPLOYMENTS, deployment.clone())]);
    for set in replica_sets(sets) {
        add(&mut world, &REPLICA_SETS, &set);
    }
    let key = key(DEPLOYMENTS, "default", "web");
    world.set_refusal(NAME, key.clone(), refusal.map(str::to_owned));
    reconcile(&world, &key, at)
}

/// The events of a plan: what happens to replica sets.
fn check(version: u32, spec: Value, sets: &str, expect: Expect) {
    let plan = plan(&deployment(version, &spec), sets, None, now());
    let mut lines: Vec<String> = Vec::new();
    for action in &plan.actions {
        match action {
            Action::Told { done: Some(event), .. } => lines.push(event.message.clone()),
            Action::Delete { key, .. } => lines.push(format!("delete {}", key.name)),
            _ => {}
        }
    }
    expect.assert_eq(&lines.join("\n"));
}

#[test]
fn a_new_deployment_gets_a_replica_set_with_all_its_pods() {
    let plan = plan(&deployment(1, &json!({})), "", None, now());
    expect![[r#"
        create replicasets.apps default/web-5b9fcf7c95
          then Normal ScalingReplicaSet web: Scaled up replica set web-5b9fcf7c95 from 0 to 4
        patch deployments.apps default/web {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"1"}}}
        patch deployments.apps default/web status {"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:10:00Z","lastUpdateTime":"2026-01-01T00:10:00Z","message":"Created new replica set \"web-5b9fcf7c95\"","reason":"NewReplicaSetCreated","status":"True","type":"Progressing"},{"lastTransitionTime":"2026-01-01T00:10:00Z","lastUpdateTime":"2026-01-01T00:10:00Z","message":"Deployment does not have minimum availability.","reason":"MinimumReplicasUnavailable","status":"False","type":"Available"}],"observedGeneration":2,"terminatingReplicas":0,"unavailableReplicas":4}}
        look again in 601s
    "#]].assert_eq(&plan.to_string());
}

#[test]
fn a_new_template_starts_within_the_surge() {
    check(2, json!({}), "v1=4/4", expect!["Scaled up replica set web-5d98887bc7 from 0 to 1"]);
}

#[test]
fn old_pods_go_as_far_as_may_be_unavailable() {
    check(2, json!({}), "v1=4/4 v2=1/0", expect!["Scaled down replica set web-h1 from 4 to 3"]);
    check(2, json!({}), "v1=3/3 v2=2/0", expect![""]);
    check(2, json!({}), "v1=3/3 v2=2/2", expect!["Scaled down replica set web-h1 from 3 to 1"]);
    check(2, json!({}), "v1=0/0 v2=4/4", expect![""]);
}

#[test]
fn old_pods_that_do_not_run_go_first() {
    check(3, json!({}), "v1=2/2 v2=2/0 v3=1/0", expect!["Scaled down replica set web-h2 from 2 to 1"]);
}

#[test]
fn pods_that_are_about_to_go_are_not_relied_on() {
    // The first replica set was told to keep 3 and still counts 4: nothing may go before the new pod is available.
    check(2, json!({}), "v1=3/4 v2=2/0", expect![""]);
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_shared() {
    check(
        2,
        json!({"replicas": 10}),
        "v1=3/3 v2=2/2",
        expect![[r#"
        Scaled up replica set web-h1 from 3 to 7
        Scaled up replica set web-h2 from 2 to 4"#]],
    );
    check(
        2,
        json!({"replicas": 2}),
        "v1=3/3 v2=2/2",
        expect![[r#"
        Scaled down replica set web-h1 from 3 to 2
        Scaled down replica set web-h2 from 2 to 1"#]],
    );
    check(
        2,
        json!({"replicas": 0}),
        "v1=3/3 v2=2/2",
        expect![[r#"
        Scaled down replica set web-h1 from 3 to 0
        Scaled down replica set web-h2 from 2 to 0"#]],
    );
    check(1, json!({"replicas": 7}), "v1=4/4", expect!["Scaled up replica set web-h1 from 4 to 7"]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    check(
        2,
        json!({"paused": true, "replicas": 6}),
        "v1=4/4",
        expect!["Scaled up replica set web-h1 from 4 to 6"],
    );
    check(2, json!({"paused": true}), "v1=4/4", expect![""]);
}

#[test]
fn recreate_waits_for_the_old_pods_to_go() {
    let spec = json!({"strategy": {"type": "Recreate"}});
    check(2, spec.clone(), "v1=4/4", expect!["Scaled down replica set web-h1 from 4 to 0"]);
    check(2, spec, "v1=0/0", expect!["Scaled up replica set web-5d98887bc7 from 0 to 4"]);
}

#[test]
fn going_back_gives_the_old_replica_set_the_next_revision() {
    let plan = plan(&deployment(1, &json!({})), "v1=0/0 v2=4/4", None, now());
    expect![[r#"
        patch replicasets.apps default/web-h1 {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"3","deployment.kubernetes.io/revision-history":"1"}},"spec":{"replicas":1}}
          then Normal ScalingReplicaSet web: Scaled up replica set web-h1 from 0 to 1
        patch deployments.apps default/web {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"3"}}}
        patch deployments.apps default/web status {"status":{"availableReplicas":4,"conditions":[{"lastTransitionTime":"2026-01-01T00:10:00Z","lastUpdateTime":"2026-01-01T00:10:00Z","message":"Deployment has minimum availability.","reason":"MinimumReplicasAvailable","status":"True","type":"Available"},{"lastTransitionTime":"2026-01-01T00:10:00Z","lastUpdateTime":"2026-01-01T00:10:00Z","message":"ReplicaSet \"web-h1\" is progressing.","reason":"ReplicaSetUpdated","status":"True","type":"Progressing"}],"observedGeneration":2,"readyReplicas":4,"replicas":4,"terminatingReplicas":0,"unavailableReplicas":1}}
        look again in 601s
    "#]].assert_eq(&plan.to_string());
}

#[test]
fn history_beyond_the_limit_goes_once_the_rollout_is_complete() {
    let mut deployment = deployment(4, &json!({}));
    deployment["status"] =
        json!({"updatedReplicas": 4, "replicas": 4, "availableReplicas": 4, "observedGeneration": 2});
    let plan = plan(&deployment, "v1=0/0 v2=0/0 v3=0/0 v4=4/4", None, now());
    expect![[r#"
        delete replicasets.apps default/web-h1 Background
        delete replicasets.apps default/web-h2 Background
        patch deployments.apps default/web {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"4"}}}
        patch deployments.apps default/web status {"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:10:00Z","lastUpdateTime":"2026-01-01T00:10:00Z","message":"Deployment has minimum availability.","reason":"MinimumReplicasAvailable","status":"True","type":"Available"},{"lastTransitionTime":"2026-01-01T00:10:00Z","lastUpdateTime":"2026-01-01T00:10:00Z","message":"ReplicaSet \"web-h4\" has successfully progressed.","reason":"NewReplicaSetAvailable","status":"True","type":"Progressing"}],"readyReplicas":4,"terminatingReplicas":0}}
    "#]].assert_eq(&plan.to_string());
}

#[test]
fn no_progress_within_the_deadline_is_told() {
    let mut deployment = deployment(1, &json!({"progressDeadlineSeconds": 60}));
    deployment["status"] = json!({"replicas": 4, "updatedReplicas": 4, "observedGeneration": 2, "conditions": [
        {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "message": "m",
         "lastUpdateTime": "2026-01-01T00:09:30Z", "lastTransitionTime": "2026-01-01T00:09:00Z"}]});
    let waits = plan(&deployment, "v1=4/0", None, now());
    assert_eq!(waits.look_again, Some(std::time::Duration::from_secs(31)));
    let late = plan(&deployment, "v1=4/0", None, now() + std::time::Duration::from_secs(31));
    expect![[r#"
        patch deployments.apps default/web {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"1"}}}
        patch deployments.apps default/web status {"status":{"conditions":[{"lastTransitionTime":"2026-01-01T00:10:31Z","lastUpdateTime":"2026-01-01T00:10:31Z","message":"Deployment does not have minimum availability.","reason":"MinimumReplicasUnavailable","status":"False","type":"Available"},{"lastTransitionTime":"2026-01-01T00:10:31Z","lastUpdateTime":"2026-01-01T00:10:31Z","message":"ReplicaSet \"web-h1\" has timed out progressing.","reason":"ProgressDeadlineExceeded","status":"False","type":"Progressing"}],"terminatingReplicas":0,"unavailableReplicas":4}}
    "#]].assert_eq(&late.to_string());
}

#[test]
fn a_refused_replica_set_becomes_a_condition() {
    let plan = plan(&deployment(1, &json!({})), "", Some("quota"), now());
    let told = plan
        .actions
        .iter()
        .map(Action::to_string)
        .any(|line| line.contains(r#""reason":"ReplicaSetCreateError""#));
    assert!(told, "{plan}");
}
