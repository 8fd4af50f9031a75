//! The ports of one pod and one protocol: who is bound where, and which number comes next.
//!
//! A binding conflicts with another on the same port when the addresses are the same or one of them is unspecified of
//! the same family, as on Linux (IPv6 sockets are IPv6 only, as WASI has it).

use crate::NetError;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// The range Linux takes ephemeral ports from.
pub(crate) const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

/// Who is bound where. `T` is what a lookup should find.
#[derive(Debug)]
pub(crate) struct Ports<T> {
    bound: BTreeMap<u16, Vec<(IpAddr, T)>>,
    next_ephemeral: u16,
}

impl<T> Ports<T> {
    /// An empty table whose ephemeral ports start at `seed`, wrapped into the range.
    pub(crate) fn new(seed: u16) -> Self {
        let span = EPHEMERAL.end() - EPHEMERAL.start() + 1;
        Self { bound: BTreeMap::new(), next_ephemeral: EPHEMERAL.start() + seed % span }
    }

    /// Binds an address; port 0 takes an ephemeral one. `own` is the pod's IP. Returns the address bound.
    pub(crate) fn bind(
        &mut self,
        address: SocketAddr,
        own: IpAddr,
        value: T,
    ) -> Result<SocketAddr, NetError> {
        let ip = address.ip();
        if !(ip == own || ip.is_loopback() && is_own_loopback(ip) || ip.is_unspecified()) {
            return Err(NetError::AddressNotAvailable(address));
        }
        let port = match address.port() {
            0 => self.free_ephemeral(ip).ok_or(NetError::AddressInUse(address))?,
            port if self.conflicts(ip, port) => return Err(NetError::AddressInUse(address)),
            port => port,
        };
        self.bound.entry(port).or_default().push((ip, value));
        Ok(SocketAddr::new(ip, port))
    }

    /// Gives a bound address up and returns what was there.
    pub(crate) fn unbind(&mut self, address: SocketAddr) -> Option<T> {
        let entries = self.bound.get_mut(&address.port())?;
        let index = entries.iter().position(|(ip, _)| *ip == address.ip())?;
        let (_, value) = entries.swap_remove(index);
        if entries.is_empty() {
            self.bound.remove(&address.port());
        }
        Some(value)
    }

    /// Who gets what is sent to `address`: an exact binding before an unspecified one.
    pub(crate) fn lookup(&self, address: SocketAddr) -> Option<&T> {
        let entries = self.bound.get(&address.port())?;
        entries
            .iter()
            .find(|(ip, _)| *ip == address.ip())
            .or_else(|| {
                entries.iter().find(|(ip, _)| ip.is_unspecified() && ip.is_ipv4() == address.is_ipv4())
            })
            .map(|(_, value)| value)
    }

    /// The value at exactly this bound address.
    pub(crate) fn get_mut(&mut self, address: SocketAddr) -> Option<&mut T> {
        let entries = self.bound.get_mut(&address.port())?;
        entries.iter_mut().find(|(ip, _)| *ip == address.ip()).map(|(_, value)| value)
    }

    /// A number for an outgoing connection's own end: the next one that nobody is bound to. Connections are told apart
    /// by both ends, so it is not reserved.
    pub(crate) fn next_ephemeral(&mut self, ip: IpAddr) -> Option<u16> {
        self.free_ephemeral(ip)
    }

    /// Everything bound, in the order of the ports.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &T)> {
        self.bound.iter().flat_map(|(port, entries)| {
            entries.iter().map(|(ip, value)| (SocketAddr::new(*ip, *port), value))
        })
    }

    fn free_ephemeral(&mut self, ip: IpAddr) -> Option<u16> {
        let span = EPHEMERAL.end() - EPHEMERAL.start() + 1;
        for _ in 0..span {
            let port = self.next_ephemeral;
            self.next_ephemeral = if port == *EPHEMERAL.end() { *EPHEMERAL.start() } else { port + 1 };
            if !self.conflicts(ip, port) {
                return Some(port);
            }
        }
        None
    }

    fn conflicts(&self, ip: IpAddr, port: u16) -> bool {
        self.bound.get(&port).is_some_and(|entries| {
            entries.iter().any(|(other, _)| {
                other.is_ipv4() == ip.is_ipv4()
                    && (*other == ip || other.is_unspecified() || ip.is_unspecified())
            })
        })
    }
}

/// All of 127.0.0.0/8 and `::1` are the pod's own.
fn is_own_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Binds each address in turn and prints what came out; `-ADDR` unbinds, `?ADDR` looks up.
    fn check(steps: &str, expect: Expect) {
        let mut ports = Ports::new(0);
        let own: IpAddr = "10.244.0.5".parse().unwrap();
        let mut out = String::new();
        for (index, step) in steps.split_whitespace().enumerate() {
            let line = if let Some(address) = step.strip_prefix('-') {
                format!("{:?}", ports.unbind(address.parse().unwrap()))
            } else if let Some(address) = step.strip_prefix('?') {
                format!("{:?}", ports.lookup(address.parse().unwrap()))
            } else {
                match ports.bind(step.parse().unwrap(), own, index) {
                    Ok(address) => address.to_string(),
                    Err(error) => error.to_string(),
                }
            };
            out.push_str(&format!("{step} => {line}\n"));
        }
        expect.assert_eq(&out);
    }

    #[test]
    fn a_port_has_one_holder_per_address() {
        check(
            "0.0.0.0:80 0.0.0.0:80 127.0.0.1:80 [::]:80 10.244.0.5:81 127.0.0.1:81 0.0.0.0:81 10.244.0.6:82 127.0.0.9:83
             -0.0.0.0:80 127.0.0.1:80",
            expect![[r#"
                0.0.0.0:80 => 0.0.0.0:80
                0.0.0.0:80 => address 0.0.0.0:80 is in use
                127.0.0.1:80 => address 127.0.0.1:80 is in use
                [::]:80 => [::]:80
                10.244.0.5:81 => 10.244.0.5:81
                127.0.0.1:81 => 127.0.0.1:81
                0.0.0.0:81 => address 0.0.0.0:81 is in use
                10.244.0.6:82 => address 10.244.0.6:82 is not this pod's
                127.0.0.9:83 => 127.0.0.9:83
                -0.0.0.0:80 => Some(0)
                127.0.0.1:80 => 127.0.0.1:80
            "#]],
        );
    }

    #[test]
    fn a_lookup_prefers_the_exact_address() {
        check(
            "127.0.0.1:80 10.244.0.5:80 0.0.0.0:90 ?127.0.0.1:80 ?10.244.0.5:80 ?127.0.0.2:80 ?127.0.0.2:90 ?[::1]:90",
            expect![[r#"
                127.0.0.1:80 => 127.0.0.1:80
                10.244.0.5:80 => 10.244.0.5:80
                0.0.0.0:90 => 0.0.0.0:90
                ?127.0.0.1:80 => Some(0)
                ?10.244.0.5:80 => Some(1)
                ?127.0.0.2:80 => None
                ?127.0.0.2:90 => Some(2)
                ?[::1]:90 => None
            "#]],
        );
    }

    #[test]
    fn ephemeral_ports_are_linux_s_and_run_out() {
        let own: IpAddr = "10.244.0.5".parse().unwrap();
        let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let mut ports = Ports::new(u16::MAX);
        let mut given = std::collections::BTreeSet::new();
        while let Ok(address) = ports.bind(any, own, ()) {
            assert!(EPHEMERAL.contains(&address.port()));
            assert!(given.insert(address.port()));
        }
        assert_eq!(given.len(), 28_232);
        assert_eq!(ports.next_ephemeral(own), None);
    }
}
