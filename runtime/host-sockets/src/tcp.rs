//! A guest's TCP socket: which state it is in, and what moves it on.

use crate::bindings::wasi::sockets::network::{ErrorCode, IpAddressFamily};
use crate::connection::{Connection, Reader, Writer};
use crate::error::{SocketResult, code_of};
use crate::pod_network::PodNetwork;
use runtime_net::{BoundTcp, Listener, NetError, Stream};
use socket2::TcpKeepalive;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;
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

/// The options that a guest may set and read back. They are the kernel's where it has the socket; between pods there are
/// no packets for them to act on. Accepted sockets inherit them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A kind of option, as the kernel takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptionKind {
    KeepAlive,
    HopLimit,
    ReceiveBuffer,
    SendBuffer,
}

impl Options {
    /// Sets what is not the default on a new connection.
    fn apply_all(&self, stream: &Stream) {
        let default = Self::default();
        let keep_alive = |options: &Self| {
            let Self { keep_alive_enabled, keep_alive_idle_nanos, keep_alive_interval_nanos, .. } = *options;
            (keep_alive_enabled, keep_alive_idle_nanos, keep_alive_interval_nanos, options.keep_alive_count)
        };
        for (kind, differs) in [
            (OptionKind::KeepAlive, keep_alive(self) != keep_alive(&default)),
            (OptionKind::HopLimit, self.hop_limit != default.hop_limit),
            (OptionKind::ReceiveBuffer, self.receive_buffer != default.receive_buffer),
            (OptionKind::SendBuffer, self.send_buffer != default.send_buffer),
        ] {
            if differs {
                self.apply(kind, stream);
            }
        }
    }

    /// Sets the options of a kind on the kernel's socket, if there is one. The kernel may refuse a value that the guest
    /// may name; then its own stays.
    fn apply(&self, kind: OptionKind, stream: &Stream) {
        let Some(socket) = stream.kernel_socket() else { return };
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let applied = match kind {
            OptionKind::KeepAlive => {
                let times = TcpKeepalive::new()
                    .with_time(whole_secs(self.keep_alive_idle_nanos))
                    .with_interval(whole_secs(self.keep_alive_interval_nanos))
                    .with_retries(self.keep_alive_count);
                // Setting the times turns it on.
                socket.set_tcp_keepalive(&times).and_then(|()| socket.set_keepalive(self.keep_alive_enabled))
            }
            OptionKind::HopLimit => match socket.local_addr() {
                Ok(local) if local.is_ipv6() => socket.set_unicast_hops_v6(self.hop_limit.into()),
                _ => socket.set_ttl_v4(self.hop_limit.into()),
            },
            OptionKind::ReceiveBuffer => socket.set_recv_buffer_size(size(self.receive_buffer)),
            OptionKind::SendBuffer => socket.set_send_buffer_size(size(self.send_buffer)),
        };
        let _refused = applied;
    }
}

/// The kernel's unit for keep-alive; nothing is shorter than one.
fn whole_secs(nanos: u64) -> Duration {
    Duration::from_secs(nanos.div_ceil(1_000_000_000))
}

