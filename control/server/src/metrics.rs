//! `/metrics`: how many requests, how long, how many at once, and what the store holds.
//!
//! Label values come from our own tables (verbs, served resources), never from a path, so that nobody can make the
//! server remember an endless number of series.

use crate::request_info::RequestInfo;
use control_registry::Registry as ObjectRegistry;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the request duration buckets, in seconds.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// The metrics of this process. Cheap to clone; parts of the process register theirs.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<RequestLabels, Counter>,
    durations: Family<ActionLabels, Histogram, fn() -> Histogram>,
    inflight: Family<KindLabels, Gauge>,
    long_running: Family<ActionLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ActionLabels {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    request_kind: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics with those of the API's requests within.
    pub fn new() -> Self {
        let metrics = Self {
            registry: Arc::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            inflight: Family::default(),
            long_running: Family::default(),
        };
        metrics.register(|registry| {
            // The text format adds `_total` to counters.
            registry.register(
                "apiserver_request",
                "Requests answered, by verb and code",
                metrics.requests.clone(),
            );
            registry.register(
                "apiserver_request_duration_seconds",
                "Time to answer, without requests that run as long as their client likes",
                metrics.durations.clone(),
            );
            registry.register(
                "apiserver_current_inflight_requests",
                "Requests being answered now",
                metrics.inflight.clone(),
            );
            registry.register(
                "apiserver_longrunning_requests",
                "Watches, followed logs and their like that are open now",
                metrics.long_running.clone(),
            );
        });
        metrics
    }

    /// Lets a part of the process register its metrics.
    pub fn register(&self, with: impl FnOnce(&mut Registry)) {
        with(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts what the store holds, at each reading.
    pub(crate) fn register_objects(&self, objects: ObjectRegistry) {
        self.register(|registry| registry.register_collector(Box::new(Objects(objects))));
    }

    /// All metrics as OpenMetrics text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => text,
            Err(std::fmt::Error) => unreachable!("a String takes all"),
        }
    }

    /// Counts one answered request; long-running ones have no duration worth telling.
    pub(crate) fn answered(&self, action: &ActionLabels, code: u16, took: Option<Duration>) {
        let ActionLabels { verb, group, version, resource, subresource, scope } = action.clone();
        let labels = RequestLabels { verb, group, version, resource, subresource, scope, code };
        self.requests.get_or_create(&labels).inc();
        if let Some(took) = took {
            self.durations.get_or_create(action).observe(took.as_secs_f64());
        }
    }

    /// Counts a request as being answered while the result lives.
    pub(crate) fn in_flight(&self, mutating: bool) -> Counted {
        let request_kind = if mutating { "mutating" } else { "readOnly" };
        Counted::new(self.inflight.get_or_create_owned(&KindLabels { request_kind }))
    }

    /// Counts a long-running request while the result lives.
    pub(crate) fn long_running(&self, action: &ActionLabels) -> Counted {
        Counted::new(self.long_running.get_or_create_owned(action))
    }
}

impl ActionLabels {
    /// The labels of a request; a resource that is not served has none.
    pub(crate) fn of(info: &RequestInfo, served: bool) -> Self {
        let resource = info.resource.as_ref().filter(|_| served);
        let text = |of: fn(&crate::request_info::ResourceInfo) -> &str| {
            resource.map(of).unwrap_or_default().to_owned()
        };
        Self {
            verb: info.verb,
            group: text(|r| &r.group),
            version: text(|r| &r.version),
            resource: text(|r| &r.resource),
            subresource: text(|r| {
                let known = ["status", "scale", "log", "binding", "finalize"];
                r.subresource.as_deref().filter(|part| known.contains(part)).unwrap_or_default()
            }),
            scope: match resource {
                None => "",
                Some(r) if r.name.is_some() => "resource",
                Some(r) if r.namespace.is_some() => "namespace",
                Some(_) => "cluster",
            },
        }
    }
}

/// One more in a gauge, as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

struct Objects(ObjectRegistry);

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Objects")
    }
}

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let snapshot = self.0.store().snapshot();
        let mut family = encoder.encode_descriptor(
            "apiserver_resource_objects",
            "Stored objects",
            None,
            prometheus_client::metrics::MetricType::Gauge,
        )?;
        for resource in self.0.resources().iter() {
            let count = i64::try_from(snapshot.list(&resource.id(), None).count()).unwrap_or(i64::MAX);
            let labels = [("group", resource.group.as_ref()), ("resource", resource.plural.as_ref())];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
