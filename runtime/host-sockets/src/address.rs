//! Addresses between WIT and the standard library, and which of them an operation takes.

use crate::bindings::wasi::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

impl From<IpSocketAddress> for SocketAddr {
    fn from(address: IpSocketAddress) -> Self {
        match address {
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (a, b, c, d) }) => {
                Self::new(Ipv4Addr::new(a, b, c, d).into(), port)
            }
            IpSocketAddress::Ipv6(v6) => {
                let (a, b, c, d, e, f, g, h) = v6.address;
                let ip = Ipv6Addr::new(a, b, c, d, e, f, g, h);
                Self::V6(SocketAddrV6::new(ip, v6.port, v6.flow_info, v6.scope_id))
            }
        }
    }
}

impl From<SocketAddr> for IpSocketAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => {
                let [a, b, c, d] = v4.ip().octets();
                Self::Ipv4(Ipv4SocketAddress { port: v4.port(), address: (a, b, c, d) })
            }
            SocketAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h] = v6.ip().segments();
                Self::Ipv6(Ipv6SocketAddress {
                    port: v6.port(),
                    flow_info: v6.flowinfo(),
                    address: (a, b, c, d, e, f, g, h),
                    scope_id: v6.scope_id(),
                })
            }
        }
    }
}

impl From<IpAddr> for IpAddress {
    fn from(address: IpAddr) -> Self {
        match IpSocketAddress::from(SocketAddr::new(address, 0)) {
            IpSocketAddress::Ipv4(v4) => Self::Ipv4(v4.address),
            IpSocketAddress::Ipv6(v6) => Self::Ipv6(v6.address),
        }
    }
}

/// Whether a socket of the family can be bound to the address: unicast, and neither IPv4-mapped nor IPv4-compatible.
pub(crate) fn check_local(address: SocketAddr, family: IpAddressFamily) -> Result<(), ErrorCode> {
    let fits = match (address.ip(), family) {
        (IpAddr::V4(v4), IpAddressFamily::Ipv4) => !v4.is_multicast() && !v4.is_broadcast(),
        (IpAddr::V6(v6), IpAddressFamily::Ipv6) => {
            let compatible = matches!(v6.segments(), [0, 0, 0, 0, 0, 0, high, low] if (high, low) > (0, 1));
            !v6.is_multicast() && v6.to_ipv4_mapped().is_none() && !compatible
        }
        (IpAddr::V4(_), IpAddressFamily::Ipv6) | (IpAddr::V6(_), IpAddressFamily::Ipv4) => false,
    };
    if fits { Ok(()) } else { Err(ErrorCode::InvalidArgument) }
}

/// Whether a socket of the family can send to the address: as for binding, and a real destination.
pub(crate) fn check_remote(address: SocketAddr, family: IpAddressFamily) -> Result<(), ErrorCode> {
    check_local(address, family)?;
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err(ErrorCode::InvalidArgument);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(family: IpAddressFamily, addresses: &str) -> Vec<&str> {
        let fits = |text: &&str| {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(SocketAddr::from(IpSocketAddress::from(address)), address);
            check_remote(address, family).is_ok()
        };
        addresses.split_whitespace().filter(fits).collect()
    }

    #[test]
    fn a_destination_is_unicast_of_the_socket_s_family() {
        let all = "10.0.0.1:80 127.0.0.1:1 0.0.0.0:80 10.0.0.1:0 224.0.0.1:5 255.255.255.255:5
            [::1]:80 [fd00::1]:80 [::]:80 [ff02::1]:80 [::ffff:10.0.0.1]:80 [::10.0.0.1]:80";
        assert_eq!(check(IpAddressFamily::Ipv4, all), ["10.0.0.1:80", "127.0.0.1:1"]);
        assert_eq!(check(IpAddressFamily::Ipv6, all), ["[::1]:80", "[fd00::1]:80"]);
    }
}
