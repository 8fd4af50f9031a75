//! What the node knows about a pod beyond its object: plain data, looked at by [`crate::plan`] and [`crate::status`].

use jiff::Timestamp;

use crate::{backoff::BackOff, probe::Probes};

/// What the node knows about a pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodState {
    /// When the node took the pod: `status.startTime`.
    pub(crate) started_at: Option<Timestamp>,
    /// Its volumes.
    pub(crate) volumes: Step,
    /// How often what they are made from has changed.
    pub(crate) volume_changes: u64,
    /// Its address; present while it is on the network.
    pub(crate) ip: Option<String>,
    /// How joining the network went.
    pub(crate) sandbox: Step,
    /// One for each container, init containers first, in the spec's order.
    pub(crate) containers: Vec<ContainerState>,
    /// Why the pod as a whole is ending or has ended.
    pub(crate) ending: Option<Ending>,
    /// Since when it is ending.
    pub(crate) ending_since: Option<Timestamp>,
    /// The process ends, and nothing of the pod may run longer, whatever its grace.
    pub(crate) end_by: Option<Timestamp>,
    /// Nothing of it runs and nothing of it is held any more.
    pub(crate) torn_down: bool,
    /// Its object has been reported as free to go.
    pub(crate) reported_ended: bool,
    /// It had ended before this process began, all of it: its status is not touched.
    pub(crate) frozen: bool,
    /// When the sizes of its volumes are to be looked at again.
    pub(crate) measure_at: Option<Timestamp>,
}

/// Something to be done once before containers start, and again if it fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Step {
    /// Not tried yet.
    #[default]
    Todo,
    /// Failed; tried again later.
    Failed(Failure),
    /// Done; what it was made from has changed since, and could not be followed yet if it says so.
    Stale(Option<Failure>),
    /// Done.
    Done,
}

/// When to try again, and how often that was said already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) retry_at: Timestamp,
    n_failures: u32,
}

impl Step {
    /// The state after one more failure: tried again after 0.5 s, doubling, at most 2 min 2 s, as kubelet does.
    pub(crate) fn failed(&self, now: Timestamp) -> Self {
        let n_failures = match self {
            Self::Failed(before) | Self::Stale(Some(before)) => before.n_failures + 1,
            Self::Todo | Self::Stale(None) | Self::Done => 1,
        };
        let millis = (500_i64 << (n_failures - 1).min(8)).min(122_000);
        let failure = Failure { retry_at: now + jiff::SignedDuration::from_millis(millis), n_failures };
        match self {
            Self::Todo | Self::Failed(_) => Self::Failed(failure),
            Self::Stale(_) | Self::Done => Self::Stale(Some(failure)),
        }
    }
}

impl PodState {
    /// Notes why the pod ends. The first reason holds; only that its object is gone comes before every other.
    pub(crate) fn end(&mut self, ending: Ending, now: Timestamp) {
        if self.ending.is_none() || ending == Ending::Gone {
            self.ending = Some(ending);
        }
        self.ending_since.get_or_insert(now);
    }

    /// What the volumes are made from has changed.
    pub(crate) fn outdate_volumes(&mut self) {
        self.volume_changes += 1;
        self.volumes = match self.volumes {
            Step::Done | Step::Stale(_) => Step::Stale(None),
            Step::Todo | Step::Failed(_) => Step::Todo,
        };
    }

    /// The volumes are made from what there was after so many changes.
    pub(crate) fn volumes_made(&mut self, changes: u64) {
        self.volumes = if self.volume_changes == changes { Step::Done } else { Step::Stale(None) };
    }
}

/// Why a pod as a whole ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All its containers have run to their end.
    Finished,
    /// It is being deleted.
    Deleted,
    /// Its object is gone already.
    Gone,
    /// It was active longer than it may be.
    DeadlineExceeded,
    /// It took more than it may of something.
    Evicted(String),
    /// Its object says that it has succeeded or failed, and this node had not said so.
    Declared,
    /// The process ends: what has not ended for good runs again after the next start.
    Shutdown,
}

