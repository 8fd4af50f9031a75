//! What pods are made from: ConfigMaps, the downward API, and their folders.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use runtime_node::SourceEvent;
use serde_json::json;
use tokio::time::Instant;

use crate::world::{World, is_ready, phase, pod, pod_with, request, sleeps_with_config_map, waiting};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_waits_for_the_objects_it_names_and_starts_when_they_appear() {
    let mut world = World::new().await;
    let env = json!([{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "x"}}}]);
    let containers = json!([{"name": "c", "image": "hello", "imagePullPolicy": "Never", "env": env}]);
    world.send(&pod_with("env", "Never", containers, json!({}))).await;
    let volumes = json!({"volumes": [{"name": "v", "configMap": {"name": "cfg"}}]});
    let containers = json!([{"name": "c", "image": "hello", "imagePullPolicy": "Never",
        "volumeMounts": [{"name": "v", "mountPath": "/cfg"}]}]);
    world.send(&pod_with("vol", "Never", containers, volumes)).await;
    let status = world
        .until_status("env", "CreateContainerConfigError", |status| {
            waiting(status) == "CreateContainerConfigError"
        })
        .await;
    let state = status.container_statuses.unwrap()[0].state.clone().unwrap();
    assert_eq!(state.waiting.unwrap().message.as_deref(), Some("configmap \"cfg\" not found"));
    let said = world
        .until("FailedMount", |said| said.events.iter().any(|event| event.reason == "FailedMount"))
        .await;
    let event = said.events.iter().find(|event| event.reason == "FailedMount").unwrap();
    assert_eq!(event.message, "MountVolume.SetUp failed for volume \"v\" : configmap \"cfg\" not found");
    assert_eq!(waiting(&said.statuses["vol"]), "ContainerCreating");
    world.change_config_map(json!({"x": "1"})).await;
    world.until_status("env", "Succeeded", |status| phase(status) == "Succeeded").await;
    world.until_status("vol", "Succeeded", |status| phase(status) == "Succeeded").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_an_object_while_it_is_being_mounted_is_not_lost() {
    let mut world = World::new().await;
    world.change_config_map(json!({"x": "1"})).await;
    let objects = Arc::clone(&world.objects);
    let gate = objects.gate.lock().await;
    world.send(&sleeps_with_config_map("vol")).await;
    // Its volumes are being made once the node has looked at the map, which its status does not tell.
    let marker = |name: &str| pod(name, "Never", "hello");
    world.send(&marker("one")).await;
    world.until_status("one", "Succeeded", |status| phase(status) == "Succeeded").await;
    world.change_config_map(json!({"x": "2"})).await;
    // Events are taken in order: with this one the change has been taken too.
    world.send(&marker("two")).await;
    world.until_status("two", "Succeeded", |status| phase(status) == "Succeeded").await;
    drop(gate);
    world.until_file("vol", "x", "2").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_gone_for_a_while_is_followed_once_it_is_back() {
    let mut world = World::new().await;
    world.change_config_map(json!({"x": "1"})).await;
    world.send(&sleeps_with_config_map("vol")).await;
    world.until_status("vol", "Ready", is_ready).await;
    let map = world.objects.config_maps.lock().unwrap().remove("cfg");
    let changed = SourceEvent::ConfigMapChanged { namespace: "default".to_owned(), name: "cfg".to_owned() };
    world.source.send(changed).await.unwrap();
    world.until("FailedMount", |said| said.events.iter().any(|event| event.reason == "FailedMount")).await;
    // Nobody tells of it.
    let mut map = map.unwrap();
    map.data.as_mut().unwrap().insert("x".to_owned(), "2".to_owned());
    world.objects.config_maps.lock().unwrap().insert("cfg".to_owned(), map);
    world.until_file("vol", "x", "2").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_the_downward_api_follow_the_pods_labels() {
    let mut world = World::new().await;
    let items = json!([{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]);
    let volumes = json!({"volumes": [{"name": "v", "downwardAPI": {"items": items}}]});
    let containers = json!([{"name": "c", "image": "sleeps", "imagePullPolicy": "Never",
        "volumeMounts": [{"name": "v", "mountPath": "/me"}]}]);
    let mut told = pod_with("told", "Always", containers, volumes);
    told.metadata.labels = Some(BTreeMap::from([("tier".to_owned(), "front".to_owned())]));
    world.send(&told).await;
    world.until_status("told", "Ready", is_ready).await;
    world.until_file("told", "labels", r#"tier="front""#).await;
    told.metadata.labels = Some(BTreeMap::from([("tier".to_owned(), "back".to_owned())]));
    world.send(&told).await;
    world.until_file("told", "labels", r#"tier="back""#).await;
    world.stop().await;
}

/// The threads for blocking calls are all busy, so that what waits for one comes last.
#[test]
fn the_folder_of_a_pod_that_has_just_come_is_no_orphan() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new().await;
        let orphan = world.dir.path().join("node/pods/default_orphan_uid-orphan");
        std::fs::create_dir_all(&orphan).unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let blocker = tokio::task::spawn_blocking(move || held.recv());
        world.source.send(SourceEvent::Synced).await.unwrap();
        world.send(&pod("hello", "Never", "hello")).await;
        world.until_status("hello", "Succeeded", |status| phase(status) == "Succeeded").await;
        drop(release);
        blocker.await.unwrap().unwrap_err();
        let deadline = Instant::now() + Duration::from_secs(60);
        while orphan.exists() {
            assert!(Instant::now() < deadline, "the orphan's folder stays");
            tokio::task::yield_now().await;
        }
        assert_eq!(world.log(request("hello")).await, "hello\n");
        world.stop().await;
    });
}
