//! One line of `kubectl get -o wide` per object.

use super::*;
use expect_test::{Expect, expect};
use jiff::Timestamp;
use serde_json::json;

fn check(columns: &[Column], object: Value, expect: Expect) {
    let now = "2026-01-02T00:00:00Z".parse().unwrap();
    let cells: Vec<String> = columns
        .iter()
        .map(|column| match (column.cell)(&object, now) {
            Value::String(text) => text,
            other => other.to_string(),
        })
        .collect();
    expect.assert_eq(&cells.join(" | "));
}

fn pod(spec: Value, status: Value) -> Value {
    json!({"metadata": {"name": "web", "creationTimestamp": "2026-01-01T23:50:00Z"}, "spec": spec, "status": status})
}

#[test]
fn durations_are_shortened_as_upstream_does() {
    let days = 24 * 3600;
    let all = [
        -5,
        -1,
        0,
        119,
        120,
        125,
        600,
        3 * 3600 - 1,
        3 * 3600,
        3 * 3600 + 61,
        8 * 3600,
        47 * 3600,
        2 * days,
        2 * days + 3600,
        8 * days,
        729 * days,
        730 * days,
        800 * days,
        3000 * days,
    ];
    let texts: Vec<String> = all.into_iter().map(human_duration).collect();
    expect!["<invalid> 0s 0s 119s 2m 2m5s 10m 179m 3h 3h1m 8h 47h 2d 2d1h 8d 729d 2y 2y70d 8y"]
        .assert_eq(&texts.join(" "));
}

#[test]
fn a_pods_status_sums_up_its_containers() {
    let two = json!({"containers": [{"name": "a"}, {"name": "b"}], "nodeName": "n"});
    check(
        POD,
        pod(two.clone(), json!({"phase": "Pending"})),
        expect!["web | 0/2 | Pending | 0 | 10m | <none> | n | <none> | <none>"],
    );
    let running = json!({"ready": true, "restartCount": 0, "state": {"running": {}}});
    check(
        POD,
        pod(
            two.clone(),
            json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [running, running]}),
        ),
        expect!["web | 2/2 | Running | 0 | 10m | 10.0.0.1 | n | <none> | <none>"],
    );
    let crashing = json!({"ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"finishedAt": "2026-01-01T23:55:00Z"}}});
    check(
        POD,
        pod(two.clone(), json!({"phase": "Running", "containerStatuses": [crashing, running]})),
        expect!["web | 1/2 | CrashLoopBackOff | 3 (5m ago) | 10m | <none> | n | <none> | <none>"],
    );
    let done = json!({"restartCount": 0, "state": {"terminated": {"reason": "Completed", "exitCode": 0}}});
    check(
        POD,
        pod(
            two.clone(),
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [done, running]}),
        ),
        expect!["web | 1/2 | NotReady | 0 | 10m | <none> | n | <none> | <none>"],
    );
    check(
        POD,
        pod(two.clone(), json!({"phase": "Succeeded", "containerStatuses": [done, done]})),
        expect!["web | 0/2 | Completed | 0 | 10m | <none> | n | <none> | <none>"],
    );
    let killed = json!({"restartCount": 1, "state": {"terminated": {"exitCode": 137}}});
    check(
        POD,
        pod(two.clone(), json!({"phase": "Failed", "containerStatuses": [killed, done]})),
        expect!["web | 0/2 | ExitCode:137 | 1 | 10m | <none> | n | <none> | <none>"],
    );
    check(
        POD,
        pod(two, json!({"phase": "Failed", "reason": "Evicted"})),
        expect!["web | 0/2 | Evicted | 0 | 10m | <none> | n | <none> | <none>"],
    );
}

#[test]
fn init_containers_and_deletion_come_first() {
    let spec = json!({"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "j"}], "containers": [{"name": "a"}],
        "readinessGates": [{"conditionType": "x"}, {"conditionType": "y"}]});
    let done = json!({"name": "i", "restartCount": 1, "state": {"terminated": {"reason": "Completed", "exitCode": 0}}});
    let sidecar =
        json!({"name": "s", "started": true, "ready": true, "restartCount": 0, "state": {"running": {}}});
    let waiting = json!({"name": "j", "state": {"waiting": {"reason": "PodInitializing"}}});
    let failed =
        json!({"name": "j", "restartCount": 2, "state": {"terminated": {"reason": "Error", "exitCode": 1}}});
    check(
        POD,
        pod(
            spec.clone(),
            json!({"phase": "Pending", "initContainerStatuses": [done, sidecar, waiting], "conditions": [{"type": "x", "status": "True"}]}),
        ),
        expect!["web | 1/2 | Init:2/3 | 1 | 10m | <none> | <none> | <none> | 1/2"],
    );
    check(
        POD,
        pod(spec.clone(), json!({"phase": "Pending", "initContainerStatuses": [done, sidecar, failed]})),
        expect!["web | 1/2 | Init:Error | 3 | 10m | <none> | <none> | <none> | 0/2"],
    );
    let mut dying = pod(spec, json!({"phase": "Running"}));
    dying["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z".into();
    check(POD, dying, expect!["web | 0/2 | Terminating | 0 | 10m | <none> | <none> | <none> | 0/2"]);
}

#[test]
fn workloads_show_their_replicas() {
    let template =
        json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}});
    let object = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3, "template": template,
        "selector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "t", "operator": "NotIn", "values": ["z"]}]}},
        "status": {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}});
    check(
        DEPLOYMENT,
        object.clone(),
        expect!["web | 2/3 | 1 | 2 | <unknown> | a,b | x,y | app=web,t notin (z)"],
    );
    check(REPLICA_SET, object, expect!["web | 3 | 3 | 2 | <unknown> | a,b | x,y | app=web,t notin (z)"]);
}

