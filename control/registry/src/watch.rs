//! Watch: what happens to the objects of a selection, as the API tells it.

use crate::list::{lookup, too_large};
use crate::options::{WatchOptions, parse_revision};
use crate::registry::{Registry, unsaved};
use crate::select::Selection;
use control_api::{ApiError, Resource, object};
use control_store::{Event, EventKind, Gone, Snapshot, Stored, Watch};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A watch that names no time-out lasts between this long and twice as long, so that clients do not all come back at
/// once.
const DEFAULT_SECONDS: u64 = 1800;

/// The longest that a watch lasts, whatever it asks for: the clock reaches so far.
const MAX_SECONDS: u64 = 365 * 24 * 3600;

/// How long before its end a watch gets its last bookmark.
const BEFORE_END: Duration = Duration::from_secs(2);

/// One line of a watch.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// An object is new, or new in the selection.
    Added(Arc<Stored>),
    /// An object of the selection has changed.
    Modified(Arc<Stored>),
    /// An object is gone, or gone from the selection.
    Deleted(Arc<Stored>),
    /// Nothing more happened up to this object's resource version.
    Bookmark(Value),
    /// The watch cannot go on; the last line.
    Error(ApiError),
}

impl Registry {
    /// Watches the objects of a kind, in all namespaces or in one. The stream ends at the time-out.
    pub fn watch(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        options: &WatchOptions,
    ) -> Result<BoxStream<'static, WatchEvent>, ApiError> {
        options.check()?;
        let namespace = namespace.filter(|_| resource.is_namespaced());
        let selection = Selection::parse(resource, &options.label_selector, &options.field_selector)?;
        let asked = parse_revision(&options.resource_version)?;
        let initial = match options.send_initial_events {
            Some(asked) => asked,
            None => asked.is_none(),
        };
        let id = resource.id();
        let namespace = namespace.or(if resource.is_namespaced() { selection.namespace() } else { None });
        let mut first = VecDeque::new();
        let watch = if initial || asked.is_none() {
            let (snapshot, watch) = self.store().snapshot_and_watch(&id, namespace);
            check_reached(asked, snapshot.revision())?;
            if initial {
                first.extend(present(&snapshot, resource, namespace, &selection));
            }
            if initial && options.send_initial_events.is_some() && options.allow_bookmarks {
                first.push_back(bookmark(resource, snapshot.revision(), true));
            }
            watch
        } else {
            check_reached(asked, self.store().snapshot().revision())?;
            match self.store().watch(&id, namespace, asked.unwrap_or_default()) {
                Ok(watch) => watch,
                Err(gone) => return Ok(stream::iter([too_old(gone)]).boxed()),
            }
        };
        let seconds = options.timeout_seconds.filter(|seconds| *seconds > 0);
        let lasts = seconds.map_or_else(
            || Duration::from_secs(self.random(|random| random.u64(DEFAULT_SECONDS..2 * DEFAULT_SECONDS))),
            |seconds| Duration::from_secs(seconds.min(MAX_SECONDS)),
        );
        let begin = Instant::now();
        let every = self.config().bookmark_interval;
        let feed = Feed {
            resource: Arc::new(resource.clone()),
            selection,
            first,
            watch,
            end: begin + lasts,
            bookmarks: options.allow_bookmarks.then(|| Bookmarks {
                every,
                next: begin + every,
                last: lasts.checked_sub(BEFORE_END).filter(|wait| !wait.is_zero()).map(|wait| begin + wait),
            }),
            ended: false,
        };
        Ok(stream::unfold(feed, |mut feed| async move { Some((feed.next().await?, feed)) }).boxed())
    }
}

/// Refuses a watch from a revision that is not reached yet: it would tell nothing of what happens until then.
fn check_reached(asked: Option<u64>, current: u64) -> Result<(), ApiError> {
    match asked.filter(|asked| *asked > current) {
        Some(asked) => Err(too_large(asked, current)),
        None => Ok(()),
    }
}

