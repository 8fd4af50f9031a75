//! Deployments as kubectl drives them: rollout, undo, pause, scale, delete.

use wharf_tests::Cluster;

fn web(version: &str) -> String {
    include_str!("../../samples/web/web.yaml")
        .replace("type: NodePort", "type: ClusterIP")
        .replace(", nodePort: 30080", "")
        .replace(
            "        image: web",
            &format!("        image: web\n        env: [{{name: VERSION, value: '{version}'}}]"),
        )
}

#[test]
fn a_change_rolls_out_can_be_undone_and_has_a_history() {
    let cluster = Cluster::with_images(&["web"]);
    cluster.apply(&web("1"));
    let said = cluster.kubectl("rollout status deployment/web --timeout=60s");
    assert!(said.contains("deployment \"web\" successfully rolled out"), "{said}");
    let table = cluster.kubectl("get deployment web --no-headers");
    assert!(table.split_whitespace().take(4).eq(["web", "3/3", "3", "3"]), "{table}");

    cluster.apply(&web("2"));
    cluster.kubectl("rollout status deployment/web --timeout=60s");
    let history = cluster.kubectl("rollout history deployment/web");
    assert!(history.lines().any(|line| line.starts_with("2 ")), "{history}");
    let versions = "get pods -l app=web -o jsonpath='{.items[*].spec.containers[0].env[0].value}'";
    assert_eq!(cluster.kubectl(versions), "2 2 2");

    cluster.kubectl("rollout undo deployment/web");
    cluster.kubectl("rollout status deployment/web --timeout=60s");
    cluster.wait("pods -l app=web", "three pods of version 1", |pods| {
        let pods = pods["items"].as_array().unwrap();
        pods.len() == 3 && pods.iter().all(|pod| pod["spec"]["containers"][0]["env"][0]["value"] == "1")
    });

    cluster.kubectl("rollout pause deployment/web");
    cluster.kubectl("set image deployment/web web=web:latest");
    let refused = cluster.kubectl_refused("rollout undo deployment/web", "");
    assert!(refused.contains("paused"), "{refused}");
    cluster.kubectl("rollout resume deployment/web");
    cluster.kubectl("rollout status deployment/web --timeout=60s");
    cluster.kubectl("rollout restart deployment/web");
    cluster.kubectl("rollout status deployment/web --timeout=60s");
}

#[test]
fn a_rollout_that_cannot_succeed_keeps_the_old_pods_serving() {
    let cluster = Cluster::with_images(&["web"]);
    cluster.apply(&web("1"));
    cluster.kubectl("rollout status deployment/web --timeout=60s");
    cluster.kubectl("set image deployment/web web=missing");
    cluster.wait("deployment web", "one pod of the new version", |web| web["status"]["updatedReplicas"] == 1);
    let refused = cluster.kubectl_refused("rollout status deployment/web --timeout=2s", "");
    assert!(refused.contains("timed out"), "{refused}");
    assert_eq!(cluster.get("deployment web")["status"]["availableReplicas"], 3);
    cluster.kubectl("rollout undo deployment/web");
    cluster.kubectl("rollout status deployment/web --timeout=60s");
}

#[test]
fn pods_come_back_when_deleted_and_go_with_their_deployment() {
    let cluster = Cluster::with_images(&["web"]);
    cluster.apply(&web("1"));
    cluster.kubectl("rollout status deployment/web --timeout=60s");
    let names = || cluster.kubectl("get pods -l app=web -o name");
    let first = names().lines().next().unwrap().to_owned();
    cluster.kubectl(&format!("delete {first} --timeout=60s"));
    cluster.kubectl("wait --for=jsonpath='{.status.readyReplicas}'=3 deployment/web --timeout=60s");
    assert!(!names().contains(&first));
    cluster.kubectl("scale deployment/web --replicas=5");
    cluster.kubectl("rollout status deployment/web --timeout=60s");
    assert_eq!(names().lines().count(), 5);
    cluster.kubectl("delete deployment web --timeout=60s");
    cluster.wait("pods -l app=web", "all gone", |pods| pods["items"].as_array().is_some_and(Vec::is_empty));
    assert_eq!(cluster.kubectl("get replicasets -o name"), "");
}

#[test]
fn a_pod_that_fits_nowhere_says_why() {
    let cluster = Cluster::with_images(&["web"]);
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: huge}\nspec:\n  containers:\n  \
         - {name: main, image: web, resources: {requests: {memory: 100Ti}}}\n",
    );
    let pod = cluster
        .wait("pod huge", "unschedulable", |pod| pod["status"]["conditions"][0]["reason"] == "Unschedulable");
    assert_eq!(pod["status"]["phase"], "Pending");
    let message = pod["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("0/1 nodes are available: 1 Insufficient memory."), "{message}");
    cluster.wait("events --field-selector reason=FailedScheduling", "the event", |events| {
        !events["items"].as_array().unwrap().is_empty()
    });
}

#[test]
fn a_namespace_goes_with_all_it_holds() {
    let cluster = Cluster::with_images(&["web"]);
    cluster.kubectl("create namespace team");
    cluster.wait("serviceaccount default -n team", "the default account", |account| account.is_object());
    cluster.wait("configmap kube-root-ca.crt -n team", "the certificate", |map| {
        map["data"]["ca.crt"].as_str().is_some_and(|pem| pem.starts_with("-----BEGIN CERTIFICATE"))
    });
    cluster.kubectl_with("apply -n team -f -", &web("1"));
    cluster.kubectl("rollout status deployment/web -n team --timeout=60s");
    cluster.kubectl("delete namespace team --timeout=60s");
    let refused = cluster.kubectl_refused("create configmap late -n team", "");
    assert!(refused.contains("namespaces \"team\" not found"), "{refused}");
    assert_eq!(cluster.kubectl("get pods -A -l app=web -o name"), "");
}
