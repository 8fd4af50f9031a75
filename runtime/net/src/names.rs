//! What a name means in a pod: pure, over text alone. The tables that hold the answers are in `services` and `network`.
//!
//! A pod's resolver has the search list `<ns>.svc.<domain>`, `svc.<domain>`, `<domain>` and `ndots:5`, as the kubelet
//! writes it into `resolv.conf`. Names under the cluster domain are answered from the tables and never leave.

use crate::NameError;
use std::net::{IpAddr, Ipv4Addr};

/// One name to try, in its absolute form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Candidate {
    Service { namespace: String, name: String },
    Hostname { hostname: String, subdomain: String, namespace: String },
    PodIp { namespace: String, ip: Ipv4Addr },
    Outside(String),
}

/// The absolute names to try for `name` as a pod of `namespace` asks it, in order. Names under the cluster domain that
/// cannot exist are left out.
pub(crate) fn candidates(
    name: &str,
    namespace: &str,
    cluster_domain: &str,
) -> Result<Vec<Candidate>, NameError> {
    let (relative, absolute) = match name.strip_suffix('.') {
        Some(name) => (name, true),
        None => (name, false),
    };
    if !is_host_name(relative) {
        return Err(NameError::Invalid(name.to_owned()));
    }
    let relative = relative.to_ascii_lowercase();
    let mut tries = Vec::new();
    let enough_dots = relative.bytes().filter(|byte| *byte == b'.').count() >= 5;
    if absolute || enough_dots {
        tries.push(relative.clone());
    }
    if !absolute {
        tries.push(format!("{relative}.{namespace}.svc.{cluster_domain}"));
        tries.push(format!("{relative}.svc.{cluster_domain}"));
        tries.push(format!("{relative}.{cluster_domain}"));
        if !enough_dots {
            tries.push(relative);
        }
    }
    Ok(tries.into_iter().filter_map(|name| classify(name, cluster_domain)).collect())
}

fn classify(name: String, cluster_domain: &str) -> Option<Candidate> {
    let Some(inside) = name.strip_suffix(cluster_domain) else { return Some(Candidate::Outside(name)) };
    if inside.is_empty() {
        return None;
    }
    let Some(inside) = inside.strip_suffix('.') else { return Some(Candidate::Outside(name)) };
    let labels: Vec<&str> = inside.split('.').collect();
    match labels[..] {
        [name, namespace, "svc"] => {
            Some(Candidate::Service { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        [hostname, subdomain, namespace, "svc"] => Some(Candidate::Hostname {
            hostname: hostname.to_owned(),
            subdomain: subdomain.to_owned(),
            namespace: namespace.to_owned(),
        }),
        [ip, namespace, "pod"] => {
            let ip = ip.replace('-', ".").parse().ok()?;
            Some(Candidate::PodIp { namespace: namespace.to_owned(), ip })
        }
        _ => None,
    }
}

/// The address a text is, if it is one. IPv6 may be in brackets.
pub(crate) fn literal(name: &str) -> Option<IpAddr> {
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.parse().ok()
}

/// Letters, digits, hyphens and underscores in labels of at most 63, at most 253 in all.
fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(names: &str, expect: Expect) {
        let mut out = String::new();
        for name in names.split_whitespace() {
            let line = match candidates(name, "shop", "cluster.local") {
                Err(error) => error.to_string(),
                Ok(candidates) => {
                    let words: Vec<_> = candidates
                        .iter()
                        .map(|candidate| match candidate {
                            Candidate::Service { namespace, name } => format!("service {namespace}/{name}"),
                            Candidate::Hostname { hostname, subdomain, namespace } => {
                                format!("host {namespace}/{subdomain}/{hostname}")
                            }
                            Candidate::PodIp { namespace, ip } => format!("pod {namespace}/{ip}"),
                            Candidate::Outside(name) => format!("outside {name}"),
                        })
                        .collect();
                    words.join(", ")
                }
            };
            out.push_str(&format!("{name} => {line}\n"));
        }
        expect.assert_eq(&out);
    }

    #[test]
    fn a_name_is_tried_along_the_search_list() {
        check(
            "web Web web.shop web.other.svc web.other.svc.cluster.local web.other.svc.cluster.local. web-0.web
             web-0.web.shop.svc.cluster.local 10-244-0-5.shop.pod 10-244-0-5.shop.pod.cluster.local x.shop.pod",
            expect![[r#"
                web => service shop/web, outside web
                Web => service shop/web, outside web
                web.shop => host shop/shop/web, service shop/web, outside web.shop
                web.other.svc => host svc/other/web, service other/web, outside web.other.svc
                web.other.svc.cluster.local => service other/web
                web.other.svc.cluster.local. => service other/web
                web-0.web => host shop/web/web-0, service web/web-0, outside web-0.web
                web-0.web.shop.svc.cluster.local => host shop/web/web-0
                10-244-0-5.shop.pod => host pod/shop/10-244-0-5, pod shop/10.244.0.5, outside 10-244-0-5.shop.pod
                10-244-0-5.shop.pod.cluster.local => pod shop/10.244.0.5
                x.shop.pod => host pod/shop/x, outside x.shop.pod
            "#]],
        );
    }

    #[test]
    fn what_is_under_the_cluster_domain_never_leaves() {
        check(
            "example.com example.com. notcluster.local cluster.local cluster.local. a.b.c.d.e.cluster.local a.b.c.d.e.f",
            expect![[r#"
                example.com => host shop/com/example, service com/example, outside example.com
                example.com. => outside example.com
                notcluster.local => host shop/local/notcluster, service local/notcluster, outside notcluster.local
                cluster.local => host shop/local/cluster, service local/cluster
                cluster.local. => 
                a.b.c.d.e.cluster.local => 
                a.b.c.d.e.f => outside a.b.c.d.e.f
            "#]],
        );
    }

    #[test]
    fn what_is_no_name_is_refused() {
        check(
            "a..b .a a/b näme *.a",
            expect![[r#"
                a..b => "a..b" is not a host name
                .a => ".a" is not a host name
                a/b => "a/b" is not a host name
                näme => "näme" is not a host name
                *.a => "*.a" is not a host name
            "#]],
        );
        assert!(candidates(&"a".repeat(64), "shop", "cluster.local").is_err());
        assert!(candidates(&"a.".repeat(128), "shop", "cluster.local").is_err());
        assert!(candidates("", "shop", "cluster.local").is_err());
    }

    #[test]
    fn an_address_is_its_own_answer() {
        assert_eq!(literal("10.0.0.1"), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(literal("[::1]"), Some("::1".parse().unwrap()));
        assert_eq!(literal("web"), None);
    }
}
