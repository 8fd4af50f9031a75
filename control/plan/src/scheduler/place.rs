//! The placement of one pod: which nodes can take it, which of them should.

use super::amounts::Amounts;
use super::node_match::{count_untolerated, has_untolerated, is_selected, preference};
use crate::object::Meta;
use crate::pods;
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A node's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeName(pub String);

/// A node and what its pods use.
#[derive(Debug, Clone, Default)]
pub struct NodeSpace {
    /// The node; none when only pods name it.
    pub node: Option<Arc<Node>>,
    /// What it has for pods.
    pub allocatable: Amounts,
    /// What its pods have asked for.
    pub used: Amounts,
    /// Ports of the host that its pods have taken, and how often.
    pub host_ports: BTreeMap<HostPort, usize>,
    /// The priorities of its pods, and how many have each.
    pub priorities: BTreeMap<i32, usize>,
}

/// Address (empty for all), protocol and number of a port of the host.
pub type HostPort = (String, String, i32);

/// The nodes to choose from.
#[derive(Debug)]
pub struct Cluster {
    /// Ordered by name.
    nodes: Vec<NodeSpace>,
}

/// Why no node can take a pod. Prints as upstream says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many nodes give each reason; one node may give several.
    pub reasons: BTreeMap<String, usize>,
    /// How many nodes no other pod's going would make fit.
    pub hopeless: usize,
}

impl Cluster {
    /// Of nodes in any order.
    pub fn new(nodes: impl IntoIterator<Item = NodeSpace>) -> Self {
        let mut nodes: Vec<NodeSpace> = nodes.into_iter().filter(|space| space.node.is_some()).collect();
        nodes.sort_by(|a, b| a.name().cmp(b.name()));
        Self { nodes }
    }

    /// The nodes, by name.
    pub fn spaces(&self) -> impl Iterator<Item = &NodeSpace> {
        self.nodes.iter()
    }

    /// Takes the pod's room on a node, before the node's pods show it.
    pub fn assume(&mut self, pod: &Pod, node: &NodeName) {
        if let Ok(at) = self.nodes.binary_search_by(|space| space.name().cmp(&node.0)) {
            self.nodes[at].take(pod);
        }
    }
}

impl NodeSpace {
    /// The node's name; empty without a node.
    pub fn name(&self) -> &str {
        self.node.as_ref().map_or("", |node| node.metadata.name_str())
    }

    /// Adds what a pod uses.
    pub fn take(&mut self, pod: &Pod) {
        self.used.add(&Amounts::requested(pod));
        for port in host_ports(pod) {
            *self.host_ports.entry(port).or_default() += 1;
        }
        *self.priorities.entry(pods::priority(pod)).or_default() += 1;
    }

    /// Takes away what a pod used.
    pub fn give_back(&mut self, pod: &Pod) {
        self.used.subtract(&Amounts::requested(pod));
        for port in host_ports(pod) {
            less(&mut self.host_ports, &port);
        }
        less(&mut self.priorities, &pods::priority(pod));
    }

    /// The lowest priority of its pods; none without a pod.
    pub fn lowest_priority(&self) -> Option<i32> {
        self.priorities.keys().next().copied()
    }
}

/// Counts one less.
fn less<K: Ord>(counts: &mut BTreeMap<K, usize>, of: &K) {
    if let Some(count) = counts.get_mut(of) {
        *count -= 1;
        if *count == 0 {
            counts.remove(of);
        }
    }
}

/// The node for a pod that asks for `wanted`: of those that can take it the one with the most left over, the first by
/// name among equals.
pub fn place(pod: &Pod, wanted: &Amounts, cluster: &Cluster) -> Result<NodeName, Unfit> {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let mut unfit = Unfit { nodes: cluster.nodes.len(), reasons: BTreeMap::new(), hopeless: 0 };
    let mut fitting = Vec::new();
    for space in &cluster.nodes {
        match obstacle(pod, wanted, space) {
            None => fitting.push(space),
            Some(obstacle) => {
                unfit.hopeless += usize::from(obstacle.hopeless);
                for reason in obstacle.reasons {
                    *unfit.reasons.entry(reason).or_default() += 1;
                }
            }
        }
    }
    best(pod, spec, wanted, &fitting).ok_or(unfit)
}

