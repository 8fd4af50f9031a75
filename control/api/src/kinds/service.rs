//! Services.

mod allocate;
mod validate;
mod warnings;

use crate::object;
use crate::resource::{NameRule, Resource, Strategy, Subresource};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Service"),
    plural: Cow::Borrowed("services"),
    singular: Cow::Borrowed("service"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("svc")]),
    categories: Cow::Borrowed(&[Cow::Borrowed("all")]),
    schema: Cow::Borrowed("io.k8s.api.core.v1.Service"),
    subresources: &[Subresource::Status],
    name_rule: NameRule::Label,
    strategy: Strategy {
        default,
        prepare_create: |service| {
            object::map_mut(service, &[]).insert("status".to_owned(), json!({ "loadBalancer": {} }));
        },
        prepare_update,
        validate: validate::validate,
        validate_update: validate::validate_update,
        warnings: warnings::warnings,
        allocate: Some(allocate::allocate),
        create_on_update: true,
        return_deleted: true,
        ..Strategy::PLAIN
    },
    columns: crate::printers::SERVICE,
    ..Resource::PLAIN
};

pub(super) const NONE: &str = "None";

/// Whether the type has node ports.
fn has_node_ports(kind: &str) -> bool {
    matches!(kind, "NodePort" | "LoadBalancer")
}

/// Whether the type has a cluster IP (which may be `None`).
fn has_cluster_ip(kind: &str) -> bool {
    matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// Whether clients outside of the cluster reach it.
fn is_externally_accessible(spec: &Value) -> bool {
    let kind = object::text(spec, &["type"]);
    has_node_ports(kind) || (kind == "ClusterIP" && !object::list(spec, &["externalIPs"]).is_empty())
}

fn default(service: &mut Value) {
    let is_outside = is_externally_accessible(&service["spec"]);
    let spec = object::map_mut(service, &["spec"]);
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or("").to_owned();
    if spec.get("sessionAffinity").is_some_and(|affinity| affinity == "None") {
        spec.remove("sessionAffinityConfig");
    }
    if spec.get("sessionAffinity").is_some_and(|affinity| affinity == "ClientIP") {
        let config = spec.entry("sessionAffinityConfig").or_insert_with(|| json!({}));
        object::map_mut(config, &["clientIP"]).entry("timeoutSeconds").or_insert_with(|| 10800.into());
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let number = port.get("port").cloned();
        let Some(port) = port.as_object_mut() else { continue };
        let is_unset = port
            .get("targetPort")
            .is_none_or(|target| target.is_null() || target == "" || target == &json!(0));
        if let Some(number) = number.filter(|_| is_unset) {
            port.insert("targetPort".to_owned(), number);
        }
    }
    if is_outside {
        spec.entry("externalTrafficPolicy").or_insert_with(|| "Cluster".into());
    }
    if has_cluster_ip(&kind) {
        spec.entry("internalTrafficPolicy").or_insert_with(|| "Cluster".into());
    }
    if kind == "LoadBalancer" {
        spec.entry("allocateLoadBalancerNodePorts").or_insert_with(|| true.into());
    }
    // The first of `clusterIPs` is `clusterIP`, which old clients set alone.
    let ip = spec.get("clusterIP").and_then(Value::as_str).unwrap_or("").to_owned();
    let first =
        spec.get("clusterIPs").and_then(|ips| ips.get(0)).and_then(Value::as_str).unwrap_or("").to_owned();
    if !ip.is_empty() && first.is_empty() {
        spec.insert("clusterIPs".to_owned(), json!([ip]));
    }
}

/// What was given out stays, where an update does not mention it; what another type does not have goes.
fn prepare_update(new: &mut Value, old: &Value) {
    let old_kind = object::text(old, &["spec", "type"]).to_owned();
    let spec = object::map_mut(new, &["spec"]);
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or("ClusterIP").to_owned();
    let old_spec = old.get("spec");
    if has_cluster_ip(&kind) && has_cluster_ip(&old_kind) {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let is_unset =
                spec.get(key).is_none_or(|value| value.is_null() || value == "" || value == &json!([]));
            if let Some(value) = old_spec.and_then(|old| old.get(key)).filter(|_| is_unset) {
                spec.insert(key.to_owned(), value.clone());
            }
        }
        let is_kept = |key: &str| spec.get(key) == old_spec.and_then(|old| old.get(key));
        // Who changes `clusterIP` alone means both.
        if !is_kept("clusterIP") && is_kept("clusterIPs") {
            let ips = json!([spec.get("clusterIP")]);
            spec.insert("clusterIPs".to_owned(), ips);
        }
    } else if !has_cluster_ip(&kind) {
        drop_unchanged(spec, old_spec, &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]);
        drop_unchanged(spec, old_spec, &["internalTrafficPolicy"]);
    }
    if gets_node_ports(spec) && old_spec.and_then(Value::as_object).is_some_and(gets_node_ports) {
        keep_node_ports(spec, old);
    } else if has_node_ports(&old_kind) && !has_node_ports(&kind) {
        drop_node_ports(spec, old);
    }
    if !has_node_ports(&kind) {
        drop_unchanged(spec, old_spec, &["externalTrafficPolicy", "healthCheckNodePort"]);
    }
    if kind != "LoadBalancer" {
        drop_unchanged(spec, old_spec, &["allocateLoadBalancerNodePorts"]);
    }
}

