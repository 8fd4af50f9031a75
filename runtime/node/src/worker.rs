//! Doing what [`crate::plan`] decides.
//!
//! A kick marks a pod as having something to look at, and spawns its worker unless one is under way; the worker plans
//! and acts until the plan is empty, sends the status if it differs from the last one sent, sets the pod's timer, and
//! ends. Guests' ends, probes' answers, timers and the API all do nothing but change state and kick.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodStatus};
use runtime_engine::Engine;
use runtime_host_http::{HttpClient, Trust};
use runtime_images::Images;
use runtime_net::{Attachment, Network};
use tokio::sync::{Notify, mpsc};
use tokio_util::task::TaskTracker;

use crate::{
    config::NodeConfig,
    log_sink::LogWriter,
    messages::{EventRecord, NodeReport, Objects},
    mounts::Places,
    plan::{Action, plan_pod},
    run,
    services::Services,
    shutdown, spec,
    start::{Handle, Prepared},
    state::{Ending, PodState},
    status,
    timers::Timers,
};

/// A fault of ours in a pod's worker stops this pod alone, and for so long.
const RETRY_PANIC: SignedDuration = SignedDuration::from_secs(10);

/// The node, shared by all its tasks.
pub(crate) struct Inner {
    pub(crate) config: NodeConfig,
    pub(crate) engine: Engine,
    pub(crate) network: Network,
    pub(crate) images: Images,
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) services: Services,
    pub(crate) logs: LogWriter,
    pub(crate) timers: Timers,
    pub(crate) tracker: TaskTracker,
    pub(crate) pods: Mutex<BTreeMap<Arc<str>, Arc<PodEntry>>>,
    pub(crate) reports: OnceLock<mpsc::Sender<NodeReport>>,
    /// The process ends: no pod is taken any more.
    pub(crate) closing: AtomicBool,
    /// A pod's worker has done and told all there was.
    pub(crate) rested: Notify,
}

/// One pod on this node.
#[derive(Debug)]
pub(crate) struct PodEntry {
    pub(crate) uid: Arc<str>,
    /// [`IDLE`], [`BUSY`] or [`AGAIN`].
    work: AtomicU8,
    data: Mutex<PodData>,
}

/// What is known of a pod, and what holds it.
#[derive(Debug)]
pub(crate) struct PodData {
    pub(crate) pod: Arc<Pod>,
    pub(crate) state: PodState,
    pub(crate) handles: Vec<Option<Handle>>,
    /// Images that were made ready beside the worker, until their containers are started.
    pub(crate) prepared: Vec<Option<Prepared>>,
    pub(crate) attachment: Option<Attachment>,
    /// The connections of its guests' HTTP requests; made when the first guest that makes some is started.
    pub(crate) http: Option<HttpClient>,
    /// Computing time of its containers' runs that have ended.
    pub(crate) cpu_of_ended: Duration,
    /// The status last sent, and when.
    pub(crate) reported: Option<Box<PodStatus>>,
    pub(crate) reported_at: Timestamp,
    /// Events to be sent, in order, by the worker.
    events: Vec<EventRecord>,
}

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const AGAIN: u8 = 2;

