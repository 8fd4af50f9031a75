//! When to look at which pod again: one task for all pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Notify;

/// One time for each pod that has one.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    order: BTreeSet<(Timestamp, Arc<str>)>,
    at: BTreeMap<Arc<str>, Timestamp>,
}

impl Timers {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets, moves or (with `None`) clears a pod's time.
    pub(crate) fn set(&self, uid: &Arc<str>, at: Option<Timestamp>) {
        let mut inner = self.lock();
        let first = inner.order.first().map(|(first, _)| *first);
        if let Some(old) = inner.at.remove(uid) {
            inner.order.remove(&(old, Arc::clone(uid)));
        }
        if let Some(at) = at {
            inner.at.insert(Arc::clone(uid), at);
            inner.order.insert((at, Arc::clone(uid)));
            drop(inner);
            if first.is_none_or(|first| at < first) {
                self.changed.notify_one();
            }
        }
    }

    /// Waits until times have come, and takes them out.
    pub(crate) async fn due(&self) -> Vec<Arc<str>> {
        loop {
            let now = Timestamp::now();
            let next = {
                let mut inner = self.lock();
                let mut due = Vec::new();
                while let Some((at, _)) = inner.order.first()
                    && *at <= now
                    && let Some((_, uid)) = inner.order.pop_first()
                {
                    inner.at.remove(&uid);
                    due.push(uid);
                }
                if !due.is_empty() {
                    return due;
                }
                inner.order.first().map(|(at, _)| *at)
            };
            // A little late rather than a little early, and never asleep for so long that a changed clock goes unseen.
            let wait = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
            let wait = wait.map_or(Duration::from_secs(60), |wait| wait + Duration::from_millis(1));
            tokio::select! {
                () = tokio::time::sleep(wait.min(Duration::from_secs(60))) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    #[tokio::test]
    async fn pods_are_due_in_the_order_of_their_times() {
        let timers = Timers::default();
        let (a, b): (Arc<str>, Arc<str>) = (Arc::from("a"), Arc::from("b"));
        let at = |millis| Some(Timestamp::now() + SignedDuration::from_millis(millis));
        timers.set(&a, at(40));
        timers.set(&b, at(10));
        timers.set(&Arc::from("c"), at(5));
        timers.set(&Arc::from("c"), None);
        assert_eq!(timers.due().await, [Arc::clone(&b)]);
        assert_eq!(timers.due().await, [a]);
        assert!(timers.lock().at.is_empty());
    }
}
