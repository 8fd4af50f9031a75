//! How containers come to run: their images, their order, the worker that starts them.

use std::{sync::atomic::Ordering, time::Duration};

use jiff::Timestamp;
use runtime_engine::{Engine, EngineConfig, PoolSizes};
use runtime_images::Images;
use runtime_node::EventRecord;
use serde_json::json;
use tokio::time::Instant;

use crate::world::{
    HELLO, World, deleted, is_ready, load, phase, pod, pod_with, sleeps_with_config_map, waiting,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_always_to_be_pulled_is_told_as_pulled() {
    let mut world = World::new().await;
    let containers = json!([{"name": "c", "image": "hello", "imagePullPolicy": "Always"}]);
    world.send(&pod_with("hello", "Never", containers, json!({}))).await;
    let said =
        world.until("told in events", |said| said.events.iter().any(|event| event.reason == "Started")).await;
    let reasons: Vec<&str> = said.events.iter().map(|event| event.reason).collect();
    assert_eq!(reasons, ["Pulling", "Pulled", "Created", "Started"]);
    assert_eq!(said.events[0].message, "Pulling image \"hello\"");
    let message = &said.events[1].message;
    assert!(message.starts_with("Successfully pulled image \"hello\" in "), "{message}");
    let size = format!("including waiting). Image size: {} bytes.", HELLO.len());
    assert!(message.ends_with(&size), "{message}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_image_backs_off_and_is_found_once_it_is_loaded() {
    let mut world = World::new().await;
    world.send(&pod("absent", "Never", "absent")).await;
    world
        .send(&pod_with(
            "never",
            "Never",
            json!([{"name": "c", "image": "absent", "imagePullPolicy": "Never"}]),
            json!({}),
        ))
        .await;
    let status =
        world.until_status("absent", "ErrImagePull", |status| waiting(status) == "ErrImagePull").await;
    let message =
        status.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap().message.unwrap();
    assert!(message.contains("wharf image load"), "{message}");
    world.until_status("never", "ErrImageNeverPull", |status| waiting(status) == "ErrImageNeverPull").await;
    world.until_status("absent", "ImagePullBackOff", |status| waiting(status) == "ImagePullBackOff").await;
    let engine =
        Engine::new(EngineConfig { pool: PoolSizes::for_guests(2), ..EngineConfig::default() }, &[]).unwrap();
    let images = Images::open(&world.dir.path().join("images"), engine).unwrap();
    load(&images, world.dir.path(), "absent", HELLO).await;
    world.until_status("absent", "Succeeded", |status| phase(status) == "Succeeded").await;
    world.until_status("never", "Succeeded", |status| phase(status) == "Succeeded").await;
    world.stop().await;
}

/// A program that takes a while to compile.
fn large() -> String {
    let body =
        "(local.set 0 (i32.add (i32.mul (local.get 0) (i32.const 3)) (i32.load (local.get 0))))".repeat(150);
    let mut text = String::from(r#"(module (memory (export "memory") 1)"#);
    for n in 0..400 {
        text +=
            &format!("(func $f{n} (param i32) (result i32) {body} (i32.add (local.get 0) (i32.const {n})))");
    }
    text + r#"(func (export "_start") (drop (call $f0 (i32.const 0)))))"#
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_image_is_being_compiled_can_be_deleted() {
    let mut world = World::new().await;
    // Added without being compiled, as by somebody else's engine.
    let store = runtime_images::ImageStore::open(&world.dir.path().join("images")).unwrap();
    store.add(large().as_bytes(), "large", Timestamp::now()).unwrap();
    let containers = json!([
        {"name": "a", "image": "large", "imagePullPolicy": "Never"},
        {"name": "b", "image": "sleeps", "imagePullPolicy": "Never"}]);
    let slow = pod_with("slow", "Always", containers, json!({}));
    world.send(&slow).await;
    let status = world
        .until_status("slow", "b running", |status| {
            status.container_statuses.as_ref().is_some_and(|list| list[1].ready)
        })
        .await;
    assert_eq!(waiting(&status), "ContainerCreating");
    world.send(&deleted(&slow, 30)).await;
    let said = world.until("ended", |said| said.ended == ["slow"]).await;
    let started = |event: &&EventRecord| event.reason == "Started";
    assert_eq!(said.events.iter().filter(started).count(), 1, "a is started though the pod is deleted");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_image_is_run_whatever_the_restart_policy() {
    let mut world = World::new().await;
    let mut changed = pod("changed", "Never", "sleeps");
    world.send(&changed).await;
    world.until_status("changed", "Ready", is_ready).await;
    changed.spec.as_mut().unwrap().containers[0].image = Some("hello".to_owned());
    world.send(&changed).await;
    let status = world.until_status("changed", "Succeeded", |status| phase(status) == "Succeeded").await;
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!((container.restart_count, container.image.as_str()), (1, "hello"));
    assert_eq!(container.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 143);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_containers_run_before_the_others() {
    let mut world = World::new().await;
    let init = json!({"initContainers": [
        {"name": "one", "image": "hello", "imagePullPolicy": "Never"},
        {"name": "two", "image": "hello", "imagePullPolicy": "Never"}]});
    let containers = json!([{"name": "c", "image": "sleeps", "imagePullPolicy": "Never"}]);
    world.send(&pod_with("init", "Always", containers, init)).await;
    let status = world.until_status("init", "Ready", is_ready).await;
    let codes: Vec<i32> = status
        .init_container_statuses
        .unwrap()
        .iter()
        .map(|status| status.state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code)
        .collect();
    assert_eq!(codes, [0, 0]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_pods_worker_stops_it_for_a_while_only() {
    let mut world = World::new().await;
    world.change_config_map(json!({"x": "1"})).await;
    world.objects.panics.store(true, Ordering::Release);
    let pod = sleeps_with_config_map("vol");
    world.send(&pod).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while world.objects.panics.load(Ordering::Acquire) {
        assert!(Instant::now() < deadline, "the map is never read");
        tokio::task::yield_now().await;
    }
    world.send(&pod).await;
    world.until_status("vol", "Ready", is_ready).await;
    world.stop().await;
}