enum State {
    Unbound,
    Bound(BoundTcp),
    Listening(Listener),
    /// In a task, so that what it is given (a place in a backlog) is not kept by a guest that never looks.
    Connecting(AbortOnDropHandle<Result<Stream, NetError>>),
    /// The result waits for `finish-connect`.
    Connected(Stream),
    /// The streams are given out.
    Open(Connection),
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

impl State {
    fn of(connected: Result<Stream, NetError>) -> Self {
        match connected {
            Ok(stream) => Self::Connected(stream),
            Err(error) => Self::Failed(code_of(&error)),
        }
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
        listener.options.apply_all(&stream);
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
        let mut connecting: Pin<Box<dyn Future<Output = Result<Stream, NetError>> + Send>> =
            match std::mem::replace(&mut self.state, State::Unbound) {
                State::Unbound => Box::pin(async move { attachment.connect(remote).await }),
                State::Bound(bound) => Box::pin(bound.connect(remote)),
                other => {
                    self.state = other;
                    return Err(ErrorCode::InvalidState.into());
                }
            };
        // Inside the process this is all there is to it.
        self.state = match connecting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(connected) => State::of(connected),
            Poll::Pending => State::Connecting(AbortOnDropHandle::new(network.tasks().spawn(connecting))),
        };
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
                self.options.apply_all(&stream);
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
            self.state = match std::task::ready!(Pin::new(connecting).poll(cx)) {
                Ok(connected) => State::of(connected),
                // The process ends, or the task had a bug.
                Err(_) => State::Failed(ErrorCode::ConnectionAborted),
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

    pub(crate) fn connection(&self) -> SocketResult<&Connection> {
        match &self.state {
            State::Open(connection) => Ok(connection),
            _ => Err(ErrorCode::InvalidState.into()),
        }
    }

    /// Changes options of a kind, on the open connection too.
    pub(crate) fn set_option(&mut self, kind: OptionKind, set: impl FnOnce(&mut Options)) {
        set(&mut self.options);
        if let State::Open(connection) = &self.state {
            self.options.apply(kind, connection.stream());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::accepted;

    #[tokio::test]
    async fn options_are_the_kernel_s_where_it_has_the_socket() {
        let (_network, pod, stream, _client) = accepted().await;
        let mut listener = TcpSocket::new(IpAddressFamily::Ipv4);
        listener.set_option(OptionKind::HopLimit, |options| options.hop_limit = 7);
        listener.set_option(OptionKind::KeepAlive, |options| {
            options.keep_alive_enabled = true;
            options.keep_alive_idle_nanos = 1_500_000_000;
        });
        let before = stream.kernel_socket().unwrap().send_buffer_size().unwrap();
        let (mut socket, _reader, _writer) = TcpSocket::accepted(&listener, stream, &pod);
        let kernel = |socket: &TcpSocket| {
            let connection = socket.connection().unwrap().clone();
            let kernel = connection.stream().kernel_socket().unwrap();
            let (idle, count) = (kernel.tcp_keepalive_time(), kernel.tcp_keepalive_retries());
            (
                kernel.ttl_v4().unwrap(),
                kernel.keepalive().unwrap().then(|| (idle.unwrap().as_secs(), count.unwrap())),
                kernel.send_buffer_size().unwrap(),
            )
        };
        assert_eq!(
            kernel(&socket),
            (7, Some((2, 9)), before),
            "inherited; the kernel sizes its buffers itself"
        );
        socket.set_option(OptionKind::KeepAlive, |options| options.keep_alive_count = 3);
        assert_eq!(kernel(&socket).1, Some((2, 3)));
        socket.set_option(OptionKind::KeepAlive, |options| options.keep_alive_enabled = false);
        socket.set_option(OptionKind::HopLimit, |options| options.hop_limit = 64);
        socket.set_option(OptionKind::SendBuffer, |options| options.send_buffer = 16_384);
        // Linux counts its own overhead too.
        assert_eq!(kernel(&socket), (64, None, 2 * 16_384));
    }

    #[tokio::test]
    async fn a_connect_that_is_never_looked_at_keeps_no_place_from_others() {
        let (_network, pod, _stream, _client) = accepted().await;
        let attachment = pod.attachment();
        let to = SocketAddr::new(attachment.ip(), 81);
        let listener = attachment.listen(to, 1).unwrap();
        let mut ignored = Vec::new();
        for _ in 0..3 {
            let mut socket = TcpSocket::new(IpAddressFamily::Ipv4);
            assert!(socket.connect(&pod, to).is_ok());
            ignored.push(socket);
        }
        for _ in 0..3 {
            let accepted = tokio::time::timeout(Duration::from_secs(20), listener.accept());
            accepted.await.expect("each is driven by its task").unwrap();
        }
        assert!(
            ignored.iter().all(|socket| matches!(socket.state, State::Connected(_) | State::Connecting(_)))
        );
        // One that is dropped waits no more.
        let _queued = attachment.connect(to).await.unwrap();
        let mut given_up = TcpSocket::new(IpAddressFamily::Ipv4);
        assert!(given_up.connect(&pod, to).is_ok());
        assert!(matches!(given_up.state, State::Connecting(_)));
        drop(given_up);
        pod.tasks().close();
        pod.tasks().wait().await;
    }
}
