//! Whole pods on a node, with real guests, a scripted source and a fake store of objects.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics, also in its helpers")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodStatus, Secret};
use runtime_engine::{Engine, EngineConfig, PoolSizes};
use runtime_images::Images;
use runtime_net::{Network, NetworkConfig};
use runtime_node::{
    EventRecord, LogRequest, Node, NodeConfig, NodeHandle, NodeReport, Objects, ObjectsError, SourceEvent,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Writes a line, to stdout.
const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "\10\00\00\00\06\00\00\00hello\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 64)))))"#;

/// Ends with code 3.
const FAILS: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 3))))"#;

/// Traps.
const TRAPS: &str = r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#;

/// Takes memory until it is refused.
const GREEDY: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start") (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable))"#;

/// Sleeps for an hour.
const SLEEPS: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;

#[derive(Default)]
struct Fake {
    config_maps: Mutex<BTreeMap<String, ConfigMap>>,
    /// Held by a test, so that what is read arrives late.
    gate: tokio::sync::Mutex<()>,
    /// The next read panics.
    panics: AtomicBool,
}

#[async_trait::async_trait]
impl Objects for Fake {
    async fn config_map(&self, _: &str, name: &str) -> Result<Option<ConfigMap>, ObjectsError> {
        assert!(!self.panics.swap(false, Ordering::AcqRel), "the test wants it");
        let found = self.config_maps.lock().unwrap().get(name).cloned();
        drop(self.gate.lock().await);
        Ok(found)
    }

    async fn secret(&self, _: &str, _: &str) -> Result<Option<Secret>, ObjectsError> {
        Ok(None)
    }
}

/// What the node has said so far.
#[derive(Clone, Debug, Default)]
struct Said {
    statuses: BTreeMap<String, PodStatus>,
    /// All of them, in order.
    history: Vec<(String, PodStatus)>,
    events: Vec<EventRecord>,
    ended: Vec<String>,
    n_node: usize,
    n_lease: usize,
}

