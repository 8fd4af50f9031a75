//! The last events, bounded, and who waits for them.
//!
//! Every event is in one ring, which bounds how many events and bytes are kept. Beside it stand topics: the ring's
//! events of one resource, and of one resource in one namespace where somebody watches that. A watch reads and waits on
//! its topic alone, so it is neither woken by nor searched through what does not concern it.

use crate::error::Gone;
use crate::key::KeyBytes;
use crate::stored::Stored;
use control_api::object::ResourceId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was created.
    Added,
    /// It was replaced.
    Modified,
    /// It was removed.
    Deleted,
}

/// One write, as watchers see it.
#[derive(Debug, Clone)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The object after the write; of a removed one, its last state at the revision of the removal.
    pub object: Arc<Stored>,
    /// The object before the write; none when it was created.
    pub previous: Option<Arc<Stored>>,
    /// The revision of the write.
    pub revision: u64,
}

/// How much of the past is kept for watchers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingSize {
    /// Events, at most.
    pub events: usize,
    /// Bytes of JSON in these events, at most (the last event is kept whatever its size).
    pub bytes: usize,
}

impl Default for RingSize {
    fn default() -> Self {
        Self { events: 10_000, bytes: 32 << 20 }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ring {
    size: RingSize,
    /// Ordered by revision.
    events: VecDeque<Arc<Event>>,
    /// JSON bytes of `events`.
    bytes: usize,
    /// The revision before the first event in `events`: how far back a snapshot can be told.
    oldest: u64,
    /// The revision at which the store was opened; nothing before is known.
    opened_at: u64,
    topics: BTreeMap<KeyBytes, Topic>,
}

/// The ring's events under one prefix of keys.
#[derive(Debug)]
struct Topic {
    events: VecDeque<Arc<Event>>,
    /// The newest revision that was dropped from `events`.
    dropped: u64,
    /// Revision of the last event; tells watches to look.
    tip: watch::Sender<u64>,
}

impl Topic {
    fn new(events: VecDeque<Arc<Event>>, dropped: u64) -> Self {
        Self { events, dropped, tip: watch::Sender::new(0) }
    }

    fn push(&mut self, event: &Arc<Event>) {
        self.events.push_back(Arc::clone(event));
        self.tip.send_replace(event.revision);
    }

    fn drop_until(&mut self, revision: u64) {
        while self.events.front().is_some_and(|event| event.revision <= revision) {
            self.events.pop_front();
            self.dropped = revision;
        }
    }
}

impl Ring {
    /// An empty ring of a store opened at `revision`.
    pub(crate) fn new(size: RingSize, revision: u64) -> Self {
        Self {
            size,
            events: VecDeque::new(),
            bytes: 0,
            oldest: revision,
            opened_at: revision,
            topics: BTreeMap::new(),
        }
    }

    /// Adds an event, wakes who waits for it, and drops what is too much.
    pub(crate) fn push(&mut self, event: Event) {
        let event = Arc::new(event);
        let (by_resource, by_namespace) = topics_of(&event);
        self.topics.entry(by_resource).or_insert_with(|| Topic::new(VecDeque::new(), 0)).push(&event);
        if let Some(topic) = by_namespace.as_ref().and_then(|prefix| self.topics.get_mut(prefix)) {
            topic.push(&event);
        }
        self.bytes += event.object.json.len();
        self.events.push_back(event);
        while self.events.len() > 1 && (self.events.len() > self.size.events || self.bytes > self.size.bytes)
        {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some(event) = self.events.pop_front() else { return };
        self.bytes -= event.object.json.len();
        self.oldest = event.revision;
        let (by_resource, by_namespace) = topics_of(&event);
        if let Some(topic) = self.topics.get_mut(&by_resource) {
            topic.drop_until(event.revision);
        }
        if let Some(prefix) = by_namespace
            && let Some(topic) = self.topics.get_mut(&prefix)
        {
            topic.drop_until(event.revision);
        }
    }

    /// Begins a watch of all events after `from`: the topic's name, and what tells of new events.
    pub(crate) fn subscribe(
        &mut self,
        resource: &ResourceId,
        namespace: Option<&str>,
        from: u64,
    ) -> Result<(KeyBytes, watch::Receiver<u64>), Gone> {
        self.forget_unwatched();
        let whole = KeyBytes::prefix(resource, None);
        let prefix = KeyBytes::prefix(resource, namespace);
        let topic = self.topics.entry(whole).or_insert_with(|| Topic::new(VecDeque::new(), 0));
        let oldest = topic.dropped.max(self.opened_at);
        if from < oldest {
            return Err(Gone { requested: from, oldest });
        }
        if namespace.is_some() && !self.topics.contains_key(&prefix) {
            let whole = &self.topics[&KeyBytes::prefix(resource, None)];
            let own = |event: &&Arc<Event>| event.object.key.namespace.as_deref() == namespace;
            let topic = Topic::new(whole.events.iter().filter(own).cloned().collect(), whole.dropped);
            self.topics.insert(prefix.clone(), topic);
        }
        let tip = self.topics[&prefix].tip.subscribe();
        Ok((prefix, tip))
    }

    /// At most `limit` events of a topic after the revision `after`.
    pub(crate) fn read(&self, topic: &KeyBytes, after: u64, limit: usize) -> Result<Vec<Arc<Event>>, Gone> {
        let Some(topic) = self.topics.get(topic) else { return Ok(Vec::new()) };
        if after < topic.dropped {
            return Err(Gone { requested: after, oldest: topic.dropped });
        }
        let first = topic.events.partition_point(|event| event.revision <= after);
        Ok(topic.events.range(first..).take(limit).cloned().collect())
    }

    /// At most `limit` events of all resources after the revision `after`.
    pub(crate) fn read_all(&self, after: u64, limit: usize) -> Result<Vec<Arc<Event>>, Gone> {
        if after < self.oldest {
            return Err(Gone { requested: after, oldest: self.oldest });
        }
        let first = self.events.partition_point(|event| event.revision <= after);
        Ok(self.events.range(first..).take(limit).cloned().collect())
    }

    /// Topics of a namespace cost memory and a copy per event: they end with their last watch.
    fn forget_unwatched(&mut self) {
        self.topics.retain(|prefix, topic| !prefix.names_namespace() || topic.tip.receiver_count() > 0);
    }
}

/// The topics an event belongs to: its resource's, and its namespace's if it has one.
fn topics_of(event: &Event) -> (KeyBytes, Option<KeyBytes>) {
    let key = &event.object.key;
    let by_namespace = key.namespace.as_deref().map(|name| KeyBytes::prefix(&key.resource, Some(name)));
    (KeyBytes::prefix(&key.resource, None), by_namespace)
}
