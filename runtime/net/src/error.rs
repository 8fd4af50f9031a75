//! What can go wrong on the virtual network, in the terms of BSD sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};

/// Why an operation on the virtual network failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// `EADDRINUSE`: another socket of the pod has the address, or another pod has the wanted IP.
    #[error("address {0} is in use")]
    AddressInUse(SocketAddr),
    /// `EADDRNOTAVAIL`: the address is not one of the pod's own.
    #[error("address {0} is not this pod's")]
    AddressNotAvailable(SocketAddr),
    /// The node's range has no free address left.
    #[error("no free pod address left in {0}")]
    NoFreeAddress(crate::Cidr),
    /// `ECONNREFUSED`: nobody listens there, or the Service has no ready endpoint.
    #[error("connection to {0} refused")]
    Refused(SocketAddr),
    /// `EHOSTUNREACH`: an address of the virtual network that no pod and no Service has.
    #[error("no route to {0}")]
    Unreachable(SocketAddr),
    /// `EACCES`: the egress policy refuses the address.
    #[error("egress to {0} is refused: {1}")]
    Denied(SocketAddr, &'static str),
    /// `ETIMEDOUT`: the backlog stayed full, or the outside did not answer.
    #[error("connection to {0} timed out")]
    TimedOut(SocketAddr),
    /// `EMFILE`: the pod holds as many sockets of this kind as it may.
    #[error("the pod's limit of {limit} {what} is reached")]
    TooManySockets {
        /// Which limit.
        what: &'static str,
        /// Its number.
        limit: usize,
    },
    /// `ENFILE`: all pods together hold as many kernel sockets as the node can spare.
    #[error("the node's limit of {limit} kernel sockets is reached")]
    TooManyKernelSockets {
        /// Its number.
        limit: usize,
    },
    /// `EMSGSIZE`: larger than a UDP datagram can be.
    #[error("a datagram of {0} bytes is too large")]
    DatagramTooLarge(usize),
    /// `EDESTADDRREQ`: a datagram without a destination on a socket that is not connected.
    #[error("the socket is not connected")]
    NotConnected,
    /// `EISCONN`: a destination that differs from the one the socket is connected to.
    #[error("the socket is connected to {0}")]
    IsConnected(SocketAddr),
    /// `EAFNOSUPPORT`: an IPv4 socket and an IPv6 address, or the other way round.
    #[error("address {0} is of another family than the socket")]
    WrongFamily(SocketAddr),
    /// The pod has left the network.
    #[error("the pod at {0} has left the network")]
    Detached(IpAddr),
    /// A kernel socket failed.
    #[error("kernel socket")]
    Io(#[source] io::Error),
}

impl NetError {
    /// The standard library's name for the kind of failure.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::AddressInUse(_) => io::ErrorKind::AddrInUse,
            Self::AddressNotAvailable(_) => io::ErrorKind::AddrNotAvailable,
            Self::NoFreeAddress(_) => io::ErrorKind::OutOfMemory,
            Self::Refused(_) => io::ErrorKind::ConnectionRefused,
            Self::Unreachable(_) => io::ErrorKind::HostUnreachable,
            Self::Denied(..) => io::ErrorKind::PermissionDenied,
            Self::TimedOut(_) => io::ErrorKind::TimedOut,
            Self::TooManySockets { .. } | Self::TooManyKernelSockets { .. } => io::ErrorKind::QuotaExceeded,
            Self::DatagramTooLarge(_) | Self::WrongFamily(_) => io::ErrorKind::InvalidInput,
            Self::NotConnected | Self::IsConnected(_) => io::ErrorKind::NotConnected,
            Self::Detached(_) => io::ErrorKind::NetworkDown,
            Self::Io(error) => error.kind(),
        }
    }
}

impl From<NetError> for io::Error {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Io(error) => error,
            other => Self::new(other.kind(), other),
        }
    }
}

/// Why a name gave no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Not a host name at all.
    #[error("{0:?} is not a host name")]
    Invalid(String),
    /// No Service, pod or outside host has the name.
    #[error("no such host: {0}")]
    NotFound(String),
    /// The host's resolver failed or did not answer in time; asking again may help.
    #[error("the lookup of {0} failed: {1}")]
    TryAgain(String, String),
}