struct World {
    dir: tempfile::TempDir,
    source: mpsc::Sender<SourceEvent>,
    said: watch::Receiver<Said>,
    handle: NodeHandle,
    objects: Arc<Fake>,
    network: Network,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        Self::in_dir(tempfile::tempdir().unwrap()).await
    }

    async fn in_dir(dir: tempfile::TempDir) -> Self {
        let config = EngineConfig {
            cache_dir: Some(dir.path().join("code")),
            pool: PoolSizes::for_guests(16),
            ..EngineConfig::default()
        };
        let capabilities = [
            runtime_host_sockets::capability(),
            runtime_host_http::capability(),
            runtime_host_pod::capability(),
        ];
        let engine = Engine::new(config, &capabilities).unwrap();
        let images = Images::open(&dir.path().join("images"), engine.clone()).unwrap();
        let all =
            [("hello", HELLO), ("fails", FAILS), ("traps", TRAPS), ("greedy", GREEDY), ("sleeps", SLEEPS)];
        for (name, text) in all {
            load(&images, dir.path(), name, text).await;
        }
        if let Some(file) = guest_file("http") {
            images.load_file(&file, "http", Timestamp::now()).await.unwrap();
        }
        let network = Network::new(NetworkConfig::default()).unwrap();
        let objects = Arc::new(Fake::default());
        let config = NodeConfig::new("node-1", dir.path().join("node"));
        let node =
            Node::new(config, engine, network.clone(), images, Arc::clone(&objects) as Arc<dyn Objects>)
                .unwrap();
        let handle = node.handle();
        let (source, events) = mpsc::channel(64);
        let (reports, mut heard) = mpsc::channel(64);
        let (say, said) = watch::channel(Said::default());
        let stop = CancellationToken::new();
        let tasks = tokio_util::task::TaskTracker::new();
        let running = tasks.spawn(node.run(events, reports, stop.clone()));
        tasks.spawn(async move {
            while let Some(report) = heard.recv().await {
                say.send_modify(|said| match report {
                    NodeReport::PodStatus { name, status, .. } => {
                        said.history.push((name.clone(), *status.clone()));
                        said.statuses.insert(name, *status);
                    }
                    NodeReport::PodEnded { name, .. } => said.ended.push(name),
                    NodeReport::Event(event) => said.events.push(event),
                    NodeReport::Node { .. } => said.n_node += 1,
                    NodeReport::LeaseRenewed { .. } => said.n_lease += 1,
                    _ => {}
                });
            }
        });
        Self { dir, source, said, handle, objects, network, stop, running }
    }

    async fn send(&self, pod: &Pod) {
        self.source.send(SourceEvent::Pod(Arc::new(pod.clone()))).await.unwrap();
    }

    /// Waits until what was said is so, and gives it.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Said) -> bool) -> Said {
        let deadline = Instant::now() + Duration::from_secs(60);
        let heard = timeout_at(deadline, self.said.wait_for(|said| is_so(said))).await;
        let heard = heard.ok().map(|said| said.unwrap().clone());
        heard.unwrap_or_else(|| panic!("never {what}: {:#?}", self.said.borrow()))
    }

    async fn until_status(&mut self, pod: &str, what: &str, is_so: impl Fn(&PodStatus) -> bool) -> PodStatus {
        let said = self.until(what, |said| said.statuses.get(pod).is_some_and(&is_so)).await;
        said.statuses[pod].clone()
    }

    async fn change_config_map(&self, data: Value) {
        let map = serde_json::from_value(json!({"data": data})).unwrap();
        self.objects.config_maps.lock().unwrap().insert("cfg".to_owned(), map);
        let changed =
            SourceEvent::ConfigMapChanged { namespace: "default".to_owned(), name: "cfg".to_owned() };
        self.source.send(changed).await.unwrap();
    }

    /// Waits until a file of a pod's volume `v` holds this.
    async fn until_file(&self, pod: &str, file: &str, expect: &str) {
        let path = format!("node/pods/default_{pod}_uid-{pod}/.volumes/v/{file}");
        let path = self.dir.path().join(path);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            if found == expect {
                return;
            }
            assert!(Instant::now() < deadline, "{} holds {found:?}", path.display());
            tokio::task::yield_now().await;
        }
    }

    async fn log(&self, request: LogRequest) -> String {
        let mut stream = self.handle.logs(&request).unwrap();
        let mut text = Vec::new();
        while let Some(bytes) = stream.next().await {
            text.extend_from_slice(&bytes.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    async fn stop(self) -> tempfile::TempDir {
        self.handle.shutdown(Duration::from_secs(5)).await;
        self.stop.cancel();
        self.running.await.unwrap();
        self.dir
    }
}

/// A component of `tests/guests`, where they are built.
fn guest_file(name: &str) -> Option<PathBuf> {
    let built = std::env::var_os("WHARF_GUESTS").map(PathBuf::from).or_else(|| {
        let exe = std::env::current_exe().ok()?;
        Some(exe.ancestors().nth(3)?.join("guests/wasm32-wasip2/release"))
    });
    built.map(|built| built.join(name).with_extension("wasm")).filter(|file| file.is_file())
}

async fn load(images: &Images, dir: &std::path::Path, name: &str, text: &str) {
    let file = dir.join(format!("{name}.wat"));
    std::fs::write(&file, text).unwrap();
    images.load_file(&file, name, Timestamp::now()).await.unwrap();
}

fn pod(name: &str, policy: &str, image: &str) -> Pod {
    pod_with(
        name,
        policy,
        json!([{"name": "c", "image": image, "imagePullPolicy": "IfNotPresent"}]),
        json!({}),
    )
}

fn pod_with(name: &str, policy: &str, containers: Value, more: Value) -> Pod {
    let mut spec = json!({"restartPolicy": policy, "containers": containers, "nodeName": "node-1"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let metadata =
        json!({"name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn phase(status: &PodStatus) -> &str {
    status.phase.as_deref().unwrap_or_default()
}

fn is_ready(status: &PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn waiting(status: &PodStatus) -> String {
    let first = &status.container_statuses.as_ref().unwrap()[0];
    let waiting = first.state.as_ref().and_then(|state| state.waiting.as_ref());
    waiting.and_then(|waiting| waiting.reason.clone()).unwrap_or_default()
}

fn request(pod: &str) -> LogRequest {
    LogRequest { namespace: "default".to_owned(), pod: pod.to_owned(), ..LogRequest::default() }
}

fn deleted(pod: &Pod, grace_secs: i64) -> Pod {
    let mut pod = pod.clone();
    pod.metadata.deletion_grace_period_seconds = Some(grace_secs);
    let at = Timestamp::now() + jiff::SignedDuration::from_secs(grace_secs);
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
    pod
}

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

fn sleeps_with_config_map(name: &str) -> Pod {
    let volumes = json!({"volumes": [{"name": "v", "configMap": {"name": "cfg"}}]});
    let containers = json!([{"name": "c", "image": "sleeps", "imagePullPolicy": "Never",
        "volumeMounts": [{"name": "v", "mountPath": "/cfg"}]}]);
    pod_with(name, "Always", containers, volumes)
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
