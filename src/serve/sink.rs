//! From the node to the registry: statuses, ends of pods, events, the Node object and its lease.
//!
//! Reports of one pod are written in their order; those of different pods side by side, so that one fsync serves many.

use super::parts::join_all;
use control_api::{ApiError, Resource, error::Reason, object};
use control_driver::{EventRecord, EventRecorder};
use control_registry::{DeleteOptions, Preconditions, Registry, WriteOptions};
use jiff::Timestamp;
use runtime_node::NodeReport;
use serde_json::{Value, json};
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Writers side by side. A batch of the store takes about as many.
const WRITERS: usize = 64;
/// Reports that wait at one writer; past that, the node waits.
const QUEUE: usize = 64;
/// A conflict is with somebody who writes the same object at the same moment.
const ATTEMPTS: u32 = 10;

/// Where reports go.
#[derive(Debug, Clone)]
pub(crate) struct Sink {
    pub(crate) registry: Registry,
    pub(crate) events: EventRecorder,
    /// The Node object's name.
    pub(crate) node: String,
}

impl Sink {
    /// Writes what comes until `stop`, and then what has come.
    pub(crate) async fn run(self, mut reports: mpsc::Receiver<NodeReport>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let (sender, mut receiver) = mpsc::channel(QUEUE);
                let sink = self.clone();
                tasks.spawn(async move {
                    while let Some(report) = receiver.recv().await {
                        sink.write(report).await;
                    }
                });
                sender
            })
            .collect();
        loop {
            let report = tokio::select! {
                report = reports.recv() => report,
                () = stop.cancelled(), if !reports.is_closed() => {
                    reports.close();
                    continue;
                }
            };
            let Some(report) = report else { break };
            let writer = &writers[shard(&report)];
            writer.send(report).await.expect("a writer runs until its queue is dropped");
        }
        drop(writers);
        join_all(tasks).await;
    }

    async fn write(&self, report: NodeReport) {
        let (what, written) = match report {
            NodeReport::PodStatus { namespace, name, uid, status } => {
                let status = serde_json::to_value(status).expect("a status is plain data");
                (
                    format!("status of pod {namespace}/{name}"),
                    self.pod_status(&namespace, &name, &uid, &status).await,
                )
            }
            NodeReport::PodEnded { namespace, name, uid } => {
                (format!("end of pod {namespace}/{name}"), self.pod_ended(&namespace, &name, uid).await)
            }
            NodeReport::Event(record) => {
                let event = EventRecord {
                    regarding: record.regarding,
                    type_: record.type_,
                    reason: record.reason.to_owned(),
                    message: record.message,
                    component: "kubelet",
                };
                self.events.record_from(event, self.node.clone());
                return;
            }
            NodeReport::Node { status } => {
                let status = serde_json::to_value(status).expect("a status is plain data");
                ("status of the node".to_owned(), self.node_status(&status).await)
            }
            NodeReport::LeaseRenewed { at, duration_secs } => {
                if let Err(error) = self.follow_capacity().await {
                    tracing::error!(%error, "allocatable amounts of the node were not written");
                }
                ("lease of the node".to_owned(), self.lease(at, duration_secs).await)
            }
            _ => return,
        };
        if let Err(error) = written {
            tracing::error!(%error, "{what} was not written");
        }
    }

    async fn pod_status(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        status: &Value,
    ) -> Result<(), ApiError> {
        let pods = self.resource("", "v1", "pods");
        let merge = |old: &Value| merge_pod_status(status.clone(), old);
        self.replace_status(&pods, Some(namespace), name, Some(uid), merge).await
    }

    async fn pod_ended(&self, namespace: &str, name: &str, uid: String) -> Result<(), ApiError> {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            preconditions: Preconditions { uid: Some(uid), resource_version: None },
            ..DeleteOptions::default()
        };
        let pods = self.resource("", "v1", "pods");
        gone_is_fine(self.registry.delete(&pods, Some(namespace), name, &options).await.map(drop))
    }

    async fn node_status(&self, status: &Value) -> Result<(), ApiError> {
        let nodes = self.resource("", "v1", "nodes");
        if self.registry.get(&nodes, None, &self.node).is_err() {
            let info = &status["nodeInfo"];
            let node = json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": self.node,
                    "labels": {
                        "kubernetes.io/hostname": self.node,
                        "kubernetes.io/os": info["operatingSystem"],
                        "kubernetes.io/arch": info["architecture"],
                        "node-role.kubernetes.io/control-plane": "",
                    },
                },
            });
            exists_is_fine(self.registry.create(&nodes, None, node, &options()).await.map(drop))?;
        }
        let merge = |old: &Value| merge_node_status(status.clone(), old);
        self.replace_status(&nodes, None, &self.node, None, merge).await
    }

    /// Lets pods have what somebody has added to the node's capacity.
    async fn follow_capacity(&self) -> Result<(), ApiError> {
        let nodes = self.resource("", "v1", "nodes");
        self.replace_status(&nodes, None, &self.node, None, |old| merge_node_status(old.clone(), old)).await
    }

    async fn lease(&self, at: Timestamp, duration_secs: i32) -> Result<(), ApiError> {
        let leases = self.resource("coordination.k8s.io", "v1", "leases");
        let namespace = Some("kube-node-lease");
        // MicroTime, with all six digits.
        let renewed = format!("{at:.6}");
        let spec = json!({
            "holderIdentity": self.node,
            "leaseDurationSeconds": duration_secs,
            "renewTime": renewed,
        });
        match self.registry.get(&leases, namespace, &self.node) {
            Ok(stored) => {
                let mut lease = stored.value();
                lease["spec"] = spec;
                self.registry.update(&leases, namespace, &self.node, None, lease, &options()).await.map(drop)
            }
            Err(_missing) => {
                let owner = self.registry.get(&self.resource("", "v1", "nodes"), None, &self.node).ok();
                let owner = owner.map(|node| {
                    let node = node.value();
                    json!([{ "apiVersion": "v1", "kind": "Node", "name": self.node, "uid": object::uid(&node) }])
                });
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": { "name": self.node, "ownerReferences": owner },
                    "spec": spec,
                });
                exists_is_fine(self.registry.create(&leases, namespace, lease, &options()).await.map(drop))
            }
        }
    }

    /// Puts the status that `merge` makes from an object's in its place, on its newest state.
    async fn replace_status(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        uid: Option<&str>,
        merge: impl Fn(&Value) -> Value,
    ) -> Result<(), ApiError> {
        let mut attempt = 0;
        loop {
            let mut object = match self.registry.get(resource, namespace, name) {
                Ok(stored) => stored.value(),
                // Deleted meanwhile: there is nothing left to report on.
                Err(error) => return gone_is_fine(Err(error)),
            };
            if uid.is_some_and(|uid| uid != object::uid(&object)) {
                return Ok(());
            }
            let status = merge(&object["status"]);
            if object["status"] == status {
                return Ok(());
            }
            object["status"] = status;
            let written =
                self.registry.update(resource, namespace, name, Some("status"), object, &options()).await;
            attempt += 1;
            match written {
                Err(error) if error.reason == Reason::Conflict && attempt < ATTEMPTS => {
                    // Somebody else writes it too; let them finish.
                    tokio::time::sleep(Duration::from_millis(u64::from(attempt))).await;
                }
                other => return gone_is_fine(other.map(drop)),
            }
        }
    }

    fn resource(&self, group: &str, version: &str, plural: &str) -> Arc<Resource> {
        self.registry.resources().by_plural(group, version, plural).expect("a built-in kind").clone()
    }
}

