//! A guest's TCP socket: which state it is in, and what moves it on.

use crate::bindings::wasi::sockets::network::{ErrorCode, IpAddressFamily};
use crate::connection::{Connection, Reader, Writer};
use crate::error::{SocketResult, code_of};
use crate::pod_network::PodNetwork;
use runtime_net::{BoundTcp, Listener, NetError, Stream};
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

/// The backlog of Rust's standard library.
const DEFAULT_BACKLOG: u32 = 128;

/// The `tcp-socket` resource.
#[derive(Debug)]
pub struct TcpSocket {
    pub(crate) family: IpAddressFamily,
    pub(crate) options: Options,
    pub(crate) in_progress: Option<Operation>,
    state: State,
    backlog: u32,
}

/// What was started and not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Bind,
    Connect,
    Listen,
}

/// The options that a guest may set and read back. Between pods there are no packets for them to act on; accepted
/// sockets inherit them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) keep_alive_enabled: bool,
    pub(crate) keep_alive_idle_nanos: u64,
    pub(crate) keep_alive_interval_nanos: u64,
    pub(crate) keep_alive_count: u32,
    pub(crate) hop_limit: u8,
    pub(crate) receive_buffer: u64,
    pub(crate) send_buffer: u64,
}

impl Default for Options {
    /// Linux's.
    fn default() -> Self {
        Self {
            keep_alive_enabled: false,
            keep_alive_idle_nanos: 7200 * 1_000_000_000,
            keep_alive_interval_nanos: 75 * 1_000_000_000,
            keep_alive_count: 9,
            hop_limit: 64,
            receive_buffer: 64 * 1024,
            send_buffer: 64 * 1024,
        }
    }
}

enum State {
    Unbound,
    Bound(BoundTcp),
    Listening(Listener),
    Connecting(Pin<Box<dyn Future<Output = Result<Stream, NetError>> + Send>>),
    /// The result waits for `finish-connect`.
    Connected(Stream),
    /// The streams are given out.
    Open(Arc<Connection>),
    Failed(ErrorCode),
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unbound => "Unbound",
            Self::Bound(_) => "Bound",
            Self::Listening(_) => "Listening",
            Self::Connecting(_) => "Connecting",
            Self::Connected(_) => "Connected",
            Self::Open(_) => "Open",
            Self::Failed(_) => "Failed",
        })
    }
}

impl TcpSocket {
    pub(crate) fn new(family: IpAddressFamily) -> Self {
        Self {
            family,
            options: Options::default(),
            in_progress: None,
            state: State::Unbound,
            backlog: DEFAULT_BACKLOG,
        }
    }

    /// A socket that a listener accepted, with its streams.
    pub(crate) fn accepted(
        listener: &Self,
        stream: Stream,
        network: &PodNetwork,
    ) -> (Self, DynInputStream, DynOutputStream) {
        let connection = Connection::new(stream, network);
        let (reader, writer) = (Reader::new(connection.clone()), Writer::new(connection.clone()));
        let socket =
            Self { options: listener.options, state: State::Open(connection), ..Self::new(listener.family) };
        (socket, Box::new(reader), Box::new(writer))
    }

    // Unbound -> Bound
    pub(crate) fn bind(&mut self, network: &PodNetwork, address: SocketAddr) -> SocketResult<()> {
        let State::Unbound = self.state else { return Err(ErrorCode::InvalidState.into()) };
        self.state = State::Bound(network.attachment().bind(address)?);
        Ok(())
    }

    // Bound -> Listening
    pub(crate) fn listen(&mut self) -> SocketResult<()> {
        match std::mem::replace(&mut self.state, State::Unbound) {
            State::Bound(bound) => {
                self.state = State::Listening(bound.listen(self.backlog));
                Ok(())
            }
            other => {
                self.state = other;
                Err(ErrorCode::InvalidState.into())
            }
        }
    }

