//! The node's address, as its Node object and its pods' status tell it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The address to tell for the one where NodePorts listen. A loopback is told as it is: that is where they are reached,
/// from this machine; pods reach them at the network's gateway. For the unspecified address it is the one that this machine
/// has towards the outside.
pub(super) fn of_node(listening: IpAddr) -> IpAddr {
    if listening.is_unspecified() { towards_outside(listening) } else { listening }
}

/// Of the interface that the default route leads to; the loopback where there is none.
fn towards_outside(any: IpAddr) -> IpAddr {
    // Addresses for documentation: no packet is sent.
    let (outside, loopback): (IpAddr, IpAddr) = match any {
        IpAddr::V4(_) => (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), Ipv6Addr::LOCALHOST.into()),
    };
    let routed = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(outside, 9))?;
        socket.local_addr()
    });
    routed.map(|local| local.ip()).ok().filter(|ip| !ip.is_unspecified()).unwrap_or(loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_has_an_address_that_can_be_reached() {
        for address in ["127.0.0.1", "192.168.7.7", "::1"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(of_node(address), address);
        }
        for any in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
            let address = of_node(any);
            assert!(!address.is_unspecified() && address.is_ipv4() == any.is_ipv4(), "{address}");
        }
    }
}
