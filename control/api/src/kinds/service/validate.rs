//! Checks of a Service.

use super::{NONE, has_cluster_ip, has_node_ports, is_externally_accessible};
use crate::object;
use crate::validate::{self, FieldError};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Which endpoints get traffic: all, or those of the node where it comes in.
const POLICIES: [&str; 2] = ["Cluster", "Local"];

/// Every fault of a Service.
pub(super) fn validate(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let kind = object::text(spec, &["type"]);
    let ports = object::list(spec, &["ports"]);
    let ip = object::text(spec, &["clusterIP"]);
    if ports.is_empty() && kind != "ExternalName" && ip != NONE {
        errors.push(FieldError::required("spec.ports", ""));
    }
    if kind == "ExternalName" {
        external_name(spec, &mut errors);
    } else if ip == NONE && has_node_ports(kind) {
        let detail = format!("may not be set to 'None' for {kind} services");
        errors.push(FieldError::invalid("spec.clusterIPs[0]", ip, detail));
    }
    validate_ports(ports, &mut errors);
    errors.extend(validate::labels(object::map(spec, &["selector"]), "spec.selector"));
    affinity(spec, &mut errors);
    if kind != "ExternalName" {
        addresses(spec, &mut errors);
    }
    for (index, text) in object::list(spec, &["externalIPs"]).iter().filter_map(Value::as_str).enumerate() {
        let path = format!("spec.externalIPs[{index}]");
        match validate::ip_fault(text, &path) {
            Some(fault) => errors.push(fault),
            None => errors.extend(
                validate::external_ip_faults(text)
                    .into_iter()
                    .map(|fault| FieldError::invalid(path.as_str(), text, fault)),
            ),
        }
    }
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported("spec.type", kind, &kinds));
    }
    validate_node_ports(ports, kind, &mut errors);
    validate_outside(spec, kind, &mut errors);
    errors
}

/// A Service that is another name has that, and no address.
fn external_name(spec: &Value, errors: &mut Vec<FieldError>) {
    for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if object::at(spec, &[key]).is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty()))
        {
            let detail = "may not be set for ExternalName services";
            errors.push(FieldError::forbidden(format!("spec.{key}"), detail));
        }
    }
    let name = object::text(spec, &["externalName"]);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.push(FieldError::required("spec.externalName", ""));
        return;
    }
    let faults = validate::dns1123_subdomain_faults(name);
    errors.extend(faults.into_iter().map(|fault| FieldError::invalid("spec.externalName", name, fault)));
}

fn affinity(spec: &Value, errors: &mut Vec<FieldError>) {
    let affinities = ["ClientIP", "None"];
    let affinity = object::text(spec, &["sessionAffinity"]);
    if !affinities.contains(&affinity) {
        errors.push(FieldError::not_supported("spec.sessionAffinity", affinity, &affinities));
    }
    if let Some(seconds) = object::integer(spec, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"])
        && affinity == "ClientIP"
        && !(1..=86400).contains(&seconds)
    {
        let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        errors.push(FieldError::invalid(path, seconds, "must be greater than 0 and less than 86400"));
    }
}

/// Cluster IPs and the families that they are to be of.
fn addresses(spec: &Value, errors: &mut Vec<FieldError>) {
    const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
    const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    let path = "spec.clusterIPs";
    let ips = object::list(spec, &["clusterIPs"]);
    let first = object::text(spec, &["clusterIP"]);
    let told = || Value::Array(ips.to_vec());
    if ips.first().is_some_and(|ip| ip != first) {
        let detail = if first.is_empty() {
            "must be empty when `clusterIP` is not specified"
        } else {
            "first value must match `clusterIP`"
        };
        errors.push(FieldError::invalid(path, told(), detail));
    }
    let mut seen = BTreeSet::new();
    for (index, family) in object::list(spec, &["ipFamilies"]).iter().filter_map(Value::as_str).enumerate() {
        let path = format!("spec.ipFamilies[{index}]");
        if !FAMILIES.contains(&family) {
            errors.push(FieldError::not_supported(path.as_str(), family, &FAMILIES));
        }
        if !seen.insert(family) {
            errors.push(FieldError::duplicate(path, family));
        }
    }
    let policy = object::text(spec, &["ipFamilyPolicy"]);
    if !policy.is_empty() && !POLICIES.contains(&policy) {
        errors.push(FieldError::not_supported("spec.ipFamilyPolicy", policy, &POLICIES));
    }
    let mut families = BTreeSet::new();
    let n_before = errors.len();
    for (index, ip) in ips.iter().filter_map(Value::as_str).enumerate() {
        if index == 0 && ip == NONE {
            if ips.len() > 1 {
                errors.push(FieldError::invalid(path, told(), "'None' must be the first and only value"));
            }
            continue;
        }
        errors.extend(validate::ip_fault(ip, &format!("{path}[{index}]")));
        families.insert(ip.contains(':'));
    }
    let are_ips = errors.len() == n_before;
    if ips.len() > 2 {
        errors.push(FieldError::invalid(path, told(), "may only hold up to 2 values"));
    }
    if are_ips && ips.len() > 1 && families.len() < 2 {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(path, told(), detail));
    }
}

