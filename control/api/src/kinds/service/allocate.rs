//! Giving out what is unique in the cluster: cluster IPs and node ports.
//!
//! Both are found from the other Services, so that there is no second record of them that could be wrong. The search
//! starts at a place computed from the Service's uid: neighbours do not crowd, and a repeated run gives the same.

use super::{NONE, has_cluster_ip, has_node_ports, node_port};
use crate::error::ApiError;
use crate::object;
use crate::validate::FieldError;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The first address of the services' range, `10.96.0.0/16`.
const RANGE_START: u32 = 0x0a60_0000;
const RANGE_BITS: u32 = 16;
/// What is kept for Services that ask for an address by themselves, as `kubernetes` and DNS do.
const RESERVED: u32 = 256;
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30000..=32767;

/// Gives a Service its addresses and ports, or says which that it asks for is taken.
pub(super) fn allocate(
    service: &mut Value,
    old: Option<&Value>,
    others: &mut dyn Iterator<Item = Value>,
) -> Result<(), ApiError> {
    let kind = object::text(service, &["spec", "type"]).to_owned();
    let mut taken_ips = BTreeSet::new();
    let mut taken_ports = BTreeSet::new();
    let uid = object::uid(service).to_owned();
    for other in others.filter(|other| uid.is_empty() || object::uid(other) != uid) {
        taken_ips.insert(object::text(&other, &["spec", "clusterIP"]).to_owned());
        for port in object::list(&other, &["spec", "ports"]) {
            taken_ports.extend(node_port(port));
        }
    }
    let mut errors = Vec::new();
    if has_cluster_ip(&kind) {
        cluster_ip(service, old, &taken_ips, &mut errors);
    }
    if has_node_ports(&kind) {
        node_ports(service, &mut taken_ports, &mut errors);
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid("", "Service", object::name(service), &errors))
}

fn cluster_ip(
    service: &mut Value,
    old: Option<&Value>,
    taken: &BTreeSet<String>,
    errors: &mut Vec<FieldError>,
) {
    let asked = object::text(service, &["spec", "clusterIP"]).to_owned();
    let ip = if asked.is_empty() {
        let Some(free) = free_ip(service, taken) else {
            let detail = "failed to allocate IP: range is full";
            errors.push(FieldError {
                kind: crate::validate::FieldErrorKind::Internal,
                ..FieldError::invalid("spec.clusterIPs", Value::Null, detail)
            });
            return;
        };
        free.to_string()
    } else {
        let is_own = old.is_some_and(|old| object::text(old, &["spec", "clusterIP"]) == asked);
        if asked != NONE
            && !is_own
            && let Some(fault) = requested_fault(&asked, taken)
        {
            errors.push(FieldError::invalid(
                "spec.clusterIPs",
                json!([asked]),
                format!("failed to allocate IP {asked}: {fault}"),
            ));
            return;
        }
        asked
    };
    let spec = object::map_mut(service, &["spec"]);
    spec.insert("clusterIP".to_owned(), ip.clone().into());
    spec.insert("clusterIPs".to_owned(), json!([ip]));
    let families = spec.get("ipFamilies").and_then(Value::as_array);
    if families.is_some_and(|families| families.iter().any(|family| family != "IPv4")) {
        let detail = "not configured on this cluster";
        errors.push(FieldError::invalid("spec.ipFamilies[0]", spec["ipFamilies"][0].clone(), detail));
        return;
    }
    if spec.get("ipFamilyPolicy").is_some_and(|policy| policy == "RequireDualStack") {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", "RequireDualStack", detail));
        return;
    }
    spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
    spec.entry("ipFamilyPolicy").or_insert_with(|| "SingleStack".into());
}

fn requested_fault(asked: &str, taken: &BTreeSet<String>) -> Option<&'static str> {
    let is_inside = asked.parse::<Ipv4Addr>().is_ok_and(|ip| {
        let offset = u32::from(ip).wrapping_sub(RANGE_START);
        (1..(1 << RANGE_BITS) - 1).contains(&offset)
    });
    if !is_inside {
        return Some("the provided network does not match the current range");
    }
    taken.contains(asked).then_some("provided IP is already allocated")
}

fn free_ip(service: &Value, taken: &BTreeSet<String>) -> Option<Ipv4Addr> {
    let size = (1_u32 << RANGE_BITS) - 1;
    let room = size - RESERVED;
    let start = u32::try_from(seed(service) % u64::from(room)).expect("a remainder of a u32 fits");
    let upper = (0..room).map(move |step| RESERVED + (start + step) % room);
    upper
        .chain(1..RESERVED)
        .map(|offset| Ipv4Addr::from(RANGE_START + offset))
        .find(|ip| !taken.contains(&ip.to_string()))
}

