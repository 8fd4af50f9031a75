//! EndpointSlices.

use crate::object;
use crate::resource::{Resource, Strategy};
use crate::validate::{self, FieldError};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) const ROW: Resource = Resource {
    group: Cow::Borrowed("discovery.k8s.io"),
    kind: Cow::Borrowed("EndpointSlice"),
    plural: Cow::Borrowed("endpointslices"),
    singular: Cow::Borrowed("endpointslice"),
    schema: Cow::Borrowed("io.k8s.api.discovery.v1.EndpointSlice"),
    strategy: Strategy { validate, validate_update, has_generation: true, ..Strategy::PLAIN },
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
    let endpoints = object::list(slice, &["endpoints"]);
    for (index, endpoint) in endpoints.iter().enumerate() {
        let addresses = object::list(endpoint, &["addresses"]);
        let path = format!("endpoints[{index}].addresses");
        if addresses.is_empty() {
            errors.push(FieldError::required(path.clone(), "must contain at least 1 address"));
        }
        for (n_address, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
            let fits = match family {
                "IPv4" => address.parse::<Ipv4Addr>().is_ok(),
                "IPv6" => address.parse::<Ipv6Addr>().is_ok(),
                _ => true,
            };
            if !fits {
                let detail = format!("must be an {family} address");
                errors.push(FieldError::invalid(format!("{path}[{n_address}]"), address, detail));
            }
        }
    }
    let mut names = BTreeSet::new();
    for (index, port) in object::list(slice, &["ports"]).iter().enumerate() {
        let name = object::text(port, &["name"]);
        if !names.insert(name) {
            errors.push(FieldError::duplicate("ports", name));
        }
        let protocol = object::text(port, &["protocol"]);
        if !["SCTP", "TCP", "UDP"].contains(&protocol) {
            let path = format!("ports[{index}].protocol");
            errors.push(FieldError::not_supported(path, protocol, &["SCTP", "TCP", "UDP"]));
        }
    }
    errors
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    validate::immutable(new, old, &["addressType"]).into_iter().collect()
}
