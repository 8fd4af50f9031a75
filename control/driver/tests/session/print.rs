//! What `get` prints.

use super::Session;
use control_api::object;
use serde_json::Value;
use std::collections::BTreeMap;

impl Session {
    /// Objects of a kind, a line each, or as many lines as there are sorts of them.
    pub(crate) fn get(&self, what: &str) -> String {
        let mut lines: BTreeMap<String, u64> = BTreeMap::new();
        match what {
            "pods" => self.each("", "pods", |pod| pod_line(self, pod), &mut lines),
            "rs" => self.each("apps", "replicasets", replica_set_line, &mut lines),
            "deployments" => self.each("apps", "deployments", deployment_line, &mut lines),
            "namespaces" => self.each("", "namespaces", namespace_line, &mut lines),
            "nodes" => self.each("", "nodes", node_line, &mut lines),
            "endpoints" => self.each("discovery.k8s.io", "endpointslices", slice_line, &mut lines),
            "events" => {
                for event in self.list("", "events") {
                    *lines.entry(self.event_line(&event)).or_default() += object::integer(&event, &["count"])
                        .and_then(|count| u64::try_from(count).ok())
                        .unwrap_or(1);
                }
            }
            "configmaps" => self.each("", "configmaps", |map| Some(place(map)), &mut lines),
            "serviceaccounts" => self.each("", "serviceaccounts", |account| Some(place(account)), &mut lines),
            other => panic!("nothing is known about {other}"),
        }
        let lines = lines
            .into_iter()
            .map(|(line, count)| if count == 1 { format!("{line}\n") } else { format!("{line} x{count}\n") });
        let out: String = lines.collect();
        if out.is_empty() { "nothing\n".to_owned() } else { out }
    }

    /// The conditions of a pod, a line each.
    pub(crate) fn conditions(&self, name: &str) -> String {
        let pods = self.list("", "pods");
        let pod = pods.iter().find(|pod| object::name(pod) == name).expect("there is such a pod");
        let line = |condition: &Value| {
            let text = |field: &str| object::text(condition, &[field]).to_owned();
            format!("{}={} {}: {}\n", text("type"), text("status"), text("reason"), text("message"))
        };
        object::list(pod, &["status", "conditions"]).iter().map(line).collect()
    }

    fn each(
        &self,
        group: &str,
        plural: &str,
        line: impl Fn(&Value) -> Option<String>,
        lines: &mut BTreeMap<String, u64>,
    ) {
        for object in self.list(group, plural) {
            if let Some(line) = line(&object) {
                *lines.entry(line).or_default() += 1;
            }
        }
    }

    fn event_line(&self, event: &Value) -> String {
        let mut line = format!(
            "{} {} {}: {}",
            object::text(event, &["type"]),
            object::text(event, &["reason"]),
            object::text(event, &["involvedObject", "name"]),
            object::text(event, &["message"]),
        );
        for (name, shown) in &self.pod_names {
            line = line.replace(name.as_str(), shown);
        }
        line
    }
}

fn place(object: &Value) -> String {
    format!("{}/{}", object::namespace(object), object::name(object))
}

fn pod_line(session: &Session, pod: &Value) -> Option<String> {
    let shown = session.pod_names.get(object::name(pod)).map_or_else(|| object::name(pod), String::as_str);
    let mut line = format!("{}/{shown} {}", object::namespace(pod), object::text(pod, &["status", "phase"]));
    if object::condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True") {
        line += " ready";
    }
    if object::deletion_timestamp(pod).is_some() {
        line += " terminating";
    }
    match object::text(pod, &["spec", "nodeName"]) {
        "" => {
            line += &format!(
                " ({})",
                object::condition(pod, "PodScheduled").map_or("", |c| object::text(c, &["message"]))
            );
        }
        node => line += &format!(" on {node}"),
    }
    if object::controller(pod).is_none() {
        line += " without controller";
    }
    Some(line)
}

fn replica_set_line(set: &Value) -> Option<String> {
    let number = |path: &[&str]| object::integer(set, path).unwrap_or(0);
    Some(format!(
        "{} desired {} current {} ready {} revision {}",
        place(set),
        number(&["spec", "replicas"]),
        number(&["status", "replicas"]),
        number(&["status", "readyReplicas"]),
        object::annotation(set, "deployment.kubernetes.io/revision").unwrap_or("-"),
    ))
}

fn deployment_line(deployment: &Value) -> Option<String> {
    let number = |field: &str| object::integer(deployment, &["status", field]).unwrap_or(0);
    let mut line = format!(
        "{} desired {} total {} updated {} ready {} available {} unavailable {} revision {}",
        place(deployment),
        object::integer(deployment, &["spec", "replicas"]).unwrap_or(0),
        number("replicas"),
        number("updatedReplicas"),
        number("readyReplicas"),
        number("availableReplicas"),
        number("unavailableReplicas"),
        object::annotation(deployment, "deployment.kubernetes.io/revision").unwrap_or("-"),
    );
    for condition in object::list(deployment, &["status", "conditions"]) {
        let text = |field: &str| object::text(condition, &[field]).to_owned();
        line += &format!("\n  {}={} {}: {}", text("type"), text("status"), text("reason"), text("message"));
    }
    Some(line)
}

fn namespace_line(namespace: &Value) -> Option<String> {
    let mut line = format!("{} {}", object::name(namespace), object::text(namespace, &["status", "phase"]));
    for condition in object::list(namespace, &["status", "conditions"]) {
        if condition["status"] == "True" {
            line += &format!(
                "\n  {}: {}",
                object::text(condition, &["reason"]),
                object::text(condition, &["message"])
            );
        }
    }
    Some(line)
}

fn node_line(node: &Value) -> Option<String> {
    let ready = object::condition(node, "Ready").map_or("", |ready| object::text(ready, &["status"]));
    let taints = object::list(node, &["spec", "taints"]);
    let taints: Vec<String> = taints
        .iter()
        .map(|taint| format!("{}:{}", object::text(taint, &["key"]), object::text(taint, &["effect"])))
        .collect();
    Some(format!("{} ready={ready} taints={taints:?}", object::name(node)))
}

fn slice_line(slice: &Value) -> Option<String> {
    let endpoints = object::list(slice, &["endpoints"]);
    let ready = endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] == true).count();
    Some(format!(
        "{} {} endpoints, {ready} ready",
        object::label(slice, "kubernetes.io/service-name").unwrap_or("-"),
        endpoints.len()
    ))
}
