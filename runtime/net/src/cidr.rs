//! An address range such as `10.244.0.0/16`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// The text was not an address, a slash and a prefix length that the family has.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an address range such as 10.244.0.0/16")]
pub struct BadCidr(String);

impl Cidr {
    /// The range of `prefix` leading bits that holds `address`; bits after the prefix are dropped.
    /// A prefix longer than the family has counts as the whole address.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let prefix = prefix.min(32);
                let network = u32::from(v4) & mask32(prefix);
                Self { network: IpAddr::V4(network.into()), prefix }
            }
            IpAddr::V6(v6) => {
                let prefix = prefix.min(128);
                let network = u128::from(v6) & mask128(prefix);
                Self { network: IpAddr::V6(network.into()), prefix }
            }
        }
    }

    /// The first address.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// How many leading bits are fixed.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether the address is of this family and in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                u32::from(address) & mask32(self.prefix) == u32::from(network)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                u128::from(address) & mask128(self.prefix) == u128::from(network)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn mask32(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn mask128(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let bad = || BadCidr(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_bad_address| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_bad_prefix| bad())?;
        if prefix > if address.is_ipv4() { 32 } else { 128 } {
            return Err(bad());
        }
        Ok(Self::new(address, prefix))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(range: &str, inside: &[&str], outside: &[&str]) {
        let range: Cidr = range.parse().unwrap();
        for address in inside {
            assert!(range.contains(address.parse().unwrap()), "{address} is in {range}");
        }
        for address in outside {
            assert!(!range.contains(address.parse().unwrap()), "{address} is not in {range}");
        }
    }

    #[test]
    fn a_range_holds_what_shares_its_prefix() {
        check("10.244.0.0/16", &["10.244.0.0", "10.244.255.255"], &["10.245.0.0", "10.243.255.255", "::1"]);
        check("10.244.3.7/16", &["10.244.0.1"], &["10.0.0.1"]);
        check("0.0.0.0/0", &["1.2.3.4"], &["::1"]);
        check("1.2.3.4/32", &["1.2.3.4"], &["1.2.3.5"]);
        check("fe80::/10", &["fe80::1", "febf::1"], &["fec0::1"]);
        check("::/0", &["::1"], &["1.2.3.4"]);
    }

    #[test]
    fn what_is_not_a_range_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "::/129", "x/8", "10.0.0.0/-1"] {
            assert!(text.parse::<Cidr>().is_err(), "{text:?}");
        }
    }
}
