//! The end of the whole node: its pods end within their grace, and what ended for good is told before the process goes.
//!
//! Pods come back after the next start, so that a container which the shutdown alone has ended is not told of: it runs
//! again with the same restart count. What its restart policy does not run again has ended, however it came to that.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use tokio::time::{sleep, timeout};

use crate::{
    handle::NodeHandle,
    plan,
    spec::{self, Role},
    state::{ContainerState, Ending, PodState, Run, Terminated},
    worker::{Inner, PodEntry},
};

/// What killed guests and the removal of volumes may take after the last grace.
const AFTER_GRACE: Duration = Duration::from_secs(5);

impl NodeHandle {
    /// Ends all pods, each within its own grace and all within `bound`, if there is one. What has ended for good is
    /// reported; all else stays as it is in the API, and runs again when a node of this name starts.
    pub async fn shutdown(&self, bound: Option<Duration>) {
        let inner = &self.inner;
        inner.closing.store(true, Ordering::Release);
        let entries = inner.entries();
        let now = Timestamp::now();
        entries.iter().for_each(|entry| inner.shut_down(entry, bound, now));
        let longest = entries.iter().map(|entry| spec::grace(&entry.lock().pod)).max().unwrap_or_default();
        let grace = bound.map_or(longest, |bound| bound.min(longest));
        let all_down = async {
            loop {
                let mut notified = std::pin::pin!(inner.rested.notified());
                notified.as_mut().enable();
                if inner.entries().iter().all(|entry| entry.is_down()) {
                    return;
                }
                tokio::select! {
                    () = notified => {}
                    // The loop that fires timers may have ended: kills are due all the same. A pod may have come last.
                    () = sleep(Duration::from_millis(200)) => {
                        inner.entries().iter().for_each(|entry| inner.shut_down(entry, bound, now));
                    }
                }
            }
        };
        if timeout(grace.saturating_add(AFTER_GRACE), all_down).await.is_err() {
            let left = inner.entries().iter().filter(|entry| !entry.is_down()).count();
            tracing::warn!(pods = left, "some pods did not end in time");
        }
    }
}

impl Inner {
    fn shut_down(self: &Arc<Self>, entry: &Arc<PodEntry>, bound: Option<Duration>, now: Timestamp) {
        {
            let state = &mut entry.lock().state;
            if state.torn_down {
                return;
            }
            state.end(Ending::Shutdown, now);
            let bound = bound.map(|bound| plan::kill_time(now, bound));
            state.end_by = state.end_by.into_iter().chain(bound).min();
        }
        self.kick(entry);
    }
}

/// The state that the next start is to find in a pod's status, once a shutdown has ended the pod; `None` if the status
/// `told` is as good.
pub(crate) fn left_behind(pod: &Pod, state: &PodState, told: Option<&PodStatus>) -> Option<PodState> {
    if !state.torn_down {
        return None;
    }
    let finished = plan::is_finished(pod, state);
    let stays = |index: usize| finished || plan::has_ended_for_good(pod, index, &state.containers[index]);
    let is_news = |index: usize| {
        let end = state.containers[index].exited();
        end.is_some_and(|end| stays(index) && !is_told(told, end))
    };
    if !(0..state.containers.len()).any(is_news) {
        return None;
    }
    let by_shutdown = |end: &Terminated| {
        state.ending_since.is_some_and(|since| end.finished_at.is_some_and(|at| at >= since))
    };
    let mut left = state.clone();
    if finished {
        let failed_by_shutdown = |(index, container): (usize, &ContainerState)| {
            let end = container.exited().filter(|_| spec::role(pod, index) != Role::Sidecar);
            end.is_some_and(|end| end.exit_code != 0 && by_shutdown(end))
        };
        if !state.containers.iter().enumerate().any(failed_by_shutdown) {
            left.ending = Some(Ending::Finished);
        }
        return Some(left);
    }
    left.ending = None;
    for (index, container) in left.containers.iter_mut().enumerate() {
        if !stays(index) && container.exited().is_some_and(by_shutdown) {
            container.run = Run::default();
        }
    }
    Some(left)
}

