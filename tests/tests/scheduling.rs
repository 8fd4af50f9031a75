//! Where pods go when there is not room for all.

use serde_json::Value;
use wharf_tests::Cluster;

/// A pod that asks for so many thousandths of a core, and takes its whole grace to end.
fn pod(name: &str, millis: u64, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 10\n{more}  containers:\n  \
         - {{name: main, image: tool, args: [sleep, '3600'], resources: {{requests: {{cpu: {millis}m}}}}}}\n"
    )
}

fn condition<'a>(pod: &'a Value, type_: &str) -> Option<&'a Value> {
    pod["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)
}

/// The messages of a pod's events of that reason, when there are any.
fn events(cluster: &Cluster, pod: &str, reason: &str) -> Vec<String> {
    let events = format!("events --field-selector involvedObject.name={pod},reason={reason}");
    let found = cluster.wait(&events, "an event", |events| {
        events["items"].as_array().is_some_and(|items| !items.is_empty())
    });
    let items = found["items"].as_array().unwrap();
    items.iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_critical_pod_takes_the_place_of_a_lesser_one() {
    let cluster = Cluster::with_images(&["tool"]);
    let node = cluster.get("node wharf");
    let cpu = node["status"]["allocatable"]["cpu"].as_str().unwrap();
    let cores: u64 = cpu.parse().unwrap_or_else(|_| panic!("whole cores: {cpu}"));
    // Two fill the node so far that a third does not fit.
    let share = cores * 400;
    for name in ["low-1", "low-2"] {
        cluster.apply(&pod(name, share, ""));
        cluster.wait_phase(name, "Running");
    }
    cluster.apply(&pod("late", share, ""));
    assert_eq!(
        events(&cluster, "late", "FailedScheduling"),
        [
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are \
             available: 1 No preemption victims found for incoming pod."
        ]
    );

    cluster.apply(&pod("critical", share, "  priorityClassName: system-node-critical\n"));
    let critical = cluster.wait("pod critical", "a nomination", |pod| {
        pod["status"]["nominatedNodeName"] == "wharf" || pod["status"]["phase"] == "Running"
    });
    assert_eq!(critical["spec"]["priority"], 2_000_001_000);
    assert_eq!(critical["status"]["nominatedNodeName"], "wharf", "{critical:#}");
    let unplaced = condition(&critical, "PodScheduled").unwrap();
    let message = unplaced["message"].as_str().unwrap();
    assert!(message.starts_with("0/1 nodes are available: 1 Insufficient cpu."), "{message}");

    // One goes, and is told why; the one that has run for less.
    let pods = cluster.get("pods -l 'app in (low-1, low-2)'");
    let victims: Vec<&Value> = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pod| condition(pod, "DisruptionTarget").is_some())
        .collect();
    let [victim] = victims[..] else { panic!("{pods:#}") };
    assert!(victim["metadata"]["deletionTimestamp"].is_string(), "{victim:#}");
    let disruption = condition(victim, "DisruptionTarget").unwrap();
    assert_eq!(disruption["status"], "True");
    assert_eq!(disruption["reason"], "PreemptionByScheduler");
    assert_eq!(disruption["message"], "default-scheduler: preempting to accommodate a higher priority pod");
    let name = victim["metadata"]["name"].as_str().unwrap();
    let uid = critical["metadata"]["uid"].as_str().unwrap();
    assert_eq!(events(&cluster, name, "Preempted"), [format!("Preempted by pod {uid} on node wharf")]);

    // What it leaves is not for the pod that has waited for longer.
    cluster.wait_phase("critical", "Running");
    assert_eq!(cluster.get("pod late")["status"]["phase"], "Pending");
    let rest = cluster.get("pods -l 'app in (low-1, low-2)'");
    let rest: Vec<&Value> =
        rest["items"].as_array().unwrap().iter().map(|pod| &pod["status"]["phase"]).collect();
    assert_eq!(rest, ["Running"]);
}
