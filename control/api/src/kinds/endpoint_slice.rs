//! EndpointSlices.

use crate::object;
use crate::resource::{Resource, Strategy};
use crate::validate::{self, FieldError};
use crate::write;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_ENDPOINTS: usize = 1000;
/// Most zones, or nodes, of an endpoint.
const MAX_HINTS: usize = 8;

pub(super) const ROW: Resource = Resource {
    group: Cow::Borrowed("discovery.k8s.io"),
    kind: Cow::Borrowed("EndpointSlice"),
    plural: Cow::Borrowed("endpointslices"),
    singular: Cow::Borrowed("endpointslice"),
    schema: Cow::Borrowed("io.k8s.api.discovery.v1.EndpointSlice"),
    strategy: Strategy { validate, validate_update, generation: Some(generation), ..Strategy::PLAIN },
    columns: crate::printers::ENDPOINT_SLICE,
    ..Resource::PLAIN
};

fn validate(slice: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let families = ["FQDN", "IPv4", "IPv6"];
    let family = object::text(slice, &["addressType"]);
    if family.is_empty() {
        errors.push(FieldError::required("addressType", ""));
    } else if !families.contains(&family) {
        errors.push(FieldError::not_supported("addressType", family, &families));
    }
    validate_ports(object::list(slice, &["ports"]), &mut errors);
    let endpoints = object::list(slice, &["endpoints"]);
    if endpoints.len() > MAX_ENDPOINTS {
        errors.push(FieldError::too_many("endpoints", endpoints.len(), MAX_ENDPOINTS));
        return errors;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        validate_endpoint(endpoint, family, &format!("endpoints[{index}]"), &mut errors);
    }
    errors
}

fn validate_ports(ports: &[Value], errors: &mut Vec<FieldError>) {
    if ports.len() > MAX_PORTS {
        errors.push(FieldError::too_many("ports", ports.len(), MAX_PORTS));
        return;
    }
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("ports[{index}]");
        let name = object::text(port, &["name"]);
        if !name.is_empty() {
            let faults = validate::dns1123_label_faults(name);
            errors.extend(
                faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.name"), name, fault)),
            );
        }
        if !names.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
        errors.extend(validate::protocol_fault(port, &path));
        errors.extend(validate::app_protocol_faults(port, &path));
    }
}

fn validate_endpoint(endpoint: &Value, family: &str, path: &str, errors: &mut Vec<FieldError>) {
    let addresses = object::list(endpoint, &["addresses"]);
    let below = format!("{path}.addresses");
    if addresses.is_empty() {
        errors.push(FieldError::required(below.as_str(), "must contain at least 1 address"));
    } else if addresses.len() > MAX_ADDRESSES {
        errors.push(FieldError::too_many(below.as_str(), addresses.len(), MAX_ADDRESSES));
    }
    for (index, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
        validate_address(address, family, &below, index, errors);
    }
    for (key, faults_of) in [
        ("nodeName", validate::dns1123_subdomain_faults as fn(&str) -> Vec<String>),
        ("hostname", validate::dns1123_label_faults),
    ] {
        let Some(name) = object::at(endpoint, &[key]).and_then(Value::as_str) else { continue };
        let path = format!("{path}.{key}");
        errors
            .extend(faults_of(name).into_iter().map(|fault| FieldError::invalid(path.as_str(), name, fault)));
    }
    for (list, faults_of) in [
        ("forZones", validate::label_value_faults as fn(&str) -> Vec<String>),
        ("forNodes", validate::dns1123_subdomain_faults),
    ] {
        let hints = object::list(endpoint, &["hints", list]);
        let path = format!("{path}.hints.{list}");
        if hints.len() > MAX_HINTS {
            errors.push(FieldError::too_many(path, hints.len(), MAX_HINTS));
            return;
        }
        let mut names = BTreeSet::new();
        for (index, hint) in hints.iter().enumerate() {
            let name = object::text(hint, &["name"]);
            let path = format!("{path}[{index}].name");
            if !names.insert(name) {
                errors.push(FieldError::duplicate(path.as_str(), name));
            }
            errors.extend(
                faults_of(name).into_iter().map(|fault| FieldError::invalid(path.as_str(), name, fault)),
            );
        }
    }
}

/// Upstream does not say which of the addresses is of the wrong family.
fn validate_address(address: &str, family: &str, path: &str, index: usize, errors: &mut Vec<FieldError>) {
    let own_path = format!("{path}[{index}]");
    if family == "FQDN" {
        let mut faults = validate::dns1123_subdomain_faults(address);
        if faults.is_empty() && !address.contains('.') {
            faults.push("should be a domain with at least two segments separated by dots".to_owned());
        }
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(own_path.as_str(), address, fault)));
    }
    if !matches!(family, "IPv4" | "IPv6") {
        return;
    }
    if let Some(fault) = validate::ip_fault(address, &own_path) {
        errors.push(fault);
        return;
    }
    if address.parse::<Ipv4Addr>().is_ok() != (family == "IPv4") {
        errors.push(FieldError::invalid(path, address, format!("must be an {family} address")));
    }
    let faults = validate::endpoint_ip_faults(address);
    errors.extend(faults.into_iter().map(|fault| FieldError::invalid(own_path.as_str(), address, fault)));
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    validate::immutable(new, old, &["addressType"]).into_iter().collect()
}

/// Labels say what a slice is of, so they count.
fn generation(new: &Value, old: &Value) -> bool {
    let labels = |slice| object::labels(slice).filter(|labels| !labels.is_empty());
    write::differs_in_substance(new, old) || labels(new) != labels(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_generation_counts_labels_and_endpoints() {
        let old = json!({ "metadata": { "labels": { "a": "b" } }, "endpoints": [] });
        for (new, counts) in [
            (old.clone(), false),
            (
                json!({ "metadata": { "labels": { "a": "b" }, "annotations": { "c": "d" } }, "endpoints": [] }),
                false,
            ),
            (json!({ "metadata": { "labels": { "a": "c" } }, "endpoints": [] }), true),
            (json!({ "metadata": { "labels": { "a": "b" } }, "endpoints": [{}] }), true),
        ] {
            assert_eq!(generation(&new, &old), counts, "{new}");
        }
    }
}
