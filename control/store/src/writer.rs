//! The one thread that writes.
//!
//! A turn: take all writers that wait; try each against the state its predecessors leave; make the accepted ones
//! durable in one transaction; show the new state; answer. Refusals are answered after the commit too, since they may
//! rest on a write of the same batch.

use crate::disk::{Disk, Row};
use crate::error::CommitError;
use crate::key::KeyBytes;
use crate::ring::{Event, EventKind};
use crate::snapshot::Snapshot;
use crate::store::Shared;
use crate::stored::{Stored, Write};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Writers served by one transaction, at most; so many more may wait before the next ones are held back.
pub(crate) const BATCH: usize = 512;

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Request {
    /// Carry out a write.
    Write(Box<Write>, oneshot::Sender<Outcome>),
    /// Close the file and end; what came before is written first.
    Close(oneshot::Sender<()>),
}

/// A write's answer.
pub(crate) type Outcome = Result<Arc<Stored>, CommitError>;

/// Serves requests until told to close, or until nobody can send one any more. Without a disk, what is shown is all
/// there is.
pub(crate) fn run(disk: Option<Disk>, shared: &Shared, mut requests: mpsc::Receiver<Request>) {
    let mut failed = false;
    while let Some(first) = requests.blocking_recv() {
        let mut batch = Vec::new();
        let mut close = None;
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Write(write, answer) => batch.push((write, answer)),
                Request::Close(answer) => {
                    close = Some(answer);
                    break;
                }
            }
            next = if batch.len() < BATCH { requests.try_recv().ok() } else { None };
        }
        if failed {
            answer(batch.into_iter().map(|(_, answer)| (answer, Err(CommitError::Closed))));
        } else if !batch.is_empty() {
            failed = turn(disk.as_ref(), shared, batch);
        }
        if failed || close.is_some() {
            shared.end();
        }
        if let Some(closed) = close {
            requests.close();
            drop(disk);
            // Whoever asked may have stopped waiting.
            let _ = closed.send(());
            return;
        }
    }
}

/// One batch; returns whether the disk failed.
fn turn(disk: Option<&Disk>, shared: &Shared, batch: Vec<(Box<Write>, oneshot::Sender<Outcome>)>) -> bool {
    let mut staged = Staged::new(shared.state().now.clone());
    let outcomes: Vec<_> = batch.into_iter().map(|(write, answer)| (answer, staged.apply(*write))).collect();
    if staged.rows.is_empty() {
        answer(outcomes);
        return false;
    }
    let written = disk.map_or(Ok(()), |disk| disk.write(&staged.rows, staged.now.revision));
    if let Err(error) = written {
        tracing::error!(error = %error, "the store's disk failed; no more writes are taken until a restart");
        let error: Arc<dyn std::error::Error + Send + Sync> = Arc::new(error);
        answer(outcomes.into_iter().map(|(answer, _)| (answer, Err(CommitError::Io(Arc::clone(&error))))));
        return true;
    }
    shared.publish(staged.now, staged.events);
    answer(outcomes);
    false
}

fn answer(outcomes: impl IntoIterator<Item = (oneshot::Sender<Outcome>, Outcome)>) {
    for (answer, outcome) in outcomes {
        // Whoever asked may have stopped waiting.
        let _ = answer.send(outcome);
    }
}

/// A batch on its way to the disk.
struct Staged {
    now: Snapshot,
    rows: Vec<Row>,
    events: Vec<Event>,
}

impl Staged {
    fn new(now: Snapshot) -> Self {
        Self { now, rows: Vec::new(), events: Vec::new() }
    }

    fn apply(&mut self, write: Write) -> Outcome {
        let key = KeyBytes::of(write.key());
        let previous = self.now.objects.get(&key).cloned();
        let (kind, name, object) = match (write, &previous) {
            (Write::Create { .. }, Some(current)) => {
                return Err(CommitError::Exists { current: Arc::clone(current) });
            }
            (Write::Create { given: Some((other, revision)), .. }, None)
                if self.now.get(&other).is_none_or(|other| other.revision != revision) =>
            {
                return Err(CommitError::Outdated);
            }
            (Write::Create { key, object, .. }, None) => (EventKind::Added, key, object),
            (Write::Update { .. } | Write::Delete { .. }, None) => return Err(CommitError::NotFound),
            (Write::Update { expect, .. } | Write::Delete { expect, .. }, Some(current))
                if expect != current.revision =>
            {
                return Err(CommitError::Stale { current: Arc::clone(current) });
            }
            (Write::Update { key, object, .. }, Some(_)) => (EventKind::Modified, key, object),
            (Write::Delete { key, last, .. }, Some(_)) => (EventKind::Deleted, key, last),
        };
        let revision = self.now.revision + 1;
        let object = Arc::new(match kind {
            EventKind::Deleted => Stored::encode_last(name, revision, object)?,
            EventKind::Added | EventKind::Modified => Stored::encode(name, revision, object)?,
        });
        self.now.revision = revision;
        if kind == EventKind::Deleted {
            self.now.objects.remove(&key);
            self.rows.push((key, None));
        } else {
            self.now.objects.insert(key.clone(), Arc::clone(&object));
            self.rows.push((key, Some(Arc::clone(&object))));
        }
        self.events.push(Event { kind, object: Arc::clone(&object), previous, revision });
        Ok(object)
    }
}
