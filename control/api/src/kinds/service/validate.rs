//! Checks of a Service.

use super::{NONE, has_cluster_ip, has_node_ports, is_externally_accessible};
use crate::object;
use crate::validate::{self, FieldError};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Every fault of a Service.
pub(super) fn validate(service: &Value) -> Vec<FieldError> {
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
    for (key, is_allowed) in [
        ("externalTrafficPolicy", is_externally_accessible(spec)),
        ("internalTrafficPolicy", has_cluster_ip(kind)),
    ] {
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
    validate_outside(spec, kind, &mut errors);
    errors
}

/// Fields by which clients outside of the cluster come in. They have no effect here, and are checked all the same.
fn validate_outside(spec: &Value, kind: &str, errors: &mut Vec<FieldError>) {
    for (index, text) in object::list(spec, &["externalIPs"]).iter().filter_map(Value::as_str).enumerate() {
        let faults = endpoint_ip_faults(text);
        let path = format!("spec.externalIPs[{index}]");
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path.as_str(), text, fault)));
    }
    // Upstream writes these paths with a capital letter.
    let ranges = object::list(spec, &["loadBalancerSourceRanges"]);
    if !ranges.is_empty() && kind != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden("spec.LoadBalancerSourceRanges", detail));
    }
    for (index, text) in ranges.iter().filter_map(Value::as_str).map(str::trim).enumerate() {
        if !is_cidr(text) {
            let path = format!("spec.LoadBalancerSourceRanges[{index}]");
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(FieldError::invalid(path, text, detail));
        }
    }
    let is_local = object::text(spec, &["externalTrafficPolicy"]) == "Local";
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
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if let Some(distribution) = object::at(spec, &["trafficDistribution"]).and_then(Value::as_str)
        && !distributions.contains(&distribution)
    {
        errors.push(FieldError::not_supported("spec.trafficDistribution", distribution, &distributions));
    }
}

/// An address that a peer may have.
fn endpoint_ip_faults(text: &str) -> Vec<String> {
    let Ok(ip) = text.parse::<IpAddr>() else {
        return vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()];
    };
    let (is_link_local, is_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    [
        (ip.is_unspecified(), format!("may not be unspecified ({text})")),
        (ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (
            is_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ]
    .into_iter()
    .filter_map(|(holds, fault)| holds.then_some(fault))
    .collect()
}

fn is_cidr(text: &str) -> bool {
    let Some((ip, length)) = text.split_once('/') else { return false };
    let most = match ip.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.bytes().all(|byte| byte.is_ascii_digit()) && length.parse().is_ok_and(|length: u8| length <= most)
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