/// What the node knows about one container.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerState {
    /// What it does now.
    pub(crate) run: Run,
    /// How often it was run again.
    pub(crate) restarts: i32,
    /// The end of the run before.
    pub(crate) last: Option<Box<Terminated>>,
    /// The back-off of its restarts.
    pub(crate) backoff: BackOff,
    /// Waits for its back-off to pass, until then.
    pub(crate) backing_off: Option<Timestamp>,
    /// The back-off of its image.
    pub(crate) image_backoff: BackOff,
    /// `sha256:..` of the image it last ran.
    pub(crate) image_id: String,
    /// The course of its probes; none for a container without.
    pub(crate) probes: Option<Box<Probes>>,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    /// Not running: upstream's reason, what there is to say about it, and when to try again if not at once.
    Waiting { reason: &'static str, message: String, retry_at: Option<Timestamp> },
    /// Running.
    Running(Running),
    /// Ended.
    Exited(Terminated),
}

impl Default for Run {
    fn default() -> Self {
        Self::Waiting { reason: "", message: String::new(), retry_at: None }
    }
}

/// A run that lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) id: String,
    /// The image it was started from, as the spec named it.
    pub(crate) image: String,
    pub(crate) since: Timestamp,
    /// Its startup probe, if any, has passed, and its postStart hook.
    pub(crate) started: bool,
    /// Its readiness probe, if any, holds.
    pub(crate) ready: bool,
    /// It was told to end, and is killed at this time.
    pub(crate) kill_at: Option<Timestamp>,
    /// It was killed, and its end is awaited.
    pub(crate) killed: bool,
}

/// The end of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terminated {
    pub(crate) id: String,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    /// The image it ran, as the spec named it.
    pub(crate) image: String,
    /// It was ended because the spec names another image by now, and runs again whatever the restart policy.
    pub(crate) replaced: bool,
}

impl ContainerState {
    pub(crate) fn running(&self) -> Option<&Running> {
        match &self.run {
            Run::Running(running) => Some(running),
            _ => None,
        }
    }

    pub(crate) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.run {
            Run::Running(running) => Some(running),
            _ => None,
        }
    }

    pub(crate) fn exited(&self) -> Option<&Terminated> {
        match &self.run {
            Run::Exited(terminated) => Some(terminated),
            _ => None,
        }
    }

    /// Not running, for this reason, until something changes or `retry_at` comes.
    pub(crate) fn wait(&mut self, reason: &'static str, message: String, retry_at: Option<Timestamp>) {
        self.run = Run::Waiting { reason, message, retry_at };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_to_end_holds_except_that_a_pod_without_an_object_goes_at_once() {
        let at = |secs| Timestamp::from_second(secs).unwrap();
        let mut state = PodState::default();
        state.end(Ending::Deleted, at(1));
        state.end(Ending::Finished, at(2));
        assert_eq!((&state.ending, state.ending_since), (&Some(Ending::Deleted), Some(at(1))));
        state.end(Ending::Gone, at(3));
        // Decided before the object went.
        state.end(Ending::Deleted, at(4));
        assert_eq!((&state.ending, state.ending_since), (&Some(Ending::Gone), Some(at(1))));
    }

    #[test]
    fn a_change_while_volumes_are_made_and_one_that_cannot_be_followed_are_kept() {
        let now = Timestamp::from_second(1000).unwrap();
        let retry = |step: &Step| match step {
            Step::Stale(Some(failure)) => failure.retry_at.duration_since(now).as_millis(),
            other => panic!("{other:?}"),
        };
        let mut state = PodState::default();
        let before = state.volume_changes;
        state.outdate_volumes();
        assert_eq!(state.volumes, Step::Todo);
        state.volumes_made(before);
        assert_eq!(state.volumes, Step::Stale(None));
        state.volumes = state.volumes.failed(now);
        assert_eq!(retry(&state.volumes), 500);
        state.volumes = state.volumes.failed(now);
        assert_eq!(retry(&state.volumes), 1000);
        state.outdate_volumes();
        assert_eq!(state.volumes, Step::Stale(None));
        state.volumes_made(state.volume_changes);
        assert_eq!(state.volumes, Step::Done);
    }
}
