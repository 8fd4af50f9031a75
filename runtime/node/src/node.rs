//! The node as others hold it: what it is made from, its loop over what comes in, and its end.

use std::{
    collections::BTreeSet,
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{NodeStatus, ObjectReference, Pod};
use runtime_engine::Engine;
use runtime_images::Images;
use runtime_net::{Network, NodePortProblem};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    conditions::agree,
    config::NodeConfig,
    env,
    error::chain,
    files,
    log_reader::{self, LogRequest, LogStream, LogsError},
    log_sink::LogWriter,
    messages::{NodeReport, Objects, SourceEvent},
    mounts::Places,
    node_status::{Measured, node_status},
    plan, restore,
    services::{Change, Services},
    spec,
    state::{Ending, Run},
    timers::Timers,
    worker::{Inner, PodEntry},
};

/// How often the node says that it lives, and for how long that holds.
const HEARTBEAT: Duration = Duration::from_secs(10);
const LEASE_SECS: i32 = 40;
/// How often the node's status is sent though nothing has changed.
const STATUS_EVERY: Duration = Duration::from_secs(300);

/// After so long a silence (the machine slept) others take the node for lost, until it tells its status again.
const SILENT: SignedDuration = SignedDuration::from_secs(25);

/// What was said of a pod should have arrived by then.
const REPEAT_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// What was last told of the node.
struct Told {
    at: Instant,
    /// The last heartbeat, by the clock on the wall.
    alive: Timestamp,
    /// Without the times of its heartbeats.
    status: NodeStatus,
}

/// A node that is not running yet.
pub struct Node {
    inner: Arc<Inner>,
}

/// A way to ask a node for something; clones are cheap.
#[derive(Clone)]
pub struct NodeHandle {
    inner: Arc<Inner>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeHandle").field("node", &self.inner.config.name).finish_non_exhaustive()
    }
}

impl Node {
    /// Puts a node together; its folder is made. Nothing runs before [`Node::run`].
    pub fn new(
        mut config: NodeConfig,
        engine: Engine,
        network: Network,
        images: Images,
        objects: Arc<dyn Objects>,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(config.root_dir.join("pods"))?;
        for root in &mut config.host_path_roots {
            // Once and for all: what a root means is not for guests to change. One that is not there yet has no links.
            *root = root.canonicalize().unwrap_or_else(|_missing| root.clone());
        }
        let logs = LogWriter::start(config.log_max_bytes, config.log_max_files)?;
        let inner = Inner {
            config,
            engine,
            network,
            images,
            objects,
            services: Services::default(),
            logs,
            timers: Timers::default(),
            tracker: TaskTracker::new(),
            pods: Mutex::default(),
            reports: OnceLock::new(),
            closing: AtomicBool::new(false),
            torn_down: Notify::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A handle, good for as long as the node runs.
    pub fn handle(&self) -> NodeHandle {
        NodeHandle { inner: Arc::clone(&self.inner) }
    }

    /// Runs until `stop`; then what still runs of its pods is ended at once (see [`NodeHandle::shutdown`] for
    /// gentler ways before).
    pub async fn run(
        self,
        mut source: mpsc::Receiver<SourceEvent>,
        reports: mpsc::Sender<NodeReport>,
        stop: CancellationToken,
    ) {
        let inner = self.inner;
        let handle = NodeHandle { inner: Arc::clone(&inner) };
        // Set twice only if a clone of the same node ran before, which `self` by value excludes.
        let _ = inner.reports.set(reports);
        let began = Timestamp::now();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = heartbeat.tick() => {
                    inner.heartbeat(began, &mut told).await;
                    inner.repeat();
                }
                due = inner.timers.due() => {
                    for uid in due {
                        inner.kick_uid(&uid);
                    }
                }
                event = source.recv() => match event {
                    Some(event) => inner.take(event).await,
                    None => {
                        // The source is gone; what runs goes on until the node is stopped.
                        tokio::select! {
                            () = stop.cancelled() => break,
                            due = inner.timers.due() => due.iter().for_each(|uid| inner.kick_uid(uid)),
                        }
                    }
                },
            }
        }
        handle.shutdown(Duration::ZERO).await;
        inner.tracker.close();
        if timeout(Duration::from_secs(5), inner.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = inner.tracker.len(), "some of the node's tasks did not end");
        }
        inner.logs.close();
    }
}

