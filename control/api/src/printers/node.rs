//! Columns of Node.

use super::cells::{AGE, NAME, NONE, text, wide};
use crate::object;
use crate::resource::Column;
use serde_json::Value;

/// What a node's roles are labelled with.
const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE: &str = "kubernetes.io/role";

/// Columns of Node.
pub const NODE: &[Column] = &[
    NAME,
    text("Status", "The status of the node", |node, _| status(node).into()),
    text("Roles", "The roles of the node", |node, _| roles(node).into()),
    AGE,
    text("Version", "Kubelet Version reported by the node.", |node, _| info(node, "kubeletVersion").into()),
    wide(text(
        "Internal-IP",
        "List of addresses reachable to the node. Queried from cloud provider, if available. More info: \
         https://kubernetes.io/docs/reference/node/node-status/#addresses",
        |node, _| address(node, "InternalIP").into(),
    )),
    wide(text(
        "External-IP",
        "List of addresses reachable to the node. Queried from cloud provider, if available. More info: \
         https://kubernetes.io/docs/reference/node/node-status/#addresses",
        |node, _| address(node, "ExternalIP").into(),
    )),
    wide(text("OS-Image", "OS Image reported by the node from /etc/os-release.", |node, _| {
        or_unknown(info(node, "osImage"))
    })),
    wide(text("Kernel-Version", "Kernel Version reported by the node from 'uname -r'.", |node, _| {
        or_unknown(info(node, "kernelVersion"))
    })),
    wide(text(
        "Container-Runtime",
        "ContainerRuntime Version reported by the node through runtime remote API.",
        |node, _| or_unknown(info(node, "containerRuntimeVersion")),
    )),
];

fn info<'a>(node: &'a Value, field: &str) -> &'a str {
    object::text(node, &["status", "nodeInfo", field])
}

fn or_unknown(text: &str) -> Value {
    if text.is_empty() { "<unknown>".into() } else { text.into() }
}

fn status(node: &Value) -> String {
    let ready = match object::condition(node, "Ready") {
        None => "Unknown",
        Some(condition) if object::text(condition, &["status"]) == "True" => "Ready",
        Some(_) => "NotReady",
    };
    if object::flag(node, &["spec", "unschedulable"]) {
        format!("{ready},SchedulingDisabled")
    } else {
        ready.to_owned()
    }
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = object::labels(node)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.to_owned() } else { roles.join(",") }
}

fn address(node: &Value, kind: &str) -> String {
    let addresses = object::list(node, &["status", "addresses"]);
    let found = addresses.iter().find(|address| object::text(address, &["type"]) == kind);
    found.map_or(NONE, |address| object::text(address, &["address"])).to_owned()
}
