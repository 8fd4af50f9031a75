//! Writes events: one object for each (what about, why, in which words), counted.
//!
//! The queue is bounded, and events are best effort as upstream's are: when it is full the newest is dropped and counted.
//! Of one source about one object at most 25 are written at once, then one each five minutes, as upstream's recorder has
//! it; so a thousand pods of one replica set do not mean a thousand events about it.

use crate::metrics::{DriverMetrics, add};
use bytes::Bytes;
use control_api::decode::FieldValidation;
use control_api::object::{integer, time};
use control_api::{Reason, Resource};
use control_plan::{EventRecord, names};
use control_registry::{PatchBody, PatchKind, Registry, WriteOptions};
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// Events that may wait to be written.
const QUEUE: usize = 4096;
/// Events that are written at the same time.
const BATCH: usize = 64;
/// Events about one object from one source that are written without a pause.
const BURST: u32 = 25;
/// Seconds after which one more is written.
const REFILL_SECS: i64 = 300;
/// How many sources and objects, and how many events, are remembered; upstream remembers as many.
const REMEMBERED: usize = 4096;

/// Takes events to write. A clone is another handle of the same.
#[derive(Debug, Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Heard>,
    metrics: Arc<DriverMetrics>,
}

/// An event, and the node it came from.
#[derive(Debug)]
struct Heard {
    event: EventRecord,
    host: String,
}

impl EventRecorder {
    /// Takes an event of the control plane. Never waits: a full queue drops it.
    pub fn record(&self, event: EventRecord) {
        self.record_from(event, String::new());
    }

