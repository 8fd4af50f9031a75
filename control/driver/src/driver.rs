//! The loop: feed, decide, act.

use crate::config::DriverConfig;
use crate::events::{self, EventRecorder, EventWriter};
use crate::execute::{Executor, Refusal};
use crate::feed::Feed;
use crate::metrics::{DriverMetrics, Shown, add};
use crate::queue::{Backoff, Job, Queue};
use crate::shared_pods::SharedPods;
use control_plan::{CONTROLLERS, Change, Plan};
use control_registry::Registry;
use futures::FutureExt as _;
use prometheus_client::collector::Collector;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Serves every controller.
#[derive(Debug)]
pub struct Driver {
    registry: Registry,
    config: DriverConfig,
    feed: Feed,
    queue: Queue,
    random: fastrand::Rng,
    recorder: EventRecorder,
    event_writer: Option<EventWriter>,
    metrics: Arc<DriverMetrics>,
    at_rest: watch::Sender<Option<Rest>>,
}

/// Nothing is due and nothing is being carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// The revision of the store that was looked at last.
    pub revision: u64,
    /// When something becomes due if nothing changes meanwhile.
    pub until: Option<Instant>,
}

/// How a plan ended.
struct Outcome {
    job: Job,
    look_again: Option<Duration>,
    /// The world set pods aside for it.
    set_aside: bool,
    result: Result<(), Refusal>,
}

impl Driver {
    /// A driver of all controllers over a registry.
    pub fn new(registry: Registry, config: DriverConfig) -> Self {
        let metrics = Arc::new(DriverMetrics::new());
        let (recorder, event_writer) = events::channel(registry.clone(), Arc::clone(&metrics));
        let store = registry.store().clone();
        let feed = Feed::new(store, registry.resources(), config.root_ca.clone(), registry.now());
        let queue = Queue::new(Backoff { first: config.first_retry, last: config.last_retry });
        let random = config.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let at_rest = watch::Sender::new(None);
        Self {
            registry,
            config,
            feed,
            queue,
            random,
            recorder,
            event_writer: Some(event_writer),
            metrics,
            at_rest,
        }
    }

    /// Takes events to write, for parts of the process that see things happen.
    pub fn events(&self) -> EventRecorder {
        self.recorder.clone()
    }

    /// The pods that the controllers hold, for parts of the process that hold them too.
    pub fn pods(&self) -> SharedPods {
        self.feed.pods.clone()
    }

    /// What is counted.
    pub fn metrics(&self) -> Arc<DriverMetrics> {
        Arc::clone(&self.metrics)
    }

    /// The same for a registry of metrics.
    pub fn collector(&self) -> Box<dyn Collector> {
        Box::new(Shown(self.metrics()))
    }

    /// Whether there is nothing left to do but wait for time or changes; none while there is.
    pub fn at_rest(&self) -> watch::Receiver<Option<Rest>> {
        self.at_rest.subscribe()
    }