#[test]
fn services_show_where_they_are_reached() {
    let service = |spec: Value| json!({"metadata": {"name": "web"}, "spec": spec});
    check(
        SERVICE,
        service(
            json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80, "protocol": "TCP"}], "selector": {"app": "web"}}),
        ),
        expect!["web | ClusterIP | 10.96.0.1 | <none> | 80/TCP | <unknown> | app=web"],
    );
    check(
        SERVICE,
        service(
            json!({"type": "NodePort", "clusterIPs": ["10.96.0.1"], "externalIPs": ["1.2.3.4"], "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}),
        ),
        expect!["web | NodePort | 10.96.0.1 | 1.2.3.4 | 80:30080/TCP,53/UDP | <unknown> | <none>"],
    );
    check(
        SERVICE,
        service(json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"]})),
        expect!["web | LoadBalancer | 10.96.0.1 | <pending> | <none> | <unknown> | <none>"],
    );
    check(
        SERVICE,
        service(json!({"type": "ExternalName", "externalName": "example.com"})),
        expect!["web | ExternalName | <none> | example.com | <none> | <unknown> | <none>"],
    );
    let addresses: Vec<Value> = (1..6).map(|n| json!({"ip": format!("10.0.0.{n}")})).collect();
    check(
        ENDPOINTS,
        json!({"metadata": {"name": "web"}, "subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]}),
        expect!["web | 10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more... | <unknown>"],
    );
    check(ENDPOINTS, json!({"metadata": {"name": "web"}}), expect!["web | <none> | <unknown>"]);
    check(
        ENDPOINT_SLICE,
        json!({"metadata": {"name": "web"}, "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]}),
        expect!["web | IPv4 | 80 | 10.0.0.1 | <unknown>"],
    );
    check(
        ENDPOINT_SLICE,
        json!({"metadata": {"name": "web"}, "addressType": "IPv4"}),
        expect!["web | IPv4 | <unset> | <unset> | <unknown>"],
    );
}

#[test]
fn nodes_events_and_the_rest() {
    check(
        NODE,
        json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"}}, "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "nodeInfo": {"kubeletVersion": "v1"}}}),
        expect![
            "n | Ready,SchedulingDisabled | control-plane,edge | <unknown> | v1 | 127.0.0.1 | <none> | <unknown> | <unknown> | <unknown>"
        ],
    );
    check(
        EVENT,
        json!({"metadata": {"name": "e"}, "type": "Warning", "reason": "BackOff", "message": "m\n", "count": 3, "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{a}"},
        "firstTimestamp": "2026-01-01T23:00:00Z", "lastTimestamp": "2026-01-01T23:59:30Z", "source": {"component": "kubelet", "host": "n"}}),
        expect![
            "30s (x3 over 60m) | Warning | BackOff | pod/web | spec.containers{a} | kubelet, n | m | 60m | 3 | e"
        ],
    );
    check(
        CONFIG_MAP,
        json!({"metadata": {"name": "c"}, "data": {"a": "b"}, "binaryData": {"c": ""}}),
        expect!["c | 2 | <unknown>"],
    );
    check(
        SECRET,
        json!({"metadata": {"name": "s"}, "type": "Opaque"}),
        expect!["s | Opaque | 0 | <unknown>"],
    );
    check(
        LEASE,
        json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "n"}}),
        expect!["l | n | <unknown>"],
    );
    check(
        NAMESPACE,
        json!({"metadata": {"name": "d"}, "status": {"phase": "Active"}}),
        expect!["d | Active | <unknown>"],
    );
    check(SERVICE_ACCOUNT, json!({"metadata": {"name": "a"}}), expect!["a | 0 | <unknown>"]);
}

#[test]
fn every_column_prints_an_empty_object() {
    for columns in [
        NAMESPACE,
        POD,
        NODE,
        CONFIG_MAP,
        SECRET,
        SERVICE,
        ENDPOINTS,
        ENDPOINT_SLICE,
        SERVICE_ACCOUNT,
        EVENT,
        DEPLOYMENT,
        REPLICA_SET,
        LEASE,
        DEFAULT,
    ] {
        for column in columns {
            (column.cell)(&json!({}), Timestamp::UNIX_EPOCH);
        }
    }
}
