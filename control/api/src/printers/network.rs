//! Columns of Service, Endpoints and EndpointSlice.

use super::cells::{AGE, NAME, NONE, labels, number, or_none, text, wide};
use crate::object;
use crate::resource::Column;
use serde_json::Value;

/// As many addresses are named; the rest is counted.
const NAMED: usize = 3;

/// Columns of Service.
pub const SERVICE: &[Column] = &[
    NAME,
    text(
        "Type",
        "type determines how the Service is exposed. Defaults to ClusterIP. Valid options are ExternalName, \
         ClusterIP, NodePort, and LoadBalancer. More info: \
         https://kubernetes.io/docs/concepts/services-networking/service/#publishing-services-service-types",
        |service, _| object::text(service, &["spec", "type"]).into(),
    ),
    text(
        "Cluster-IP",
        "clusterIP is the IP address of the service and is usually assigned randomly. More info: \
         https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies",
        |service, _| match object::list(service, &["spec", "clusterIPs"]).first().and_then(Value::as_str) {
            Some(ip) => ip.into(),
            None => or_none(object::text(service, &["spec", "clusterIP"])),
        },
    ),
    text(
        "External-IP",
        "externalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this \
         service.",
        |service, _| external_ip(service).into(),
    ),
    text(
        "Port(s)",
        "The list of ports that are exposed by this service. More info: \
         https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies",
        |service, _| or_none(&ports(service)),
    ),
    AGE,
    wide(text(
        "Selector",
        "Route service traffic to pods with label keys and values matching this selector. More info: \
         https://kubernetes.io/docs/concepts/services-networking/service/",
        |service, _| labels(service, &["spec", "selector"]),
    )),
];

/// Columns of Endpoints.
pub const ENDPOINTS: &[Column] = &[
    NAME,
    text(
        "Endpoints",
        "The set of all endpoints is the union of all subsets. Addresses are placed into subsets according to the \
         IPs they share. Sets of addresses and ports that comprise a service.",
        |endpoints, _| subsets(endpoints).into(),
    ),
    AGE,
];

/// Columns of EndpointSlice.
pub const ENDPOINT_SLICE: &[Column] = &[
    NAME,
    text(
        "AddressType",
        "addressType specifies the type of address carried by this EndpointSlice. All addresses in this slice must \
         be the same type. This field is immutable after creation.",
        |slice, _| object::text(slice, &["addressType"]).into(),
    ),
    text(
        "Ports",
        "ports specifies the list of network ports exposed by each endpoint in this slice. Each port must have a \
         unique name.",
        |slice, _| {
            let ports =
                object::list(slice, &["ports"]).iter().map(|port| match object::integer(port, &["port"]) {
                    Some(number) => number.to_string(),
                    None => object::at(port, &["name"]).and_then(Value::as_str).unwrap_or("*").to_owned(),
                });
            some_of(&ports.collect::<Vec<_>>(), "<unset>").into()
        },
    ),
    text(
        "Endpoints",
        "endpoints is a list of unique endpoints in this slice. Each slice may include a maximum of 1000 endpoints.",
        |slice, _| {
            let endpoints = object::list(slice, &["endpoints"]).iter();
            let addresses = endpoints.flat_map(|endpoint| object::list(endpoint, &["addresses"]));
            let addresses: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
            some_of(&addresses, "<unset>").into()
        },
    ),
    AGE,
];

/// The first few, and how many more there are.
fn some_of(all: &[String], empty: &str) -> String {
    match all.get(..NAMED) {
        _ if all.is_empty() => empty.to_owned(),
        Some(first) if all.len() > NAMED => format!("{} + {} more...", first.join(","), all.len() - NAMED),
        _ => all.join(","),
    }
}

fn external_ip(service: &Value) -> String {
    let external = object::list(service, &["spec", "externalIPs"]);
    let mut ips: Vec<&str> = external.iter().filter_map(Value::as_str).collect();
    match object::text(service, &["spec", "type"]) {
        "ClusterIP" | "NodePort" if ips.is_empty() => NONE.to_owned(),
        "ClusterIP" | "NodePort" => ips.join(","),
        "LoadBalancer" => {
            let mut balancers: Vec<&str> = object::list(service, &["status", "loadBalancer", "ingress"])
                .iter()
                .map(|ingress| match object::text(ingress, &["ip"]) {
                    "" => object::text(ingress, &["hostname"]),
                    ip => ip,
                })
                .filter(|address| !address.is_empty())
                .collect();
            balancers.sort_unstable();
            balancers.dedup();
            balancers.append(&mut ips);
            if balancers.is_empty() { "<pending>".to_owned() } else { balancers.join(",") }
        }
        "ExternalName" => object::text(service, &["spec", "externalName"]).to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn ports(service: &Value) -> String {
    let texts: Vec<String> = object::list(service, &["spec", "ports"])
        .iter()
        .map(|port| {
            let (at, protocol) = (number(port, &["port"]), object::text(port, &["protocol"]));
            match number(port, &["nodePort"]) {
                0 => format!("{at}/{protocol}"),
                node_port => format!("{at}:{node_port}/{protocol}"),
            }
        })
        .collect();
    texts.join(",")
}

fn subsets(endpoints: &Value) -> String {
    let mut all = Vec::new();
    for subset in object::list(endpoints, &["subsets"]) {
        let addresses =
            object::list(subset, &["addresses"]).iter().map(|address| object::text(address, &["ip"]));
        let ports = object::list(subset, &["ports"]);
        if ports.is_empty() {
            all.extend(addresses.map(str::to_owned));
        } else {
            for port in ports {
                let port = number(port, &["port"]);
                all.extend(addresses.clone().map(|ip| {
                    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
                }));
            }
        }
    }
    some_of(&all, NONE)
}