impl PodEntry {
    pub(crate) fn new(pod: Arc<Pod>, state: PodState) -> Arc<Self> {
        let handles = state.containers.iter().map(|_| None).collect();
        let prepared = state.containers.iter().map(|_| None).collect();
        Arc::new(Self {
            uid: Arc::from(spec::uid(&pod)),
            work: AtomicU8::new(IDLE),
            data: Mutex::new(PodData {
                pod,
                state,
                handles,
                prepared,
                attachment: None,
                http: None,
                cpu_of_ended: Duration::ZERO,
                reported: None,
                reported_at: Timestamp::UNIX_EPOCH,
                events: Vec::new(),
            }),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, PodData> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing of the pod is left, and all of that has been told.
    pub(crate) fn is_down(&self) -> bool {
        self.work.load(Ordering::Acquire) == IDLE && self.lock().state.torn_down
    }
}

impl PodEntry {
    /// The pod's HTTP client, shared by its containers.
    pub(crate) fn http(&self, attachment: &Attachment, trust: &Arc<Trust>) -> HttpClient {
        let client = || HttpClient::new(attachment.clone(), Arc::clone(trust));
        self.lock().http.get_or_insert_with(client).clone()
    }
}

impl Inner {
    /// Has a pod looked at soon.
    pub(crate) fn kick(self: &Arc<Self>, entry: &Arc<PodEntry>) {
        if entry.work.swap(AGAIN, Ordering::AcqRel) == IDLE {
            let (inner, entry) = (Arc::clone(self), Arc::clone(entry));
            self.tracker.spawn(async move { inner.work(&entry).await });
        }
    }

    async fn work(self: &Arc<Self>, entry: &Arc<PodEntry>) {
        loop {
            entry.work.store(BUSY, Ordering::Release);
            if let Err(panic) = AssertUnwindSafe(self.sync(entry)).catch_unwind().await {
                let words = panic.downcast_ref::<String>().map(String::as_str);
                let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
                let pod = spec::full_name(&entry.lock().pod);
                tracing::error!(pod, panic = words, "looking after a pod panicked; it is tried again later");
                self.timers.set(&entry.uid, Some(Timestamp::now() + RETRY_PANIC));
            }
            if entry.work.compare_exchange(BUSY, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                self.rested.notify_waiters();
                return;
            }
        }
    }

    /// Plans and acts until there is nothing to do now.
    async fn sync(self: &Arc<Self>, entry: &Arc<PodEntry>) {
        let plan = loop {
            let (pod, plan) = {
                let data = entry.lock();
                (Arc::clone(&data.pod), plan_pod(&data.pod, &data.state, Timestamp::now()))
            };
            if plan.actions.is_empty() {
                break plan;
            }
            for action in plan.actions {
                tracing::debug!(pod = spec::full_name(&pod), ?action, "acting");
                if !self.apply(entry, &pod, action).await {
                    break;
                }
            }
            // However many steps a pod takes, others have their turn.
            tokio::task::yield_now().await;
        };
        self.report_status(entry).await;
        self.send_events(entry).await;
        self.timers.set(&entry.uid, plan.look_again.filter(|at| *at < Timestamp::MAX));
        self.forget_if_gone(entry);
    }

    /// Does one thing; whether the rest of the plan still holds.
    async fn apply(self: &Arc<Self>, entry: &Arc<PodEntry>, pod: &Arc<Pod>, action: Action) -> bool {
        match action {
            Action::End(ending) => {
                self.tell_ending(pod, &ending);
                entry.lock().state.end(ending, Timestamp::now());
                true
            }
            Action::MountVolumes => self.mount_volumes(entry, pod).await,
            Action::CreateSandbox => self.create_sandbox(entry, pod),
            Action::MeasureVolumes => {
                self.measure_volumes(entry, pod).await;
                true
            }
            Action::Start(index) => {
                self.start(entry, pod, index).await;
                true
            }
            Action::BackOff(index, until) => {
                entry.lock().state.containers[index].backing_off = Some(until);
                let name = spec::container(pod, index).map_or("", |container| container.name.as_str());
                let message =
                    format!("Back-off restarting failed container {name} in pod {}", spec::full_name(pod));
                self.event(pod, Some(index), "Warning", "BackOff", message);
                true
            }
            Action::Stop { container, grace, message } => {
                let id = entry.lock().state.containers[container].running().map(|run| run.id.clone());
                if let Some(id) = id {
                    self.stop(entry, pod, container, &id, grace, message);
                }
                true
            }
            Action::Kill(index) => {
                run::kill(entry, index);
                true
            }
            Action::KillBy(index, at) => {
                if let Some(run) = entry.lock().state.containers[index].running_mut() {
                    run.kill_at = Some(at);
                }
                true
            }
            Action::Probe(index, kind) => {
                self.probe(entry, pod, index, kind);
                true
            }
            Action::TearDown => {
                self.tear_down(entry, pod).await;
                true
            }
            Action::ReportEnded => {
                self.report_status(entry).await;
                self.send_events(entry).await;
                {
                    let mut data = entry.lock();
                    data.state.reported_ended = true;
                    data.reported_at = Timestamp::now();
                }
                self.report(NodeReport::PodEnded {
                    namespace: spec::namespace(pod).to_owned(),
                    name: spec::name(pod).to_owned(),
                    uid: spec::uid(pod).to_owned(),
                })
                .await;
                true
            }
        }
    }

    fn tell_ending(&self, pod: &Pod, ending: &Ending) {
        match ending {
            Ending::DeadlineExceeded => {
                let message = "Pod was active on the node longer than the specified deadline".to_owned();
                self.event(pod, None, "Normal", "DeadlineExceeded", message);
            }
            Ending::Evicted(message) => self.event(pod, None, "Warning", "Evicted", message.clone()),
            Ending::Finished | Ending::Deleted | Ending::Gone | Ending::Declared | Ending::Shutdown => {}
        }
    }

    /// Removes what is left of a pod whose object is gone.
    fn forget_if_gone(&self, entry: &PodEntry) {
        let (pod, gone) = {
            let data = entry.lock();
            (Arc::clone(&data.pod), data.state.torn_down && data.state.ending == Some(Ending::Gone))
        };
        if !gone {
            return;
        }
        for handle in entry.lock().handles.iter().flatten() {
            handle.sink.discard();
        }
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).remove(&entry.uid);
        self.timers.set(&entry.uid, None);
        let places = Places::of(&self.config, &pod);
        self.tracker.spawn_blocking(move || places.remove_all());
    }

    /// Sends the pod's status if it is another than the last one sent.
    pub(crate) async fn report_status(&self, entry: &PodEntry) {
        let report = {
            let mut data = entry.lock();
            let told = data.reported.as_deref().or(data.pod.status.as_ref());
            let left = match data.state.ending {
                _ if data.state.frozen => return,
                Some(Ending::Gone) => return,
                Some(Ending::Shutdown) => match shutdown::left_behind(&data.pod, &data.state, told) {
                    Some(left) => Some(left),
                    None => return,
                },
                _ => None,
            };
            let state = left.as_ref().unwrap_or(&data.state);
            let known = data.reported.as_ref().and_then(|status| status.conditions.clone());
            let known = known.or_else(|| data.pod.status.as_ref()?.conditions.clone()).unwrap_or_default();
            let new = status::status(&data.pod, state, self.config.address, &known, Timestamp::now());
            if data.reported.as_deref() == Some(&new) {
                return;
            }
            data.reported = Some(Box::new(new.clone()));
            data.reported_at = Timestamp::now();
            NodeReport::PodStatus {
                namespace: spec::namespace(&data.pod).to_owned(),
                name: spec::name(&data.pod).to_owned(),
                uid: spec::uid(&data.pod).to_owned(),
                status: Box::new(new),
            }
        };
        self.report(report).await;
    }

    async fn send_events(&self, entry: &PodEntry) {
        let events = std::mem::take(&mut entry.lock().events);
        for event in events {
            self.report(NodeReport::Event(event)).await;
        }
    }

    /// Notes an event about a pod or one of its containers; its worker sends it.
    pub(crate) fn event(
        &self,
        pod: &Pod,
        container: Option<usize>,
        type_: &'static str,
        reason: &'static str,
        message: String,
    ) {
        let event = EventRecord { regarding: spec::reference(pod, container), type_, reason, message };
        let entry = self.pods.lock().unwrap_or_else(PoisonError::into_inner).get(spec::uid(pod)).cloned();
        if let Some(entry) = entry {
            entry.lock().events.push(event);
        }
    }

    /// Sends an event about another object.
    pub(crate) async fn event_about(
        &self,
        regarding: ObjectReference,
        reason: &'static str,
        message: String,
    ) {
        self.report(NodeReport::Event(EventRecord { regarding, type_: "Warning", reason, message })).await;
    }

    pub(crate) async fn report(&self, report: NodeReport) {
        if let Some(reports) = self.reports.get()
            && reports.send(report).await.is_err()
        {
            tracing::debug!("nobody takes the node's reports any more");
        }
    }
}