fn drop_unchanged(spec: &mut Map<String, Value>, old: Option<&Value>, keys: &[&str]) {
    for key in keys {
        if spec.get(*key) == old.and_then(|old| old.get(key)) {
            spec.remove(*key);
        }
    }
}

/// Whether ports get node ports without asking for them.
fn gets_node_ports(spec: &Map<String, Value>) -> bool {
    match spec.get("type").and_then(Value::as_str) {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec.get("allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)),
        _ => false,
    }
}

/// A port that names no node port has the one of the old port of its name, unless another port took that over.
fn keep_node_ports(spec: &mut Map<String, Value>, old: &Value) {
    let used = node_ports(spec.get("ports").and_then(Value::as_array).map_or(&[], Vec::as_slice));
    let old_ports = object::list(old, &["spec", "ports"]).iter();
    let kept: BTreeMap<&str, i64> = old_ports
        .filter_map(|port| Some((object::text(port, &["name"]), node_port(port)?)))
        .filter(|(_, number)| !used.contains(number))
        .collect();
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let known = kept.get(object::text(port, &["name"])).copied();
        if let Some(number) = known.filter(|_| node_port(port).is_none())
            && let Some(port) = port.as_object_mut()
        {
            port.insert("nodePort".to_owned(), number.into());
        }
    }
}

/// Takes the node ports of a type that has none any more, unless there are new ones among them: those are a fault.
fn drop_node_ports(spec: &mut Map<String, Value>, old: &Value) {
    let were = node_ports(object::list(old, &["spec", "ports"]));
    let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) else { return };
    if node_ports(ports).is_subset(&were) {
        for port in ports.iter_mut().filter_map(Value::as_object_mut) {
            port.remove("nodePort");
        }
    }
}

fn node_ports(ports: &[Value]) -> BTreeSet<i64> {
    ports.iter().filter_map(node_port).collect()
}

