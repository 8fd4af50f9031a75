//! Components that handle HTTP requests: served, probed, ended.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{World, deleted, guest_file, is_ready, pod_with};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_handler_is_served_probed_and_ended() {
    let mut world = World::new().await;
    assert!(guest_file("http").is_some(), "the guests are missing: cargo xtask samples");
    let containers = json!([{"name": "c", "image": "http", "imagePullPolicy": "Never",
        "ports": [{"name": "web", "containerPort": 8081}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1}}]);
    let web = pod_with("web", "Always", containers, json!({}));
    world.send(&web).await;
    let status = world.until_status("web", "Ready", is_ready).await;
    let address = SocketAddr::new(status.pod_ip.unwrap().parse().unwrap(), 8081);
    let mut stream = world.network.connect_from_host(address).await.unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("hello /x"), "{answer}");
    world.send(&deleted(&web, 10)).await;
    let said = world.until("ended", |said| said.ended == ["web"]).await;
    let end = said.statuses["web"].container_statuses.as_ref().unwrap()[0]
        .state
        .clone()
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!((end.exit_code, end.reason.as_deref()), (0, Some("Completed")));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_whose_liveness_probe_fails_is_run_again() {
    let mut world = World::new().await;
    assert!(guest_file("http").is_some(), "the guests are missing: cargo xtask samples");
    let containers = json!([{"name": "c", "image": "http", "imagePullPolicy": "Never",
        "livenessProbe": {"httpGet": {"path": "/trap", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1}}]);
    world.send(&pod_with("ill", "Always", containers, json!({}))).await;
    world
        .until_status("ill", "run again", |status| {
            status.container_statuses.as_ref().is_some_and(|list| list[0].restart_count > 0)
        })
        .await;
    let said = world.until("told", |said| said.events.iter().any(|event| event.reason == "Unhealthy")).await;
    let messages: Vec<&str> = said.events.iter().map(|event| event.message.as_str()).collect();
    assert!(
        messages.contains(&"Liveness probe failed: HTTP probe failed with statuscode: 500"),
        "{messages:?}"
    );
    assert!(messages.contains(&"Container c failed liveness probe, will be restarted"), "{messages:?}");
    world.stop().await;
}
