//! Columns of Pod: the one word that sums up the states of all its containers, above all.

use super::cells::{AGE, NAME, number, or_none, since, text, wide};
use crate::object;
use crate::resource::Column;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Columns of Pod.
pub const POD: &[Column] = &[
    NAME,
    text("Ready", "The aggregate readiness state of this pod for accepting traffic.", |pod, _| {
        let summary = summary(pod);
        format!("{}/{}", summary.n_ready, summary.n_total).into()
    }),
    text("Status", "The aggregate status of the containers in this pod.", |pod, _| {
        summary(pod).status.into()
    }),
    text(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last container in this pod \
         has restarted.",
        |pod, now| {
            let Summary { restarts, last_restart, .. } = summary(pod);
            match last_restart {
                Some(_) if restarts > 0 => format!("{restarts} ({} ago)", since(last_restart, now)).into(),
                _ => restarts.to_string().into(),
            }
        },
    ),
    AGE,
    wide(text(
        "IP",
        "podIP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.",
        |pod, _| match object::list(pod, &["status", "podIPs"]).first() {
            Some(first) => or_none(object::text(first, &["ip"])),
            None => or_none(object::text(pod, &["status", "podIP"])),
        },
    )),
    wide(text(
        "Node",
        "NodeName indicates in which node this pod is scheduled. If empty, this pod is a candidate for scheduling by \
         the scheduler defined in schedulerName.",
        |pod, _| or_none(object::text(pod, &["spec", "nodeName"])),
    )),
    wide(text(
        "Nominated Node",
        "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled \
         right away as preemption victims receive their graceful termination periods.",
        |pod, _| or_none(object::text(pod, &["status", "nominatedNodeName"])),
    )),
    wide(text(
        "Readiness Gates",
        "If specified, all readiness gates will be evaluated for pod readiness. A pod is ready when all its \
         containers are ready AND all conditions specified in the readiness gates have status equal to \"True\" More \
         info: https://git.k8s.io/enhancements/keps/sig-network/580-pod-readiness-gates",
        |pod, _| readiness_gates(pod).into(),
    )),
];

/// What a Table says beside a pod that has run to its end.
pub(super) fn row_conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match object::text(pod, &["status", "phase"]) {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

/// What the first columns show.
#[derive(Debug)]
struct Summary {
    n_ready: usize,
    n_total: usize,
    status: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

fn summary(pod: &Value) -> Summary {
    let specs = object::list(pod, &["spec", "initContainers"]);
    let is_sidecar = |name: &str| {
        specs.iter().any(|spec| {
            object::text(spec, &["name"]) == name && object::text(spec, &["restartPolicy"]) == "Always"
        })
    };
    let n_sidecars = specs.iter().filter(|spec| object::text(spec, &["restartPolicy"]) == "Always").count();
    let mut summary = Summary {
        n_ready: 0,
        n_total: object::list(pod, &["spec", "containers"]).len() + n_sidecars,
        status: first_status(pod),
        restarts: 0,
        last_restart: None,
    };
    let mut sidecar_restarts = Restarts::default();
    let mut initializing = false;
    for (at, status) in object::list(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
        let sidecar = is_sidecar(object::text(status, &["name"]));
        let restarts = Restarts::of(status);
        summary.restarts += restarts.count;
        summary.last_restart = summary.last_restart.max(restarts.last);
        if sidecar {
            sidecar_restarts.count += restarts.count;
            sidecar_restarts.last = sidecar_restarts.last.max(restarts.last);
        }
        let terminated = object::at(status, &["state", "terminated"]);
        if terminated.is_some_and(|terminated| number(terminated, &["exitCode"]) == 0) {
            continue;
        }
        if sidecar && object::flag(status, &["started"]) {
            summary.n_ready += usize::from(object::flag(status, &["ready"]));
            continue;
        }
        let waiting = object::text(status, &["state", "waiting", "reason"]);
        summary.status = match terminated {
            Some(terminated) => format!("Init:{}", ending(terminated)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{at}/{}", specs.len()),
        };
        initializing = true;
        break;
    }
    if !initializing || condition_is_true(pod, "Initialized") {
        summary.restarts = sidecar_restarts.count;
        summary.last_restart = sidecar_restarts.last;
        add_containers(pod, &mut summary);
    }
    if object::at(pod, &["metadata", "deletionTimestamp"]).is_some() {
        if object::text(pod, &["status", "reason"]) == "NodeLost" {
            "Unknown".clone_into(&mut summary.status);
        } else if !matches!(object::text(pod, &["status", "phase"]), "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut summary.status);
        }
    }
    summary
}

/// The status before any container is looked at.
fn first_status(pod: &Value) -> String {
    let gated = object::condition(pod, "PodScheduled")
        .is_some_and(|condition| object::text(condition, &["reason"]) == "SchedulingGated");
    match object::text(pod, &["status", "reason"]) {
        _ if gated => "SchedulingGated".to_owned(),
        "" => object::text(pod, &["status", "phase"]).to_owned(),
        reason => reason.to_owned(),
    }
}

/// The first container that has something to say wins, so they are asked from the last to the first.
fn add_containers(pod: &Value, summary: &mut Summary) {
    let mut has_running = false;
    for status in object::list(pod, &["status", "containerStatuses"]).iter().rev() {
        let restarts = Restarts::of(status);
        summary.restarts += restarts.count;
        summary.last_restart = summary.last_restart.max(restarts.last);
        let waiting = object::text(status, &["state", "waiting", "reason"]);
        if !waiting.is_empty() {
            waiting.clone_into(&mut summary.status);
        } else if let Some(terminated) = object::at(status, &["state", "terminated"]) {
            summary.status = ending(terminated);
        } else if object::flag(status, &["ready"]) && object::at(status, &["state", "running"]).is_some() {
            has_running = true;
            summary.n_ready += 1;
        }
    }
    if summary.status == "Completed" && has_running {
        let ready = condition_is_true(pod, "Ready");
        (if ready { "Running" } else { "NotReady" }).clone_into(&mut summary.status);
    }
}

/// `Completed`, `Error`, or how it ended where no reason is given.
fn ending(terminated: &Value) -> String {
    match (object::text(terminated, &["reason"]), number(terminated, &["signal"])) {
        ("", 0) => format!("ExitCode:{}", number(terminated, &["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[derive(Debug, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn of(status: &Value) -> Self {
        Self {
            count: number(status, &["restartCount"]),
            last: object::timestamp(status, &["lastState", "terminated", "finishedAt"]),
        }
    }
}

fn condition_is_true(pod: &Value, kind: &str) -> bool {
    object::condition(pod, kind).is_some_and(|condition| object::text(condition, &["status"]) == "True")
}

fn readiness_gates(pod: &Value) -> String {
    let gates = object::list(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return super::cells::NONE.to_owned();
    }
    let n_true =
        gates.iter().filter(|gate| condition_is_true(pod, object::text(gate, &["conditionType"]))).count();
    format!("{n_true}/{}", gates.len())
}
