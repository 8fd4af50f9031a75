//! Which outside addresses a pod may reach: a pure decision on the address itself, made at every connect and send, so
//! that a name which resolves to a refused address is refused as well.
//!
//! Refused are what only the host should see: its loopback, link-local networks, the clouds' metadata services,
//! and addresses that are no destination (unspecified, multicast, broadcast). An IPv6 address that carries an IPv4 one
//! (mapped, compatible, NAT64, 6to4) is judged by both. The host's other addresses are allowed: what listens there
//! was put on a network on purpose.

use crate::Cidr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The rule for traffic that leaves the process.
#[derive(Clone, Debug, Default)]
pub struct EgressPolicy {
    /// Ranges that are allowed although the rule refuses them.
    pub allow: Vec<Cidr>,
}

/// What the rule says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Traffic may go there.
    Allow,
    /// It may not; the reason in a few words.
    Deny(&'static str),
}

const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254),
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254),
];

impl EgressPolicy {
    /// Judges one address.
    pub fn check(&self, address: IpAddr) -> Verdict {
        let judged = [Some(address), carried(address).map(IpAddr::V4)];
        if judged.iter().flatten().any(|address| self.allow.iter().any(|range| range.contains(*address))) {
            return Verdict::Allow;
        }
        for address in judged.into_iter().flatten() {
            let reason = match address {
                IpAddr::V4(v4) => refuse_v4(v4),
                IpAddr::V6(v6) => refuse_v6(v6),
            };
            if let Some(reason) = reason {
                return Verdict::Deny(reason);
            }
        }
        Verdict::Allow
    }
}

/// The IPv4 address that an IPv6 address stands for, if any.
fn carried(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let segments = v6.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

fn refuse_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.octets()[0] == 0 {
        Some("unspecified address")
    } else if address.is_loopback() {
        Some("host loopback")
    } else if address.is_link_local() {
        Some("link-local or metadata address")
    } else if METADATA_V4.contains(&address) {
        Some("metadata address")
    } else if address.is_multicast() || address.is_broadcast() {
        Some("multicast or broadcast address")
    } else {
        None
    }
}

fn refuse_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("unspecified address")
    } else if address.is_loopback() {
        Some("host loopback")
    } else if address.segments()[0] & 0xffc0 == 0xfe80 {
        Some("link-local or metadata address")
    } else if METADATA_V6.contains(&address) {
        Some("metadata address")
    } else if address.is_multicast() {
        Some("multicast or broadcast address")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(policy: &EgressPolicy, addresses: &str, expect: Expect) {
        let mut answers = String::new();
        for address in addresses.split_whitespace() {
            let verdict = match policy.check(address.parse().unwrap()) {
                Verdict::Allow => "allow",
                Verdict::Deny(reason) => reason,
            };
            answers.push_str(&format!("{address}: {verdict}\n"));
        }
        expect.assert_eq(&answers);
    }

    #[test]
    fn what_only_the_host_should_see_is_refused() {
        check(
            &EgressPolicy::default(),
            "1.1.1.1 10.0.0.7 192.168.1.1 127.0.0.1 127.9.9.9 0.0.0.0 0.1.2.3 169.254.169.254 169.254.0.1 100.100.100.200
             168.63.129.16 224.0.0.1 255.255.255.255 100.64.0.1",
            expect![[r#"
                1.1.1.1: allow
                10.0.0.7: allow
                192.168.1.1: allow
                127.0.0.1: host loopback
                127.9.9.9: host loopback
                0.0.0.0: unspecified address
                0.1.2.3: unspecified address
                169.254.169.254: link-local or metadata address
                169.254.0.1: link-local or metadata address
                100.100.100.200: metadata address
                168.63.129.16: metadata address
                224.0.0.1: multicast or broadcast address
                255.255.255.255: multicast or broadcast address
                100.64.0.1: allow
            "#]],
        );
    }

    #[test]
    fn an_ipv6_address_is_judged_by_the_ipv4_one_it_carries_too() {
        check(
            &EgressPolicy::default(),
            "2001:db8::1 ::1 :: fe80::1 febf::1 ff02::1 fd00:ec2::254 fd00::1 ::ffff:127.0.0.1 ::ffff:169.254.169.254
             ::ffff:1.1.1.1 ::127.0.0.1 64:ff9b::7f00:1 2002:7f00:0001::1 ::ffff:0:127.0.0.1 2002:0101:0101::1",
            expect![[r#"
                2001:db8::1: allow
                ::1: host loopback
                ::: unspecified address
                fe80::1: link-local or metadata address
                febf::1: link-local or metadata address
                ff02::1: multicast or broadcast address
                fd00:ec2::254: metadata address
                fd00::1: allow
                ::ffff:127.0.0.1: host loopback
                ::ffff:169.254.169.254: link-local or metadata address
                ::ffff:1.1.1.1: allow
                ::127.0.0.1: host loopback
                64:ff9b::7f00:1: host loopback
                2002:7f00:0001::1: host loopback
                ::ffff:0:127.0.0.1: host loopback
                2002:0101:0101::1: allow
            "#]],
        );
    }

    #[test]
    fn an_allowed_range_lifts_the_refusal_for_itself_alone() {
        let policy = EgressPolicy { allow: vec!["127.0.0.1/32".parse().unwrap()] };
        check(
            &policy,
            "127.0.0.1 ::ffff:127.0.0.1 127.0.0.2 ::1",
            expect![[r#"
                127.0.0.1: allow
                ::ffff:127.0.0.1: allow
                127.0.0.2: host loopback
                ::1: host loopback
            "#]],
        );
    }
}
