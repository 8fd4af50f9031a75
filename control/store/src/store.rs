//! The store's front: what others call.

use crate::disk::Disk;
use crate::error::{CommitError, Gone, StoreError};
use crate::ring::{Event, Ring, RingSize};
use crate::snapshot::Snapshot;
use crate::stored::{Stored, Write};
use crate::watch::Watch;
use crate::writer::{self, Request};
use control_api::object::ResourceId;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};

/// How a store behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreOptions {
    /// How much of the past is kept for watchers.
    pub ring: RingSize,
}

/// All objects, durable. A clone is another handle of the same store; the file is closed with the last handle, or by
/// [`Store::close`].
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

/// What readers and the writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// The revision of `state`, for those who wait for it.
    revision: watch::Sender<u64>,
    /// The writer takes no more writes: the store was closed, or the disk has failed.
    ended: AtomicBool,
}

/// What is visible now. Locked for a few lines at a time, never across an await.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) now: Snapshot,
    pub(crate) ring: Ring,
}

impl Shared {
    /// The state, locked. It is changed only by [`Shared::publish`], whose steps cannot leave it half done in a way that
    /// matters more than the panic itself, so a poisoned lock is used as it is.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows readers a new state, and watchers what led to it.
    pub(crate) fn publish(&self, now: Snapshot, events: Vec<Event>) {
        let revision = now.revision;
        let mut state = self.state();
        state.now = now;
        for event in events {
            state.ring.push(event);
        }
        drop(state);
        self.revision.send_replace(revision);
    }

    /// The writer takes no more writes from now on.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl Store {
    /// Opens the store in the file at `path`, made if need be, with default options. Blocks while it reads the file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, StoreOptions::default())
    }

    /// As [`Store::open`], with options.
    pub fn open_with(path: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let (disk, now) = Disk::open(path)?;
        Ok(Self::start(Some(disk), now, options))
    }

    /// An empty store that forgets everything when it is closed.
    pub fn in_memory() -> Self {
        Self::in_memory_with(StoreOptions::default())
    }

    /// As [`Store::in_memory`], with options.
    pub fn in_memory_with(options: StoreOptions) -> Self {
        Self::start(None, Snapshot::empty(), options)
    }

    #[cfg(test)]
    pub(crate) fn with_backend(backend: impl redb::StorageBackend) -> Result<Self, StoreError> {
        let (disk, now) = Disk::with_backend(backend)?;
        Ok(Self::start(Some(disk), now, StoreOptions::default()))
    }

    fn start(disk: Option<Disk>, now: Snapshot, options: StoreOptions) -> Self {
        let revision = now.revision;
        let shared = Arc::new(Shared {
            state: Mutex::new(State { now, ring: Ring::new(options.ring, revision) }),
            revision: watch::Sender::new(revision),
            ended: AtomicBool::new(false),
        });
        let (requests, queue) = mpsc::channel(writer::BATCH);
        let for_writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(disk, &for_writer, queue))
            .expect("a process that cannot start one thread cannot start at all");
        Self { shared, requests }
    }

    /// Everything as it is now: all that was acknowledged, and nothing else. Costs the same however much there is.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.state().now.clone()
    }

    /// Everything as it was at `revision`, or as it is now if `revision` is not reached yet.
    pub fn snapshot_at(&self, revision: u64) -> Result<Snapshot, Gone> {
        let (now, events) = {
            let state = self.shared.state();
            // Undoing them takes far longer than listing them: others must not wait for it.
            (state.now.clone(), state.ring.read_all(revision, usize::MAX)?)
        };
        Ok(now.rewound(revision, &events))
    }

    /// Carries out a write, and returns the object as stored (of a delete: its last state) once it is on the disk.
    ///
    /// A caller that stops waiting does not stop the write.
    pub async fn commit(&self, write: Write) -> Result<Arc<Stored>, CommitError> {
        let (answer, outcome) = oneshot::channel();
        self.requests.send(Request::Write(Box::new(write), answer)).await.or(Err(CommitError::Closed))?;
        outcome.await.unwrap_or(Err(CommitError::Closed))
    }

    /// All events of a resource, in all namespaces or in one, after the revision `from`.
    pub fn watch(&self, resource: &ResourceId, namespace: Option<&str>, from: u64) -> Result<Watch, Gone> {
        let (topic, tip) = self.shared.state().ring.subscribe(resource, namespace, from)?;
        Ok(Watch::new(Arc::clone(&self.shared), topic, from, tip))
    }

    /// At most `limit` events of all resources after the revision `after`, in order, as far as there are any. Whoever
    /// has taken them in has seen one state of everything, however many resources it looks at.
    pub fn events_after(&self, after: u64, limit: usize) -> Result<Vec<Arc<Event>>, Gone> {
        self.shared.state().ring.read_all(after, limit)
    }

    /// The current state and a watch of all that comes after it, with nothing between the two.
    pub fn snapshot_and_watch(&self, resource: &ResourceId, namespace: Option<&str>) -> (Snapshot, Watch) {
        let mut state = self.shared.state();
        let now = state.now.clone();
        let (topic, tip) = state
            .ring
            .subscribe(resource, namespace, now.revision)
            .expect("the ring drops nothing after the present");
        let watch = Watch::new(Arc::clone(&self.shared), topic, now.revision, tip);
        (now, watch)
    }

    /// The revision of the last write, and a way to wait for the next one.
    pub fn revision_changed(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    /// Whether writes are still taken: the store is not closed, and its disk has not failed. Reads go on either way.
    pub fn is_writable(&self) -> bool {
        !self.shared.ended.load(Ordering::Relaxed)
    }

    /// Ends the store: writes that wait are carried out, later ones refused; returns when the file is closed.
    pub async fn close(&self) {
        let (answer, closed) = oneshot::channel();
        if self.requests.send(Request::Close(answer)).await.is_ok() {
            // An error: the writer has ended already.
            let _ = closed.await;
        }
    }
}
