//! The course of a container: started, asked how it is, told to end, ended.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use runtime_engine::{Exit, Guest};
use runtime_host_sockets::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::BackOff,
    error::head,
    guest_http, hooks, log_reader, plan,
    probe::{self, Outcome, ProbeKind, Probes},
    prober, spec,
    start::{self, Handle, NotStarted, Preparing, Runs, Started, Task},
    state::{Run, Running, Terminated},
    worker::{Inner, PodEntry},
};

/// What a terminated container's message holds at most, in bytes and lines, as upstream bounds it.
const MAX_MESSAGE: usize = 4096;
const LOG_MESSAGE: usize = 2048;
const LOG_MESSAGE_LINES: u64 = 80;

impl Inner {
    pub(crate) async fn start(self: &Arc<Self>, entry: &Arc<PodEntry>, pod: &Arc<Pod>, index: usize) {
        let attachment = {
            let mut data = entry.lock();
            let container = &mut data.state.containers[index];
            if container.exited().is_some()
                && let Run::Exited(end) = std::mem::take(&mut container.run)
            {
                if plan::is_changed(pod, index, &end.image) {
                    container.backoff = BackOff::default();
                }
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
            Err(NotStarted::For { reason, message, retry_at }) => {
                entry.lock().state.containers[index].wait(reason, message, Some(retry_at));
            }
            Err(NotStarted::Preparing(preparing)) => {
                entry.lock().state.containers[index].wait("", String::new(), Some(Timestamp::MAX));
                self.tracker.spawn(Arc::clone(self).prepared(Arc::clone(entry), index, preparing));
            }
        }
    }

    /// Waits for an image beside the pod's worker, and has the container started with it.
    async fn prepared(self: Arc<Self>, entry: Arc<PodEntry>, index: usize, preparing: Preparing) {
        let prepared = preparing.await;
        {
            let mut data = entry.lock();
            data.prepared[index] = Some(prepared);
            if let Run::Waiting { retry_at, .. } = &mut data.state.containers[index].run {
                *retry_at = None;
            }
        }
        self.kick(&entry);
    }

    pub(crate) fn started(
        self: &Arc<Self>,
        entry: &Arc<PodEntry>,
        pod: &Arc<Pod>,
        index: usize,
        started: Started,
    ) {
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
                image: container.image.clone().unwrap_or_default(),
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
                    self.tracker.spawn(guest_http::run(inner, entry, index, id, *listening))
                }
            };
        }
        if hook.is_some() {
            let (inner, entry, pod) = (Arc::clone(self), Arc::clone(entry), Arc::clone(pod));
            self.tracker.spawn(async move { inner.post_start(&entry, &pod, index, &id).await });
        }
    }

    pub(crate) async fn wait_for(
        self: Arc<Self>,
        entry: Arc<PodEntry>,
        index: usize,
        id: String,
        guest: Guest,
    ) {
        let exit = guest.wait().await;
        self.ended(&entry, index, &id, exit).await;
    }

    /// Takes in the end of a container's run.
    pub(crate) async fn ended(self: &Arc<Self>, entry: &Arc<PodEntry>, index: usize, id: &str, exit: Exit) {
        let (pod, ended_at_once, sink) = {
            let data = entry.lock();
            let Some(handle) = data.handles[index].as_ref().filter(|handle| handle.id == id) else { return };
            (Arc::clone(&data.pod), handle.ended_at_once, Arc::clone(&handle.sink))
        };
        sink.finish().await;
        let (exit_code, reason, mut message) = words(&exit, ended_at_once);
        let policy = spec::container(&pod, index).and_then(|c| c.termination_message_policy.as_deref());
        if message.is_empty() && exit_code != 0 && policy == Some("FallbackToLogsOnError") {
            let tail = move || log_reader::tail(sink.path(), LOG_MESSAGE_LINES, LOG_MESSAGE);
            message = self.tracker.spawn_blocking(tail).await.unwrap_or_default();
        }
        let mut data = entry.lock();
        let pod = Arc::clone(&data.pod);
        let Some(run) = data.state.containers[index].running().filter(|run| run.id == id) else { return };
        let end = Terminated {
            id: id.to_owned(),
            exit_code,
            reason: reason.to_owned(),
            message: head(&message, MAX_MESSAGE).to_owned(),
            started_at: Some(run.since),
            finished_at: Some(Timestamp::now()),
            image: run.image.clone(),
            replaced: run.kill_at.is_some() && plan::is_changed(&pod, index, &run.image),
        };
        data.state.containers[index].run = Run::Exited(end);
        data.state.containers[index].probes = None;
        if let Some(handle) = data.handles[index].take() {
            data.cpu_of_ended += handle.runs.usage().cpu;
        }
        drop(data);
        self.kick(entry);
    }

    pub(crate) async fn post_start(
        self: &Arc<Self>,
        entry: &Arc<PodEntry>,
        pod: &Arc<Pod>,
        index: usize,
        id: &str,
    ) {
        let Some(container) = spec::container(pod, index) else { return };
        let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref())
        else {
            return;
        };
        let Some(over) = over(entry, index, id) else { return };
        let ip = entry.lock().state.ip.clone().unwrap_or_default();
        match over.run_until_cancelled(hooks::run(&self.network, container, hook, &ip)).await {
            None => return,
            Some(Ok(())) => {
                let mut data = entry.lock();
                let run = data.state.containers[index].running_mut().filter(|run| run.id == id);
                if let Some(run) = run
                    && container.startup_probe.is_none()
                {
                    run.started = true;
                    run.ready = container.readiness_probe.is_none() && run.kill_at.is_none();
                }
            }
            Some(Err(message)) => {
                self.event(
                    pod,
                    Some(index),
                    "Warning",
                    "FailedPostStartHook",
                    format!("PostStartHook failed: {message}"),
                );
                self.stop(entry, pod, index, id, spec::grace(pod), "FailedPostStartHook".to_owned());
            }
        }
        self.kick(entry);
    }

    /// Tells a run of a container to end; it is killed after its grace. Whether it takes requests meanwhile is for its
    /// readiness probe to say.
    pub(crate) fn stop(
        self: &Arc<Self>,
        entry: &Arc<PodEntry>,
        pod: &Arc<Pod>,
        index: usize,
        id: &str,
        grace: Duration,
        message: String,
    ) {
        let now = Timestamp::now();
        {
            let mut data = entry.lock();
            let run = data.state.containers[index].running_mut();
            let Some(run) = run.filter(|run| run.id == id && run.kill_at.is_none()) else { return };
            run.kill_at = Some(plan::kill_time(now, grace));
        }
        self.event(pod, Some(index), "Normal", "Killing", message);
        if grace.is_zero() {
            kill(entry, index);
            return;
        }
        let container = spec::container(pod, index);
        let hook = container.and_then(|container| container.lifecycle.as_ref()?.pre_stop.clone());
        match (hook, container, over(entry, index, id)) {
            (Some(hook), Some(container), Some(over)) => {
                let (inner, entry, pod, container) =
                    (Arc::clone(self), Arc::clone(entry), Arc::clone(pod), container.clone());
                let id = id.to_owned();
                self.tracker.spawn(async move {
                    let began = tokio::time::Instant::now();
                    let ip = entry.lock().state.ip.clone().unwrap_or_default();
                    let run = hooks::run(&inner.network, &container, &hook, &ip);
                    let run = over.run_until_cancelled(tokio::time::timeout(grace, run));
                    if let Some(Ok(Err(message))) = run.await {
                        inner.event(
                            &pod,
                            Some(index),
                            "Warning",
                            "FailedPreStopHook",
                            format!("PreStopHook failed: {message}"),
                        );
                    }
                    notify(&entry, index, &id, grace.saturating_sub(began.elapsed()));
                    inner.kick(&entry);
                });
            }
            _ => notify(entry, index, id, grace),
        }
    }

    pub(crate) fn probe(
        self: &Arc<Self>,
        entry: &Arc<PodEntry>,
        pod: &Arc<Pod>,
        index: usize,
        kind: ProbeKind,
    ) {
        let (id, ip, over) = {
            let mut data = entry.lock();
            let Some(over) = data.handles[index].as_ref().map(Handle::over) else { return };
            let ip = data.state.ip.clone().unwrap_or_default();
            let container = &mut data.state.containers[index];
            if let Some(probes) = &mut container.probes {
                probes.asked(kind);
            }
            let Some(run) = container.running() else { return };
            (run.id.clone(), ip, over)
        };
        let (inner, entry, pod) = (Arc::clone(self), Arc::clone(entry), Arc::clone(pod));
        self.tracker.spawn(async move {
            let Some(container) = spec::container(&pod, index) else { return };
            let Some(probe) = probe::of(container, kind) else { return };
            let answer = over.run_until_cancelled(prober::ask(&inner.network, container, probe, &ip));
            let Some(outcome) = answer.await else { return };
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
                        ProbeKind::Readiness => run.ready = holds,
                        ProbeKind::Startup | ProbeKind::Liveness => {}
                    }
                }
            }
            inner.kick(&entry);
        });
    }
}

