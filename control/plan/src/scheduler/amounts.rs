//! Amounts of what nodes have and pods ask for.

use k8s_openapi::api::core::v1::{Container, Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// What the score counts for a container that asks for no CPU, in thousandths of a core.
const DEFAULT_CPU_MILLI: i128 = 100;
/// What the score counts for a container that asks for no memory, in bytes.
const DEFAULT_MEMORY: i128 = 200 * 1024 * 1024;

/// Amounts per resource. One amount fits an `i64`; sums of as many as a machine can hold fit these, so that taking away
/// always undoes adding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_milli: i128,
    /// Bytes.
    pub memory: i128,
    /// Bytes.
    pub ephemeral_storage: i128,
    /// Pods.
    pub pods: i128,
    /// Any other resource, in its own unit.
    pub other: BTreeMap<String, i128>,
    /// As `cpu_milli`, with a default for containers that ask for none: for scores only.
    pub scored_cpu_milli: i128,
    /// As `memory`, with a default for containers that ask for none: for scores only.
    pub scored_memory: i128,
}

type Quantities = BTreeMap<String, Quantity>;

impl Amounts {
    /// What a node has for pods.
    pub fn allocatable(node: &Node) -> Self {
        let status = node.status.as_ref();
        let quantities = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        Self::from_quantities(quantities)
    }

    /// What a pod asks for: the sum of its containers, or the most that any of its init containers needs beside the
    /// sidecars started before it; amounts for the whole pod take their place; and the overhead.
    pub fn requested(pod: &Pod) -> Self {
        let mut total = Self::default();
        if let Some(spec) = &pod.spec {
            for container in &spec.containers {
                total.add(&Self::of_container(container));
            }
            let mut sidecars = Self::default();
            let mut peak = Self::default();
            for container in spec.init_containers.iter().flatten() {
                let mut beside = Self::of_container(container);
                if container.restart_policy.as_deref() == Some("Always") {
                    sidecars.add(&beside);
                    total.add(&beside);
                    peak.raise_to(&sidecars);
                } else {
                    beside.add(&sidecars);
                    peak.raise_to(&beside);
                }
            }
            total.raise_to(&peak);
            if let Some(whole) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
                total.override_with(whole);
            }
            total.add(&Self::from_quantities(spec.overhead.as_ref()));
        }
        total.pods = 1;
        total
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, |a, b| a + b);
    }

    /// Takes another away.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, |a, b| a - b);
        self.other.retain(|_, amount| *amount != 0);
    }

    fn raise_to(&mut self, other: &Self) {
        self.combine(other, i128::max);
    }

    fn combine(&mut self, other: &Self, operation: fn(i128, i128) -> i128) {
        self.cpu_milli = operation(self.cpu_milli, other.cpu_milli);
        self.memory = operation(self.memory, other.memory);
        self.ephemeral_storage = operation(self.ephemeral_storage, other.ephemeral_storage);
        self.pods = operation(self.pods, other.pods);
        self.scored_cpu_milli = operation(self.scored_cpu_milli, other.scored_cpu_milli);
        self.scored_memory = operation(self.scored_memory, other.scored_memory);
        for (name, amount) in &other.other {
            let sum = self.other.entry(name.clone()).or_default();
            *sum = operation(*sum, *amount);
        }
    }

    fn of_container(container: &Container) -> Self {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let mut amounts = Self::from_quantities(requests);
        if amounts.scored_cpu_milli == 0 {
            amounts.scored_cpu_milli = DEFAULT_CPU_MILLI;
        }
        if amounts.scored_memory == 0 {
            amounts.scored_memory = DEFAULT_MEMORY;
        }
        amounts
    }

    fn override_with(&mut self, whole: &Quantities) {
        let amounts = Self::from_quantities(Some(whole));
        if whole.contains_key("cpu") {
            (self.cpu_milli, self.scored_cpu_milli) = (amounts.cpu_milli, amounts.scored_cpu_milli);
        }
        if whole.contains_key("memory") {
            (self.memory, self.scored_memory) = (amounts.memory, amounts.scored_memory);
        }
    }

    fn from_quantities(quantities: Option<&Quantities>) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in quantities.into_iter().flatten() {
            match name.as_str() {
                "cpu" => amounts.cpu_milli = thousandths(&quantity.0),
                "memory" => amounts.memory = whole(&quantity.0),
                "ephemeral-storage" => amounts.ephemeral_storage = whole(&quantity.0),
                "pods" => amounts.pods = whole(&quantity.0),
                _ => {
                    amounts.other.insert(name.clone(), whole(&quantity.0));
                }
            }
        }
        amounts.scored_cpu_milli = amounts.cpu_milli;
        amounts.scored_memory = amounts.memory;
        amounts
    }
}

fn thousandths(text: &str) -> i128 {
    // The API refuses what is no quantity; what is stored all the same counts as nothing.
    text.parse::<control_api::quantity::Quantity>().map_or(0, |quantity| quantity.milli_value().into())
}

fn whole(text: &str) -> i128 {
    text.parse::<control_api::quantity::Quantity>().map_or(0, |quantity| quantity.value().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: serde_json::Value, cpu_milli: i128, memory: i128) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let amounts = Amounts::requested(&pod);
        assert_eq!((amounts.cpu_milli, amounts.memory), (cpu_milli, memory));
    }

    fn container(cpu: &str, memory: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    #[test]
    fn containers_add_up_and_init_containers_count_by_their_peak() {
        check(json!({"containers": [container("100m", "1Mi"), container("1", "2Mi")]}), 1100, 3 << 20);
        let init = json!({"containers": [container("100m", "1Mi")], "initContainers": [container("1", "1")]});
        check(init, 1000, 1 << 20);
        let mut sidecar = container("1", "1Mi");
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({"containers": [container("100m", "1Mi")], "initContainers": [sidecar, container("500m", "0")]});
        check(spec, 1500, 2 << 20);
    }

    #[test]
    fn amounts_for_the_whole_pod_take_their_place_and_overhead_comes_on_top() {
        let spec = json!({"containers": [container("100m", "1Mi")], "overhead": {"cpu": "10m"},
            "resources": {"requests": {"cpu": "2"}}});
        check(spec, 2010, 1 << 20);
    }

    #[test]
    fn what_is_added_can_be_taken_away_again() {
        let huge = json!({"containers": [container("9223372036854775807", "8Ei"), container("1", "8Ei")]});
        let huge: Pod = serde_json::from_value(json!({"metadata": {}, "spec": huge})).unwrap();
        let small = json!({"containers": [container("100m", "1Mi")]});
        let small: Pod = serde_json::from_value(json!({"metadata": {}, "spec": small})).unwrap();
        let mut used = Amounts::requested(&small);
        for _ in 0..3 {
            used.add(&Amounts::requested(&huge));
        }
        for _ in 0..3 {
            used.subtract(&Amounts::requested(&huge));
        }
        assert_eq!(used, Amounts::requested(&small));
    }
}
