//! What containers use, and what HTTP handlers have served: counted by others, read and shown here.
//!
//! The names are those of upstream's kubelet where it has them. Series live as long as their container runs, and are
//! made when they are asked for: a pod costs nothing in between.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use runtime_engine::Usage;
use runtime_host_http::Served;

use crate::{handle::NodeHandle, spec, worker::Inner};

/// A pod that runs.
#[derive(Clone, Debug)]
pub(crate) struct PodUsage {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Of all its containers' runs, those that have ended too.
    pub(crate) cpu: Duration,
    /// Those that run now.
    pub(crate) containers: Vec<ContainerUsage>,
}

/// A container that runs, since it was last started.
#[derive(Clone, Debug)]
pub(crate) struct ContainerUsage {
    pub(crate) name: String,
    pub(crate) started_at: Timestamp,
    pub(crate) usage: Usage,
    /// Of one that handles HTTP requests.
    pub(crate) served: Option<Served>,
}

impl PodUsage {
    fn memory_bytes(&self) -> u64 {
        self.containers.iter().map(|container| container.usage.memory_bytes).sum()
    }
}

impl Inner {
    /// The pods of which something runs now.
    pub(crate) fn usage(&self) -> Vec<PodUsage> {
        let pods = self.entries().into_iter().map(|entry| {
            let data = entry.lock();
            let containers: Vec<ContainerUsage> = spec::containers(&data.pod)
                .zip(&data.state.containers)
                .zip(&data.handles)
                .filter_map(|((container, state), handle)| {
                    let (run, handle) = (state.running()?, handle.as_ref()?);
                    Some(ContainerUsage {
                        name: container.name.clone(),
                        started_at: run.since,
                        usage: handle.runs.usage(),
                        served: handle.runs.served(),
                    })
                })
                .collect();
            PodUsage {
                namespace: spec::namespace(&data.pod).to_owned(),
                name: spec::name(&data.pod).to_owned(),
                cpu: data.cpu_of_ended
                    + containers.iter().map(|container| container.usage.cpu).sum::<Duration>(),
                containers,
            }
        });
        pods.filter(|pod| !pod.containers.is_empty()).collect()
    }
}

impl NodeHandle {
    /// What the containers use and have served, as a registry of metrics reads it.
    pub fn collector(&self) -> Box<dyn Collector> {
        Box::new(Shown(self.clone()))
    }
}

#[derive(Debug)]
struct Shown(NodeHandle);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encode(&self.0.inner.usage(), &mut encoder)
    }
}

/// A number: the metric's name, what it says, whether it only grows, and where it is, if it is there.
type Row<T> = (&'static str, &'static str, MetricType, fn(&T) -> Option<f64>);

/// The text format adds `_total` to counters.
const OF_CONTAINERS: &[Row<ContainerUsage>] = &[
    (
        "container_cpu_usage_seconds",
        "CPU time that the container has used since its start, in core-seconds",
        MetricType::Counter,
        |container| Some(container.usage.cpu.as_secs_f64()),
    ),
    (
        "container_memory_working_set_bytes",
        "Memory of the container now, in bytes",
        MetricType::Gauge,
        |container| Some(float(container.usage.memory_bytes)),
    ),
    (
        "container_start_time_seconds",
        "When the container was started, in seconds since the Unix epoch",
        MetricType::Gauge,
        |container| Some(container.started_at.as_duration().as_secs_f64()),
    ),
    ("wharf_http_requests", "Requests that came to the HTTP handler", MetricType::Counter, |container| {
        container.served.map(|served| float(served.requests))
    }),
    ("wharf_http_instances", "Instances of the HTTP handler now", MetricType::Gauge, |container| {
        container.served.map(|served| float(served.active))
    }),
    ("wharf_http_traps", "Instances of the HTTP handler that trapped", MetricType::Counter, |container| {
        container.served.map(|served| float(served.traps))
    }),
    (
        "wharf_http_timeouts",
        "Instances of the HTTP handler that were ended at their deadline",
        MetricType::Counter,
        |container| container.served.map(|served| float(served.timeouts)),
    ),
    (
        "wharf_http_rejected",
        "Requests turned away because too many waited, or too long",
        MetricType::Counter,
        |container| container.served.map(|served| float(served.rejected)),
    ),
];

const OF_PODS: &[Row<PodUsage>] = &[
    (
        "pod_cpu_usage_seconds",
        "CPU time that the pod's containers have used, in core-seconds",
        MetricType::Counter,
        |pod| Some(pod.cpu.as_secs_f64()),
    ),
    (
        "pod_memory_working_set_bytes",
        "Memory of the pod's containers now, in bytes",
        MetricType::Gauge,
        |pod| Some(float(pod.memory_bytes())),
    ),
];

