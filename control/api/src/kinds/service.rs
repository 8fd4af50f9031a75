//! Services.

mod allocate;

use crate::object;
use crate::resource::{NameRule, Resource, Strategy, Subresource};
use crate::validate::{self, FieldError};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

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
        validate,
        validate_update,
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

fn default(service: &mut Value) {
    let spec = object::map_mut(service, &["spec"]);
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or("").to_owned();
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
    if has_node_ports(&kind) {
        spec.entry("externalTrafficPolicy").or_insert_with(|| "Cluster".into());
    }
    if has_cluster_ip(&kind) {
        spec.entry("internalTrafficPolicy").or_insert_with(|| "Cluster".into());
    }
    if kind == "LoadBalancer" {
        spec.entry("allocateLoadBalancerNodePorts").or_insert_with(|| true.into());
    }
    // The first of `clusterIPs` and `clusterIP` are one field under two names.
    let ip = spec.get("clusterIP").and_then(Value::as_str).unwrap_or("").to_owned();
    let first =
        spec.get("clusterIPs").and_then(|ips| ips.get(0)).and_then(Value::as_str).unwrap_or("").to_owned();
    if ip.is_empty() && !first.is_empty() {
        spec.insert("clusterIP".to_owned(), first.into());
    } else if !ip.is_empty() && first.is_empty() {
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
    } else if !has_cluster_ip(&kind) {
        drop_unchanged(spec, old_spec, &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]);
        drop_unchanged(spec, old_spec, &["internalTrafficPolicy"]);
    }
    if has_node_ports(&kind) && has_node_ports(&old_kind) {
        keep_node_ports(spec, old);
    } else if !has_node_ports(&kind) {
        drop_unchanged(spec, old_spec, &["externalTrafficPolicy", "healthCheckNodePort"]);
        let old_ports = object::list(old, &["spec", "ports"]);
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            let number = port.get("nodePort").cloned();
            let was_there =
                number.is_some() && old_ports.iter().any(|old| old.get("nodePort") == number.as_ref());
            if let Some(port) = port.as_object_mut().filter(|_| was_there) {
                port.remove("nodePort");
            }
        }
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

fn keep_node_ports(spec: &mut Map<String, Value>, old: &Value) {
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if object::integer(port, &["nodePort"]).unwrap_or(0) != 0 {
            continue;
        }
        let same = |other: &&Value| {
            other.get("port") == port.get("port")
                && object::text(other, &["protocol"]) == object::text(port, &["protocol"])
        };
        let kept =
            object::list(old, &["spec", "ports"]).iter().find(same).and_then(|old| old.get("nodePort"));
        if let Some(number) = kept.cloned()
            && let Some(port) = port.as_object_mut()
        {
            port.insert("nodePort".to_owned(), number);
        }
    }
}

fn validate(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let kind = object::text(spec, &["type"]);
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported("spec.type", kind, &kinds));
    }
    let ports = object::list(spec, &["ports"]);
    let ip = object::text(spec, &["clusterIP"]);
    if ports.is_empty() && kind != "ExternalName" && ip != NONE {
        errors.push(FieldError::required("spec.ports", ""));
    }
    match kind {
        "ExternalName" => {
            let name = object::text(spec, &["externalName"]);
            if name.is_empty() {
                errors.push(FieldError::required("spec.externalName", ""));
            } else {
                let faults = validate::dns1123_subdomain_faults(name.trim_end_matches('.'));
                errors.extend(
                    faults.into_iter().map(|fault| FieldError::invalid("spec.externalName", name, fault)),
                );
            }
            if !ip.is_empty() {
                let detail = "may not be set for ExternalName services";
                errors.push(FieldError::forbidden("spec.clusterIPs", detail));
            }
        }
        _ if ip == NONE && has_node_ports(kind) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid("spec.clusterIPs[0]", ip, detail));
        }
        _ if !ip.is_empty() && ip != NONE && ip.parse::<IpAddr>().is_err() => {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(FieldError::invalid("spec.clusterIPs[0]", ip, detail));
        }
        _ => (),
    }
    validate_ports(ports, kind, &mut errors);
    errors.extend(validate::labels(object::map(spec, &["selector"]), "spec.selector"));
    let affinities = ["ClientIP", "None"];
    let affinity = object::text(spec, &["sessionAffinity"]);
    if !affinities.contains(&affinity) {
        errors.push(FieldError::not_supported("spec.sessionAffinity", affinity, &affinities));
    }
    if let Some(seconds) = object::integer(spec, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"])
        && !(1..=86400).contains(&seconds)
    {
        let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        errors.push(FieldError::invalid(path, seconds, "must be greater than 0 and less than 86400"));
    }
    for (key, is_allowed) in
        [("externalTrafficPolicy", has_node_ports(kind)), ("internalTrafficPolicy", has_cluster_ip(kind))]
    {
        let policy = object::text(spec, &[key]);
        if policy.is_empty() {
            continue;
        }
        if !["Cluster", "Local"].contains(&policy) {
            errors.push(FieldError::not_supported(format!("spec.{key}"), policy, &["Cluster", "Local"]));
        } else if !is_allowed {
            let detail = "may only be set for externally-accessible services";
            errors.push(FieldError::invalid(format!("spec.{key}"), policy, detail));
        }
    }
    errors
}