    /// Until stopped; then plans that are being carried out are carried to their end. Earlier, if events are not written
    /// any more: whoever runs this finds that it ended by itself.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut plans: JoinSet<Outcome> = JoinSet::new();
        let mut writer = JoinSet::new();
        if let Some(event_writer) = self.event_writer.take() {
            writer.spawn(event_writer.run());
        }
        let mut revision = self.registry.store().revision_changed();
        let started = Instant::now();
        let mut outcomes_of_panics = Vec::new();
        loop {
            let seen = *revision.borrow_and_update();
            self.catch_up();
            for job in self.queue.fire(Instant::now()) {
                add(&self.metrics.rows[job.0].adds);
            }
            while plans.len() < self.config.parallel_plans.max(1) {
                let Some(job) = self.queue.start() else { break };
                match self.decide(&job) {
                    Some(plan) if plan.actions.is_empty() => {
                        let look_again = plan.look_again;
                        self.end(Outcome { job, look_again, set_aside: false, result: Ok(()) });
                    }
                    Some(plan) => self.act(&mut plans, job, plan),
                    None => outcomes_of_panics.push(job),
                }
            }
            for job in outcomes_of_panics.drain(..) {
                let result = Err(Refusal::Stale("the controller panicked".to_owned()));
                self.end(Outcome { job, look_again: None, set_aside: false, result });
            }
            self.publish(seen);
            let timer = self.queue.next_timer().unwrap_or(started + Duration::from_secs(u64::from(u32::MAX)));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = writer.join_next() => {
                    tracing::error!(?ended, "the writer of events ended by itself");
                    break;
                }
                Some(outcome) = plans.join_next() => self.joined(outcome),
                Ok(()) = revision.changed() => {}
                () = tokio::time::sleep_until(timer) => {}
            }
        }
        while let Some(outcome) = plans.join_next().await {
            self.joined(outcome);
        }
    }

    /// Takes in what the store has acknowledged, and wakes whom it concerns.
    fn catch_up(&mut self) {
        let changes = self.feed.catch_up(self.registry.now());
        let now = Instant::now();
        for change in &changes {
            self.wake(change, now);
        }
    }

    fn wake(&mut self, change: &Change, now: Instant) {
        for (index, controller) in CONTROLLERS.iter().enumerate() {
            let concerned = controller
                .wakes
                .iter()
                .filter(|wake| wake.resource.as_ref().is_none_or(|id| *id == change.key.resource));
            for key in concerned.flat_map(|wake| (wake.keys)(&self.feed.world, change)) {
                if self.queue.wake((index, key), now) {
                    add(&self.metrics.rows[index].adds);
                }
            }
        }
    }

    /// Asks a controller; none when it panicked.
    fn decide(&mut self, job: &Job) -> Option<Plan> {
        let controller = CONTROLLERS[job.0];
        let (world, now) = (&self.feed.world, self.registry.now());
        let began = Instant::now();
        let decision = catch_unwind(AssertUnwindSafe(|| (controller.reconcile)(world, &job.1, now)));
        self.queue.took(job, began.elapsed(), Instant::now());
        add(&self.metrics.rows[job.0].reconciles);
        match decision {
            Ok(plan) => {
                self.feed.world.remember(&plan);
                Some(plan)
            }
            Err(panic) => {
                let message = panic_text(&*panic);
                tracing::error!(controller = controller.name, key = %job.1, message, "a controller panicked");
                add(&self.metrics.rows[job.0].panics);
                None
            }
        }
    }

    fn act(&self, plans: &mut JoinSet<Outcome>, job: Job, plan: Plan) {
        let controller = CONTROLLERS[job.0];
        tracing::debug!(controller = controller.name, key = %job.1, %plan, "carries out");
        let executor = Executor::new(
            self.registry.clone(),
            self.recorder.clone(),
            self.config.parallel_actions,
            controller.name,
        );
        let metrics = self.metrics();
        plans.spawn(async move {
            let result = survive(executor.carry_out(plan.actions), &job, &metrics).await;
            Outcome { job, look_again: plan.look_again, set_aside: !plan.unplaced.is_empty(), result }
        });
    }

    fn joined(&mut self, outcome: Result<Outcome, tokio::task::JoinError>) {
        self.end(outcome.expect("a plan's panic is caught, and nobody aborts one"));
    }

    fn end(&mut self, outcome: Outcome) {
        let Outcome { job, look_again, set_aside, result } = outcome;
        let controller = CONTROLLERS[job.0];
        let now = Instant::now();
        match result {
            Ok(()) => {
                let refused_before = self.feed.world.refusal(controller.name, &job.1).is_some();
                self.queue.done(&job, look_again, now);
                if refused_before {
                    // What was told about the refusal must be taken back.
                    self.feed.world.set_refusal(controller.name, job.1.clone(), None);
                    self.queue.wake(job, now);
                }
            }
            Err(refusal) => {
                if set_aside {
                    // Perhaps for the room of pods that did not get it.
                    self.feed.world.forget_set_aside();
                }
                add(&self.metrics.rows[job.0].retries);
                let jitter = self.random.f64();
                let delay = self.queue.refused(&job, jitter, now);
                match refusal {
                    Refusal::Stale(reason) => {
                        tracing::debug!(controller = controller.name, key = %job.1, reason, "looks again");
                    }
                    Refusal::Refused(reason) => {
                        tracing::warn!(controller = controller.name, key = %job.1, reason, ?delay, "was refused");
                        self.feed.world.set_refusal(controller.name, job.1, Some(reason));
                    }
                }
            }
        }
    }

    /// Publishes the depth of the queue, and whether there is anything left to do.
    fn publish(&self, seen: u64) {
        for (index, depth) in self.queue.depths() {
            self.metrics.rows[*index].depth.store(*depth, Ordering::Relaxed);
        }
        let rest = Rest { revision: seen, until: self.queue.next_timer() };
        let rest = self.queue.is_idle().then_some(rest);
        self.at_rest.send_if_modified(|before| std::mem::replace(before, rest) != rest);
    }
}