fn node_port(port: &Value) -> Option<i64> {
    object::integer(port, &["nodePort"]).filter(|number| *number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(spec: Value, expect: Expect) {
        let resources = crate::Resources::built_in();
        let row = resources.by_plural("", "v1", "services").unwrap();
        let mut service = json!({ "metadata": { "name": "web" }, "spec": spec });
        crate::defaults::apply(&resources, row, &mut service);
        let once = service.clone();
        crate::defaults::apply(&resources, row, &mut service);
        assert_eq!(once, service);
        let mut lines = vec![service["spec"].to_string()];
        lines.extend(validate::validate(&service).iter().map(ToString::to_string));
        expect.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn defaults_follow_the_type() {
        check(
            json!({ "ports": [{ "port": 80 }] }),
            expect![[
                r#"{"internalTrafficPolicy":"Cluster","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"sessionAffinity":"None","type":"ClusterIP"}"#
            ]],
        );
        check(
            json!({ "type": "NodePort", "sessionAffinity": "ClientIP", "ports": [{ "port": 80, "targetPort": "web" }] }),
            expect![[
                r#"{"externalTrafficPolicy":"Cluster","internalTrafficPolicy":"Cluster","ports":[{"port":80,"protocol":"TCP","targetPort":"web"}],"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":10800}},"type":"NodePort"}"#
            ]],
        );
    }

    #[test]
    fn every_fault_is_told() {
        check(
            json!({ "ports": [{ "port": 0, "nodePort": 30000 }, { "port": 80, "protocol": "HTTP" }] }),
            expect![[r#"
                {"internalTrafficPolicy":"Cluster","ports":[{"nodePort":30000,"port":0,"protocol":"TCP","targetPort":0},{"port":80,"protocol":"HTTP","targetPort":80}],"sessionAffinity":"None","type":"ClusterIP"}
                spec.ports[0].name: Required value
                spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
                spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive
                spec.ports[1].name: Required value
                spec.ports[1].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP"
                spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"#]],
        );
        check(
            json!({ "clusterIP": "None" }),
            expect![[
                r#"{"clusterIP":"None","clusterIPs":["None"],"internalTrafficPolicy":"Cluster","sessionAffinity":"None","type":"ClusterIP"}"#
            ]],
        );
        check(
            json!({}),
            expect![[r#"
                {"internalTrafficPolicy":"Cluster","sessionAffinity":"None","type":"ClusterIP"}
                spec.ports: Required value"#]],
        );
    }

    /// The node ports that an update of a Service with two ports leaves, in the order of its ports.
    fn check_node_ports(new: Value, expect: Expect) {
        let old = json!({ "spec": { "type": "NodePort", "ports": [
            { "name": "web", "port": 80, "protocol": "TCP", "nodePort": 30080 },
            { "name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053 },
        ] } });
        let mut service = json!({ "spec": new });
        prepare_update(&mut service, &old);
        let ports = object::list(&service, &["spec", "ports"]).iter();
        let shown = ports.map(|port| node_port(port).map_or("-".to_owned(), |number| number.to_string()));
        expect.assert_eq(&shown.collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn node_ports_stay_with_the_names_of_ports() {
        let of_two = |kind: &str, web: Value, dns: Value| json!({ "type": kind, "ports": [web, dns] });
        let (web, dns) = (json!({ "name": "web", "port": 80 }), json!({ "name": "dns", "port": 53 }));
        check_node_ports(of_two("NodePort", web.clone(), dns.clone()), expect!["30080 30053"]);
        check_node_ports(of_two("LoadBalancer", web.clone(), dns.clone()), expect!["30080 30053"]);
        // Another port under the same name, and the old one under another.
        let moved =
            of_two("NodePort", json!({ "name": "web", "port": 8080 }), json!({ "name": "new", "port": 80 }));
        check_node_ports(moved, expect!["30080 -"]);
        // What was the one's is asked for by the other.
        let taken = of_two("NodePort", web.clone(), json!({ "name": "dns", "port": 53, "nodePort": 30080 }));
        check_node_ports(taken, expect!["- 30080"]);
        let unwanted =
            json!({ "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [web] });
        check_node_ports(unwanted, expect!["-"]);
        let given = |number: i64| json!({ "name": "web", "port": 80, "nodePort": number });
        check_node_ports(of_two("ClusterIP", given(30080), dns.clone()), expect!["- -"]);
        check_node_ports(of_two("ClusterIP", given(30081), dns), expect!["30081 -"]);
    }
}