fn validate_ports(ports: &[Value], kind: &str, errors: &mut Vec<FieldError>) {
    let (mut names, mut pairs, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let name = object::text(port, &["name"]);
        if name.is_empty() {
            if ports.len() > 1 {
                errors.push(FieldError::required(format!("{path}.name"), ""));
            }
        } else {
            let faults = validate::dns1123_label_faults(name);
            errors.extend(
                faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.name"), name, fault)),
            );
            if !names.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), name));
            }
        }
        let number = object::integer(port, &["port"]).unwrap_or(0);
        let faults = validate::port_number_faults(number);
        errors.extend(
            faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.port"), number, fault)),
        );
        let protocols = ["SCTP", "TCP", "UDP"];
        let protocol = object::text(port, &["protocol"]);
        if !protocols.contains(&protocol) {
            errors.push(FieldError::not_supported(format!("{path}.protocol"), protocol, &protocols));
        }
        if !pairs.insert((protocol, number)) {
            errors.push(FieldError::duplicate(path.clone(), json!({ "port": number, "protocol": protocol })));
        }
        match port.get("targetPort") {
            Some(Value::Number(target)) => {
                let target = target.as_i64().unwrap_or(0);
                let faults = validate::port_number_faults(target);
                errors.extend(
                    faults
                        .into_iter()
                        .map(|fault| FieldError::invalid(format!("{path}.targetPort"), target, fault)),
                );
            }
            Some(Value::String(target)) => {
                let faults = validate::port_name_faults(target);
                errors.extend(
                    faults.into_iter().map(|fault| {
                        FieldError::invalid(format!("{path}.targetPort"), target.as_str(), fault)
                    }),
                );
            }
            _ => (),
        }
        let Some(node_port) = object::integer(port, &["nodePort"]).filter(|number| *number != 0) else {
            continue;
        };
        if !has_node_ports(kind) {
            let detail = format!("may not be used when `type` is '{kind}'");
            errors.push(FieldError::forbidden(format!("{path}.nodePort"), detail));
        } else if !node_ports.insert((protocol, node_port)) {
            errors.push(FieldError::duplicate(format!("{path}.nodePort"), node_port));
        }
    }
}

/// A cluster IP stays as long as the Service is of a type that has one.
fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let kind = |service: &Value| has_cluster_ip(object::text(service, &["spec", "type"]));
    let was = object::text(old, &["spec", "clusterIP"]);
    let is = object::text(new, &["spec", "clusterIP"]);
    if !kind(new) || !kind(old) || was.is_empty() || is == was {
        return Vec::new();
    }
    let ips = object::at(new, &["spec", "clusterIPs"]).cloned().unwrap_or_else(|| json!([is]));
    vec![FieldError::invalid("spec.clusterIPs[0]", ips, "may not change once set")]
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
        lines.extend(validate(&service).iter().map(ToString::to_string));
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
                spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
                spec.ports[1].name: Required value
                spec.ports[1].protocol: Unsupported value: "HTTP": supported values: "SCTP", "TCP", "UDP""#]],
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
}