    // Unbound | Bound -> Connecting -> Connected | Failed
    pub(crate) fn connect(&mut self, network: &PodNetwork, remote: SocketAddr) -> SocketResult<()> {
        let attachment = network.attachment().clone();
        self.state = match std::mem::replace(&mut self.state, State::Unbound) {
            State::Unbound => State::Connecting(Box::pin(async move { attachment.connect(remote).await })),
            State::Bound(bound) => State::Connecting(Box::pin(bound.connect(remote))),
            other => {
                self.state = other;
                return Err(ErrorCode::InvalidState.into());
            }
        };
        // Inside the process this is all there is to it.
        let _waits = self.poll_connected(&mut Context::from_waker(Waker::noop()));
        Ok(())
    }

    // Connected -> Open
    pub(crate) fn take_streams(
        &mut self,
        network: &PodNetwork,
    ) -> SocketResult<(DynInputStream, DynOutputStream)> {
        if self.poll_connected(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Err(ErrorCode::WouldBlock.into());
        }
        self.in_progress = None;
        match std::mem::replace(&mut self.state, State::Failed(ErrorCode::InvalidState)) {
            State::Connected(stream) => {
                let connection = Connection::new(stream, network);
                let (reader, writer) = (Reader::new(connection.clone()), Writer::new(connection.clone()));
                self.state = State::Open(connection);
                Ok((Box::new(reader), Box::new(writer)))
            }
            State::Failed(code) => {
                self.state = State::Failed(code);
                Err(code.into())
            }
            other => {
                self.state = other;
                Err(ErrorCode::InvalidState.into())
            }
        }
    }

    // Connecting -> Connected | Failed
    fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Connecting(connecting) = &mut self.state {
            self.state = match std::task::ready!(connecting.as_mut().poll(cx)) {
                Ok(stream) => State::Connected(stream),
                Err(error) => State::Failed(code_of(&error)),
            };
        }
        Poll::Ready(())
    }

    /// The next connection, if one waits.
    pub(crate) fn accept(&mut self) -> SocketResult<Stream> {
        let State::Listening(listener) = &self.state else { return Err(ErrorCode::InvalidState.into()) };
        match listener.poll_accept(None) {
            Poll::Pending => Err(ErrorCode::WouldBlock.into()),
            Poll::Ready(Ok(stream)) => Ok(adopted(stream)?),
            Poll::Ready(Err(error)) => Err(error.into()),
        }
    }

    pub(crate) fn local_address(&self) -> SocketResult<SocketAddr> {
        match &self.state {
            State::Bound(bound) => Ok(bound.local_addr()),
            State::Listening(listener) => Ok(listener.local_addr()),
            State::Connected(stream) => Ok(stream.local_addr()),
            State::Open(connection) => Ok(connection.stream().local_addr()),
            State::Unbound | State::Connecting(_) | State::Failed(_) => Err(ErrorCode::InvalidState.into()),
        }
    }

    pub(crate) fn remote_address(&self) -> SocketResult<SocketAddr> {
        Ok(self.connection()?.stream().peer_addr())
    }

    pub(crate) fn connection(&self) -> SocketResult<&Arc<Connection>> {
        match &self.state {
            State::Open(connection) => Ok(connection),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    pub(crate) fn is_listening(&self) -> bool {
        matches!(self.state, State::Listening(_))
    }

    pub(crate) fn set_backlog(&mut self, size: u64) -> SocketResult<()> {
        if size == 0 {
            return Err(ErrorCode::InvalidArgument.into());
        }
        match self.state {
            State::Unbound | State::Bound(_) => {
                self.backlog = u32::try_from(size).unwrap_or(u32::MAX);
                Ok(())
            }
            State::Listening(_) => Err(ErrorCode::NotSupported.into()),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }
}

/// Moves a kernel socket to the guests' runtime, where it is waited for.
fn adopted(stream: Stream) -> Result<Stream, ErrorCode> {
    stream.adopt().map_err(|error| crate::error::code_of_io(error.kind()))
}

#[async_trait::async_trait]
impl Pollable for TcpSocket {
    async fn ready(&mut self) {
        if let State::Connecting(_) = self.state {
            poll_fn(|cx| self.poll_connected(cx)).await;
        } else if let State::Listening(listener) = &self.state {
            poll_fn(|cx| listener.poll_acceptable(cx)).await;
        }
    }
}
