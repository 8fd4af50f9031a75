//! Endpoints, the older form of EndpointSlices.

use crate::object;
use crate::resource::{Resource, Strategy};
use crate::validate::{self, FieldError};
use serde_json::Value;
use std::borrow::Cow;

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
                validate_address(address, &format!("{path}.{list}[{n_address}]"), &mut errors);
            }
        }
        let ports = object::list(subset, &["ports"]);
        for (n_port, port) in ports.iter().enumerate() {
            validate_port(port, ports.len() > 1, &format!("{path}.ports[{n_port}]"), &mut errors);
        }
    }
    errors
}

fn validate_address(address: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let ip = object::text(address, &["ip"]);
    errors.extend(validate::ip_fault(ip, &format!("{path}.ip")));
    for (key, faults_of) in [
        ("hostname", validate::dns1123_label_faults as fn(&str) -> Vec<String>),
        ("nodeName", validate::dns1123_subdomain_faults),
    ] {
        let name = object::text(address, &[key]);
        let faults = if name.is_empty() { Vec::new() } else { faults_of(name) };
        errors.extend(
            faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.{key}"), name, fault)),
        );
    }
    let faults = validate::endpoint_ip_faults(ip);
    errors.extend(faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.ip"), ip, fault)));
}

fn validate_port(port: &Value, is_named: bool, path: &str, errors: &mut Vec<FieldError>) {
    let name = object::text(port, &["name"]);
    if !name.is_empty() {
        let faults = validate::dns1123_label_faults(name);
        errors
            .extend(faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.name"), name, fault)));
    } else if is_named {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    }
    let number = object::integer(port, &["port"]).unwrap_or(0);
    let faults = validate::port_number_faults(number);
    errors.extend(faults.into_iter().map(|fault| FieldError::invalid(format!("{path}.port"), number, fault)));
    errors.extend(validate::protocol_fault(port, path));
    errors.extend(validate::app_protocol_faults(port, path));
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn addresses_and_ports_are_looked_into() {
        let endpoints = json!({ "subsets": [{
            "addresses": [{ "ip": "169.254.0.1", "hostname": "a.b", "nodeName": "n" }, { "ip": "x" }],
            "ports": [{ "port": 80, "protocol": "tcp", "name": "Web", "appProtocol": "a b" }, { "port": 0, "protocol": "TCP" }],
        }] });
        let texts: Vec<String> = validate(&endpoints).iter().map(ToString::to_string).collect();
        expect![[r#"
            subsets[0].addresses[0].hostname: Invalid value: "a.b": must not contain dots
            subsets[0].addresses[0].ip: Invalid value: "169.254.0.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)
            subsets[0].addresses[1].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            subsets[0].addresses[1].ip: Invalid value: "x": must be a valid IP address
            subsets[0].ports[0].name: Invalid value: "Web": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            subsets[0].ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"
            subsets[0].ports[0].appProtocol: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            subsets[0].ports[1].name: Required value
            subsets[0].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive"#]]
        .assert_eq(&texts.join("\n"));
    }
}
