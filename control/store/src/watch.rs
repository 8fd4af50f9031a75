//! A reader of events: a cursor into a topic of the ring.

use crate::error::Gone;
use crate::key::KeyBytes;
use crate::ring::Event;
use crate::store::Shared;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

/// Events taken from the ring at a time, so that its lock is not taken for each.
const BATCH: usize = 64;

/// All events of a resource (in one namespace, if so asked) after a revision, in order.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    topic: KeyBytes,
    /// Revision of the last event taken from the ring.
    cursor: u64,
    taken: VecDeque<Arc<Event>>,
    tip: watch::Receiver<u64>,
}

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>, topic: KeyBytes, from: u64, tip: watch::Receiver<u64>) -> Self {
        Self { shared, topic, cursor: from, taken: VecDeque::new(), tip }
    }

    /// The next event, waiting for it. May be dropped while waiting: no event is lost.
    pub async fn next(&mut self) -> Result<Arc<Event>, Gone> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            // The sender lives in the ring, which `self.shared` keeps; an error would mean that no event can come.
            if self.tip.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The next event, if there is one already.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, Gone> {
        if self.taken.is_empty() {
            // Marked as seen before the ring is read: what comes between the two wakes us again.
            self.tip.borrow_and_update();
            self.taken.extend(self.shared.state().ring.read(&self.topic, self.cursor, BATCH)?);
            if let Some(last) = self.taken.back() {
                self.cursor = last.revision;
            }
        }
        Ok(self.taken.pop_front())
    }

    /// The revision up to which this watch has delivered all there is; what a bookmark may say now.
    pub fn progress(&self) -> Result<u64, Gone> {
        if let Some(next) = self.taken.front() {
            return Ok(next.revision - 1);
        }
        let state = self.shared.state();
        let pending = state.ring.read(&self.topic, self.cursor, 1)?;
        Ok(if pending.is_empty() { self.cursor.max(state.now.revision()) } else { self.cursor })
    }
}