impl NodeHandle {
    /// Opens a container's log.
    pub fn logs(&self, request: &LogRequest) -> Result<LogStream, LogsError> {
        let entry = self.inner.find(&request.namespace, &request.pod, &request.uid);
        let entry = entry.ok_or_else(|| LogsError::NotFound(request.pod.clone()))?;
        let (path, sink) = {
            let data = entry.lock();
            let index = choose_container(&data.pod, &request.container)?;
            let name = spec::container(&data.pod, index).map_or("", |container| container.name.as_str());
            let container = &data.state.containers[index];
            let places = Places::of(&self.inner.config, &data.pod);
            if request.previous {
                if container.restarts == 0 {
                    return Err(LogsError::BadRequest(format!(
                        "previous terminated container {name:?} in pod {:?} not found",
                        request.pod
                    )));
                }
                (places.log(name, container.restarts - 1), None)
            } else {
                let path = places.log(name, container.restarts);
                match &container.run {
                    Run::Waiting { .. } if container.last.is_some() && container.restarts > 0 => {
                        (places.log(name, container.restarts - 1), None)
                    }
                    Run::Waiting { reason, .. } if container.last.is_none() && container.restarts == 0 => {
                        let reason = if reason.is_empty() { "ContainerCreating" } else { reason };
                        return Err(LogsError::BadRequest(format!(
                            "container {name:?} in pod {:?} is waiting to start: {reason}",
                            request.pod
                        )));
                    }
                    _ => (path, data.handles[index].as_ref().map(|handle| Arc::clone(&handle.sink))),
                }
            }
        };
        Ok(log_reader::read(path, sink, request, Timestamp::now())?)
    }

    /// Ends all pods, each within its own grace and all within `grace`. Nothing of this is reported: the pods stay as
    /// they are in the API, and run again when a node of this name starts.
    pub async fn shutdown(&self, grace: Duration) {
        let inner = &self.inner;
        inner.closing.store(true, Ordering::Release);
        let now = Timestamp::now();
        let kill_at = plan::kill_time(now, grace);
        for entry in inner.entries() {
            {
                let mut data = entry.lock();
                let earlier =
                    matches!(data.state.ending, Some(Ending::Shutdown { kill_at: at }) if at <= kill_at);
                if !data.state.torn_down && !earlier {
                    data.state.ending = Some(Ending::Shutdown { kill_at });
                }
            }
            inner.kick(&entry);
        }
        let all_down = async {
            loop {
                let mut notified = std::pin::pin!(inner.torn_down.notified());
                notified.as_mut().enable();
                if inner.entries().iter().all(|entry| entry.lock().state.torn_down) {
                    return;
                }
                tokio::select! {
                    () = notified => {}
                    // The loop that fires timers may have ended: kills are due all the same.
                    () = tokio::time::sleep(Duration::from_millis(200)) => {
                        inner.entries().iter().for_each(|entry| inner.kick(entry));
                    }
                }
            }
        };
        if timeout(grace + Duration::from_secs(5), all_down).await.is_err() {
            let left = inner.entries().iter().filter(|entry| !entry.lock().state.torn_down).count();
            tracing::warn!(pods = left, "some pods did not end in time");
        }
    }

    /// How many pods the node holds.
    pub fn pods(&self) -> usize {
        self.inner.entries().len()
    }
}

fn choose_container(pod: &Pod, name: &str) -> Result<usize, LogsError> {
    let mains = spec::n_init(pod)..;
    let names: Vec<&str> = spec::containers(pod).map(|container| container.name.as_str()).collect();
    if name.is_empty() {
        let mains: Vec<&str> = names.iter().copied().skip(mains.start).collect();
        return match mains.as_slice() {
            [_] => Ok(names.len() - 1),
            _ => Err(LogsError::BadRequest(format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                spec::name(pod),
                mains.join(" ")
            ))),
        };
    }
    names.iter().position(|other| *other == name).ok_or_else(|| {
        LogsError::BadRequest(format!("container {name} is not valid for pod {}", spec::name(pod)))
    })
}