/// What came of carrying out a plan. One that panics is looked at again like one that was decided on an old world: its
/// job backs off, and all others go on.
async fn survive(
    plan: impl Future<Output = Result<(), Refusal>>,
    job: &Job,
    metrics: &DriverMetrics,
) -> Result<(), Refusal> {
    AssertUnwindSafe(plan).catch_unwind().await.unwrap_or_else(|panic| {
        let (controller, message) = (CONTROLLERS[job.0].name, panic_text(&*panic));
        tracing::error!(controller, key = %job.1, message, "carrying out a plan panicked");
        add(&metrics.rows[job.0].panics);
        Err(Refusal::Stale("carrying out the plan panicked".to_owned()))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_api::Resources;
    use control_api::object::{Key, ResourceId};
    use control_registry::Config;
    use control_store::Store;
    use std::sync::atomic::AtomicBool;

    /// How long anything may take before it counts as stuck.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_plan_that_panics_is_counted_and_its_job_backs_off() {
        let metrics = DriverMetrics::new();
        let pods = ResourceId::new("", "pods");
        let job = (1, Key { resource: pods, namespace: None, name: "a".to_owned() });
        let result = survive(async { panic!("on purpose") }, &job, &metrics).await;
        assert!(matches!(result, Err(Refusal::Stale(_))), "{result:?}");
        assert_eq!(metrics.rows[1].panics.load(Ordering::Relaxed), 1);
        assert_eq!(survive(async { Ok(()) }, &job, &metrics).await, Ok(()));
    }

    #[tokio::test]
    async fn the_driver_ends_when_its_writer_of_events_does() {
        let broken = Arc::new(AtomicBool::new(false));
        let clock = {
            let broken = Arc::clone(&broken);
            move || {
                assert!(!broken.load(Ordering::Relaxed), "on purpose");
                jiff::Timestamp::UNIX_EPOCH
            }
        };
        let config = Config { clock: Arc::new(clock), ..Config::default() };
        let registry = Registry::new(Arc::new(Resources::built_in()), Store::in_memory(), config);
        let driver = Driver::new(registry, DriverConfig::default());
        let (events, mut at_rest) = (driver.events(), driver.at_rest());
        let running = JoinSet::from_iter([driver.run(CancellationToken::new())]);
        tokio::time::timeout(PATIENCE, at_rest.wait_for(Option::is_some)).await.unwrap().unwrap();
        // The driver waits now; the writer asks for the time first when it hears of something.
        broken.store(true, Ordering::Relaxed);
        events.record(control_plan::EventRecord {
            regarding: Default::default(),
            type_: "Normal",
            reason: "Test".to_owned(),
            message: String::new(),
            component: "test",
        });
        tokio::time::timeout(PATIENCE, running.join_all()).await.expect("the driver ends");
    }
}
