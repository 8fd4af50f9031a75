//! Checks of how a pod finds others by their names.

use crate::object;
use crate::validate::{self, FieldError};
use serde_json::Value;

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
/// Most characters of all search domains, with a space between any two.
const MAX_SEARCH_CHARS: usize = 2048;

/// Faults of `dnsConfig` beside `dnsPolicy`.
pub(super) fn dns(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let path = format!("{path}.dnsConfig");
    let config = object::at(spec, &["dnsConfig"]);
    if object::text(spec, &["dnsPolicy"]) == "None" {
        if config.is_none() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(FieldError::required(path, detail));
            return;
        }
        if config.is_some_and(|config| object::list(config, &["nameservers"]).is_empty()) {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(FieldError::required(format!("{path}.nameservers"), detail));
            return;
        }
    }
    let Some(config) = config else { return };
    let servers = object::list(config, &["nameservers"]);
    if servers.len() > MAX_NAMESERVERS {
        let detail = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        errors.push(FieldError::invalid(format!("{path}.nameservers"), servers, detail));
    }
    for (index, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        errors.extend(validate::ip_fault(server, &format!("{path}.nameservers[{index}]")));
    }
    let searches = object::list(config, &["searches"]);
    let n_chars = searches.iter().filter_map(Value::as_str).map(|search| search.len() + 1).sum::<usize>();
    let mut too_much = |detail: String| {
        errors.push(FieldError::invalid(format!("{path}.searches"), searches, detail));
    };
    if searches.len() > MAX_SEARCHES {
        too_much(format!("must not have more than {MAX_SEARCHES} search paths"));
    }
    if n_chars > MAX_SEARCH_CHARS + 1 {
        too_much(format!(
            "must not have more than {MAX_SEARCH_CHARS} characters (including spaces) in the search list"
        ));
    }
    for (index, search) in searches.iter().filter_map(Value::as_str).enumerate() {
        // The root alone, and names with underscores, are searched too.
        if search == "." {
            continue;
        }
        let name = search.strip_suffix('.').unwrap_or(search);
        let faults = validate::dns1123_subdomain_with_underscore_faults(name);
        let path = format!("{path}.searches[{index}]");
        errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path.as_str(), name, fault)));
    }
    for (index, option) in object::list(config, &["options"]).iter().enumerate() {
        if object::text(option, &["name"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.options[{index}]"), "must not be empty"));
        }
    }
}

/// Faults of the lines of the pod's own hosts file.
pub(super) fn host_aliases(aliases: &[Value], path: &str, errors: &mut Vec<FieldError>) {
    for (index, alias) in aliases.iter().enumerate() {
        let path = format!("{path}[{index}]");
        errors.extend(validate::ip_fault(object::text(alias, &["ip"]), &format!("{path}.ip")));
        let names = object::list(alias, &["hostnames"]).iter().filter_map(Value::as_str);
        for (n_name, name) in names.enumerate() {
            let faults = validate::dns1123_subdomain_faults(name);
            let path = format!("{path}.hostnames[{n_name}]");
            errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path.as_str(), name, fault)));
        }
    }
}
