//! Which pods must go so that a more important one can be placed.

use super::place::{Cluster, NodeName, NodeSpace, Unfit, obstacle};
use super::waiting::WaitingPod;
use crate::object::Meta;
use crate::pods;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The reason by which a pod's condition says that it was such a victim.
pub(super) const REASON: &str = "PreemptionByScheduler";

/// A node that has room once its victims are gone.
#[derive(Debug)]
pub(super) struct Preemption<'a> {
    pub(super) node: NodeName,
    /// The most important first; some may be going already.
    pub(super) victims: Vec<&'a Arc<Pod>>,
}

/// Why no pod goes for a pod. Prints as upstream says it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPreemption {
    /// It does not want that.
    Never,
    /// Some are going for it already.
    UnderWay,
    /// It would not help: how many nodes there are, and what is so of how many of them.
    Nowhere(usize, BTreeMap<String, usize>),
}

/// The pods to be ended for one that fits nowhere: on each node as few and unimportant ones as may be, and of the nodes
/// the one whose victims matter least.
pub(super) fn preempt<'a, P: Iterator<Item = &'a Arc<Pod>>>(
    waiting: &WaitingPod,
    cluster: &Cluster,
    unfit: &Unfit,
    pods_on: impl Fn(&str) -> P,
) -> Result<Preemption<'a>, NoPreemption> {
    let pod = &*waiting.pod;
    if pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
        return Err(NoPreemption::Never);
    }
    if pods::nominated(pod).is_some_and(|node| pods_on(node).any(|other| is_going_for(pod, other))) {
        return Err(NoPreemption::UnderWay);
    }
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    if unfit.hopeless > 0 {
        answers.insert("Preemption is not helpful for scheduling".to_owned(), unfit.hopeless);
    }
    let mut candidates = Vec::new();
    for space in cluster.spaces() {
        let hopeless = obstacle(pod, &waiting.wanted, space).is_none_or(|obstacle| obstacle.hopeless);
        if hopeless {
            continue;
        }
        if space.lowest_priority().is_none_or(|lowest| lowest >= pods::priority(pod)) {
            *answers.entry("No preemption victims found for incoming pod".to_owned()).or_default() += 1;
            continue;
        }
        match victims(waiting, space, pods_on(space.name())) {
            Ok(victims) => candidates.push(Preemption { node: NodeName(space.name().to_owned()), victims }),
            Err(reasons) => reasons.into_iter().for_each(|reason| *answers.entry(reason).or_default() += 1),
        }
    }
    candidates.into_iter().min_by_key(cost).ok_or(NoPreemption::Nowhere(unfit.nodes, answers))
}

/// Whether a pod is a victim on its way out, for a pod that may have victims of its importance.
fn is_going_for(pod: &Pod, other: &Pod) -> bool {
    let condition = pods::condition(other, "DisruptionTarget");
    let is_victim = condition.is_some_and(|condition| condition.reason.as_deref() == Some(REASON));
    is_victim
        && other.metadata.is_deleting()
        && !pods::is_terminal(other)
        && pods::priority(other) < pods::priority(pod)
}

/// Of all less important pods of a node those that cannot stay; or what is in the way even without any of them.
fn victims<'a>(
    waiting: &WaitingPod,
    space: &NodeSpace,
    on_node: impl Iterator<Item = &'a Arc<Pod>>,
) -> Result<Vec<&'a Arc<Pod>>, Vec<String>> {
    let pod = &*waiting.pod;
    let fits =
        |space: &NodeSpace| obstacle(pod, &waiting.wanted, space).map_or(Ok(()), |found| Err(found.reasons));
    let mut space = space.clone();
    let mut lower: Vec<&Arc<Pod>> = on_node
        .filter(|other| !pods::is_terminal(other) && pods::priority(other) < pods::priority(pod))
        .collect();
    lower.iter().for_each(|other| space.give_back(other));
    fits(&space)?;
    // The most important ones are the first that may stay.
    lower.sort_by_key(|other| (Reverse(pods::priority(other)), started(other)));
    lower.retain(|other| {
        space.take(other);
        let stays = fits(&space).is_ok();
        if !stays {
            space.give_back(other);
        }
        !stays
    });
    Ok(lower)
}

fn started(pod: &Pod) -> Timestamp {
    let start = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    start.map_or(Timestamp::MAX, |time| time.0)
}