    /// Takes an event of a node.
    pub fn record_from(&self, event: EventRecord, host: String) {
        add(&self.metrics.waiting_events);
        if self.queue.try_send(Heard { event, host }).is_err() {
            add(&self.metrics.dropped_events);
            self.metrics.waiting_events.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Writes what recorders take.
#[derive(Debug)]
pub(crate) struct EventWriter {
    registry: Registry,
    queue: mpsc::Receiver<Heard>,
    metrics: Arc<DriverMetrics>,
    /// (source, object) to how many may be written now, and since when that is counted.
    allowances: BTreeMap<(&'static str, String), (u32, Timestamp)>,
    names: Names,
}

/// The names of the objects that count events.
///
/// As upstream's, a name ends with the time at which its event was first heard: a list, which is ordered by names, tells
/// what happened to an object in its order, though times in events are whole seconds.
#[derive(Debug, Default)]
struct Names {
    /// By a hash of all that makes two events the same.
    known: BTreeMap<String, String>,
    /// Nanoseconds since 1970 in the last name.
    last: i128,
}

impl Names {
    fn of(&mut self, heard: &Heard, now: Timestamp) -> String {
        let event = &heard.event;
        let regarding = &event.regarding;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (uid, field, object) = (text(&regarding.uid), text(&regarding.field_path), text(&regarding.name));
        let parts = [&uid, &field, event.type_, &event.reason, &event.message, event.component, &heard.host];
        let same = names::hex(&parts);
        if let Some(known) = self.known.get(&same) {
            return known.clone();
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.last = now.as_nanosecond().max(self.last + 1);
        let name = names::bounded(&object, &format!("{:x}", self.last));
        self.known.insert(same, name.clone());
        name
    }
}

pub(crate) fn channel(registry: Registry, metrics: Arc<DriverMetrics>) -> (EventRecorder, EventWriter) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let recorder = EventRecorder { queue: sender, metrics: Arc::clone(&metrics) };
    (recorder, EventWriter { registry, queue, metrics, allowances: BTreeMap::new(), names: Names::default() })
}

/// The same thing, heard so many times.
#[derive(Debug)]
struct Counted {
    heard: Heard,
    name: String,
    count: i64,
}

impl EventWriter {
    /// Until the last recorder is gone; dropped to be stopped earlier.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.queue.recv_many(&mut batch, BATCH).await > 0 {
            let now = self.registry.now();
            let taken = u64::try_from(batch.len()).unwrap_or(0);
            let mut counted: BTreeMap<String, Counted> = BTreeMap::new();
            for heard in batch.drain(..) {
                if !self.allow(&heard.event, now) {
                    add(&self.metrics.dropped_events);
                    continue;
                }
                let name = self.names.of(&heard, now);
                let same = counted.entry(name.clone()).or_insert(Counted { heard, name, count: 0 });
                same.count += 1;
            }
            let registry = &self.registry;
            stream::iter(counted.into_values())
                .for_each_concurrent(BATCH, |counted| async move { write(registry, counted, now).await })
                .await;
            self.metrics.waiting_events.fetch_sub(taken, Ordering::Relaxed);
        }
    }

    /// Whether a source may say one more thing about an object now.
    fn allow(&mut self, event: &EventRecord, now: Timestamp) -> bool {
        if self.allowances.len() > REMEMBERED {
            self.allowances.clear();
        }
        let about = event.regarding.uid.clone().or_else(|| event.regarding.name.clone()).unwrap_or_default();
        let (left, since) = self.allowances.entry((event.component, about)).or_insert((BURST, now));
        let refills = u32::try_from(now.duration_since(*since).as_secs() / REFILL_SECS).unwrap_or(0);
        if refills > 0 {
            *left = left.saturating_add(refills).min(BURST);
            *since = now;
        }
        let allowed = *left > 0;
        *left = left.saturating_sub(1);
        allowed
    }
}

async fn write(registry: &Registry, counted: Counted, now: Timestamp) {
    let Some(row) = registry.resources().by_plural("", "v1", "events").cloned() else {
        return;
    };
    let name = counted.name.clone();
    if let Err(error) = write_one(registry, &row, counted, now).await {
        // A namespace on its way out takes no events any more.
        if error.reason != Reason::Forbidden && error.reason != Reason::NotFound {
            tracing::warn!(event = %name, %error, "an event was not written");
        }
    }
}

async fn write_one(
    registry: &Registry,
    row: &Resource,
    counted: Counted,
    now: Timestamp,
) -> Result<(), control_api::ApiError> {
    let EventRecord { regarding, type_, reason, message, component } = &counted.heard.event;
    let namespace = regarding.namespace.clone().filter(|namespace| !namespace.is_empty());
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    let options = WriteOptions { manager: (*component).to_owned(), ..WriteOptions::default() };
    if let Ok(known) = registry.get(row, Some(&namespace), &counted.name) {
        let count = integer(&known.value(), &["count"]).unwrap_or(1) + counted.count;
        let patch = json!({"count": count, "lastTimestamp": time(now)});
        let body = PatchBody { kind: PatchKind::Merge, bytes: Bytes::from(patch.to_string()) };
        let validation = FieldValidation::Ignore;
        registry.patch(row, Some(&namespace), &counted.name, None, body, validation, &options).await?;
        return Ok(());
    }
    let mut source = json!({"component": component});
    if !counted.heard.host.is_empty() {
        source["host"] = json!(counted.heard.host);
    }
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": counted.name, "namespace": namespace},
        "involvedObject": regarding,
        "type": type_,
        "reason": reason,
        "message": message.chars().take(1024).collect::<String>(),
        "source": source,
        "firstTimestamp": time(now),
        "lastTimestamp": time(now),
        "count": counted.count,
        "reportingComponent": component,
        "reportingInstance": counted.heard.host,
    });
    registry.create(row, Some(&namespace), event, &options).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ObjectReference;

    fn heard(reason: &str) -> Heard {
        let regarding = ObjectReference { name: Some("web".to_owned()), ..ObjectReference::default() };
        let event = EventRecord {
            regarding,
            type_: "Normal",
            reason: reason.to_owned(),
            message: String::new(),
            component: "kubelet",
        };
        Heard { event, host: String::new() }
    }

    #[test]
    fn names_tell_in_which_order_events_were_heard() {
        let mut names = Names::default();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let told = ["Scheduled", "Pulled", "Created", "Pulled"].map(|reason| names.of(&heard(reason), now));
        assert_eq!(told[0], "web.18fae27693b40000");
        assert!(told[0] < told[1] && told[1] < told[2], "{told:?}");
        assert_eq!(told[1], told[3], "the same event is counted");
        // A clock that is set back does not give a name twice.
        let back = names.of(&heard("Started"), Timestamp::from_second(1_700_000_000).unwrap());
        assert!(back > told[2], "{back}");
    }
}
