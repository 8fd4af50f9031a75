//! Objects and worlds for tests, from a line of text each.

use crate::object::{Meta, NODES, Object, PODS, cluster_key, key};
use crate::world::{Settings, World};
use control_api::object::{Key, ResourceId};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

/// The moment at which tests happen.
pub(crate) fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

/// A pod: `name:state key=value ..`, in namespace `default`.
///
/// States: pending, running (not ready), ready, failed, succeeded; `node=`, `cpu=`, `memory=`, `owner=` (the UID of its
/// replica set), `hostport=`, `cost=`, `since=` and `created=` (minutes within the hour before [`now`]), `ip=`, `restarts=` (and `/` those of a sidecar), `ns=`,
/// `priority=`, `never` (preempting others), `nominated=`, `victim` (of a preemption), `deleting`; any other pair is a label. A pod has the UID `uid-<name>` and runs on `n1` unless it is pending.
pub(crate) fn pod(line: &str) -> Object {
    let mut words = line.split_whitespace();
    let (name, state) = words.next().unwrap().split_once(':').unwrap();
    let phase = match state {
        "pending" => "Pending",
        "running" | "ready" => "Running",
        "failed" => "Failed",
        "succeeded" => "Succeeded",
        _ => panic!("no such state: {state}"),
    };
    let ready = if state == "ready" { "True" } else { "False" };
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {}}}]},
        "status": {"phase": phase, "conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:01:00Z"}]},
    });
    if phase != "Pending" {
        pod["spec"]["nodeName"] = json!("n1");
    }
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "node" => pod["spec"]["nodeName"] = json!(value),
            "cpu" | "memory" => pod["spec"]["containers"][0]["resources"]["requests"][name] = json!(value),
            "hostport" => {
                let port: i32 = value.parse().unwrap();
                pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": port, "hostPort": port}]);
            }
            "port" => {
                let (port_name, port) = value.split_once(':').unwrap();
                let port: i32 = port.parse().unwrap();
                pod["spec"]["containers"][0]["ports"] = json!([{"name": port_name, "containerPort": port}]);
            }
            "owner" => {
                pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                    "name": value, "uid": format!("uid-{value}"), "controller": true, "blockOwnerDeletion": true}]);
            }
            "cost" => {
                pod["metadata"]["annotations"] = json!({"controller.kubernetes.io/pod-deletion-cost": value});
            }
            "created" => pod["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:{value}:00Z")),
            "since" => {
                pod["status"]["conditions"][0]["lastTransitionTime"] =
                    json!(format!("2026-01-01T00:{value}:00Z"));
            }
            "restarts" => {
                let (own, sidecar) = value.split_once('/').unwrap_or((value, "0"));
                let statuses = |name: &str, count: &str| {
                    let count: i32 = count.parse().unwrap();
                    json!([{"name": name, "restartCount": count, "image": "", "imageID": "", "ready": true}])
                };
                pod["spec"]["initContainers"] = json!([{"name": "s", "restartPolicy": "Always"}]);
                pod["status"]["containerStatuses"] = statuses("c", own);
                pod["status"]["initContainerStatuses"] = statuses("s", sidecar);
            }
            "ip" => {
                pod["status"]["podIP"] = json!(value);
                pod["status"]["podIPs"] = json!([{"ip": value}]);
            }
            "priority" => pod["spec"]["priority"] = json!(value.parse::<i32>().unwrap()),
            "never" => pod["spec"]["preemptionPolicy"] = json!("Never"),
            "nominated" => pod["status"]["nominatedNodeName"] = json!(value),
            "victim" => {
                let condition =
                    json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"});
                pod["status"]["conditions"].as_array_mut().unwrap().push(condition);
            }
            "ns" => pod["metadata"]["namespace"] = json!(value),
            "rev" => pod["metadata"]["resourceVersion"] = json!(value),
            "deleting" => pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:09:00Z"),
            label => pod["metadata"]["labels"][label] = json!(value),
        }
    }
    object(&PODS, &pod)
}

/// A node: `name/cpu=2/memory=2Gi/pods=10/cordoned/tainted/taint=key:effect`, where `~` stands for a slash.
pub(crate) fn node(text: &str) -> Node {
    let mut words = text.split('/');
    let name = words.next().unwrap();
    let mut node = json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {"pods": "110"}},
    });
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "cordoned" => node["spec"]["unschedulable"] = json!(true),
            "tainted" => node["spec"]["taints"] = json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]),
            "taint" => {
                let (key, effect) = value.split_once(':').unwrap();
                node["spec"]["taints"] = json!([{"key": key.replace('~', "/"), "effect": effect}]);
            }
            "ready" => {
                node["status"]["conditions"] = json!([{"type": "Ready", "status": value,
                    "lastTransitionTime": "2026-01-01T00:00:00Z", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]);
            }
            resource => node["status"]["allocatable"][resource] = json!(value),
        }
    }
    serde_json::from_value(node).unwrap()
}

/// Any object, read as the driver reads it.
pub(crate) fn object(resource: &ResourceId, value: &Value) -> Object {
    Object::parse(&Key::of(resource.clone(), value), value.to_string().as_bytes()).unwrap()
}

/// A world with these objects.
pub(crate) fn world(objects: &[(ResourceId, Value)]) -> World {
    let mut world = World::new(settings(), now());
    for (resource, value) in objects {
        add(&mut world, resource, value);
    }
    world
}

/// Puts an object into a world.
pub(crate) fn add(world: &mut World, resource: &ResourceId, value: &Value) {
    let object = object(resource, value);
    world.apply(Key::of(resource.clone(), value), object.meta().revision(), Some(object), now());
}

/// Puts pods, a line each, into a world.
pub(crate) fn add_pods(world: &mut World, lines: &str) {
    for line in lines.split(';').map(str::trim).filter(|line| !line.is_empty()) {
        let pod = pod(line);
        let place = key(PODS, pod.meta().namespace_str(), pod.meta().name_str());
        world.apply(place, 1, Some(pod), now());
    }
}

/// Puts a node into a world.
pub(crate) fn add_node(world: &mut World, text: &str) {
    let node = node(text);
    world.apply(cluster_key(NODES, node.metadata.name_str()), 1, Some(Object::Node(node.into())), now());
}

fn settings() -> Settings {
    let kinds = [
        ("", "Pod", "pods", true),
        ("", "ConfigMap", "configmaps", true),
        ("", "Node", "nodes", false),
        ("", "Service", "services", true),
        ("apps", "ReplicaSet", "replicasets", true),
        ("apps", "Deployment", "deployments", true),
    ];
    let kinds = kinds.map(|(group, kind, plural, namespaced)| {
        ((group.to_owned(), kind.to_owned()), (ResourceId::new(group, plural), namespaced))
    });
    Settings { root_ca: "PEM".into(), kinds: kinds.into() }
}