/// Whether a status tells of this end.
fn is_told(told: Option<&PodStatus>, end: &Terminated) -> bool {
    let lists = told.map(|status| [&status.init_container_statuses, &status.container_statuses]);
    let ended = |status: &ContainerStatus| {
        let terminated = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        terminated.and_then(|terminated| terminated.container_id.as_deref()) == Some(&*end.id)
    };
    lists.into_iter().flatten().flatten().flatten().any(ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures, restore::restore, status};
    use std::net::IpAddr;

    /// What a shutdown tells of a pod, and what the next start makes of it.
    fn check(spec: &str, before: &str, text: &str, expect: &str) {
        let mut pod = fixtures::pod(spec);
        let now = Timestamp::from_second(1000).unwrap();
        let host = IpAddr::from([127, 0, 0, 1]);
        let status = |pod: &Pod, state: &PodState| status::status(pod, state, host, &[], now);
        let told = status(&pod, &fixtures::state(&pod, before, now));
        pod.status = Some(told.clone());
        let state = fixtures::state(&pod, text, now);
        let left = left_behind(&pod, &state, Some(&told));
        let said = left.as_ref().map(|left| status(&pod, left));
        let news = said.as_ref().map(|said| {
            let reason = said.reason.iter().map(|reason| format!(" {reason}"));
            format!("{}{}", said.phase.as_deref().unwrap(), reason.collect::<String>())
        });
        pod.status = Some(said.unwrap_or(told));
        let after = restore(&pod, false, now);
        let containers = spec::containers(&pod).zip(&after.containers).map(|(container, state)| {
            let run = match &state.run {
                Run::Waiting { .. } => "runs again".to_owned(),
                Run::Running(_) => "runs".to_owned(),
                Run::Exited(end) => format!("{} {}", end.reason, end.exit_code),
            };
            format!("{}: {run}", container.name)
        });
        let lines: Vec<String> = news.into_iter().chain(containers).collect();
        assert_eq!(lines.join("; "), expect, "{spec} {text}");
    }

    #[test]
    fn what_is_not_run_again_comes_back_with_its_real_end() {
        check("Never a", "a:run", "shutdown a:exit0 torn", "Succeeded; a: Completed 0");
        check("Never a", "a:run", "shutdown a:exit3 torn", "Failed Terminated; a: Error 3");
        check("Never a", "a:run", "shutdown a:exit143 torn", "Failed Terminated; a: Error 143");
        check("OnFailure a", "a:run", "shutdown a:exit0 torn", "Succeeded; a: Completed 0");
        // It ended just before, by itself.
        check("Never a", "a:run", "a:exit3 shutdown torn", "Failed; a: Error 3");
        check(
            "Never a b",
            "a:run b:run",
            "a:exit3 shutdown b:exit0 torn",
            "Failed; a: Error 3; b: Completed 0",
        );
        check(
            "Never side:s a",
            "s:run a:run",
            "shutdown s:exit143 a:exit0 torn",
            "Succeeded; s: Error 143; a: Completed 0",
        );
    }

    #[test]
    fn what_the_shutdown_alone_has_ended_runs_again() {
        check("Always a", "a:run", "shutdown a:exit0 torn", "a: runs again");
        check("Always a", "a:run", "shutdown a:exit143 torn", "a: runs again");
        check("OnFailure a", "a:run", "shutdown a:exit3 torn", "a: runs again");
        check(
            "Always init:i a",
            "i:exit0 a:run",
            "i:exit0 shutdown a:exit143 torn",
            "i: Completed 0; a: runs again",
        );
        check("Always a", "a:backoff", "a:backoff shutdown torn", "a: Error 1");
        check(
            "OnFailure a b",
            "a:run b:run",
            "shutdown a:exit0 b:exit3 torn",
            "Running; a: Completed 0; b: runs again",
        );
        check(
            "Never init:i a",
            "i:run a:wait",
            "shutdown i:exit0 a:wait torn",
            "Pending; i: Completed 0; a: runs again",
        );
    }
}
