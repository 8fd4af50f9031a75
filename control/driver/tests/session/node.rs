//! Scripted nodes: pods run as soon as they are bound, unless their image says otherwise, and end when they are told to.

use super::{Session, options};
use control_api::ApiError;
use control_api::object;
use control_registry::DeleteOptions;
use serde_json::{Value, json};
use std::sync::Arc;

impl Session {
    /// A node with allocatable resources: `cpu=2 memory=4Gi pods=10`.
    pub(crate) async fn add_node(&mut self, name: &str, facts: &[&str]) -> Result<(), ApiError> {
        let (row, _, _) = self.target(&format!("nodes/{name}"));
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        self.registry.create(&row, None, node, &options()).await?;
        // Whether controllers see the node before it has told its status must not be left to chance.
        self.settle().await;
        let mut allocatable = json!({"pods": "110"});
        for fact in facts {
            let (resource, amount) = fact.split_once('=').unwrap();
            allocatable[resource] = json!(amount);
        }
        self.set_ready(name, &json!({"allocatable": allocatable, "capacity": allocatable})).await?;
        self.alive.insert(name.to_owned());
        self.renew_leases().await;
        Ok(())
    }

    async fn set_ready(&self, name: &str, status: &Value) -> Result<(), ApiError> {
        let (row, _, _) = self.target(&format!("nodes/{name}"));
        let mut status = status.clone();
        let now = object::time(self.registry.now());
        status["conditions"] = json!([{"type": "Ready", "status": "True", "reason": "KubeletReady",
            "message": "wharf is ready", "lastHeartbeatTime": now, "lastTransitionTime": now}]);
        self.write(&row, None, name, Some("status"), &json!({"status": status})).await
    }

    /// Nodes that are alive say so; one that was thought dead tells its status too.
    pub(crate) async fn renew_leases(&mut self) {
        let leases = Arc::clone(
            self.registry
                .resources()
                .by_plural("coordination.k8s.io", "v1", "leases")
                .expect("leases are served"),
        );
        for name in self.alive.clone() {
            let spec = json!({"renewTime": object::micro_time(self.registry.now()), "holderIdentity": name});
            let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec});
            let place = Some("kube-node-lease");
            if self.registry.get(&leases, place, &name).is_ok() {
                self.write(&leases, place, &name, None, &json!({"spec": spec})).await.unwrap();
            } else {
                self.registry.create(&leases, place, lease, &options()).await.unwrap();
            }
            let nodes = self.list("", "nodes");
            let node = nodes.iter().find(|node| object::name(node) == name).unwrap();
            if object::condition(node, "Ready").is_some_and(|ready| ready["status"] != "True") {
                self.set_ready(&name, &json!({})).await.unwrap();
            }
        }
    }

    /// Does the next thing for the first pod that needs one (where there are very many, for the first twentieth of them).
    /// False if none does.
    pub(crate) async fn node_step(&mut self) -> bool {
        let pods = self.list("", "pods");
        let mut left = (pods.len() / 20).max(1);
        for pod in &pods {
            if left == 0 {
                break;
            }
            left -= usize::from(self.step(pod).await);
        }
        left < (pods.len() / 20).max(1)
    }

    /// Does the next thing for a pod. False if it needs nothing.
    async fn step(&mut self, pod: &Value) -> bool {
        let (name, namespace) = (object::name(pod), object::namespace(pod));
        let base = object::generate_name(pod);
        let shown = if base.is_empty() { name.to_owned() } else { format!("{base}*") };
        self.pod_names.insert(name.to_owned(), shown);
        if !self.alive.contains(object::text(pod, &["spec", "nodeName"])) {
            return false;
        }
        let (row, _, _) = self.target("pods/x");
        if object::deletion_timestamp(pod).is_some() {
            if object::finalizers(pod).next().is_some() {
                return false;
            }
            let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
            self.registry.delete(&row, Some(namespace), name, &options).await.unwrap();
            return true;
        }
        let broken = object::text(&pod["spec"]["containers"][0], &["image"]).contains("broken");
        let told = broken && object::condition(pod, "Ready").is_some();
        if object::text(pod, &["status", "phase"]) != "Pending" || told {
            return false;
        }
        let status = self.pod_status(if broken { "Pending" } else { "Running" }, !broken);
        self.write(&row, Some(namespace), name, Some("status"), &json!({"status": status})).await.unwrap();
        true
    }

    fn pod_status(&self, phase: &str, ready: bool) -> Value {
        let status = if ready { "True" } else { "False" };
        let now = object::time(self.registry.now());
        json!({"phase": phase, "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}],
            "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": now}]})
    }

    /// A pod ends, and is not started again.
    pub(crate) async fn crash(&mut self, app: &str) -> Result<(), ApiError> {
        let name = self.a_pod(app);
        let (row, namespace, name) = self.target(&format!("pods/{name}"));
        let status = self.pod_status("Failed", false);
        self.write(&row, namespace.as_deref(), &name, Some("status"), &json!({"status": status})).await
    }

    /// Notes how many pods of each deployment are ready, and how many there are.
    pub(crate) fn note_extremes(&mut self) {
        let pods = self.list("", "pods");
        for deployment in self.list("apps", "deployments") {
            let name = object::name(&deployment);
            let own = pods.iter().filter(|pod| {
                object::label(pod, "app") == Some(name)
                    && object::deletion_timestamp(pod).is_none()
                    && pod["status"]["phase"] != "Failed"
            });
            let ready = own
                .clone()
                .filter(|pod| object::condition(pod, "Ready").is_some_and(|c| c["status"] == "True"));
            let (ready, all) = (ready.count(), own.count());
            let seen = self.extremes.entry(name.to_owned()).or_insert((ready, all));
            *seen = (seen.0.min(ready), seen.1.max(all));
        }
    }
}
