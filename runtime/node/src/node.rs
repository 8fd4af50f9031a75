//! The node as others hold it: what it is made from, its loop over what comes in, and its end.

use std::{
    collections::BTreeSet,
    fmt, io,
    path::PathBuf,
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use runtime_engine::Engine;
use runtime_images::Images;
use runtime_net::{Network, NodePortProblem};
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::NodeConfig,
    env,
    error::chain,
    files,
    handle::NodeHandle,
    log_sink::LogWriter,
    messages::{NodeReport, Objects, SourceEvent},
    mounts::Places,
    restore,
    services::{Change, Services},
    spec,
    state::{Ending, Run},
    timers::Timers,
    worker::{Inner, PodEntry},
};

/// A node that is not running yet.
pub struct Node {
    inner: Arc<Inner>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("config", &self.inner.config).finish_non_exhaustive()
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
            rested: Notify::new(),
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
        // Beside the rest, as it waits for the disk.
        let mut heart = pin!(inner.beat());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                never = &mut heart => match never {},
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
                            never = &mut heart => match never {},
                            due = inner.timers.due() => due.iter().for_each(|uid| inner.kick_uid(uid)),
                        }
                    }
                },
            }
        }
        handle.shutdown(Some(Duration::ZERO)).await;
        inner.tracker.close();
        if timeout(Duration::from_secs(5), inner.tracker.wait()).await.is_err() {
            tracing::warn!(tasks = inner.tracker.len(), "some of the node's tasks did not end");
        }
        inner.logs.close();
    }
}

impl Inner {
    pub(crate) fn entries(&self) -> Vec<Arc<PodEntry>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn kick_uid(self: &Arc<Self>, uid: &str) {
        let entry = self.pods.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned();
        if let Some(entry) = entry {
            self.kick(&entry);
        }
    }

    async fn take(self: &Arc<Self>, event: SourceEvent) {
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
            // The next start takes it.
            None if self.closing.load(Ordering::Acquire) => return,
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
