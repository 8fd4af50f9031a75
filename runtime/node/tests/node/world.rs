//! A node with real guests, a scripted source and a fake store of objects.

use std::{
    collections::BTreeMap,
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
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Writes a line, to stdout.
pub(crate) const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "\10\00\00\00\06\00\00\00hello\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 64)))))"#;

/// Ends with code 3.
pub(crate) const FAILS: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 3))))"#;

/// Traps.
pub(crate) const TRAPS: &str =
    r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#;

/// Takes memory until it is refused.
pub(crate) const GREEDY: &str = r#"(module (memory (export "memory") 1)
  (func (export "_start") (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable))"#;

/// Sleeps for an hour.
pub(crate) const SLEEPS: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) config_maps: Mutex<BTreeMap<String, ConfigMap>>,
    /// Held by a test, so that what is read arrives late.
    pub(crate) gate: tokio::sync::Mutex<()>,
    /// The next read panics.
    pub(crate) panics: AtomicBool,
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
pub(crate) struct Said {
    pub(crate) statuses: BTreeMap<String, PodStatus>,
    /// All of them, in order.
    pub(crate) history: Vec<(String, PodStatus)>,
    pub(crate) events: Vec<EventRecord>,
    pub(crate) ended: Vec<String>,
    pub(crate) n_node: usize,
    pub(crate) n_lease: usize,
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) source: mpsc::Sender<SourceEvent>,
    pub(crate) said: watch::Receiver<Said>,
    pub(crate) handle: NodeHandle,
    pub(crate) objects: Arc<Fake>,
    pub(crate) network: Network,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<()>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::in_dir(tempfile::tempdir().unwrap()).await
    }

    pub(crate) async fn in_dir(dir: tempfile::TempDir) -> Self {
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

    pub(crate) async fn send(&self, pod: &Pod) {
        self.source.send(SourceEvent::Pod(Arc::new(pod.clone()))).await.unwrap();
    }

    /// Waits until what was said is so, and gives it.
    pub(crate) async fn until(&mut self, what: &str, is_so: impl Fn(&Said) -> bool) -> Said {
        let deadline = Instant::now() + Duration::from_secs(60);
        let heard = timeout_at(deadline, self.said.wait_for(|said| is_so(said))).await;
        let heard = heard.ok().map(|said| said.unwrap().clone());
        heard.unwrap_or_else(|| panic!("never {what}: {:#?}", self.said.borrow()))
    }

    pub(crate) async fn until_status(
        &mut self,
        pod: &str,
        what: &str,
        is_so: impl Fn(&PodStatus) -> bool,
    ) -> PodStatus {
        let said = self.until(what, |said| said.statuses.get(pod).is_some_and(&is_so)).await;
        said.statuses[pod].clone()
    }

    pub(crate) async fn change_config_map(&self, data: Value) {
        let map = serde_json::from_value(json!({"data": data})).unwrap();
        self.objects.config_maps.lock().unwrap().insert("cfg".to_owned(), map);
        let changed =
            SourceEvent::ConfigMapChanged { namespace: "default".to_owned(), name: "cfg".to_owned() };
        self.source.send(changed).await.unwrap();
    }

    /// Waits until a file of a pod's volume `v` holds this.
    pub(crate) async fn until_file(&self, pod: &str, file: &str, expect: &str) {
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

    pub(crate) async fn log(&self, request: LogRequest) -> String {
        let mut stream = self.handle.logs(&request).unwrap();
        let mut text = Vec::new();
        while let Some(bytes) = stream.next().await {
            text.extend_from_slice(&bytes.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    pub(crate) async fn stop(self) -> tempfile::TempDir {
        self.handle.shutdown(Some(Duration::from_secs(5))).await;
        self.stop.cancel();
        self.running.await.unwrap();
        self.dir
    }
}

/// A component of `tests/guests`, where they are built.
pub(crate) fn guest_file(name: &str) -> Option<PathBuf> {
    let built = std::env::var_os("WHARF_GUESTS").map(PathBuf::from).or_else(|| {
        let exe = std::env::current_exe().ok()?;
        Some(exe.ancestors().nth(3)?.join("guests/wasm32-wasip2/release"))
    });
    built.map(|built| built.join(name).with_extension("wasm")).filter(|file| file.is_file())
}

pub(crate) async fn load(images: &Images, dir: &std::path::Path, name: &str, text: &str) {
    let file = dir.join(format!("{name}.wat"));
    std::fs::write(&file, text).unwrap();
    images.load_file(&file, name, Timestamp::now()).await.unwrap();
}

pub(crate) fn pod(name: &str, policy: &str, image: &str) -> Pod {
    pod_with(
        name,
        policy,
        json!([{"name": "c", "image": image, "imagePullPolicy": "IfNotPresent"}]),
        json!({}),
    )
}

pub(crate) fn pod_with(name: &str, policy: &str, containers: Value, more: Value) -> Pod {
    let mut spec = json!({"restartPolicy": policy, "containers": containers, "nodeName": "node-1"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let metadata =
        json!({"name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

pub(crate) fn phase(status: &PodStatus) -> &str {
    status.phase.as_deref().unwrap_or_default()
}

pub(crate) fn is_ready(status: &PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(crate) fn waiting(status: &PodStatus) -> String {
    let first = &status.container_statuses.as_ref().unwrap()[0];
    let waiting = first.state.as_ref().and_then(|state| state.waiting.as_ref());
    waiting.and_then(|waiting| waiting.reason.clone()).unwrap_or_default()
}

pub(crate) fn request(pod: &str) -> LogRequest {
    LogRequest { namespace: "default".to_owned(), pod: pod.to_owned(), ..LogRequest::default() }
}

pub(crate) fn deleted(pod: &Pod, grace_secs: i64) -> Pod {
    let mut pod = pod.clone();
    pod.metadata.deletion_grace_period_seconds = Some(grace_secs);
    let at = Timestamp::now() + jiff::SignedDuration::from_secs(grace_secs);
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
    pod
}

pub(crate) fn sleeps_with_config_map(name: &str) -> Pod {
    let volumes = json!({"volumes": [{"name": "v", "configMap": {"name": "cfg"}}]});
    let containers = json!([{"name": "c", "image": "sleeps", "imagePullPolicy": "Never",
        "volumeMounts": [{"name": "v", "mountPath": "/cfg"}]}]);
    pod_with(name, "Always", containers, volumes)
}
