//! A guest's TCP connection: one stream shared by the socket and its input and output streams.
//!
//! A write to a kernel socket whose buffer is full goes on in a task. While the guest holds the connection it waits as
//! long as the peer makes it, as a blocked writer does; when the guest is gone, the rest has a little time to
//! leave, and what cannot leave makes the close a reset, so that no peer takes a part for the whole.

use crate::pod_network::{AbortHandle, PodNetwork};
use bytes::Bytes;
use runtime_net::Stream;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{InputStream, OutputStream, StreamError, StreamResult};

/// The most a guest reads or writes in one call.
const MAX_CALL: usize = 64 * 1024;
/// How long bytes that a guest wrote before it ended may take to leave.
const LAST_WRITE: Duration = Duration::from_secs(30);

/// The guest's hold on a connection, which its socket and both streams share. When the last is dropped, what was written
/// is sent, and the connection is closed.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    _held: Arc<DropGuard>,
}

/// The connection itself.
#[derive(Debug)]
struct Shared {
    stream: Stream,
    abort: AbortHandle,
    tasks: TaskTracker,
    /// The guest holds it no more.
    left: CancellationToken,
    sending: Mutex<Sending>,
}

/// Writes to a kernel socket that its buffer had no room for yet.
#[derive(Debug, Default)]
struct Sending {
    /// A task sends what is queued; at most one `check-write`'s worth, as that allows nothing meanwhile.
    busy: bool,
    queue: VecDeque<Bytes>,
    /// The direction ends when the write has.
    then_shutdown: bool,
    failed: Option<io::ErrorKind>,
    waker: Option<Waker>,
}

impl Connection {
    pub(crate) fn new(stream: Stream, network: &PodNetwork) -> Self {
        let left = CancellationToken::new();
        let held = Arc::new(left.clone().drop_guard());
        let shared = Shared {
            stream,
            abort: network.abort_handle(),
            tasks: network.tasks().clone(),
            left,
            sending: Mutex::default(),
        };
        Self { shared: Arc::new(shared), _held: held }
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.shared.stream
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let mut sending = self.shared.sending();
        if sending.busy && how != Shutdown::Read {
            sending.then_shutdown = true;
            return if how == Shutdown::Both { self.stream().shut_down(Shutdown::Read) } else { Ok(()) };
        }
        drop(sending);
        self.stream().shut_down(how)
    }

    fn write(&self, mut bytes: Bytes) -> StreamResult<()> {
        {
            let mut sending = self.shared.sending();
            if sending.busy {
                sending.queue.push_back(bytes);
                return Ok(());
            }
        }
        while !bytes.is_empty() {
            match self.stream().poll_write_bytes(None, &mut bytes) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(stream_error(error)),
                Poll::Pending => {
                    self.shared.sending().busy = true;
                    self.shared.tasks.spawn(send_rest(self.shared.clone(), bytes));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut sending = self.shared.sending();
        if sending.busy {
            sending.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(sending);
        self.stream().poll_writable(cx)
    }
}

impl Shared {
    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, bytes: &mut Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            poll_fn(|cx| self.stream.poll_write_bytes(Some(cx), bytes)).await?;
        }
        Ok(())
    }

    /// What is queued next; else the task is done, and the guest may write again.
    fn next(&self) -> Option<Bytes> {
        let mut sending = self.sending();
        let next = sending.queue.pop_front();
        if next.is_none() {
            self.end(&mut sending, None);
        }
        next
    }

    fn end(&self, sending: &mut Sending, failed: Option<io::ErrorKind>) {
        sending.busy = false;
        sending.queue = VecDeque::new();
        sending.failed = failed;
        if failed.is_some() {
            self.stream.reset();
        } else if sending.then_shutdown {
            let _peer_is_gone = self.stream.shut_down(Shutdown::Write);
        }
        if let Some(waker) = sending.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.abort.is_aborted() {
            self.stream.reset();
        }
    }
}

async fn send_rest(connection: Arc<Shared>, bytes: Bytes) {
    let sending = async {
        let mut next = Some(bytes);
        while let Some(mut bytes) = next {
            connection.send(&mut bytes).await?;
            next = connection.next();
        }
        Ok::<_, io::Error>(())
    };
    let too_late = async {
        connection.left.cancelled().await;
        sleep(LAST_WRITE).await;
    };
    let sent = tokio::select! {
        sent = sending => sent,
        () = connection.abort.aborted() => Err(io::ErrorKind::ConnectionAborted.into()),
        () = too_late => Err(io::ErrorKind::TimedOut.into()),
    };
    if let Err(error) = sent {
        connection.end(&mut connection.sending(), Some(error.kind()));
    }
}

fn stream_error(error: io::Error) -> StreamError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        StreamError::Closed
    } else {
        StreamError::LastOperationFailed(error.into())
    }
}

/// The guest's input stream.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: Connection,
    ended: bool,
}

impl Reader {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, ended: false }
    }
}

