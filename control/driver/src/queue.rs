//! Which keys are due: a set in the order they became so, timers, and back-off.
//!
//! A job is due once however often it was woken; one that is running when it is woken becomes due again when it ends.

use control_api::object::Key;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// A controller (its place in the list) and a key.
pub(crate) type Job = (usize, Key);

/// How retries are spaced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) last: Duration,
}

#[derive(Debug)]
pub(crate) struct Queue {
    backoff: Backoff,
    /// Due, in order.
    due: VecDeque<Job>,
    is_due: BTreeSet<Job>,
    running: BTreeSet<Job>,
    /// Woken while they were running.
    again: BTreeSet<Job>,
    timers: BTreeSet<(Instant, Job)>,
    timer_of: BTreeMap<Job, Instant>,
    /// How often a job was refused in a row.
    failures: BTreeMap<Job, u32>,
    /// Jobs whose decisions take long are not made again before this.
    resting: BTreeMap<Job, Instant>,
    /// How many of `due` each controller has.
    depths: BTreeMap<usize, u64>,
}

impl Queue {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            due: VecDeque::new(),
            is_due: BTreeSet::new(),
            running: BTreeSet::new(),
            again: BTreeSet::new(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            failures: BTreeMap::new(),
            resting: BTreeMap::new(),
            depths: BTreeMap::new(),
        }
    }

    /// Makes a job due. False if it was already.
    pub(crate) fn wake(&mut self, job: Job, now: Instant) -> bool {
        if self.running.contains(&job) {
            return self.again.insert(job);
        }
        match self.resting.get(&job).copied() {
            Some(until) if until > now => {
                if self.timer_of.get(&job).is_none_or(|at| *at > until) {
                    self.set_timer(job, until);
                }
                return false;
            }
            Some(_) => {
                self.resting.remove(&job);
            }
            None => {}
        }
        if !self.is_due.insert(job.clone()) {
            return false;
        }
        *self.depths.entry(job.0).or_default() += 1;
        self.due.push_back(job);
        true
    }

    /// The next job that is due; it counts as running until [`Queue::done`] or [`Queue::refused`].
    pub(crate) fn start(&mut self) -> Option<Job> {
        let job = self.due.pop_front()?;
        self.depths.entry(job.0).and_modify(|depth| *depth = depth.saturating_sub(1));
        self.is_due.remove(&job);
        self.clear_timer(&job);
        self.running.insert(job.clone());
        Some(job)
    }

    /// A plan was carried out; its job is due again after `look_again`.
    pub(crate) fn done(&mut self, job: &Job, look_again: Option<Duration>, now: Instant) {
        self.failures.remove(job);
        self.end(job, look_again, now);
    }

    /// A plan was refused; its job is due again after a back-off. `jitter` is from 0 to 1.
    pub(crate) fn refused(&mut self, job: &Job, jitter: f64, now: Instant) -> Duration {
        let failures = self.failures.entry(job.clone()).or_default();
        let delay = delay(self.backoff, *failures, jitter);
        *failures = failures.saturating_add(1);
        self.end(job, Some(delay), now);
        delay
    }

    /// A decision took this long: the job rests eight times as long, so that it cannot take the whole thread.
    pub(crate) fn took(&mut self, job: &Job, time: Duration, now: Instant) {
        if time > Duration::from_millis(1) {
            // Few are left: what rests eight times as long as it worked leaves little time to the others.
            self.resting.retain(|_, until| *until > now);
            self.resting.insert(job.clone(), now + time * 8);
        } else {
            self.resting.remove(job);
        }
    }

    /// Makes due what timers say.
    pub(crate) fn fire(&mut self, now: Instant) -> Vec<Job> {
        let mut fired = Vec::new();
        while let Some((_, job)) = self.timers.first().filter(|(at, _)| *at <= now).cloned() {
            self.clear_timer(&job);
            if self.wake(job.clone(), now) {
                fired.push(job);
            }
        }
        fired
    }

    /// When the next timer fires.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether nothing is due and nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.due.is_empty() && self.running.is_empty()
    }

    /// How many jobs of each controller are due.
    pub(crate) fn depths(&self) -> &BTreeMap<usize, u64> {
        &self.depths
    }

    fn end(&mut self, job: &Job, delay: Option<Duration>, now: Instant) {
        self.running.remove(job);
        if let Some(delay) = delay {
            self.set_timer(job.clone(), now + delay);
        }
        if self.again.remove(job) {
            self.wake(job.clone(), now);
        }
    }

    fn set_timer(&mut self, job: Job, at: Instant) {
        self.clear_timer(&job);
        self.timers.insert((at, job.clone()));
        self.timer_of.insert(job, at);
    }

    fn clear_timer(&mut self, job: &Job) {
        if let Some(at) = self.timer_of.remove(job) {
            self.timers.remove(&(at, job.clone()));
        }
    }
}

