//! How pods end: by themselves, by being told to, and with the node.

use std::time::Duration;

use k8s_openapi::api::core::v1::PodStatus;
use runtime_node::SourceEvent;
use serde_json::json;
use tokio::time::Instant;

use crate::world::{World, deleted, is_ready, phase, pod, pod_with, request, waiting};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_runs_to_its_end_and_its_log_is_read() {
    let mut world = World::new().await;
    world.send(&pod("hello", "Never", "hello")).await;
    let status = world.until_status("hello", "Succeeded", |status| phase(status) == "Succeeded").await;
    let container = &status.container_statuses.unwrap()[0];
    let end = container.state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((end.exit_code, end.reason.as_deref()), (0, Some("Completed")));
    assert!(container.image_id.starts_with("sha256:"), "{}", container.image_id);
    assert!(container.container_id.as_ref().unwrap().starts_with("wasm://"));
    assert_eq!(world.log(request("hello")).await, "hello\n");
    let said =
        world.until("told in events", |said| said.events.iter().any(|event| event.reason == "Started")).await;
    let reasons: Vec<&str> = said.events.iter().map(|event| event.reason).collect();
    assert_eq!(reasons, ["Pulled", "Created", "Started"]);
    assert!(said.n_node > 0 && said.n_lease > 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_are_told_in_upstreams_words() {
    let mut world = World::new().await;
    let limits = json!({"limits": {"memory": "4Mi"}});
    world.send(&pod("fails", "Never", "fails")).await;
    world.send(&pod("traps", "Never", "traps")).await;
    let greedy = json!([{"name": "c", "image": "greedy", "imagePullPolicy": "Never", "resources": limits}]);
    world.send(&pod_with("greedy", "Never", greedy, json!({}))).await;
    for (name, code, reason) in [("fails", 3, "Error"), ("traps", 134, "Error"), ("greedy", 137, "OOMKilled")]
    {
        let status = world.until_status(name, "Failed", |status| phase(status) == "Failed").await;
        let end = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
        assert_eq!((end.exit_code, end.reason.as_deref()), (code, Some(reason)), "{name}");
        if name == "traps" {
            assert!(end.message.unwrap().contains("unreachable"));
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_fails_is_run_again_and_then_backs_off() {
    let mut world = World::new().await;
    world.send(&pod("crash", "Always", "fails")).await;
    let status =
        world.until_status("crash", "CrashLoopBackOff", |status| waiting(status) == "CrashLoopBackOff").await;
    assert_eq!(phase(&status), "Running");
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.restart_count, 1);
    assert_eq!(
        container.state.as_ref().unwrap().waiting.as_ref().unwrap().message.as_deref(),
        Some("back-off 10s restarting failed container=c pod=crash_default(uid-crash)")
    );
    let last = container.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!(last.exit_code, 3);
    let said = world.until("told", |said| said.events.iter().any(|event| event.reason == "BackOff")).await;
    let event = said.events.iter().find(|event| event.reason == "BackOff").unwrap();
    assert_eq!(event.message, "Back-off restarting failed container c in pod crash_default(uid-crash)");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_pod_is_ready_and_ends_when_it_is_deleted() {
    let mut world = World::new().await;
    let sleeper = pod("sleeper", "Always", "sleeps");
    world.send(&sleeper).await;
    let status = world.until_status("sleeper", "Ready", is_ready).await;
    assert_eq!(phase(&status), "Running");
    assert!(status.pod_ip.is_some());
    world.send(&deleted(&sleeper, 30)).await;
    let said = world.until("ended", |said| said.ended == ["sleeper"]).await;
    let end = said.statuses["sleeper"].container_statuses.as_ref().unwrap()[0]
        .state
        .clone()
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!(end.exit_code, 143, "it cannot hear the notice, so it is ended at once");
    assert!(said.events.iter().any(|event| event.message == "Stopping container c"));
    let gone = SourceEvent::PodGone {
        namespace: "default".to_owned(),
        name: "sleeper".to_owned(),
        uid: "uid-sleeper".to_owned(),
    };
    world.source.send(gone).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.handle.pods() > 0 {
        assert!(Instant::now() < deadline, "the pod is never forgotten");
        tokio::task::yield_now().await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_ending_is_ready_as_long_as_its_probe_says_so() {
    let mut world = World::new().await;
    let containers = json!([{"name": "c", "image": "sleeps", "imagePullPolicy": "Never",
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]);
    let ending = pod_with("ending", "Always", containers, json!({}));
    world.send(&ending).await;
    world.until_status("ending", "Ready", is_ready).await;
    world.send(&deleted(&ending, 30)).await;
    let said = world.until("ended", |said| said.ended == ["ending"]).await;
    let mut of_pod = said.history.iter().filter(|(name, _)| name == "ending").map(|(_, status)| status);
    of_pod.find(|status| is_ready(status)).unwrap();
    for status in of_pod {
        let container = &status.container_statuses.as_ref().unwrap()[0];
        let runs = container.state.as_ref().unwrap().running.is_some();
        assert_eq!(container.ready, runs, "{container:#?}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_object_says_that_it_failed_is_ended() {
    let mut world = World::new().await;
    let mut said = pod("said", "Always", "sleeps");
    world.send(&said).await;
    world.until_status("said", "Ready", is_ready).await;
    said.status = Some(PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some("Rejected".to_owned()),
        ..PodStatus::default()
    });
    world.send(&said).await;
    let status = world
        .until_status("said", "ended", |status| {
            status
                .container_statuses
                .as_ref()
                .is_some_and(|list| list[0].state.as_ref().unwrap().terminated.is_some())
        })
        .await;
    assert_eq!((phase(&status), status.reason.as_deref()), ("Failed", Some("Rejected")));
    assert!(!is_ready(&status));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_tells_what_has_ended_for_good_and_nothing_else() {
    let mut world = World::new().await;
    for (name, policy) in [("once", "Never"), ("retried", "OnFailure"), ("kept", "Always")] {
        world.send(&pod(name, policy, "sleeps")).await;
        world.until_status(name, "Ready", is_ready).await;
    }
    world.handle.shutdown(None).await;
    let status = world.until_status("once", "Failed", |status| phase(status) == "Failed").await;
    assert_eq!(status.reason.as_deref(), Some("Terminated"));
    let end = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((end.exit_code, end.reason.as_deref()), (143, Some("Error")));
    world.send(&pod("late", "Never", "hello")).await;
    let mut said = world.said.clone();
    world.stop().await;
    // The node has said its last word.
    while said.changed().await.is_ok() {}
    let said = said.borrow();
    assert!(is_ready(&said.statuses["retried"]) && is_ready(&said.statuses["kept"]));
    assert!(!said.statuses.contains_key("late"), "a pod is taken by a node that ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_pods_come_back_with_their_restart_counts_and_ended_ones_stay() {
    let mut world = World::new().await;
    let mut sleeper = pod("sleeper", "Always", "sleeps");
    sleeper.status = serde_json::from_value(json!({"containerStatuses": [
        {"name": "c", "image": "sleeps", "imageID": "", "ready": true, "restartCount": 7, "state": {"running": {}}}],
        "phase": "Running", "podIP": "10.244.0.77"}))
    .unwrap();
    let mut done = pod("done", "Never", "hello");
    done.status = serde_json::from_value(json!({"phase": "Succeeded"})).unwrap();
    let orphan = world.dir.path().join("node/pods/default_orphan_uid-orphan");
    std::fs::create_dir_all(orphan.join("c")).unwrap();
    world.send(&sleeper).await;
    world.send(&done).await;
    world.source.send(SourceEvent::Synced).await.unwrap();
    let status = world.until_status("sleeper", "Ready", is_ready).await;
    assert_eq!(status.container_statuses.unwrap()[0].restart_count, 7);
    assert_eq!(status.pod_ip.as_deref(), Some("10.244.0.77"));
    assert!(!world.said.borrow().statuses.contains_key("done"), "a pod that has ended is left alone");
    let deadline = Instant::now() + Duration::from_secs(10);
    while orphan.exists() {
        assert!(Instant::now() < deadline, "the orphan's folder stays");
        tokio::task::yield_now().await;
    }
    world.send(&deleted(&done, 0)).await;
    world.until("ended", |said| said.ended == ["done"]).await;
    world.stop().await;
}