/// What is in a pod's way on one node.
pub(super) struct Obstacle {
    pub(super) reasons: Vec<String>,
    /// No other pod's going would help.
    pub(super) hopeless: bool,
}

/// The first thing in the way, in upstream's order.
pub(super) fn obstacle(pod: &Pod, wanted: &Amounts, space: &NodeSpace) -> Option<Obstacle> {
    let node = space.node.as_ref()?;
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let hopeless = |reason: &str| Some(Obstacle { reasons: vec![reason.to_owned()], hopeless: true });
    if is_unschedulable(node) && !tolerates_unschedulable(spec) {
        return hopeless("node(s) were unschedulable");
    }
    if spec.node_name.as_ref().is_some_and(|name| !name.is_empty() && name != space.name()) {
        return hopeless("node(s) didn't match the requested node name");
    }
    if has_untolerated(pod, node, &["NoSchedule", "NoExecute"]) {
        return hopeless("node(s) had untolerated taint(s)");
    }
    if !is_selected(spec, node) {
        return hopeless("node(s) didn't match Pod's node affinity/selector");
    }
    if host_ports(pod).iter().any(|port| space.host_ports.keys().any(|taken| ports_clash(port, taken))) {
        let reason = "node(s) didn't have free ports for the requested pod ports".to_owned();
        return Some(Obstacle { reasons: vec![reason], hopeless: false });
    }
    shortage(wanted, space)
}

fn is_unschedulable(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true)
}

fn tolerates_unschedulable(spec: &PodSpec) -> bool {
    let taint = k8s_openapi::api::core::v1::Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Default::default()
    };
    spec.tolerations.iter().flatten().any(|toleration| super::node_match::tolerates(toleration, &taint))
}

/// Every resource that the node has too little of.
fn shortage(wanted: &Amounts, space: &NodeSpace) -> Option<Obstacle> {
    let (has, used) = (&space.allocatable, &space.used);
    let mut reasons = Vec::new();
    let mut hopeless = false;
    let mut need = |reason: &str, wanted: i128, has: i128, used: i128| {
        if wanted > 0 && wanted > has - used {
            reasons.push(reason.to_owned());
            hopeless |= wanted > has;
        }
    };
    need("Too many pods", wanted.pods, has.pods, used.pods);
    need("Insufficient cpu", wanted.cpu_milli, has.cpu_milli, used.cpu_milli);
    need("Insufficient memory", wanted.memory, has.memory, used.memory);
    let storage = (has.ephemeral_storage, used.ephemeral_storage);
    need("Insufficient ephemeral-storage", wanted.ephemeral_storage, storage.0, storage.1);
    for (name, amount) in &wanted.other {
        let of = |amounts: &Amounts| amounts.other.get(name).copied().unwrap_or(0);
        need(&format!("Insufficient {name}"), *amount, of(has), of(used));
    }
    (!reasons.is_empty()).then_some(Obstacle { reasons, hopeless })
}

