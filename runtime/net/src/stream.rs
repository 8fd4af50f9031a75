//! A TCP connection as a pod sees it: an in-memory pair of pipes, or a kernel socket where one end is outside.
//!
//! A NodePort connection is the client's kernel socket itself, handed to the pod's listener: nothing is copied between.
//! Operations take `&self`, so a guest's input and output streams can share one `Stream`.

use crate::pipe::Pipe;
use crate::quota::{Budget, Permit};
use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// One end of a connection. Dropping it closes it: the peer reads what was sent to it, and then sees the end of the
/// stream, or a reset when bytes it had sent were not read.
#[derive(Debug)]
pub struct Stream {
    inner: Inner,
    local: SocketAddr,
    peer: SocketAddr,
    /// The pod's place for this socket.
    _permit: Option<Permit>,
    /// The node's, for a kernel socket.
    _kernel: Option<Permit>,
}

#[derive(Debug)]
enum Inner {
    Memory(End),
    Kernel(TcpStream),
}

/// One side of a pair of pipes.
#[derive(Debug)]
struct End {
    pair: Arc<[Pipe; 2]>,
    side: usize,
}

impl End {
    fn outgoing(&self) -> &Pipe {
        &self.pair[self.side]
    }

    fn incoming(&self) -> &Pipe {
        &self.pair[1 - self.side]
    }

    fn reset(&self) {
        self.pair[0].reset();
        self.pair[1].reset();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if self.incoming().abandon() {
            self.incoming().reset();
            self.outgoing().sever();
        } else {
            self.outgoing().finish();
        }
    }
}

impl Stream {
    /// A connection inside the process: the client's end, whose peer is `remote` as the client named it, and the
    /// server's end, whose own address is `server` where it is bound. What each end sends counts on its budget.
    pub(crate) fn pair(
        client: SocketAddr,
        remote: SocketAddr,
        server: SocketAddr,
        budgets: [Option<Arc<Budget>>; 2],
    ) -> (Self, Self) {
        let pair = Arc::new(budgets.map(Pipe::new));
        let end = |side, local, peer| Self {
            inner: Inner::Memory(End { pair: pair.clone(), side }),
            local,
            peer,
            _permit: None,
            _kernel: None,
        };
        (end(0, client, remote), end(1, server, client))
    }

    /// A kernel socket under the addresses that the pod should see.
    pub(crate) fn kernel(socket: TcpStream, local: SocketAddr, peer: SocketAddr, place: Permit) -> Self {
        Self { inner: Inner::Kernel(socket), local, peer, _permit: None, _kernel: Some(place) }
    }

    pub(crate) fn with_permit(mut self, permit: Permit) -> Self {
        self._permit = Some(permit);
        self
    }

    /// The address of this end.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The address of the other end, as this end named it or saw it.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the other end is outside the process.
    pub fn is_kernel(&self) -> bool {
        matches!(self.inner, Inner::Kernel(_))
    }