/// Fields by which clients outside of the cluster come in. They have no effect here, and are checked all the same.
fn validate_outside(spec: &Value, kind: &str, errors: &mut Vec<FieldError>) {
    // Upstream writes these paths with a capital letter.
    let ranges = object::list(spec, &["loadBalancerSourceRanges"]);
    if !ranges.is_empty() && kind != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden("spec.LoadBalancerSourceRanges", detail));
    }
    for (index, text) in ranges.iter().filter_map(Value::as_str).map(str::trim).enumerate() {
        if !validate::is_cidr(text) {
            let path = format!("spec.LoadBalancerSourceRanges[{index}]");
            errors.push(FieldError::invalid(path, text, validate::NOT_A_CIDR));
        }
    }
    if object::at(spec, &["allocateLoadBalancerNodePorts"]).is_some() && kind != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden("spec.allocateLoadBalancerNodePorts", detail));
    }
    if let Some(class) = object::at(spec, &["loadBalancerClass"]).and_then(Value::as_str) {
        let path = "spec.loadBalancerClass";
        if kind == "LoadBalancer" {
            let faults = validate::qualified_name_faults(class);
            errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, class, fault)));
        } else {
            let detail = "may only be used when `type` is 'LoadBalancer'";
            errors.push(FieldError::forbidden(path, detail));
        }
    }
    let policy = object::text(spec, &["externalTrafficPolicy"]);
    if !policy.is_empty() && !is_externally_accessible(spec) {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid("spec.externalTrafficPolicy", policy, detail));
    } else if !policy.is_empty() && !POLICIES.contains(&policy) {
        errors.push(FieldError::not_supported("spec.externalTrafficPolicy", policy, &POLICIES));
    }
    let is_local = policy == "Local";
    if let Some(port) = object::integer(spec, &["healthCheckNodePort"]).filter(|port| *port != 0) {
        let path = "spec.healthCheckNodePort";
        if kind == "LoadBalancer" && is_local {
            let faults = validate::port_number_faults(port);
            errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, port, fault)));
        } else {
            let detail =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(path, port, detail));
        }
    }
    let policy = object::text(spec, &["internalTrafficPolicy"]);
    if !policy.is_empty() && !POLICIES.contains(&policy) {
        errors.push(FieldError::not_supported("spec.internalTrafficPolicy", policy, &POLICIES));
    }
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if let Some(distribution) = object::at(spec, &["trafficDistribution"]).and_then(Value::as_str)
        && !distributions.contains(&distribution)
    {
        errors.push(FieldError::not_supported("spec.trafficDistribution", distribution, &distributions));
    }
}

fn validate_ports(ports: &[Value], errors: &mut Vec<FieldError>) {
    let mut names = BTreeSet::new();
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
        errors.extend(validate::protocol_fault(port, &path));
        let target = port.get("targetPort").unwrap_or(&Value::Null);
        let faults = match target {
            Value::Number(number) => validate::port_number_faults(number.as_i64().unwrap_or(0)),
            Value::String(name) => validate::port_name_faults(name),
            _ => Vec::new(),
        };
        errors.extend(
            faults
                .into_iter()
                .map(|fault| FieldError::invalid(format!("{path}.targetPort"), target.clone(), fault)),
        );
        errors.extend(validate::app_protocol_faults(port, &path));
    }
}

/// Ports outside and inside, each of which is one Service's once.
fn validate_node_ports(ports: &[Value], kind: &str, errors: &mut Vec<FieldError>) {
    let paths = || ports.iter().enumerate().map(|(index, port)| (port, format!("spec.ports[{index}]")));
    let node_port = |port| object::integer(port, &["nodePort"]).filter(|number| *number != 0);
    let protocol = |port| object::text(port, &["protocol"]);
    for (_, path) in paths().filter(|(port, _)| kind == "ClusterIP" && node_port(port).is_some()) {
        let detail = format!("may not be used when `type` is '{kind}'");
        errors.push(FieldError::forbidden(format!("{path}.nodePort"), detail));
    }
    let mut seen = BTreeSet::new();
    for (port, path) in paths() {
        if let Some(number) = node_port(port)
            && !seen.insert((protocol(port), number))
        {
            errors.push(FieldError::duplicate(format!("{path}.nodePort"), number));
        }
    }
    let mut seen = BTreeSet::new();
    for (port, path) in paths() {
        let number = object::integer(port, &["port"]).unwrap_or(0);
        if !seen.insert((protocol(port), number)) {
            let value = json!({ "port": number, "protocol": protocol(port) });
            errors.push(FieldError::duplicate(path, value));
        }
    }
}