/// The best of the nodes that fit. Weights are upstream's: taints 3, affinity 2, room 1, balance 1.
fn best(pod: &Pod, spec: &PodSpec, wanted: &Amounts, fitting: &[&NodeSpace]) -> Option<NodeName> {
    let node_of = |space: &NodeSpace| space.node.clone();
    let facts: Vec<(i64, i64)> = fitting
        .iter()
        .map(|space| {
            node_of(space).map_or((0, 0), |node| {
                let taints = count_untolerated(pod, &node, &["PreferNoSchedule"]);
                (preference(spec, &node), i64::try_from(taints).unwrap_or(i64::MAX))
            })
        })
        .collect();
    let most_preferred = facts.iter().map(|fact| fact.0).max().unwrap_or(0);
    let most_tainted = facts.iter().map(|fact| fact.1).max().unwrap_or(0);
    let scored = fitting.iter().zip(&facts).map(|(space, (preferred, tainted))| {
        let affinity = if most_preferred > 0 { preferred.saturating_mul(100) / most_preferred } else { 0 };
        let taints = if most_tainted > 0 { 100 - tainted.saturating_mul(100) / most_tainted } else { 100 };
        let fit = room(wanted, space) + balance(wanted, space);
        (i128::from(3 * taints + 2 * affinity) + fit, *space)
    });
    // The highest score, then the fewest pods, then the first name.
    let best = scored
        .min_by_key(|(score, space)| (std::cmp::Reverse(*score), space.used.pods, space.name().to_owned()));
    best.map(|(_, space)| NodeName(space.name().to_owned()))
}

/// 0 to 100: how much CPU and memory are left with the pod on it.
fn room(wanted: &Amounts, space: &NodeSpace) -> i128 {
    let (has, used) = (&space.allocatable, &space.used);
    let left = |has: i128, used: i128| if has <= 0 { 0 } else { (has - used.min(has)) * 100 / has };
    let cpu = left(has.cpu_milli, used.scored_cpu_milli + wanted.scored_cpu_milli);
    let memory = left(has.memory, used.scored_memory + wanted.scored_memory);
    i128::midpoint(cpu, memory)
}

/// 0 to 100: how alike CPU and memory are used with the pod on it.
fn balance(wanted: &Amounts, space: &NodeSpace) -> i128 {
    let (has, used) = (&space.allocatable, &space.used);
    let share = |used: i128, has: i128| if has <= 0 { 100 } else { (used * 100 / has).min(100) };
    let cpu = share(used.cpu_milli + wanted.cpu_milli, has.cpu_milli);
    let memory = share(used.memory + wanted.memory, has.memory);
    100 - (cpu - memory).abs() / 2
}

fn host_ports(pod: &Pod) -> BTreeSet<HostPort> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.chain(pods::sidecars(pod)).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let address = port.host_ip.clone().filter(|ip| ip != "0.0.0.0" && ip != "::").unwrap_or_default();
            Some((address, port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), number))
        })
        .collect()
}