    /// The kernel's socket, for its options; `None` where there is none.
    pub fn kernel_socket(&self) -> Option<SockRef<'_>> {
        match &self.inner {
            Inner::Kernel(socket) => Some(SockRef::from(socket)),
            Inner::Memory(_) => None,
        }
    }

    /// Registers a kernel socket with the runtime of the caller, so that its readiness wakes tasks there without a hop
    /// between runtimes. An in-memory stream belongs to no runtime.
    pub fn adopt(self) -> io::Result<Self> {
        let inner = match self.inner {
            Inner::Kernel(socket) => Inner::Kernel(TcpStream::from_std(socket.into_std()?)?),
            memory @ Inner::Memory(_) => memory,
        };
        Ok(Self { inner, ..self })
    }

    /// Takes up to `max` bytes that have arrived; empty bytes are the end of the stream. Without a context nobody is
    /// woken later.
    pub fn poll_read_bytes(&self, mut cx: Option<&mut Context<'_>>, max: usize) -> Poll<io::Result<Bytes>> {
        let socket = match &self.inner {
            Inner::Memory(end) => return end.incoming().poll_read_bytes(cx, max),
            Inner::Kernel(socket) => socket,
        };
        let mut buffer = BytesMut::with_capacity(max.min(crate::pipe::CAPACITY));
        loop {
            match socket.try_read_buf(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match cx.as_deref_mut() {
                    Some(cx) => ready!(socket.poll_read_ready(cx))?,
                    None => return Poll::Pending,
                },
                other => return Poll::Ready(other.map(|_n| buffer.freeze())),
            }
        }
    }

    /// Sends as much of `bytes` as fits now and leaves the rest in it.
    pub fn poll_write_bytes(
        &self,
        mut cx: Option<&mut Context<'_>>,
        bytes: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        let socket = match &self.inner {
            Inner::Memory(end) => return end.outgoing().poll_write_bytes(cx, bytes),
            Inner::Kernel(socket) => socket,
        };
        loop {
            match socket.try_write(bytes) {
                Ok(n) => {
                    let _sent = bytes.split_to(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match cx.as_deref_mut() {
                    Some(cx) => ready!(socket.poll_write_ready(cx))?,
                    None => return Poll::Pending,
                },
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// How many bytes a write is sure to take now; `None` where only the kernel knows.
    pub fn room(&self) -> io::Result<Option<usize>> {
        match &self.inner {
            Inner::Memory(end) => end.outgoing().room().map(Some),
            Inner::Kernel(_) => Ok(None),
        }
    }

    /// Ready when bytes, the end or an error can be read.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.inner {
            Inner::Memory(end) => end.incoming().poll_readable(cx),
            Inner::Kernel(socket) => socket.poll_read_ready(cx).map(drop),
        }
    }

    /// Ready when a write would not wait.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.inner {
            Inner::Memory(end) => end.outgoing().poll_writable(cx),
            Inner::Kernel(socket) => socket.poll_write_ready(cx).map(drop),
        }
    }

    /// Ends one direction or both, as `shutdown(2)`.
    pub fn shut_down(&self, how: Shutdown) -> io::Result<()> {
        match &self.inner {
            Inner::Memory(end) => {
                if matches!(how, Shutdown::Write | Shutdown::Both) {
                    end.outgoing().finish();
                }
                if matches!(how, Shutdown::Read | Shutdown::Both) {
                    end.incoming().discard();
                }
                Ok(())
            }
            Inner::Kernel(socket) => match SockRef::from(socket).shutdown(how) {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                other => other,
            },
        }
    }

    /// Breaks the connection: both ends see a reset, and what is queued is lost.
    pub fn reset(&self) {
        match &self.inner {
            Inner::Memory(end) => end.reset(),
            Inner::Kernel(socket) => {
                let socket = SockRef::from(socket);
                // A close with a linger of nothing is a reset; the descriptor goes with the stream.
                let _already_gone = socket.set_linger(Some(Duration::ZERO));
                let _already_gone = socket.shutdown(Shutdown::Read);
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Memory(end) => end.incoming().poll_read_into(cx, buffer),
            Inner::Kernel(socket) => Pin::new(socket).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().inner {
            Inner::Memory(end) => end.outgoing().poll_write(Some(cx), &[io::IoSlice::new(data)]),
            Inner::Kernel(socket) => Pin::new(socket).poll_write(cx, data),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().inner {
            Inner::Memory(end) => end.outgoing().poll_write(Some(cx), slices),
            Inner::Kernel(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shut_down(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn pair() -> (Stream, Stream) {
        let at = |text: &str| text.parse().unwrap();
        Stream::pair(at("10.244.0.2:40000"), at("10.96.0.1:80"), at("10.244.0.3:8080"), [None, None])
    }

    #[test]
    fn the_client_sees_the_service_and_the_server_sees_the_client() {
        let (client, server) = pair();
        assert_eq!(client.peer_addr().to_string(), "10.96.0.1:80");
        assert_eq!(server.local_addr().to_string(), "10.244.0.3:8080");
        assert_eq!(server.peer_addr(), client.local_addr());
    }

    #[tokio::test]
    async fn one_direction_ends_while_the_other_goes_on() {
        let (mut client, mut server) = pair();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        server.write_all(b"answer to ").await.unwrap();
        server.write_all(text.as_bytes()).await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer to question");
        assert_eq!(client.write_all(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_close_with_unread_bytes_is_a_reset() {
        let (mut client, server) = pair();
        client.write_all(b"question").await.unwrap();
        drop(server);
        assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn an_answer_already_sent_is_read_before_the_reset() {
        for announced in [false, true] {
            let (mut client, mut server) = pair();
            client.write_all(b"a long question").await.unwrap();
            server.write_all(b"413").await.unwrap();
            if announced {
                server.shutdown().await.unwrap();
            }
            drop(server);
            let write = client.write_all(b"more of it").await;
            assert_eq!(write.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            let mut answer = Vec::new();
            let end = client.read_to_end(&mut answer).await.map_err(|error| error.kind());
            assert_eq!(answer, b"413");
            let expected = if announced { Ok(3) } else { Err(io::ErrorKind::ConnectionReset) };
            assert_eq!(end, expected, "the end, if it was announced before");
        }
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_writer_back_and_loses_nothing() {
        let (mut client, mut server) = pair();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let (written, received) = tokio::join!(
            async move {
                client.write_all(&sent).await.unwrap();
                sent.len()
            },
            async move {
                let mut received = Vec::new();
                let mut buffer = [0; 777];
                loop {
                    let n = server.read(&mut buffer).await.unwrap();
                    if n == 0 {
                        break received;
                    }
                    received.extend_from_slice(&buffer[..n]);
                }
            }
        );
        assert_eq!(written, received.len());
        assert!(received == expected);
    }
}
