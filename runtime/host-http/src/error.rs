//! From failures of the network to wasi:http's error codes.

use runtime_net::{NameError, NetError};
use std::io;
use wasmtime_wasi_http::Error;

/// What a guest is told when the connection could not be made.
pub(crate) fn of_connect(error: &NetError) -> Error {
    match error {
        NetError::Refused(_) => Error::ConnectionRefused,
        NetError::Unreachable(_) | NetError::Detached(_) => Error::DestinationIpUnroutable,
        NetError::Denied(..) => Error::DestinationIpProhibited,
        NetError::TimedOut(_) => Error::ConnectionTimeout,
        NetError::TooManySockets { .. } | NetError::TooManyKernelSockets { .. } => {
            Error::ConnectionLimitReached
        }
        NetError::Io(error) => of_io(error),
        other => Error::InternalError(Some(other.to_string())),
    }
}

/// What a guest is told when a name gave no address.
pub(crate) fn of_name(error: &NameError) -> Error {
    let rcode = match error {
        NameError::TryAgain(..) => "SERVFAIL",
        NameError::Invalid(_) => "FORMERR",
        _ => "NXDOMAIN",
    };
    Error::DnsError { rcode: Some(rcode.to_owned()), info_code: None }
}

/// What a guest is told when the TLS handshake failed.
pub(crate) fn of_tls(error: &io::Error) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Error::TlsCertificateError
        }
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        Some(_) => Error::TlsProtocolError,
        None => of_io(error),
    }
}

fn of_io(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Error::DestinationIpUnroutable,
        io::ErrorKind::PermissionDenied => Error::DestinationIpProhibited,
        _ => Error::ConnectionTerminated,
    }
}

/// What a guest is told when an exchange on a connection failed.
pub(crate) fn of_exchange(error: hyper::Error) -> Error {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        Error::ConnectionTerminated
    } else if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(None)
    } else if error.is_parse() {
        Error::HttpProtocolError
    } else if let Some(io) = cause_io(&error) {
        of_io(io)
    } else {
        Error::Hyper(error)
    }
}

fn cause_io(error: &hyper::Error) -> Option<&io::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_to_connect_has_its_code() {
        let to = "10.96.0.1:80".parse().unwrap();
        let cases = [
            (NetError::Refused(to), "connection refused"),
            (NetError::Unreachable(to), "destination IP address is unroutable"),
            (NetError::Denied(to, "host loopback"), "destination IP address is prohibited"),
            (NetError::TimedOut(to), "connection timeout"),
            (NetError::TooManySockets { what: "sockets", limit: 1 }, "connection limit reached"),
            (NetError::TooManyKernelSockets { limit: 1 }, "connection limit reached"),
            (NetError::Io(io::ErrorKind::ConnectionRefused.into()), "connection refused"),
        ];
        for (error, expected) in cases {
            assert_eq!(of_connect(&error).to_string(), expected);
        }
    }

    #[test]
    fn an_unknown_name_is_nxdomain() {
        assert_eq!(of_name(&NameError::NotFound("web".to_owned())).to_string(), "DNS error: rcode NXDOMAIN");
    }
}
