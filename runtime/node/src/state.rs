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
    /// Its address; present while it is on the network.
    pub(crate) ip: Option<String>,
    /// How joining the network went.
    pub(crate) sandbox: Step,
    /// One for each container, init containers first, in the spec's order.
    pub(crate) containers: Vec<ContainerState>,
    /// Why the pod as a whole is ending or has ended.
    pub(crate) ending: Option<Ending>,
    /// Nothing of it runs and nothing of it is held any more.
    pub(crate) torn_down: bool,
    /// Its object has been reported as free to go.
    pub(crate) reported_ended: bool,
    /// It had ended before this process began: its status is not touched.
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
    Failed { retry_at: Timestamp, n_failures: u32 },
    /// Done; what it was made from has changed since.
    Stale,
    /// Done.
    Done,
}

impl Step {
    /// The state after one more failure: tried again after 0.5 s, doubling, at most 2 min 2 s, as kubelet does.
    pub(crate) fn failed(&self, now: Timestamp) -> Self {
        let n_failures = match self {
            Self::Failed { n_failures, .. } => n_failures + 1,
            _ => 1,
        };
        let millis = (500_i64 << (n_failures - 1).min(8)).min(122_000);
        Self::Failed { retry_at: now + jiff::SignedDuration::from_millis(millis), n_failures }
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
    /// The process ends; the pod will run again.
    Shutdown { kill_at: Timestamp },
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