/// Cancelled when this run of a container is over; `None` if it is already.
fn over(entry: &PodEntry, index: usize, id: &str) -> Option<CancellationToken> {
    entry.lock().handles[index].as_ref().filter(|handle| handle.id == id).map(Handle::over)
}

/// Ends a container now.
pub(crate) fn kill(entry: &PodEntry, index: usize) {
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

/// Gives a run of a container the notice of its end, or ends it if it cannot hear one. The container may have been run
/// again by now.
fn notify(entry: &PodEntry, index: usize, id: &str, grace: Duration) {
    let mut data = entry.lock();
    let Some(handle) = data.handles[index].as_mut().filter(|handle| handle.id == id) else { return };
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

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_engine::Meter;

    use crate::{
        fixtures::{pod, state},
        guest_http::HttpService,
        log_sink::LogWriter,
    };

    #[test]
    fn a_notice_that_comes_late_does_not_end_the_next_run_and_hooks_end_with_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let writer = LogWriter::start(1 << 20, 2).unwrap();
        let pod = pod("Always a");
        let state = state(&pod, "a:run", Timestamp::now());
        let entry = PodEntry::new(Arc::new(pod), state);
        let service = HttpService::new(Meter::new(None, None));
        let sink = writer.sink(dir.path().join("0.log"));
        let handle = Handle::new("wasm://2".to_owned(), sink, Runs::Service(service.clone()));
        entry.lock().handles[0] = Some(handle);
        notify(&entry, 0, "wasm://1", Duration::ZERO);
        assert!(!service.is_stopped());
        notify(&entry, 0, "wasm://2", Duration::ZERO);
        assert!(service.is_stopped());
        // Nor does what goes on beside a run outlast it.
        assert!(over(&entry, 0, "wasm://1").is_none());
        let over = over(&entry, 0, "wasm://2").unwrap();
        entry.lock().handles[0] = None;
        assert!(over.is_cancelled());
        writer.close();
    }
}