/// What a preemption costs, as upstream weighs it: the highest priority, the sum of them, the number, and how long the
/// most important have run.
fn cost(preemption: &Preemption<'_>) -> (i32, i64, usize, Reverse<Timestamp>) {
    let victims = &preemption.victims;
    let highest = victims.first().map_or(i32::MIN, |pod| pods::priority(pod));
    // Each counts, the least important too: priorities are taken as above the lowest there is.
    let sum = victims.iter().map(|pod| i64::from(pods::priority(pod)) - i64::from(i32::MIN)).sum();
    let earliest = victims.iter().filter(|pod| pods::priority(pod) == highest).map(|pod| started(pod)).min();
    (highest, sum, victims.len(), Reverse(earliest.unwrap_or(Timestamp::MAX)))
}

impl std::fmt::Display for NoPreemption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Never => f.write_str("not eligible due to preemptionPolicy=Never."),
            Self::UnderWay => f.write_str("not eligible due to a terminating pod on the nominated node."),
            Self::Nowhere(nodes, answers) => {
                let mut answers: Vec<String> =
                    answers.iter().map(|(answer, count)| format!("{count} {answer}")).collect();
                answers.sort();
                write!(f, "0/{nodes} nodes are available: {}.", answers.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::amounts::Amounts;
    use crate::scheduler::place::place;
    use crate::testing::{node, pod};
    use expect_test::{Expect, expect};
    use std::collections::BTreeSet;

    /// Nodes, the pods on them, and one that fits nowhere.
    fn check(nodes: &str, on_them: &str, line: &str, expect: Expect) {
        let a_pod = |line: &str| Arc::clone(pod(line.trim()).pod().unwrap());
        let running: Vec<Arc<Pod>> = on_them.split(';').map(a_pod).collect();
        let names: BTreeSet<&str> = nodes.split_whitespace().collect();
        let cluster = Cluster::new(names.into_iter().map(|text| {
            let node = node(text);
            let allocatable = Amounts::allocatable(&node);
            let mut space = NodeSpace { allocatable, node: Some(Arc::new(node)), ..NodeSpace::default() };
            let name = space.name().to_owned();
            running.iter().filter(|pod| pods::node(pod) == Some(&name)).for_each(|pod| space.take(pod));
            space
        }));
        let pod = a_pod(line);
        let waiting = WaitingPod { wanted: Amounts::requested(&pod), pod: Arc::clone(&pod), told: None };
        let unfit = place(&pod, &waiting.wanted, &cluster).unwrap_err();
        let pods_on = |node: &str| {
            let node = node.to_owned();
            running.iter().filter(move |pod| pods::node(pod) == Some(&node))
        };
        expect.assert_eq(&match preempt(&waiting, &cluster, &unfit, pods_on) {
            Ok(Preemption { node, victims }) => {
                let victims: Vec<&str> = victims.iter().map(|pod| pod.metadata.name_str()).collect();
                format!("{}: {}", node.0, victims.join(" "))
            }
            Err(why) => why.to_string(),
        });
    }

    #[test]
    fn as_few_and_unimportant_pods_go_as_may_be() {
        check(
            "n1/cpu=3/memory=8Gi",
            "a:running cpu=1 priority=1; b:running cpu=1 priority=3; c:running cpu=1 priority=2",
            "p:pending cpu=1 priority=9",
            expect!["n1: a"],
        );
        check(
            "n1/cpu=3/memory=8Gi n2/cpu=3/memory=8Gi",
            "a:running cpu=3 priority=5; b:running cpu=2 priority=3 node=n2; c:running cpu=1 priority=2 node=n2",
            "p:pending cpu=3 priority=9",
            expect!["n2: b c"],
        );
        check(
            "n1/cpu=3/memory=8Gi",
            "a:running cpu=1 hostport=80 priority=1; b:running cpu=1",
            "p:pending hostport=80 priority=9",
            expect!["n1: a"],
        );
    }

    #[test]
    fn nobody_goes_in_vain() {
        check(
            "n1/cpu=3/memory=8Gi n2/cordoned",
            "a:running cpu=3 priority=9",
            "p:pending cpu=1 priority=9",
            expect![
                "0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
            ],
        );
        check(
            "n1/cpu=3/memory=8Gi",
            "a:running cpu=2 priority=9; b:running cpu=1",
            "p:pending cpu=2 priority=5",
            expect!["0/1 nodes are available: 1 Insufficient cpu."],
        );
        check(
            "n1/cpu=3/memory=8Gi",
            "a:running cpu=3",
            "p:pending cpu=2 priority=5 never",
            expect!["not eligible due to preemptionPolicy=Never."],
        );
        check(
            "n1/cpu=3/memory=8Gi",
            "a:running cpu=3 deleting victim; b:running",
            "p:pending cpu=2 priority=5 nominated=n1",
            expect!["not eligible due to a terminating pod on the nominated node."],
        );
    }
}