/// One watch on its way.
struct Feed {
    resource: Arc<Resource>,
    selection: Selection,
    /// What is told before the first event.
    first: VecDeque<WatchEvent>,
    watch: Watch,
    end: Instant,
    bookmarks: Option<Bookmarks>,
    ended: bool,
}

struct Bookmarks {
    every: Duration,
    next: Instant,
    /// When the one before the end is due.
    last: Option<Instant>,
}

enum Turn {
    Event(Result<Arc<Event>, Gone>),
    Bookmark,
    End,
}

impl Feed {
    async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = self.first.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            match self.turn().await {
                Turn::Event(Ok(event)) => {
                    if let Some(event) = translate(&self.selection, &event) {
                        return Some(event);
                    }
                }
                Turn::Event(Err(gone)) => {
                    self.ended = true;
                    return Some(too_old(gone));
                }
                Turn::Bookmark => {
                    // One that has been passed by the ring hears of it at its next turn.
                    if let Ok(revision) = self.watch.progress() {
                        return Some(bookmark(&self.resource, revision, false));
                    }
                }
                Turn::End => self.ended = true,
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        let bookmark_at =
            self.bookmarks.as_ref().map(|marks| marks.last.map_or(marks.next, |last| marks.next.min(last)));
        let turn = tokio::select! {
            biased;
            () = sleep_until(self.end) => Turn::End,
            () = async {
                match bookmark_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            } => Turn::Bookmark,
            event = self.watch.next() => Turn::Event(event),
        };
        if let (Turn::Bookmark, Some(marks)) = (&turn, &mut self.bookmarks) {
            let now = Instant::now();
            marks.next = now + marks.every;
            marks.last = marks.last.filter(|last| *last > now);
        }
        turn
    }
}

/// Everything there is, as if it had just been made.
fn present(
    snapshot: &Snapshot,
    resource: &Resource,
    namespace: Option<&str>,
    selection: &Selection,
) -> Vec<WatchEvent> {
    let added = |stored: &Arc<Stored>| WatchEvent::Added(Arc::clone(stored));
    if let Some(only) = lookup(snapshot, resource, namespace, selection) {
        return only.iter().filter(|stored| selection.matches(stored)).map(added).collect();
    }
    let everything = selection.is_everything();
    let matching =
        snapshot.list(&resource.id(), namespace).filter(|stored| everything || selection.matches(stored));
    matching.map(added).collect()
}

/// An event as it looks through a selection: entering it is being added, leaving it is being deleted.
fn translate(selection: &Selection, event: &Event) -> Option<WatchEvent> {
    let object = Arc::clone(&event.object);
    if selection.is_everything() {
        return Some(match event.kind {
            EventKind::Added => WatchEvent::Added(object),
            EventKind::Modified => WatchEvent::Modified(object),
            EventKind::Deleted => WatchEvent::Deleted(object),
        });
    }
    let previous = event.previous.as_ref().filter(|previous| selection.matches(previous));
    let is_in = event.kind != EventKind::Deleted && selection.matches(&object);
    match (previous, is_in) {
        (None, true) => Some(WatchEvent::Added(object)),
        (Some(_), true) => Some(WatchEvent::Modified(object)),
        (Some(_), false) if event.kind == EventKind::Deleted => Some(WatchEvent::Deleted(object)),
        (Some(previous), false) => {
            // The state in which the selection last saw it, at the revision at which it left.
            let mut value = previous.value();
            object::set_resource_version(&mut value, event.revision);
            Some(WatchEvent::Deleted(unsaved(previous.key.clone(), event.revision, &value)))
        }
        (None, false) => None,
    }
}

fn bookmark(resource: &Resource, revision: u64, ends_initial_events: bool) -> WatchEvent {
    let mut object = json!({
        "kind": resource.kind,
        "apiVersion": resource.api_version(),
        "metadata": { "resourceVersion": revision.to_string(), "creationTimestamp": null },
    });
    if ends_initial_events {
        object["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
    }
    WatchEvent::Bookmark(object)
}

fn too_old(gone: Gone) -> WatchEvent {
    WatchEvent::Error(ApiError::expired(gone.to_string()))
}
