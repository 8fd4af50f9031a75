//! Checks of single texts and numbers. Each returns what is wrong, in upstream's words.

use super::FieldError;
use crate::object;
use crate::quantity::Quantity;
use serde_json::Value;
use std::net::IpAddr;

/// What is said of a change to a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const UNDERSCORED: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
    an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
    and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
    validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  \
    or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn is_label(text: &str) -> bool {
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(lower) && text.ends_with(lower) && text.chars().all(|c| lower(c) || c == '-')
}

/// Alphanumeric at both ends, and `-_.` between.
fn is_name(text: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(end)
        && text.ends_with(end)
        && text.chars().all(|c| end(c) || matches!(c, '-' | '_' | '.'))
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// The same where upstream counts characters, of which each is a byte in what is allowed.
fn too_many_characters(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// RFC 1123 label: up to 63 of lower case letters, digits and `-`.
pub fn dns1123_label_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push(too_many_characters(63));
    }
    if !is_label(text) {
        faults.push(
            if text.contains('.') && dns1123_subdomain_faults(text).is_empty() {
                "must not contain dots"
            } else {
                LABEL
            }
            .to_owned(),
        );
    }
    faults
}

/// RFC 1123 subdomain: labels joined by dots, up to 253 in all.
pub fn dns1123_subdomain_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 253 {
        faults.push(too_many_characters(253));
    }
    if !text.split('.').all(is_label) {
        faults.push(SUBDOMAIN.to_owned());
    }
    faults
}

/// The same where underscores are let through, as in names that are only looked up.
pub fn dns1123_subdomain_with_underscore_faults(text: &str) -> Vec<String> {
    // One may stand before a name, and anywhere in it.
    let plain: Vec<String> =
        text.split('.').map(|part| part.strip_prefix('_').unwrap_or(part).replace('_', "-")).collect();
    let faults = dns1123_subdomain_faults(&plain.join("."));
    faults.into_iter().map(|fault| if fault == SUBDOMAIN { UNDERSCORED.to_owned() } else { fault }).collect()
}

/// A label's or annotation's key: a name, with or without a subdomain and a slash before it.
pub fn qualified_name_faults(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = match key.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                faults.extend(
                    dns1123_subdomain_faults(prefix).into_iter().map(|fault| format!("prefix part {fault}")),
                );
            }
            *name
        }
        _ => {
            return vec![
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
                 an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                 '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' \
                 (e.g. 'example.com/MyName')"
                    .to_owned(),
            ];
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push(format!("name part {}", too_long(63)));
    }
    if !is_name(name) {
        faults.push(QUALIFIED.to_owned());
    }
    faults
}

/// A label's value.
pub fn label_value_faults(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(too_long(63));
    }
    if !value.is_empty() && !is_name(value) {
        faults.push(LABEL_VALUE.to_owned());
    }
    faults
}

/// A key of a ConfigMap or Secret.
pub fn config_key_faults(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if key.len() > 253 {
        faults.push(too_long(253));
    }
    if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        faults.push(CONFIG_KEY.to_owned());
    } else if key == "." {
        faults.push("must not be '.'".to_owned());
    } else if key.starts_with("..") {
        faults.push(if key == ".." { "must not be '..'" } else { "must not start with '..'" }.to_owned());
    }
    faults
}

/// An environment variable's name: any printable ASCII but `=`.
pub fn env_name_faults(name: &str) -> Vec<String> {
    let fits = !name.is_empty() && name.chars().all(|c| matches!(c, ' '..='~') && c != '=');
    if fits {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .to_owned(),
    ]
}

/// A port's name: as IANA service names.
pub fn port_name_faults(name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if name.len() > 15 {
        faults.push(too_long(15));
    }
    if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        faults.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.chars().any(|c| c.is_ascii_lowercase()) {
        faults.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        faults.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        faults.push("must not begin or end with a hyphen".to_owned());
    }
    faults
}

/// A port's number.
pub fn port_number_faults(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

/// A fault of an address that is none.
pub fn ip_fault(text: &str, path: &str) -> Option<FieldError> {
    let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    text.parse::<IpAddr>().is_err().then(|| FieldError::invalid(path, text, detail))
}

/// What an address of an endpoint may not be. The node itself may have one that only it can reach, so that is let
/// through, unlike upstream.
pub fn endpoint_ip_faults(text: &str) -> Vec<String> {
    let Ok(ip) = text.parse::<IpAddr>() else { return vec!["must be a valid IP address".to_owned()] };
    let (is_link_local, is_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    [
        (ip.is_unspecified(), format!("may not be unspecified ({text})")),
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

/// What an address may not be by which others come in from outside.
pub fn external_ip_faults(text: &str) -> Vec<String> {
    let is_loopback = text.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let mut faults = endpoint_ip_faults(text);
    faults.extend(is_loopback.then(|| "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()));
    faults
}

/// A fault of the `protocol` of a port at `path`.
pub fn protocol_fault(port: &Value, path: &str) -> Option<FieldError> {
    const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
    let path = format!("{path}.protocol");
    match object::text(port, &["protocol"]) {
        "" => Some(FieldError::required(path, "")),
        protocol if PROTOCOLS.contains(&protocol) => None,
        protocol => Some(FieldError::not_supported(path, protocol, &PROTOCOLS)),
    }
}

/// Faults of the `appProtocol` of a port at `path`, if it has one.
pub fn app_protocol_faults(port: &Value, path: &str) -> Vec<FieldError> {
    let Some(protocol) = object::at(port, &["appProtocol"]).and_then(Value::as_str) else {
        return Vec::new();
    };
    let faults = qualified_name_faults(protocol).into_iter();
    faults.map(|fault| FieldError::invalid(format!("{path}.appProtocol"), protocol, fault)).collect()
}

/// A range of addresses.
pub fn is_cidr(text: &str) -> bool {
    let Some((ip, length)) = text.split_once('/') else { return false };
    let most = match ip.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.bytes().all(|byte| byte.is_ascii_digit()) && length.parse().is_ok_and(|length: u8| length <= most)
}

/// What is said of a range of addresses that is none.
pub const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// A name that only has to stand in a path.
pub fn path_segment_faults(name: &str) -> Vec<String> {
    if matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    let parts = ["/", "%"].into_iter().filter(|part| name.contains(part));
    parts.map(|part| format!("may not contain '{part}'")).collect()
}

/// What is said of a number below zero.
pub const NEGATIVE: &str = "must be greater than or equal to 0";

/// A quantity that stands in a value.
pub fn quantity(value: &Value) -> Result<Quantity, String> {
    Quantity::from_value(value).map_err(|error| error.to_string())
}
