//! Names from the command line: they must be right before anything is built, as what is wrong with them would show only
//! in the log of a server that seems to run.

use anyhow::{Result, bail};
use control_api::validate::{dns1123_subdomain_faults, label_value_faults};
use std::{fs, net::IpAddr};

/// Refuses the name of a Node that the API would not take: it is a name, and the value of a label.
pub(super) fn check_node_name(name: &str) -> Result<()> {
    let faults = [dns1123_subdomain_faults(name), label_value_faults(name)].concat();
    match faults.first() {
        None => Ok(()),
        Some(fault) => bail!("--node-name {name:?} cannot be the name of a Node: {fault}"),
    }
}

/// Refuses names that no certificate can be for. `*.example.com` is for every name with one label more.
pub(super) fn check_certificate_names(names: &[String]) -> Result<()> {
    for name in names {
        if let Some(fault) = host_faults(name.strip_prefix("*.").unwrap_or(name)).first() {
            bail!("--tls-san {name:?} is neither an address nor the name of a host: {fault}");
        }
    }
    Ok(())
}

/// What the API's certificate is for, beside the names that it always has. A server that listens everywhere is reached by
/// its host's name too.
pub(super) fn certificate_names(listen: IpAddr, tls_san: &[String]) -> Vec<String> {
    let mut names = [tls_san, &[listen.to_string()]].concat();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if listen.is_unspecified() && host_faults(host.trim()).is_empty() {
        names.push(host.trim().to_ascii_lowercase());
    }
    names
}

fn host_faults(host: &str) -> Vec<String> {
    match host.parse::<IpAddr>() {
        Ok(_) => Vec::new(),
        Err(_) => dns1123_subdomain_faults(&host.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_a_name_that_the_api_takes() {
        let too_long = "n".repeat(64);
        for (name, taken) in [
            ("wharf", true),
            ("n1.example.com", true),
            ("My Node", false),
            ("MyNode", false),
            ("-n", false),
            ("", false),
            (&too_long, false),
        ] {
            assert_eq!(check_node_name(name).is_ok(), taken, "{name:?}");
        }
        let told = check_node_name("My Node").unwrap_err().to_string();
        assert!(told.starts_with("--node-name \"My Node\" cannot be") && told.lines().count() == 1, "{told}");
    }

    #[test]
    fn a_certificate_is_for_hosts_and_addresses() {
        for (name, taken) in [
            ("example.com", true),
            ("Example.Com", true),
            ("*.example.com", true),
            ("192.0.2.1", true),
            ("fd00::1", true),
            ("https://example.com", false),
            ("example.com:6443", false),
            ("a.*.example.com", false),
            ("", false),
        ] {
            assert_eq!(check_certificate_names(&[name.to_owned()]).is_ok(), taken, "{name:?}");
        }
    }

    #[test]
    fn a_server_that_listens_everywhere_is_reached_by_more_names() {
        let named = ["example.com".to_owned()];
        let of = |listen: &str| certificate_names(listen.parse().unwrap(), &named);
        assert_eq!(of("192.0.2.1"), ["example.com", "192.0.2.1"]);
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_ascii_lowercase();
        for everywhere in ["0.0.0.0", "::"] {
            assert_eq!(of(everywhere).contains(&host), dns1123_subdomain_faults(&host).is_empty());
        }
    }
}