fn options() -> WriteOptions {
    WriteOptions { manager: "kubelet".to_owned(), ..WriteOptions::default() }
}

/// What the node says of a pod, with what others have said of it. A phase in which a pod ends is not left, though the
/// node may have said so before it heard of that.
fn merge_pod_status(mut new: Value, old: &Value) -> Value {
    add_conditions(&mut new, foreign_conditions(old));
    let has_ended = matches!(old["phase"].as_str(), Some("Succeeded" | "Failed"));
    if let Some(fields) = new.as_object_mut()
        && has_ended
        && fields.get("phase") != old.get("phase")
    {
        for field in ["phase", "reason", "message"] {
            fields.remove(field);
            fields.extend(old.get(field).map(|value| (field.to_owned(), value.clone())));
        }
    }
    new
}

/// Conditions of a pod that the node writes; all others (readiness gates, `PodScheduled`) are somebody else's, and the
/// node's copy of them may be old.
const OWN_CONDITIONS: &[&str] = &["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];

fn is_foreign(condition: &Value) -> bool {
    !condition["type"].as_str().is_some_and(|kind| OWN_CONDITIONS.contains(&kind))
}

/// What others have said in a pod's status.
fn foreign_conditions(status: &Value) -> Vec<Value> {
    let conditions = status["conditions"].as_array();
    conditions.into_iter().flatten().filter(|condition| is_foreign(condition)).cloned().collect()
}

/// Puts what others have said in the place of the node's copy of it.
fn add_conditions(status: &mut Value, foreign: Vec<Value>) {
    if let Some(conditions) = status["conditions"].as_array_mut() {
        conditions.retain(|condition| {
            !is_foreign(condition) || foreign.iter().all(|newer| newer["type"] != condition["type"])
        });
        conditions.splice(0..0, foreign);
    }
}

/// The resources that the node measures itself; all others are added to its capacity by somebody else.
const OWN_RESOURCES: &[&str] = &["cpu", "ephemeral-storage", "memory", "pods"];

/// What the node says, with what others have said of it: fields, conditions and resources that it does not know. Of those
/// resources pods may have all there is, as upstream has it.
fn merge_node_status(mut new: Value, old: &Value) -> Value {
    let Some(fields) = new.as_object_mut() else { return new };
    for (field, value) in old.as_object().into_iter().flatten() {
        fields.entry(field).or_insert_with(|| value.clone());
    }
    if let Some(conditions) = fields.get_mut("conditions").and_then(Value::as_array_mut) {
        let others = old["conditions"].as_array().into_iter().flatten();
        let others = others.filter(|other| conditions.iter().all(|own| own["type"] != other["type"]));
        let others: Vec<Value> = others.cloned().collect();
        conditions.extend(others);
    }
    let is_foreign = |name: &str| !OWN_RESOURCES.contains(&name);
    let Some(capacity) = fields.get_mut("capacity").and_then(Value::as_object_mut) else { return new };
    for (name, amount) in old["capacity"].as_object().into_iter().flatten() {
        capacity.entry(name).or_insert_with(|| amount.clone());
    }
    let foreign: Vec<(String, Value)> = capacity
        .iter()
        .filter(|(name, _)| is_foreign(name))
        .map(|(name, amount)| (name.clone(), amount.clone()))
        .collect();
    if let Some(allocatable) = fields.get_mut("allocatable").and_then(Value::as_object_mut) {
        allocatable.retain(|name, _| !is_foreign(name));
        allocatable.extend(foreign);
    }
    new
}

/// The writer of a report: the same for all reports of one pod.
fn shard(report: &NodeReport) -> usize {
    let mut hasher = DefaultHasher::new();
    match report {
        NodeReport::PodStatus { uid, .. } | NodeReport::PodEnded { uid, .. } => uid.hash(&mut hasher),
        NodeReport::Event(record) => record.regarding.uid.hash(&mut hasher),
        _ => {}
    }
    usize::try_from(hasher.finish() % WRITERS as u64).expect("less than the number of writers")
}

fn gone_is_fine(result: Result<(), ApiError>) -> Result<(), ApiError> {
    match result {
        Err(error) if error.reason == Reason::NotFound => Ok(()),
        other => other,
    }
}

fn exists_is_fine(result: Result<(), ApiError>) -> Result<(), ApiError> {
    match result {
        Err(error) if error.reason == Reason::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_of_a_pod_stays_in_its_status_and_its_last_phase_too() {
        let report = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        let check =
            |old: Value, expect: Value| assert_eq!(merge_pod_status(report.clone(), &old), expect, "{old}");
        check(json!({"phase": "Pending", "reason": "Odd"}), report.clone());
        let gate = json!({"type": "example.com/ok", "status": "True"});
        check(
            json!({"conditions": [gate, {"type": "Ready", "status": "False"}]}),
            json!({"phase": "Running", "conditions": [gate, {"type": "Ready", "status": "True"}]}),
        );
        check(
            json!({"phase": "Failed", "reason": "Rejected"}),
            json!({"phase": "Failed", "reason": "Rejected", "conditions": report["conditions"]}),
        );
    }

    #[test]
    fn what_others_say_of_a_node_stays_in_its_status() {
        let report = json!({
            "capacity": {"cpu": "4", "pods": "100"},
            "allocatable": {"cpu": "4", "pods": "100"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"bootID": "new"},
        });
        let before = json!({
            "capacity": {"cpu": "2", "example.com/dongle": "3"},
            "allocatable": {"cpu": "2", "example.com/gone": "1"},
            "conditions": [{"type": "Ready", "status": "Unknown"}, {"type": "NetworkUnavailable", "status": "False"}],
            "nodeInfo": {"bootID": "old"},
            "volumesAttached": [],
        });
        let after = json!({
            "capacity": {"cpu": "4", "pods": "100", "example.com/dongle": "3"},
            "allocatable": {"cpu": "4", "pods": "100", "example.com/dongle": "3"},
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "NetworkUnavailable", "status": "False"}],
            "nodeInfo": {"bootID": "new"},
            "volumesAttached": [],
        });
        assert_eq!(merge_node_status(report.clone(), &before), after);
        assert_eq!(merge_node_status(report.clone(), &Value::Null), report);
        assert_eq!(merge_node_status(after.clone(), &after), after);
        let mut patched = after.clone();
        patched["capacity"]["example.com/dongle"] = json!("5");
        let followed = merge_node_status(patched.clone(), &patched);
        assert_eq!(followed["allocatable"]["example.com/dongle"], "5");
    }
}