#[async_trait::async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.ended {
            return Err(StreamError::Closed);
        }
        if size == 0 {
            return Ok(Bytes::new());
        }
        match self.connection.stream().poll_read_bytes(None, size.min(MAX_CALL)) {
            Poll::Pending => Ok(Bytes::new()),
            Poll::Ready(Ok(bytes)) if bytes.is_empty() => {
                self.ended = true;
                Err(StreamError::Closed)
            }
            Poll::Ready(Ok(bytes)) => Ok(bytes),
            Poll::Ready(Err(error)) => {
                self.ended = true;
                Err(StreamError::LastOperationFailed(error.into()))
            }
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        if !self.ended {
            poll_fn(|cx| self.connection.stream().poll_readable(cx)).await;
        }
    }
}

/// The guest's output stream.
#[derive(Debug)]
pub(crate) struct Writer {
    connection: Connection,
    /// What the last `check-write` allowed.
    permit: usize,
    ended: bool,
}

impl Writer {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, permit: 0, ended: false }
    }
}

#[async_trait::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > self.permit {
            return Err(StreamError::trap("a write of more than check-write allowed"));
        }
        self.permit -= bytes.len();
        self.connection.write(bytes).inspect_err(|_error| self.ended = true)
    }

    fn flush(&mut self) -> StreamResult<()> {
        // Bytes leave as soon as they can: there is nothing to hurry.
        if self.ended { Err(StreamError::Closed) } else { Ok(()) }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.ended {
            return Err(StreamError::Closed);
        }
        let room = {
            let mut sending = self.connection.shared.sending();
            match sending.failed.take() {
                Some(kind) => Err(kind.into()),
                None if sending.busy => Ok(Some(0)),
                None => self.connection.stream().room(),
            }
        };
        self.permit = match room {
            Ok(room) => room.unwrap_or(MAX_CALL).min(MAX_CALL),
            Err(error) => {
                self.ended = true;
                return Err(stream_error(error));
            }
        };
        Ok(self.permit)
    }

    async fn cancel(&mut self) {
        // What the guest wrote goes out although it waits no longer.
    }
}

#[async_trait::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        if !self.ended {
            poll_fn(|cx| self.connection.poll_writable(cx)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::accepted;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    /// A guest's connection to a client outside, and that client.
    async fn connected() -> (PodNetwork, Connection, TcpStream) {
        let (_network, pod, stream, client) = accepted().await;
        let connection = Connection::new(stream, &pod);
        (pod, connection, client)
    }

    /// Writes until the kernel takes no more, each time less than was allowed. How many bytes that were.
    fn fill(writer: &mut Writer) -> usize {
        let mut n_written = 0;
        while writer.check_write().unwrap() > 0 {
            for _ in 0..2 {
                let part: Vec<u8> = (n_written..n_written + MAX_CALL / 2).map(byte).collect();
                n_written += part.len();
                writer.write(Bytes::from(part)).unwrap();
            }
        }
        n_written
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lowest byte is wanted")]
    fn byte(n: usize) -> u8 {
        (n % 251) as u8
    }

    /// All that the client gets, and how it ends.
    async fn read(client: &mut TcpStream) -> (Vec<u8>, Result<usize, io::ErrorKind>) {
        let mut received = Vec::new();
        let end = client.read_to_end(&mut received).await.map_err(|error| error.kind());
        (received, end)
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_waits_as_long_as_its_peer_is_slow_and_nothing_is_lost() {
        let (_pod, connection, mut client) = connected().await;
        let mut writer = Writer::new(connection);
        let n_written = fill(&mut writer);
        let in_time = timeout(100 * LAST_WRITE, writer.ready()).await;
        assert!(in_time.is_err(), "nobody reads");
        assert_eq!(writer.check_write().unwrap(), 0, "and nothing has failed");
        let mut received = vec![0; n_written];
        client.read_exact(&mut received).await.unwrap();
        assert!(received.into_iter().eq((0..n_written).map(byte)), "in the order it was written");
        drop(writer);
        assert_eq!(read(&mut client).await, (Vec::new(), Ok(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_leave_after_the_guest_s_end_is_told_by_a_reset() {
        let (pod, connection, mut client) = connected().await;
        let mut writer = Writer::new(connection.clone());
        let n_written = fill(&mut writer);
        assert!(timeout(2 * LAST_WRITE, writer.ready()).await.is_err(), "the time does not run yet");
        drop((writer, connection));
        pod.tasks().close();
        pod.tasks().wait().await;
        let (received, end) = read(&mut client).await;
        assert!(received.len() < n_written);
        assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
    }

    #[tokio::test]
    async fn an_abort_does_not_wait_for_what_was_written() {
        let (pod, connection, mut client) = connected().await;
        let mut writer = Writer::new(connection);
        fill(&mut writer);
        pod.abort_handle().abort();
        pod.tasks().close();
        pod.tasks().wait().await;
        let failed = writer.check_write();
        assert!(matches!(failed, Err(StreamError::LastOperationFailed(_))), "{failed:?}");
        drop(writer);
        assert_eq!(read(&mut client).await.1, Err(io::ErrorKind::ConnectionReset));
    }
}