fn encode(pods: &[PodUsage], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let containers: Vec<_> = pods
        .iter()
        .flat_map(|pod| {
            pod.containers.iter().map(move |container| {
                let labels = [
                    ("container", container.name.as_str()),
                    ("namespace", pod.namespace.as_str()),
                    ("pod", pod.name.as_str()),
                ];
                (labels, container)
            })
        })
        .collect();
    let pods: Vec<_> = pods
        .iter()
        .map(|pod| ([("namespace", pod.namespace.as_str()), ("pod", pod.name.as_str())], pod))
        .collect();
    OF_CONTAINERS.iter().try_for_each(|row| encode_row(row, &containers, encoder))?;
    OF_PODS.iter().try_for_each(|row| encode_row(row, &pods, encoder))
}

fn encode_row<T>(
    (name, help, kind, number): &Row<T>,
    each: &[(impl EncodeLabelSet, &T)],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, *kind)?;
    for (labels, one) in each {
        let Some(value) = number(one) else { continue };
        let encoder = family.encode_family(labels)?;
        match kind {
            MetricType::Counter => ConstCounter::new(value).encode(encoder)?,
            _ => ConstGauge::new(value).encode(encoder)?,
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 the last bytes or requests tell nothing")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use prometheus_client::registry::Registry;

    #[derive(Debug)]
    struct Fixed(Vec<PodUsage>);

    impl Collector for Fixed {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            encode(&self.0, &mut encoder)
        }
    }

    #[test]
    fn usage_is_shown_under_upstreams_names() {
        let container = |name: &str, millis: u64, memory_bytes: u64, served: Option<Served>| ContainerUsage {
            name: name.to_owned(),
            started_at: Timestamp::from_millisecond(1_500).unwrap(),
            usage: Usage { cpu: Duration::from_millis(millis), memory_bytes, memory_peak: memory_bytes },
            served,
        };
        let served = Served { requests: 9, active: 1, traps: 2, rejected: 3, timeouts: 4 };
        let pod = PodUsage {
            namespace: "default".to_owned(),
            name: "web-1".to_owned(),
            cpu: Duration::from_millis(2_000),
            containers: vec![container("a", 250, 65_536, None), container("b", 500, 1 << 20, Some(served))],
        };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Fixed(vec![pod])));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        expect![[r##"
            # HELP container_cpu_usage_seconds CPU time that the container has used since its start, in core-seconds
            # TYPE container_cpu_usage_seconds counter
            container_cpu_usage_seconds_total{container="a",namespace="default",pod="web-1"} 0.25
            container_cpu_usage_seconds_total{container="b",namespace="default",pod="web-1"} 0.5
            # HELP container_memory_working_set_bytes Memory of the container now, in bytes
            # TYPE container_memory_working_set_bytes gauge
            container_memory_working_set_bytes{container="a",namespace="default",pod="web-1"} 65536.0
            container_memory_working_set_bytes{container="b",namespace="default",pod="web-1"} 1048576.0
            # HELP container_start_time_seconds When the container was started, in seconds since the Unix epoch
            # TYPE container_start_time_seconds gauge
            container_start_time_seconds{container="a",namespace="default",pod="web-1"} 1.5
            container_start_time_seconds{container="b",namespace="default",pod="web-1"} 1.5
            # HELP wharf_http_requests Requests that came to the HTTP handler
            # TYPE wharf_http_requests counter
            wharf_http_requests_total{container="b",namespace="default",pod="web-1"} 9.0
            # HELP wharf_http_instances Instances of the HTTP handler now
            # TYPE wharf_http_instances gauge
            wharf_http_instances{container="b",namespace="default",pod="web-1"} 1.0
            # HELP wharf_http_traps Instances of the HTTP handler that trapped
            # TYPE wharf_http_traps counter
            wharf_http_traps_total{container="b",namespace="default",pod="web-1"} 2.0
            # HELP wharf_http_timeouts Instances of the HTTP handler that were ended at their deadline
            # TYPE wharf_http_timeouts counter
            wharf_http_timeouts_total{container="b",namespace="default",pod="web-1"} 4.0
            # HELP wharf_http_rejected Requests turned away because too many waited, or too long
            # TYPE wharf_http_rejected counter
            wharf_http_rejected_total{container="b",namespace="default",pod="web-1"} 3.0
            # HELP pod_cpu_usage_seconds CPU time that the pod's containers have used, in core-seconds
            # TYPE pod_cpu_usage_seconds counter
            pod_cpu_usage_seconds_total{namespace="default",pod="web-1"} 2.0
            # HELP pod_memory_working_set_bytes Memory of the pod's containers now, in bytes
            # TYPE pod_memory_working_set_bytes gauge
            pod_memory_working_set_bytes{namespace="default",pod="web-1"} 1114112.0
            # EOF
        "##]].assert_eq(&text);
    }
}
