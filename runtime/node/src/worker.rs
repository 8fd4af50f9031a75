//! Doing what [`crate::plan`] decides.
//!
//! A kick marks a pod as having something to look at, and spawns its worker unless one is under way; the worker plans
//! and acts until the plan is empty, sends the status if it differs from the last one sent, sets the pod's timer, and
//! ends. Guests' ends, probes' answers, timers and the API all do nothing but change state and kick.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodStatus};
use runtime_engine::{Engine, Exit, Guest};
use runtime_host_http::HttpClient;
use runtime_host_sockets::AbortHandle;
use runtime_images::Images;
use runtime_net::{AttachSpec, Attachment, Network};
use tokio::sync::{Notify, mpsc};
use tokio_util::task::TaskTracker;

use crate::{
    config::NodeConfig,
    downward::Facts,
    error::{chain, head},
    files::{self, Given},
    guest_http, hooks, log_reader,
    log_sink::LogWriter,
    messages::{EventRecord, NodeReport, Objects},
    mounts::{self, Places},
    plan::{self, Action, plan_pod},
    probe::{self, Outcome, ProbeKind, Probes},
    prober,
    services::Services,
    spec,
    start::{self, Handle, NotStarted, Runs, Started, Task},
    state::{Ending, PodState, Run, Running, Step, Terminated},
    status,
    timers::Timers,
};

/// How often volumes with a limit are measured.
const MEASURE_EVERY: SignedDuration = SignedDuration::from_secs(10);
/// What a terminated container's message holds at most, in bytes and lines, as upstream bounds it.
const MAX_MESSAGE: usize = 4096;
const LOG_MESSAGE: usize = 2048;
const LOG_MESSAGE_LINES: u64 = 80;

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
    /// The process ends: nothing is reported any more, and no pod is taken.
    pub(crate) closing: AtomicBool,
    /// A pod has been torn down.
    pub(crate) torn_down: Notify,
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
    attachment: Option<Attachment>,
    /// The connections of its guests' HTTP requests; made when the first guest that makes some is started.
    http: Option<HttpClient>,
    reported: Option<Box<PodStatus>>,
    /// Events to be sent, in order, by the worker.
    events: Vec<EventRecord>,
}

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const AGAIN: u8 = 2;

