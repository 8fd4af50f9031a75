//! EndpointSlices.

use crate::object;
use crate::resource::{Resource, Strategy};
use crate::validate::{self, FieldError};
use crate::write;
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
