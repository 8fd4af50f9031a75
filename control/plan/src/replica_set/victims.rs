//! Which pods go first when there are too many.

use crate::object::Meta;
use crate::pods;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The annotation by which users say what a pod's going costs.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The `count` pods that are missed least, in upstream's order: without a node, not running, not ready, cheap, with
/// many of their kind beside them, ready for a short time, restarted often, new. Times are compared by their
/// magnitude, so that among pods of about the same age chance (here: the name's) decides, not the youngest second.
pub(super) fn choose<'a>(
    pods: &[&'a Pod],
    related: &BTreeMap<String, usize>,
    count: usize,
    now: Timestamp,
) -> Vec<&'a Pod> {
    let mut ranked: Vec<&Pod> = pods.to_vec();
    ranked.sort_by_cached_key(|pod| {
        let phase = match pods::phase(pod) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        };
        let node = pods::node(pod);
        let beside = node.and_then(|node| related.get(node)).copied().unwrap_or(0);
        (
            (node.is_some(), phase, pods::is_ready(pod), cost(pod)),
            (Reverse(beside), pods::ready_since(pod).map(|since| magnitude(since, now))),
            (Reverse(pods::max_restarts(pod)), magnitude(pod.metadata.created(), now)),
            pod.metadata.uid_str().to_owned(),
        )
    });
    ranked.truncate(count);
    ranked
}

/// What a pod's going costs; 0 when nobody says.
fn cost(pod: &Pod) -> i32 {
    pod.metadata.annotation(COST).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The age in nanoseconds on a logarithmic scale: younger is smaller.
fn magnitude(since: Timestamp, now: Timestamp) -> u32 {
    let nanos = u128::try_from(now.duration_since(since).as_nanos()).unwrap_or(0);
    nanos.checked_ilog2().map_or(0, |log| log + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{now, pod};
    use expect_test::{Expect, expect};

    fn check(lines: &str, expect: Expect) {
        let objects: Vec<_> = lines.split(';').map(|line| pod(line.trim())).collect();
        let pods: Vec<&Pod> = objects.iter().map(|object| &**object.pod().unwrap()).collect();
        let related = [("n1".to_owned(), 1), ("n2".to_owned(), 3)].into();
        let order = choose(&pods, &related, pods.len(), now());
        let names: Vec<&str> = order.iter().map(|pod| pod.metadata.name_str()).collect();
        expect.assert_eq(&names.join(" "));
    }

    #[test]
    fn the_least_useful_go_first() {
        check("a:ready; b:running; c:pending node=n1; d:pending", expect!["d c b a"]);
        check("a:ready cost=5; b:ready; c:ready cost=-1", expect!["c b a"]);
        check("a:ready node=n1; b:ready node=n2", expect!["b a"]);
        check("a:ready since=01; b:ready since=09", expect!["b a"]);
        check("a:running restarts=1; b:running restarts=4", expect!["b a"]);
        check("a:running restarts=1/9; b:running restarts=4; c:running restarts=1", expect!["b a c"]);
        check("a:running created=00; b:running created=09", expect!["b a"]);
    }
}