impl PodEntry {
    pub(crate) fn new(pod: Arc<Pod>, state: PodState) -> Arc<Self> {
        let handles = state.containers.iter().map(|_| None).collect();
        Arc::new(Self {
            uid: Arc::from(spec::uid(&pod)),
            work: AtomicU8::new(IDLE),
            data: Mutex::new(PodData {
                pod,
                state,
                handles,
                attachment: None,
                http: None,
                reported: None,
                events: Vec::new(),
            }),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, PodData> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PodEntry {
    /// The pod's HTTP client, shared by its containers.
    pub(crate) fn http(&self, attachment: &Attachment) -> HttpClient {
        self.lock().http.get_or_insert_with(|| HttpClient::new(attachment.clone())).clone()
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
            self.sync(entry).await;
            if entry.work.compare_exchange(BUSY, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
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
                entry.lock().state.ending = Some(ending);
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
                self.stop(entry, pod, container, grace, message);
                true
            }
            Action::Kill(index) => {
                self.kill(entry, index);
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
                entry.lock().state.reported_ended = true;
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
            Ending::Finished | Ending::Deleted | Ending::Gone | Ending::Shutdown { .. } => {}
        }
    }

    /// What the downward API tells of this node.
    pub(crate) fn facts(&self, pod_ip: &str) -> Facts {
        Facts {
            pod_ip: pod_ip.to_owned(),
            host_ip: self.config.address.to_string(),
            node_cpu_millis: self.config.machine.cpu_millis,
            node_memory: self.config.machine.memory_bytes,
        }
    }

    async fn mount_volumes(&self, entry: &PodEntry, pod: &Arc<Pod>) -> bool {
        let has_volumes =
            spec::spec(pod).and_then(|spec| spec.volumes.as_ref()).is_some_and(|volumes| !volumes.is_empty());
        if !has_volumes {
            entry.lock().state.volumes = Step::Done;
            return true;
        }
        let given = match self.given(pod).await {
            Ok(given) => given,
            Err(message) => return self.mount_failed(entry, pod, "", &message),
        };
        let ip = entry.lock().state.ip.clone().unwrap_or_default();
        let (places, facts) = (Places::of(&self.config, pod), self.facts(&ip));
        let task = {
            let pod = Arc::clone(pod);
            self.tracker.spawn_blocking(move || mounts::set_up(&pod, &places, &given, &facts))
        };
        match task.await {
            Ok(Ok(())) => {
                let mut data = entry.lock();
                data.state.volumes = Step::Done;
                if mounts::has_limits(pod) {
                    data.state.measure_at = Some(Timestamp::now() + MEASURE_EVERY);
                }
                true
            }
            Ok(Err(problem)) => self.mount_failed(entry, pod, &problem.volume, &problem.message),
            Err(error) => self.mount_failed(entry, pod, "", &chain(&error)),
        }
    }

    fn mount_failed(&self, entry: &PodEntry, pod: &Pod, volume: &str, message: &str) -> bool {
        let message = format!("MountVolume.SetUp failed for volume {volume:?} : {message}");
        self.event(pod, None, "Warning", "FailedMount", message);
        let mut data = entry.lock();
        // A refresh that fails leaves the pod with what it has.
        if data.state.volumes == Step::Stale {
            data.state.volumes = Step::Done;
            return true;
        }
        data.state.volumes = data.state.volumes.failed(Timestamp::now());
        false
    }

    /// Reads the objects that a pod's volumes are made from.
    async fn given(&self, pod: &Pod) -> Result<Given, String> {
        let (config_maps, secrets) = files::needed(pod);
        let namespace = spec::namespace(pod);
        let mut given = Given::default();
        for name in config_maps {
            let found = self.objects.config_map(namespace, name).await.map_err(|error| chain(&error))?;
            given.config_maps.extend(found.map(|map| (name.to_owned(), map)));
        }
        for name in secrets {
            let found = self.objects.secret(namespace, name).await.map_err(|error| chain(&error))?;
            given.secrets.extend(found.map(|secret| (name.to_owned(), secret)));
        }
        Ok(given)
    }

    fn create_sandbox(&self, entry: &PodEntry, pod: &Pod) -> bool {
        let before = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()?.parse().ok());
        let attached = self.network.attach(AttachSpec {
            namespace: spec::namespace(pod).to_owned(),
            hostname: spec::hostname(pod),
            want: before,
        });
        let mut data = entry.lock();
        match attached {
            Ok(attachment) => {
                data.state.ip = Some(attachment.ip().to_string());
                data.attachment = Some(attachment);
                data.state.sandbox = Step::Done;
                true
            }
            Err(error) => {
                data.state.sandbox = data.state.sandbox.failed(Timestamp::now());
                drop(data);
                let message = format!("Failed to create pod sandbox: {}", chain(&error));
                self.event(pod, None, "Warning", "FailedCreatePodSandBox", message);
                false
            }
        }
    }

    async fn measure_volumes(&self, entry: &PodEntry, pod: &Arc<Pod>) {
        let places = Places::of(&self.config, pod);
        let task = {
            let pod = Arc::clone(pod);
            self.tracker.spawn_blocking(move || mounts::over_limit(&pod, &places))
        };
        let over = task.await.ok().flatten();
        if let Some(message) = &over {
            self.event(pod, None, "Warning", "Evicted", message.clone());
        }
        let mut data = entry.lock();
        data.state.measure_at = Some(Timestamp::now() + MEASURE_EVERY);
        if let Some(message) = over {
            data.state.ending.get_or_insert(Ending::Evicted(message));
        }
    }

    async fn start(self: &Arc<Self>, entry: &Arc<PodEntry>, pod: &Arc<Pod>, index: usize) {
        let attachment = {
            let mut data = entry.lock();
            let container = &mut data.state.containers[index];
            if let Run::Exited(end) = std::mem::take(&mut container.run) {
                container.backoff.raise(end.finished_at.unwrap_or_default(), Timestamp::now());
                container.backing_off = None;
                container.restarts += 1;
                container.last = Some(Box::new(end));
            }
            data.handles[index] = None;
            data.attachment.clone()
        };
        let Some(attachment) = attachment else { return };
        match start::start(self, entry, pod, index, attachment).await {
            Ok(started) => self.started(entry, pod, index, started),
            Err(NotStarted { reason, message, retry_at }) => {
                let mut data = entry.lock();
                data.state.containers[index].wait(reason, message, Some(retry_at));
            }
        }
    }

    fn started(self: &Arc<Self>, entry: &Arc<PodEntry>, pod: &Arc<Pod>, index: usize, started: Started) {
        let container = spec::container(pod, index).expect("plans name containers of the spec");
        let Started { handle, task, image_id } = started;
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let now = Timestamp::now();
        let is_up = container.startup_probe.is_none() && hook.is_none();
        let id = handle.id.clone();
        {
            let mut data = entry.lock();
            let state = &mut data.state.containers[index];
            state.image_id = image_id;
            state.backing_off = None;
            state.probes = Probes::of(container, now);
            state.run = Run::Running(Running {
                id: id.clone(),
                since: now,
                started: is_up,
                ready: is_up && container.readiness_probe.is_none(),
                kill_at: None,
                killed: false,
            });
            data.handles[index] = Some(handle);
        }
        {
            let (inner, entry, id) = (Arc::clone(self), Arc::clone(entry), id.clone());
            match task {
                Task::Guest(guest) => self.tracker.spawn(inner.wait_for(entry, index, id, guest)),
                Task::Serve(listening) => {
                    self.tracker.spawn(guest_http::run(inner, entry, index, id, listening))
                }
            };
        }
        if hook.is_some() {
            let (inner, entry, pod) = (Arc::clone(self), Arc::clone(entry), Arc::clone(pod));
            self.tracker.spawn(async move { inner.post_start(&entry, &pod, index, &id).await });
        }
    }

    async fn wait_for(self: Arc<Self>, entry: Arc<PodEntry>, index: usize, id: String, guest: Guest) {
        let exit = guest.wait().await;
        self.ended(&entry, index, &id, exit).await;
    }

    /// Takes in the end of a container's run.
    pub(crate) async fn ended(self: &Arc<Self>, entry: &Arc<PodEntry>, index: usize, id: &str, exit: Exit) {
        let sink = entry.lock().handles[index]
            .as_ref()
            .filter(|handle| handle.id == id)
            .map(|handle| Arc::clone(&handle.sink));
        if let Some(sink) = &sink {
            sink.finish().await;
        }
        let mut data = entry.lock();
        let ended_at_once = data.handles[index].as_ref().is_some_and(|handle| handle.ended_at_once);
        let container = spec::container(&data.pod, index);
        let from_log = container.and_then(|container| container.termination_message_policy.as_deref())
            == Some("FallbackToLogsOnError");
        let Some(run) = data.state.containers[index].running().filter(|run| run.id == id) else { return };
        let (exit_code, reason, mut message) = words(&exit, ended_at_once);
        if message.is_empty() && from_log && exit_code != 0 {
            message = sink
                .map(|sink| log_reader::tail(sink.path(), LOG_MESSAGE_LINES, LOG_MESSAGE))
                .unwrap_or_default();
        }
        let end = Terminated {
            id: id.to_owned(),
            exit_code,
            reason: reason.to_owned(),
            message: head(&message, MAX_MESSAGE).to_owned(),
            started_at: Some(run.since),
            finished_at: Some(Timestamp::now()),
        };
        data.state.containers[index].run = Run::Exited(end);
        data.state.containers[index].probes = None;
        data.handles[index] = None;
        drop(data);
        self.kick(entry);
    }

    async fn post_start(self: &Arc<Self>, entry: &Arc<PodEntry>, pod: &Arc<Pod>, index: usize, id: &str) {
        let Some(container) = spec::container(pod, index) else { return };
        let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref())
        else {
            return;
        };
        let ip = entry.lock().state.ip.clone().unwrap_or_default();
        let result = hooks::run(&self.network, container, hook, &ip).await;
        match result {
            Ok(()) => {
                let mut data = entry.lock();
                let run = data.state.containers[index].running_mut().filter(|run| run.id == id);
                if let Some(run) = run
                    && container.startup_probe.is_none()
                {
                    run.started = true;
                    run.ready = container.readiness_probe.is_none();
                }
            }
            Err(message) => {
                self.event(
                    pod,
                    Some(index),
                    "Warning",
                    "FailedPostStartHook",
                    format!("PostStartHook failed: {message}"),
                );
                self.stop(entry, pod, index, spec::grace(pod), "FailedPostStartHook".to_owned());
            }
        }
        self.kick(entry);
    }

    /// Tells a container to end; it is killed after its grace.
    fn stop(
        self: &Arc<Self>,
        entry: &Arc<PodEntry>,
        pod: &Arc<Pod>,
        index: usize,
        grace: Duration,
        message: String,
    ) {
        let now = Timestamp::now();
        {
            let mut data = entry.lock();
            let Some(run) = data.state.containers[index].running_mut() else { return };
            if run.kill_at.is_some() {
                return;
            }
            run.kill_at = Some(plan::kill_time(now, grace));
            run.ready = false;
        }
        self.event(pod, Some(index), "Normal", "Killing", message);
        if grace.is_zero() {
            self.kill(entry, index);
            return;
        }
        let container = spec::container(pod, index);
        let hook = container.and_then(|container| container.lifecycle.as_ref()?.pre_stop.clone());
        match (hook, container) {
            (Some(hook), Some(container)) => {
                let (inner, entry, pod, container) =
                    (Arc::clone(self), Arc::clone(entry), Arc::clone(pod), container.clone());
                self.tracker.spawn(async move {
                    let began = tokio::time::Instant::now();
                    let ip = entry.lock().state.ip.clone().unwrap_or_default();
                    let run = hooks::run(&inner.network, &container, &hook, &ip);
                    if let Ok(Err(message)) = tokio::time::timeout(grace, run).await {
                        inner.event(
                            &pod,
                            Some(index),
                            "Warning",
                            "FailedPreStopHook",
                            format!("PreStopHook failed: {message}"),
                        );
                    }
                    notify(&entry, index, grace.saturating_sub(began.elapsed()));
                    inner.kick(&entry);
                });
            }
            _ => notify(entry, index, grace),
        }
    }

    /// Ends a container now.
    fn kill(&self, entry: &PodEntry, index: usize) {
        let mut data = entry.lock();
        if let Some(run) = data.state.containers[index].running_mut() {
            run.killed = true;
        }
        match data.handles[index].as_ref().map(|handle| &handle.runs) {
            Some(Runs::Program { control, abort, .. }) => {
                abort.iter().for_each(AbortHandle::abort);
                control.kill();
            }
            Some(Runs::Service(service)) => service.kill(),
            None => {}
        }
    }

    fn probe(self: &Arc<Self>, entry: &Arc<PodEntry>, pod: &Arc<Pod>, index: usize, kind: ProbeKind) {
        let (id, ip) = {
            let mut data = entry.lock();
            let ip = data.state.ip.clone().unwrap_or_default();
            let container = &mut data.state.containers[index];
            if let Some(probes) = &mut container.probes {
                probes.asked(kind);
            }
            let Some(run) = container.running() else { return };
            (run.id.clone(), ip)
        };
        let (inner, entry, pod) = (Arc::clone(self), Arc::clone(entry), Arc::clone(pod));
        self.tracker.spawn(async move {
            let Some(container) = spec::container(&pod, index) else { return };
            let Some(probe) = probe::of(container, kind) else { return };
            let outcome = prober::ask(&inner.network, container, probe, &ip).await;
            match &outcome {
                Outcome::Success => {}
                Outcome::Failure(why) => {
                    let message = format!("{} probe failed: {why}", kind.title());
                    inner.event(&pod, Some(index), "Warning", "Unhealthy", message);
                }
                Outcome::Unknown(why) => {
                    let message =
                        format!("{} probe errored and resulted in unknown state: {why}", kind.title());
                    inner.event(&pod, Some(index), "Warning", "Unhealthy", message);
                }
            }
            {
                let mut data = entry.lock();
                let state = &mut data.state.containers[index];
                if state.running().is_none_or(|run| run.id != id) {
                    return;
                }
                let holds = state
                    .probes
                    .as_mut()
                    .and_then(|probes| probes.answered(kind, probe, &outcome, Timestamp::now()));
                if let (Some(holds), Some(run)) = (holds, state.running_mut()) {
                    match kind {
                        ProbeKind::Startup if holds && !run.started => {
                            run.started = true;
                            run.ready = container.readiness_probe.is_none() && run.kill_at.is_none();
                        }
                        ProbeKind::Readiness => run.ready = holds && run.kill_at.is_none(),
                        ProbeKind::Startup | ProbeKind::Liveness => {}
                    }
                }
            }
            inner.kick(&entry);
        });
    }

    async fn tear_down(&self, entry: &PodEntry, pod: &Pod) {
        let (attachment, keep) = {
            let mut data = entry.lock();
            data.http = None;
            (data.attachment.take(), matches!(data.state.ending, Some(Ending::Shutdown { .. })))
        };
        if let Some(attachment) = attachment {
            attachment.detach();
        }
        let has_volumes =
            spec::spec(pod).and_then(|spec| spec.volumes.as_ref()).is_some_and(|volumes| !volumes.is_empty());
        if has_volumes && !keep {
            let places = Places::of(&self.config, pod);
            // What cannot be removed has been logged, and is tried again at the next start.
            let _ = self.tracker.spawn_blocking(move || places.remove_volumes()).await;
        }
        entry.lock().state.torn_down = true;
        self.torn_down.notify_waiters();
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
            if data.state.frozen
                || data.state.ending == Some(Ending::Gone)
                || self.closing.load(Ordering::Acquire)
            {
                return;
            }
            let known = data.reported.as_ref().and_then(|status| status.conditions.clone());
            let known = known.or_else(|| data.pod.status.as_ref()?.conditions.clone()).unwrap_or_default();
            let new = status::status(&data.pod, &data.state, self.config.address, &known, Timestamp::now());
            if data.reported.as_deref() == Some(&new) {
                return;
            }
            data.reported = Some(Box::new(new.clone()));
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

/// Gives a container the notice of its end, or ends it if it cannot hear one.
fn notify(entry: &PodEntry, index: usize, grace: Duration) {
    let mut data = entry.lock();
    let Some(handle) = &mut data.handles[index] else { return };
    match &handle.runs {
        Runs::Program { termination, listens: true, .. } => termination.notify(grace, "the pod is ending"),
        Runs::Program { control, abort, .. } => {
            abort.iter().for_each(AbortHandle::abort);
            control.kill();
            handle.ended_at_once = true;
        }
        Runs::Service(service) => service.stop(),
    }
}

/// Exit code, reason and message of a guest's end.
fn words(exit: &Exit, ended_at_once: bool) -> (i32, &'static str, String) {
    match exit {
        Exit::Code(0) => (0, "Completed", String::new()),
        Exit::Code(code) => (*code, "Error", String::new()),
        Exit::Trapped { message, backtrace } => {
            let message =
                if backtrace.is_empty() { message.clone() } else { format!("{message}\n{backtrace}") };
            (exit.code(), "Error", message)
        }
        Exit::OutOfMemory { .. } => (137, "OOMKilled", String::new()),
        Exit::Killed if ended_at_once => (143, "Error", String::new()),
        Exit::Killed => (137, "Error", String::new()),
    }
}