fn ports_clash(a: &HostPort, b: &HostPort) -> bool {
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || a.0.is_empty() || b.0.is_empty())
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut reasons: Vec<String> =
            self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        let nodes = self.nodes;
        write!(f, "0/{nodes} nodes are available: {}.", reasons.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn cluster(nodes: &str) -> Cluster {
        Cluster::new(nodes.split_whitespace().map(|text| {
            let node = node(text);
            NodeSpace {
                allocatable: Amounts::allocatable(&node),
                node: Some(Arc::new(node)),
                ..NodeSpace::default()
            }
        }))
    }

    fn a_pod(line: &str) -> Arc<Pod> {
        Arc::clone(pod(line).pod().unwrap())
    }

    fn check(nodes: &str, pods: &str, expect: Expect) {
        let mut cluster = cluster(nodes);
        let mut out = String::new();
        for line in pods.split(';') {
            let pod = a_pod(line.trim());
            let answer = place(&pod, &Amounts::requested(&pod), &cluster);
            out += &match answer {
                Ok(node) => {
                    cluster.assume(&pod, &node);
                    format!("{} -> {}\n", pod.metadata.name_str(), node.0)
                }
                Err(unfit) => format!("{}: {unfit}\n", pod.metadata.name_str()),
            };
        }
        expect.assert_eq(&out);
    }

    #[test]
    fn pods_go_where_most_is_left_and_are_refused_with_every_reason() {
        check(
            "b/cpu=2/memory=2Gi/pods=10 a/cpu=2/memory=2Gi/pods=10",
            "p1:pending cpu=500m; p2:pending cpu=1; p3:pending cpu=1; p4:pending cpu=1; p5:pending memory=3Gi cpu=1",
            expect![[r#"
                p1 -> a
                p2 -> b
                p3 -> a
                p4 -> b
                p5: 0/2 nodes are available: 2 Insufficient cpu, 2 Insufficient memory.
            "#]],
        );
        check(
            "a/cpu=2/memory=2Gi/pods=1 b/cordoned c/tainted",
            "p1:pending; p2:pending",
            expect![[r#"
                p1 -> a
                p2: 0/3 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable.
            "#]],
        );
        check(
            "",
            "p:pending",
            expect![[r#"
            p: no nodes available to schedule pods
        "#]],
        );
    }

    #[test]
    fn a_sidecar_takes_its_host_ports_and_a_step_before_the_pod_does_not() {
        let pod = serde_json::json!({"metadata": {}, "spec": {"containers": [], "initContainers": [
            {"name": "side", "restartPolicy": "Always", "ports": [{"containerPort": 1, "hostPort": 81}]},
            {"name": "step", "ports": [{"containerPort": 1, "hostPort": 82}]},
        ]}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let numbers: Vec<i32> = host_ports(&pod).into_iter().map(|(_, _, number)| number).collect();
        assert_eq!(numbers, [81]);
    }

    #[test]
    fn a_host_port_is_taken_once_a_node() {
        check(
            "a/cpu=2/memory=2Gi/pods=9",
            "p1:pending hostport=80; p2:pending hostport=80; p3:pending hostport=81",
            expect![[r#"
            p1 -> a
            p2: 0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.
            p3 -> a
        "#]],
        );
    }

    proptest! {
        /// A placement never overfills a node, and a refusal means that the pod fits on no node at all.
        #[test]
        fn placements_are_valid_and_refusals_are_true(
            nodes in prop::collection::vec((1_i64..8, 1_i64..8, 1_i64..6, any::<bool>()), 0..5),
            pods in prop::collection::vec((0_i64..5, 0_i64..5), 1..20),
        ) {
            let text: Vec<String> = nodes.iter().enumerate().map(|(at, (cpu, memory, pods, cordoned))| {
                let flag = if *cordoned { "/cordoned" } else { "" };
                format!("n{at}/cpu={cpu}/memory={memory}Gi/pods={pods}{flag}")
            }).collect();
            let mut cluster = cluster(&text.join(" "));
            // The oracle: plain sums per node.
            let mut used = vec![(0, 0, 0); nodes.len()];
            let fits = |used: &[(i64, i64, i64)], at: usize, (cpu, memory): (i64, i64)| {
                let (has_cpu, has_memory, has_pods, cordoned) = nodes[at];
                !cordoned && used[at].0 + cpu <= has_cpu && used[at].1 + memory <= has_memory && used[at].2 < has_pods
            };
            for (at, wanted) in pods.iter().enumerate() {
                let pod = a_pod(&format!("p{at}:pending cpu={} memory={}Gi", wanted.0, wanted.1));
                match place(&pod, &Amounts::requested(&pod), &cluster) {
                    Ok(node) => {
                        let node_idx: usize = node.0[1..].parse().unwrap();
                        prop_assert!(fits(&used, node_idx, *wanted));
                        used[node_idx] = (used[node_idx].0 + wanted.0, used[node_idx].1 + wanted.1, used[node_idx].2 + 1);
                        cluster.assume(&pod, &node);
                    }
                    Err(unfit) => {
                        prop_assert!((0..nodes.len()).all(|at| !fits(&used, at, *wanted)));
                        prop_assert_eq!(unfit.nodes, nodes.len());
                        prop_assert!(nodes.is_empty() || !unfit.reasons.is_empty());
                    }
                }
            }
        }
    }
}