impl Inner {
    pub(crate) fn entries(&self) -> Vec<Arc<PodEntry>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn find(&self, namespace: &str, name: &str, uid: &str) -> Option<Arc<PodEntry>> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        if !uid.is_empty() {
            return pods.get(uid).cloned();
        }
        let is_it = |entry: &&Arc<PodEntry>| {
            let data = entry.lock();
            spec::namespace(&data.pod) == namespace && spec::name(&data.pod) == name
        };
        pods.values().find(is_it).cloned()
    }

    fn kick_uid(self: &Arc<Self>, uid: &str) {
        let entry = self.pods.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned();
        if let Some(entry) = entry {
            self.kick(&entry);
        }
    }

    /// Renews the lease; the status is sent when it differs from the one `told`, and now and then.
    async fn heartbeat(&self, began: Timestamp, told: &mut Option<Told>) {
        let images = self.images.list().unwrap_or_default();
        let now = Timestamp::now();
        // What cannot be asked now is not told.
        let disk = rustix::fs::statvfs(&self.config.root_dir).ok();
        let measured = Measured {
            began,
            now,
            max_guests: self.engine.limits().guests,
            disk_bytes: disk.map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
            images: &images,
        };
        let status = node_status(&self.config, &measured);
        let mut timeless = status.clone();
        timeless.conditions.iter_mut().flatten().for_each(|condition| condition.last_heartbeat_time = None);
        let is_known = told.as_ref().is_some_and(|told| {
            let awake = now.duration_since(told.alive) < SILENT;
            awake && told.at.elapsed() < STATUS_EVERY && told.status == timeless
        });
        match told {
            Some(told) if is_known => told.alive = now,
            _ => *told = Some(Told { at: Instant::now(), alive: now, status: timeless }),
        }
        if !is_known {
            self.report(NodeReport::Node { status: Box::new(status) }).await;
        }
        self.report(NodeReport::LeaseRenewed { at: now, duration_secs: LEASE_SECS }).await;
    }

    /// Says again what did not arrive, or was overwritten: a control plane that took the node for lost has set its
    /// pods unready, and only the node can say that they are not.
    fn repeat(self: &Arc<Self>) {
        let now = Timestamp::now();
        for entry in self.entries() {
            let mut data = entry.lock();
            if now.duration_since(data.reported_at) < REPEAT_AFTER {
                continue;
            }
            let seen = data.pod.status.as_ref();
            let differs =
                data.reported.as_ref().is_some_and(|told| !seen.is_some_and(|seen| agree(seen, told)));
            if !differs && !data.state.reported_ended {
                continue;
            }
            data.reported = None;
            data.state.reported_ended = false;
            drop(data);
            self.kick(&entry);
        }
    }

    async fn take(self: &Arc<Self>, event: SourceEvent) {
        if self.closing.load(Ordering::Acquire) {
            return;
        }
        match event {
            SourceEvent::Pod(pod) => self.take_pod(pod),
            SourceEvent::PodGone { uid, .. } => {
                let entry =
                    self.pods.lock().unwrap_or_else(PoisonError::into_inner).get(uid.as_str()).cloned();
                if let Some(entry) = entry {
                    entry.lock().state.end(Ending::Gone, Timestamp::now());
                    self.kick(&entry);
                }
            }
            SourceEvent::Service(service) => self.change_services(self.services.put(service)).await,
            SourceEvent::ServiceGone { namespace, name } => {
                self.change_services(self.services.remove(&namespace, &name)).await;
            }
            SourceEvent::EndpointSlice(slice) => {
                for change in self.services.put_slice(slice) {
                    self.change_services(change).await;
                }
            }
            SourceEvent::EndpointSliceGone { namespace, name } => {
                self.change_services(self.services.remove_slice(&namespace, &name)).await;
            }
            SourceEvent::ConfigMapChanged { namespace, name } => {
                self.refresh(&namespace, |pod| uses(pod, &name, false));
            }
            SourceEvent::SecretChanged { namespace, name } => {
                self.refresh(&namespace, |pod| uses(pod, &name, true));
            }
            SourceEvent::Synced => self.remove_orphans(),
        }
    }

    fn take_pod(self: &Arc<Self>, pod: Arc<Pod>) {
        let uid: Arc<str> = Arc::from(spec::uid(&pod));
        let known = self.pods.lock().unwrap_or_else(PoisonError::into_inner).get(&uid).cloned();
        let entry = match known {
            Some(entry) => {
                let mut data = entry.lock();
                let old = std::mem::replace(&mut data.pod, pod);
                let (old, new) = (&old.metadata, &data.pod.metadata);
                let is_told = (&old.labels, &old.annotations) != (&new.labels, &new.annotations);
                if is_told && files::tells_of_pod(&data.pod) {
                    data.state.outdate_volumes();
                }
                drop(data);
                entry
            }
            None => {
                let memory_is_lost = Places::of(&self.config, &pod).lacks_memory(&pod);
                let state = restore::restore(&pod, memory_is_lost, Timestamp::now());
                let entry = PodEntry::new(pod, state);
                self.pods.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, Arc::clone(&entry));
                entry
            }
        };
        self.kick(&entry);
    }

    /// Wakes the pods of a namespace that use a changed object.
    fn refresh(self: &Arc<Self>, namespace: &str, uses: impl Fn(&Pod) -> bool) {
        for entry in self.entries() {
            let mut data = entry.lock();
            if spec::namespace(&data.pod) != namespace || !uses(&data.pod) || data.state.torn_down {
                continue;
            }
            data.state.outdate_volumes();
            for container in &mut data.state.containers {
                if let Run::Waiting { reason: "CreateContainerConfigError", retry_at, .. } =
                    &mut container.run
                {
                    *retry_at = None;
                }
            }
            drop(data);
            self.kick(&entry);
        }
    }

    async fn change_services(&self, change: Change) {
        let problems = match change {
            Change::Nothing => return,
            Change::Upsert(service) => self.network.upsert_service(*service),
            Change::Remove(namespace, name) => {
                self.network.remove_service(&namespace, &name);
                return;
            }
        };
        for problem in problems {
            self.tell_port_problem(&problem).await;
        }
    }

    async fn tell_port_problem(&self, problem: &NodePortProblem) {
        let service = self.services.get(&problem.namespace, &problem.name);
        let regarding = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some(problem.namespace.clone()),
            name: Some(problem.name.clone()),
            uid: service.and_then(|service| service.metadata.uid.clone()),
            ..ObjectReference::default()
        };
        self.event_about(regarding, "NodePortUnavailable", chain(problem)).await;
    }

    /// Removes folders that belong to no pod there is. They are listed before another pod can come and make its own.
    fn remove_orphans(&self) {
        let known: BTreeSet<String> = self
            .entries()
            .iter()
            .map(|entry| {
                let pod = Arc::clone(&entry.lock().pod);
                spec::folder(spec::namespace(&pod), spec::name(&pod), spec::uid(&pod))
            })
            .collect();
        let roots = [Some(self.config.root_dir.join("pods")), self.config.memory_root.clone()];
        let orphans: Vec<PathBuf> = roots
            .into_iter()
            .flatten()
            .filter_map(|root| std::fs::read_dir(root).ok())
            .flat_map(Iterator::flatten)
            .filter(|entry| !known.contains(&*entry.file_name().to_string_lossy()))
            .map(|entry| entry.path())
            .collect();
        self.tracker.spawn_blocking(move || {
            for orphan in orphans {
                if let Err(error) = runtime_volumes::remove(&orphan) {
                    tracing::warn!(
                        error = chain(&error),
                        "the folder of a pod that is gone cannot be removed"
                    );
                }
            }
        });
    }
}

/// Whether a pod's volumes or variables come from an object of this name.
fn uses(pod: &Pod, name: &str, secret: bool) -> bool {
    let pick = |(config_maps, secrets): (BTreeSet<&str>, BTreeSet<&str>)| {
        if secret { secrets.contains(name) } else { config_maps.contains(name) }
    };
    pick(files::needed(pod)) || spec::containers(pod).any(|container| pick(env::needed(container)))
}
