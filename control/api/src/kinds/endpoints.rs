//! Endpoints, the older form of EndpointSlices.

use crate::object;
use crate::resource::{Resource, Strategy};
use crate::validate::{self, FieldError};
use serde_json::Value;
use std::borrow::Cow;
use std::net::IpAddr;

pub(super) const ROW: Resource = Resource {
    kind: Cow::Borrowed("Endpoints"),
    plural: Cow::Borrowed("endpoints"),
    singular: Cow::Borrowed("endpoints"),
    short_names: Cow::Borrowed(&[Cow::Borrowed("ep")]),
    schema: Cow::Borrowed("io.k8s.api.core.v1.Endpoints"),
    strategy: Strategy { validate, create_on_update: true, ..Strategy::PLAIN },
    columns: crate::printers::ENDPOINTS,
    ..Resource::PLAIN
};

fn validate(endpoints: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, subset) in object::list(endpoints, &["subsets"]).iter().enumerate() {
        let path = format!("subsets[{index}]");
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|list| object::list(subset, &[list]).is_empty()) {
            errors
                .push(FieldError::required(path.clone(), "must specify `addresses` or `notReadyAddresses`"));
        }
        for list in lists {
            for (n_address, address) in object::list(subset, &[list]).iter().enumerate() {
                let ip = object::text(address, &["ip"]);
                if ip.parse::<IpAddr>().is_err() {
                    let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                    errors.push(FieldError::invalid(format!("{path}.{list}[{n_address}].ip"), ip, detail));
                }
            }
        }
        let ports = object::list(subset, &["ports"]);
        for (n_port, port) in ports.iter().enumerate() {
            let path = format!("{path}.ports[{n_port}]");
            if ports.len() > 1 && object::text(port, &["name"]).is_empty() {
                errors.push(FieldError::required(format!("{path}.name"), ""));
            }
            let number = object::integer(port, &["port"]).unwrap_or(0);
            let faults = validate::port_number_faults(number);
            errors.extend(
                faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.port"), number, fault)),
            );
        }
    }
    errors
}
