//! From the network's errors to wasi:sockets' codes.

use crate::bindings::wasi::sockets::network::ErrorCode;
use runtime_net::{NameError, NetError};
use std::io;
use wasmtime::component::ResourceTableError;

/// What a host function of wasi:sockets fails with.
#[derive(Debug)]
pub enum SocketError {
    /// The guest is told.
    Code(ErrorCode),
    /// The guest broke the interface's contract and is ended.
    Trap(wasmtime::Error),
}

/// See [`SocketError`].
pub(crate) type SocketResult<T> = Result<T, SocketError>;

impl SocketError {
    pub(crate) fn trap(message: &'static str) -> Self {
        Self::Trap(wasmtime::Error::msg(message))
    }

    pub(crate) fn into_code(self) -> wasmtime::Result<ErrorCode> {
        match self {
            Self::Code(code) => Ok(code),
            Self::Trap(error) => Err(error),
        }
    }
}

impl From<ErrorCode> for SocketError {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<ResourceTableError> for SocketError {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<NetError> for SocketError {
    fn from(error: NetError) -> Self {
        Self::Code(code_of(&error))
    }
}

/// The code for a failed operation of the network.
pub(crate) fn code_of(error: &NetError) -> ErrorCode {
    match error {
        NetError::AddressInUse(_) => ErrorCode::AddressInUse,
        NetError::AddressNotAvailable(_) => ErrorCode::AddressNotBindable,
        NetError::NoFreeAddress(_) => ErrorCode::OutOfMemory,
        NetError::Refused(_) => ErrorCode::ConnectionRefused,
        NetError::Unreachable(_) | NetError::Detached(_) => ErrorCode::RemoteUnreachable,
        NetError::Denied(..) => ErrorCode::AccessDenied,
        NetError::TimedOut(_) => ErrorCode::Timeout,
        NetError::TooManySockets { .. } | NetError::TooManyKernelSockets { .. } => ErrorCode::NewSocketLimit,
        NetError::DatagramTooLarge(_) => ErrorCode::DatagramTooLarge,
        NetError::NotConnected | NetError::IsConnected(_) | NetError::WrongFamily(_) => {
            ErrorCode::InvalidArgument
        }
        NetError::Io(error) => code_of_io(error.kind()),
        _ => ErrorCode::Unknown,
    }
}

/// The code for a failed kernel socket.
pub(crate) fn code_of_io(kind: io::ErrorKind) -> ErrorCode {
    match kind {
        io::ErrorKind::AddrInUse => ErrorCode::AddressInUse,
        io::ErrorKind::AddrNotAvailable => ErrorCode::AddressNotBindable,
        io::ErrorKind::ConnectionAborted => ErrorCode::ConnectionAborted,
        io::ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
        io::ErrorKind::ConnectionReset => ErrorCode::ConnectionReset,
        io::ErrorKind::InvalidInput => ErrorCode::InvalidArgument,
        io::ErrorKind::NotConnected => ErrorCode::InvalidState,
        io::ErrorKind::OutOfMemory => ErrorCode::OutOfMemory,
        io::ErrorKind::PermissionDenied => ErrorCode::AccessDenied,
        io::ErrorKind::TimedOut => ErrorCode::Timeout,
        io::ErrorKind::Unsupported => ErrorCode::NotSupported,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            ErrorCode::RemoteUnreachable
        }
        _ => ErrorCode::Unknown,
    }
}

/// The code for a name that gave no address.
pub(crate) fn code_of_name(error: &NameError) -> ErrorCode {
    match error {
        NameError::Invalid(_) => ErrorCode::InvalidArgument,
        NameError::TryAgain(..) => ErrorCode::TemporaryResolverFailure,
        _ => ErrorCode::NameUnresolvable,
    }
}