/// A number that differs from Service to Service (FNV-1a of its uid and name).
fn seed(service: &Value) -> u64 {
    let bytes = object::uid(service).bytes().chain(object::name(service).bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn node_ports(service: &mut Value, taken: &mut BTreeSet<i64>, errors: &mut Vec<FieldError>) {
    let wants_ports = object::text(service, &["spec", "type"]) == "NodePort"
        || object::flag(service, &["spec", "allocateLoadBalancerNodePorts"]);
    let start = seed(service);
    let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    let Some(ports) = ports else { return };
    let mut own = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let Some(number) = node_port(port) else { continue };
        let path = format!("spec.ports[{index}].nodePort");
        if !NODE_PORTS.contains(&number) {
            let detail = "provided port is not in the valid range. The range of valid ports is 30000-32767";
            errors.push(FieldError::invalid(path, number, detail));
        } else if taken.contains(&number) {
            errors.push(FieldError::invalid(path, number, "provided port is already allocated"));
        }
        own.insert(number);
    }
    taken.extend(own);
    let mut given: Vec<(i64, Value)> = Vec::new();
    for (index, port) in ports.iter_mut().enumerate() {
        if node_port(port).is_some() || !wants_ports {
            continue;
        }
        // One number serves TCP and UDP of the same port, as upstream gives it out.
        let same = given
            .iter()
            .find(|(_, other)| other.get("port") == port.get("port") && other["protocol"] != port["protocol"])
            .map(|(number, _)| *number);
        let Some(number) = same.or_else(|| free_port(start, taken)) else {
            let path = format!("spec.ports[{index}].nodePort");
            let fault =
                FieldError::invalid(path, Value::Null, "failed to allocate a nodePort: range is full");
            errors.push(FieldError { kind: crate::validate::FieldErrorKind::Internal, ..fault });
            return;
        };
        taken.insert(number);
        given.push((number, port.clone()));
        object::map_mut(port, &[]).insert("nodePort".to_owned(), number.into());
    }
}

fn free_port(seed: u64, taken: &BTreeSet<i64>) -> Option<i64> {
    let n_ports = NODE_PORTS.end() - NODE_PORTS.start() + 1;
    let start = i64::try_from(seed % n_ports.unsigned_abs()).expect("a remainder of a small number fits");
    (0..n_ports).map(|step| NODE_PORTS.start() + (start + step) % n_ports).find(|port| !taken.contains(port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(mut service: Value, others: Vec<Value>, expect: Expect) {
        let text = match allocate(&mut service, None, &mut others.into_iter()) {
            Ok(()) => service["spec"].to_string(),
            Err(error) => error.message,
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn addresses_and_ports_are_given_out_and_wishes_honoured() {
        check(
            json!({ "metadata": { "name": "a", "uid": "1" }, "spec": { "type": "ClusterIP", "clusterIP": "10.96.0.1" } }),
            vec![],
            expect![[
                r#"{"clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","type":"ClusterIP"}"#
            ]],
        );
        check(
            json!({ "metadata": { "name": "a", "uid": "1" }, "spec": { "type": "ClusterIP", "clusterIP": "None" } }),
            vec![],
            expect![[
                r#"{"clusterIP":"None","clusterIPs":["None"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","type":"ClusterIP"}"#
            ]],
        );
        check(
            json!({ "metadata": { "name": "a", "uid": "1" }, "spec": { "type": "ExternalName" } }),
            vec![],
            expect![[r#"{"type":"ExternalName"}"#]],
        );
    }

    #[test]
    fn what_is_taken_is_refused() {
        let other = json!({ "metadata": { "uid": "2" }, "spec": { "clusterIP": "10.96.3.4", "ports": [{ "nodePort": 30080 }] } });
        check(
            json!({ "metadata": { "name": "a", "uid": "1" }, "spec": { "type": "ClusterIP", "clusterIP": "10.96.3.4" } }),
            vec![other.clone()],
            expect![[
                r#"Service "a" is invalid: spec.clusterIPs: Invalid value: ["10.96.3.4"]: failed to allocate IP 10.96.3.4: provided IP is already allocated"#
            ]],
        );
        check(
            json!({ "metadata": { "name": "a", "uid": "1" }, "spec": { "type": "NodePort", "ports": [{ "port": 1, "nodePort": 30080 }, { "port": 2, "nodePort": 80 }] } }),
            vec![other],
            expect![[
                r#"Service "a" is invalid: [spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated, spec.ports[1].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767]"#
            ]],
        );
    }

    #[test]
    fn a_thousand_services_have_a_thousand_addresses() {
        let mut all: Vec<Value> = Vec::new();
        for number in 0..1000 {
            let mut service = json!({
                "metadata": { "name": "a", "uid": number.to_string() },
                "spec": { "type": "NodePort", "ports": [{ "port": 80, "protocol": "TCP" }] },
            });
            allocate(&mut service, None, &mut all.iter().cloned()).unwrap();
            all.push(service);
        }
        let ips: BTreeSet<&str> =
            all.iter().map(|service| object::text(service, &["spec", "clusterIP"])).collect();
        let ports: BTreeSet<i64> =
            all.iter().filter_map(|service| node_port(&service["spec"]["ports"][0])).collect();
        assert_eq!((ips.len(), ports.len()), (1000, 1000));
    }
}
