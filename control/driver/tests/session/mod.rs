//! The control plane of one scenario, and its commands.

mod node;
mod print;

use control_api::decode::FieldValidation;
use control_api::object::{self, Key, ResourceId};
use control_api::{ApiError, Resource, Resources};
use control_driver::{Driver, DriverConfig, DriverMetrics, Rest};
use control_registry::{Config, DeleteOptions, PatchBody, PatchKind, Propagation, Registry, WriteOptions};
use control_store::Store;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the control plane may be at work, by the clock on the wall, before a scenario counts as stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often each task gets its turn before anything is asked.
const ROUNDS: usize = 20;

/// What falls due so soon is a retry, which belongs to what was done; what falls due later is for `tick`.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Session {
    pub(crate) registry: Registry,
    metrics: Arc<DriverMetrics>,
    at_rest: watch::Receiver<Option<Rest>>,
    stop: CancellationToken,
    _tasks: TaskTracker,
    /// Nodes that renew their leases.
    pub(crate) alive: BTreeSet<String>,
    /// Pod names seen, with what they print as.
    pub(crate) pod_names: BTreeMap<String, String>,
    /// Deployment to the fewest ready, the most existing pods seen since it was last told.
    pub(crate) extremes: BTreeMap<String, (usize, usize)>,
}

impl Session {
    pub(crate) async fn start() -> Self {
        let began = Instant::now();
        let origin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let ids = AtomicU64::new(0);
        let config = Config {
            clock: Arc::new(move || origin + began.elapsed()),
            uid: Arc::new(move || {
                format!("00000000-0000-4000-8000-{:012}", ids.fetch_add(1, Ordering::Relaxed))
            }),
            seed: Some(7),
            ..Config::default()
        };
        let registry = Registry::new(Arc::new(Resources::built_in()), Store::in_memory(), config);
        registry.bootstrap("10.0.0.1:6443".parse().unwrap()).await.unwrap();
        let config = DriverConfig { root_ca: "PEM".to_owned(), seed: Some(7), ..DriverConfig::default() };
        let driver = Driver::new(registry.clone(), config);
        let (metrics, at_rest, stop) = (driver.metrics(), driver.at_rest(), CancellationToken::new());
        let tasks = TaskTracker::new();
        tasks.spawn(driver.run(stop.clone()));
        let mut session = Self {
            registry,
            metrics,
            at_rest,
            stop,
            _tasks: tasks,
            alive: BTreeSet::new(),
            pod_names: BTreeMap::new(),
            extremes: BTreeMap::new(),
        };
        session.settle().await;
        session
    }