/// The delay after so many failures before this one: doubled each time, a tenth more or less by chance.
fn delay(backoff: Backoff, failures: u32, jitter: f64) -> Duration {
    let exact = backoff.first.saturating_mul(2_u32.saturating_pow(failures.min(30)));
    exact.min(backoff.last).mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use control_api::object::ResourceId;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(5), last: Duration::from_secs(1000) };

    fn job(name: &str) -> Job {
        (0, Key { resource: ResourceId::new("", "pods"), namespace: None, name: name.to_owned() })
    }

    #[test]
    fn a_job_is_due_once_and_again_if_woken_while_it_runs() {
        let now = Instant::now();
        let mut queue = Queue::new(BACKOFF);
        assert!(queue.wake(job("a"), now));
        assert!(!queue.wake(job("a"), now));
        assert_eq!(queue.start(), Some(job("a")));
        assert_eq!(queue.start(), None);
        queue.wake(job("a"), now);
        assert_eq!(queue.start(), None);
        queue.done(&job("a"), None, now);
        assert_eq!(queue.start(), Some(job("a")));
        queue.done(&job("a"), None, now);
        assert!(queue.is_idle());
    }

    #[test]
    fn refusals_back_off_and_success_forgets_them() {
        let now = Instant::now();
        let mut queue = Queue::new(BACKOFF);
        let mut delays = Vec::new();
        for _ in 0..3 {
            queue.wake(job("a"), now);
            queue.start();
            delays.push(queue.refused(&job("a"), 0.5, now).as_millis());
        }
        assert_eq!(delays, [5, 10, 20]);
        assert_eq!(delay(BACKOFF, 99, 0.5), Duration::from_secs(1000));
        queue.wake(job("a"), now);
        queue.start();
        queue.done(&job("a"), Some(Duration::from_secs(9)), now);
        assert_eq!(queue.next_timer(), Some(now + Duration::from_secs(9)));
        assert!(queue.fire(now + Duration::from_secs(8)).is_empty());
        assert_eq!(queue.fire(now + Duration::from_secs(9)), [job("a")]);
        assert_eq!(queue.next_timer(), None);
    }

    #[test]
    fn a_job_that_takes_long_rests_before_it_is_made_again() {
        let now = Instant::now();
        let mut queue = Queue::new(BACKOFF);
        queue.wake(job("a"), now);
        queue.start();
        queue.took(&job("a"), Duration::from_millis(10), now);
        queue.done(&job("a"), None, now);
        assert!(!queue.wake(job("a"), now));
        assert_eq!(queue.fire(now + Duration::from_millis(80)), [job("a")]);
    }
    #[test]
    fn a_job_that_nobody_wakes_again_is_forgotten() {
        let (now, long) = (Instant::now(), Duration::from_millis(10));
        let mut queue = Queue::new(BACKOFF);
        queue.took(&job("gone"), long, now);
        queue.took(&job("next"), long, now + long * 8);
        assert_eq!(queue.resting.keys().collect::<Vec<_>>(), [&job("next")]);
    }
}