/// A cluster IP stays as long as the Service is of a type that has one.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
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

    fn check(mut spec: Value, expect: Expect) {
        for (key, value) in
            [("sessionAffinity", json!("None")), ("ports", json!([{ "port": 80, "protocol": "TCP" }]))]
        {
            spec[key] = value;
        }
        let texts: Vec<String> = validate(&json!({ "spec": spec })).iter().map(ToString::to_string).collect();
        expect.assert_eq(&texts.join("\n"));
    }

    #[test]
    fn addresses_fit_each_other() {
        let ips =
            |first: &str, ips: Value| json!({ "type": "ClusterIP", "clusterIP": first, "clusterIPs": ips });
        check(ips("10.96.0.9", json!(["10.96.0.9", "2001:db8::1"])), expect![[""]]);
        check(ips("None", json!(["None"])), expect![[""]]);
        check(
            ips("", json!(["10.96.0.9"])),
            expect![[
                r#"spec.clusterIPs: Invalid value: ["10.96.0.9"]: must be empty when `clusterIP` is not specified"#
            ]],
        );
        check(
            ips("10.96.0.9", json!(["10.96.0.8", "10.96.0.9", "x"])),
            expect![[r#"
            spec.clusterIPs: Invalid value: ["10.96.0.8","10.96.0.9","x"]: first value must match `clusterIP`
            spec.clusterIPs[2]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            spec.clusterIPs: Invalid value: ["10.96.0.8","10.96.0.9","x"]: may only hold up to 2 values"#]],
        );
        check(
            ips("10.96.0.9", json!(["10.96.0.9", "10.96.0.8"])),
            expect![[
                r#"spec.clusterIPs: Invalid value: ["10.96.0.9","10.96.0.8"]: may specify no more than one IP for each IP family"#
            ]],
        );
        check(
            json!({ "type": "ClusterIP", "ipFamilies": ["IPv4", "IPv4", "IPv5"], "ipFamilyPolicy": "x" }),
            expect![[r#"
                spec.ipFamilies[1]: Duplicate value: "IPv4"
                spec.ipFamilies[2]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"
                spec.ipFamilyPolicy: Unsupported value: "x": supported values: "PreferDualStack", "RequireDualStack", "SingleStack""#]],
        );
        check(
            json!({ "type": "ExternalName", "externalName": "a.", "ipFamilies": ["IPv4"], "loadBalancerClass": "a",
                "allocateLoadBalancerNodePorts": true }),
            expect![[r#"
                spec.ipFamilies: Forbidden: may not be set for ExternalName services
                spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'
                spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"#]],
        );
    }

    #[test]
    fn what_comes_from_outside_is_checked_though_it_has_no_effect() {
        check(
            json!({ "type": "ClusterIP", "externalIPs": ["foo", "127.0.0.1", "203.0.113.7", "224.0.0.1", "fe80::1"],
                "externalTrafficPolicy": "Cluster", "trafficDistribution": "Near", "loadBalancerSourceRanges": ["10.0.0.0/8"] }),
            expect![[r#"
                spec.externalIPs[0]: Invalid value: "foo": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
                spec.externalIPs[1]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)
                spec.externalIPs[3]: Invalid value: "224.0.0.1": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)
                spec.externalIPs[4]: Invalid value: "fe80::1": may not be in the link-local range (169.254.0.0/16, fe80::/10)
                spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'
                spec.trafficDistribution: Unsupported value: "Near": supported values: "PreferClose", "PreferSameZone", "PreferSameNode""#]],
        );
        check(
            json!({ "type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/33", " 10.0.0.0/8 ", "x", "10.0.0.0/+8"],
                "externalTrafficPolicy": "Cluster", "healthCheckNodePort": 30000 }),
            expect![[r#"
                spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.0/33": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
                spec.LoadBalancerSourceRanges[2]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
                spec.LoadBalancerSourceRanges[3]: Invalid value: "10.0.0.0/+8": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
                spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"#]],
        );
        check(
            json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30000,
                "trafficDistribution": "PreferClose", "externalIPs": ["2001:db8::1"], "loadBalancerSourceRanges": ["::/0"] }),
            expect![[""]],
        );
    }
}