    /// Runs a session's commands; what they print.
    pub(crate) async fn run(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            out += &format!("> {line}\n");
            let words: Vec<&str> = line.split_whitespace().collect();
            let manifest: String = if words[0] == "apply" {
                lines
                    .by_ref()
                    .take_while(|line| !line.trim().is_empty())
                    .map(|line| format!("{line}\n"))
                    .collect()
            } else {
                String::new()
            };
            match self.command(&words, &manifest).await {
                Ok(text) => out += &text,
                Err(error) => out += &format!("error: {}\n", error.message),
            }
            self.settle().await;
        }
        self.stop.cancel();
        out
    }

    async fn command(&mut self, words: &[&str], manifest: &str) -> Result<String, ApiError> {
        match words {
            ["node", name, facts @ ..] => self.add_node(name, facts).await?,
            ["silence", node] => {
                self.alive.remove(*node);
            }
            ["revive", node] => {
                self.alive.insert((*node).to_owned());
                self.renew_leases().await;
            }
            ["apply"] => self.apply(manifest).await?,
            ["scale", target, replicas] => {
                let replicas: i32 = replicas.parse().unwrap();
                self.patch(target, None, &json!({"spec": {"replicas": replicas}})).await?;
            }
            ["set", "image", target, image] => {
                let (name, image) = image.split_once('=').unwrap();
                let patch =
                    json!({"spec": {"template": {"spec": {"containers": [{"name": name, "image": image}]}}}});
                self.patch(target, None, &patch).await?;
            }
            ["rollout", "pause", target] => {
                self.patch(target, None, &json!({"spec": {"paused": true}})).await?;
            }
            ["rollout", "resume", target] => {
                self.patch(target, None, &json!({"spec": {"paused": null}})).await?;
            }
            ["rollout", "undo", target] => self.undo(target).await?,
            ["crash", app] => self.crash(app).await?,
            ["delete", "pod", app] => {
                let name = self.a_pod(app);
                self.delete(&format!("pods/{name}"), None).await?;
            }
            ["delete", target] => self.delete(target, None).await?,
            ["delete", target, cascade] => {
                let policy = match *cascade {
                    "--cascade=foreground" => Propagation::Foreground,
                    "--cascade=orphan" => Propagation::Orphan,
                    other => panic!("no such option: {other}"),
                };
                self.delete(target, Some(policy)).await?;
            }
            ["hold", target] => {
                self.patch(target, None, &json!({"metadata": {"finalizers": ["example.com/hold"]}})).await?;
            }
            ["taint", node, taint] => {
                let (key, effect) = taint.split_once(':').unwrap();
                let taints = json!([{"key": key, "effect": effect}]);
                self.patch(&format!("nodes/{node}"), None, &json!({"spec": {"taints": taints}})).await?;
            }
            ["untaint", node] => {
                self.patch(&format!("nodes/{node}"), None, &json!({"spec": {"taints": null}})).await?;
            }
            [word @ ("cordon" | "uncordon"), node] => {
                let spec = json!({"unschedulable": *word == "cordon"});
                self.patch(&format!("nodes/{node}"), None, &json!({"spec": spec})).await?;
            }
            ["unfinalize", target] => {
                self.patch(target, None, &json!({"metadata": {"finalizers": null}})).await?;
            }
            ["tick", time] => self.tick(time).await,
            ["get", "conditions", pod] => return Ok(self.conditions(pod)),
            ["get", what] => return Ok(self.get(what)),
            ["bounds", name] => {
                let told = self.extremes.remove(*name);
                return Ok(told.map_or_else(
                    || "nothing happened\n".to_owned(),
                    |(ready, all)| format!("never fewer than {ready} ready, never more than {all} in all\n"),
                ));
            }
            other => panic!("no such command: {other:?}"),
        }
        Ok(String::new())
    }

    /// Time passes, in steps short enough for leases.
    async fn tick(&mut self, time: &str) {
        let secs: u64 = time.trim_end_matches('s').parse().unwrap();
        let mut left = secs;
        while left > 0 {
            let step = left.min(5);
            tokio::time::advance(Duration::from_secs(step)).await;
            left -= step;
            self.renew_leases().await;
            self.settle().await;
        }
    }

    /// Until controllers, events and nodes have nothing left to do. Time passes only where a retry waits for it.
    #[expect(clippy::disallowed_methods, reason = "the store's thread works by the real clock")]
    pub(crate) async fn settle(&mut self) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            // Timers that have come are taken note of first.
            for _ in 0..ROUNDS {
                tokio::task::yield_now().await;
            }
            let now = self.registry.store().snapshot().revision();
            let rest = *self.at_rest.borrow();
            let Some(rest) = rest.filter(|rest| rest.revision == now && !self.events_wait()) else {
                // The store's thread has its turn.
                std::thread::yield_now();
                continue;
            };
            self.note_extremes();
            if self.node_step().await {
                continue;
            }
            let wait = rest.until.map(|until| until.saturating_duration_since(Instant::now()));
            let Some(wait) = wait.filter(|wait| *wait < RETRY) else { return };
            // Timers fire at whole milliseconds.
            tokio::time::advance(wait + Duration::from_millis(1)).await;
        }
        panic!("the control plane did not settle: {}", self.get("pods"));
    }

    fn events_wait(&self) -> bool {
        self.metrics.waiting_events.load(Ordering::Relaxed) > 0
    }

    /// The kind and key of `deployment/web` or, in another namespace, `deployment/ns/web`.
    pub(crate) fn target(&self, text: &str) -> (Arc<Resource>, Option<String>, String) {
        let parts: Vec<&str> = text.split('/').collect();
        let (group, plural) = match parts[0] {
            "deployment" => ("apps", "deployments"),
            "rs" => ("apps", "replicasets"),
            "namespace" => ("", "namespaces"),
            "configmap" => ("", "configmaps"),
            other => ("", other),
        };
        let row = Arc::clone(self.registry.resources().by_id(&id(group, plural)).unwrap());
        let namespace = if parts.len() == 3 { parts[1] } else { "default" };
        let namespace = row.is_namespaced().then(|| namespace.to_owned());
        (row, namespace, (*parts.last().unwrap()).to_owned())
    }

    pub(crate) fn list(&self, group: &str, plural: &str) -> Vec<Value> {
        let snapshot = self.registry.store().snapshot();
        snapshot.list(&id(group, plural), None).map(|stored| stored.value()).collect()
    }

    async fn apply(&mut self, manifest: &str) -> Result<(), ApiError> {
        for text in manifest.split("---\n") {
            let object: Value = serde_yaml_ng::from_str(text).unwrap();
            let (group, version) =
                object::api_version(&object).split_once('/').unwrap_or(("", object::api_version(&object)));
            let kind = object::kind(&object);
            let row = Arc::clone(self.registry.resources().by_kind(group, version, kind).unwrap());
            let namespace = match object::namespace(&object) {
                "" => "default".to_owned(),
                namespace => namespace.to_owned(),
            };
            let namespace = row.is_namespaced().then_some(namespace);
            let key = Key {
                resource: row.id(),
                namespace: namespace.clone(),
                name: object::name(&object).to_owned(),
            };
            if self.registry.store().snapshot().get(&key).is_some() {
                self.write(&row, namespace.as_deref(), &key.name, None, &object).await?;
            } else {
                self.registry.create(&row, namespace.as_deref(), object, &options()).await?;
            }
        }
        Ok(())
    }

    async fn patch(&self, target: &str, sub: Option<&str>, patch: &Value) -> Result<(), ApiError> {
        let (row, namespace, name) = self.target(target);
        self.write(&row, namespace.as_deref(), &name, sub, patch).await
    }

    /// A strategic merge patch.
    pub(crate) async fn write(
        &self,
        row: &Resource,
        namespace: Option<&str>,
        name: &str,
        sub: Option<&str>,
        patch: &Value,
    ) -> Result<(), ApiError> {
        let body = PatchBody { kind: PatchKind::Strategic, bytes: patch.to_string().into() };
        let validation = FieldValidation::Strict;
        self.registry.patch(row, namespace, name, sub, body, validation, &options()).await.map(|_| ())
    }

    async fn delete(&self, target: &str, policy: Option<Propagation>) -> Result<(), ApiError> {
        let (row, namespace, name) = self.target(target);
        let options = DeleteOptions { propagation_policy: policy, ..DeleteOptions::default() };
        self.registry.delete(&row, namespace.as_deref(), &name, &options).await.map(|_| ())
    }

    /// As `kubectl rollout undo` does it: the template of the revision before the last, patched in.
    async fn undo(&self, target: &str) -> Result<(), ApiError> {
        let (row, namespace, name) = self.target(target);
        let deployment = self.registry.get(&row, namespace.as_deref(), &name)?.value();
        let revision = |set: &Value| -> i64 {
            object::annotation(set, "deployment.kubernetes.io/revision")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0)
        };
        let mut sets = self.list("apps", "replicasets");
        sets.retain(|set| {
            object::controller(set).is_some_and(|owner| owner["uid"] == deployment["metadata"]["uid"])
        });
        sets.sort_by_key(revision);
        let before = &sets[sets.len() - 2];
        let mut template = before["spec"]["template"].clone();
        template["metadata"]["labels"].as_object_mut().unwrap().remove("pod-template-hash");
        let patch = json!([{"op": "replace", "path": "/spec/template", "value": template}]);
        let body = PatchBody { kind: PatchKind::Json, bytes: patch.to_string().into() };
        let validation = FieldValidation::Strict;
        self.registry
            .patch(&row, namespace.as_deref(), &name, None, body, validation, &options())
            .await
            .map(|_| ())
    }

    /// The name of the first ready pod of an app.
    fn a_pod(&self, app: &str) -> String {
        let pods = self.list("", "pods");
        let ready = |pod: &&Value| {
            object::label(pod, "app") == Some(app)
                && object::condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True")
        };
        object::name(pods.iter().find(ready).expect("no such pod is ready")).to_owned()
    }
}

fn id(group: &str, plural: &str) -> ResourceId {
    ResourceId { group: group.to_owned().into(), plural: plural.to_owned().into() }
}

pub(crate) fn options() -> WriteOptions {
    WriteOptions { manager: "scenario".to_owned(), ..WriteOptions::default() }
}
