//! A guest's TCP connection: one stream shared by the socket and its input and output streams.

use crate::pod_network::{AbortHandle, PodNetwork};
use bytes::Bytes;
use runtime_net::Stream;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{InputStream, OutputStream, StreamError, StreamResult};

/// The most a guest reads or writes in one call.
const MAX_CALL: usize = 64 * 1024;
/// How long bytes that a guest wrote before it ended may take to leave.
const LAST_WRITE: Duration = Duration::from_secs(30);

/// The connection itself. It is closed when the socket and both streams are dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    abort: AbortHandle,
    tasks: TaskTracker,
    sending: Mutex<Sending>,
}

/// A write to a kernel socket that its buffer had no room for yet.
#[derive(Debug, Default)]
struct Sending {
    busy: bool,
    /// The direction ends when the write has.
    then_shutdown: bool,
    failed: Option<io::ErrorKind>,
    waker: Option<Waker>,
}

impl Connection {
    pub(crate) fn new(stream: Stream, network: &PodNetwork) -> Arc<Self> {
        Arc::new(Self {
            stream,
            abort: network.abort_handle(),
            tasks: network.tasks().clone(),
            sending: Mutex::default(),
        })
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let mut sending = self.sending();
        if sending.busy && how != Shutdown::Read {
            sending.then_shutdown = true;
            return if how == Shutdown::Both { self.stream.shut_down(Shutdown::Read) } else { Ok(()) };
        }
        drop(sending);
        self.stream.shut_down(how)
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(self: &Arc<Self>, mut bytes: Bytes) -> StreamResult<()> {
        while !bytes.is_empty() {
            match self.stream.poll_write_bytes(None, &mut bytes) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(stream_error(error)),
                Poll::Pending => {
                    self.sending().busy = true;
                    self.tasks.spawn(send_rest(self.clone(), bytes));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut sending = self.sending();
        if sending.busy {
            sending.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(sending);
        self.stream.poll_writable(cx)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.abort.is_aborted() {
            self.stream.reset();
        }
    }
}

async fn send_rest(connection: Arc<Connection>, mut bytes: Bytes) {
    let sent = timeout(LAST_WRITE, async {
        while !bytes.is_empty() {
            if connection.abort.is_aborted() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            poll_fn(|cx| connection.stream.poll_write_bytes(Some(cx), &mut bytes)).await?;
        }
        Ok::<_, io::Error>(())
    })
    .await
    .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
    let mut sending = connection.sending();
    sending.busy = false;
    sending.failed = sent.err().map(|error| error.kind());
    if sending.then_shutdown {
        let _peer_is_gone = connection.stream.shut_down(Shutdown::Write);
    }
    if let Some(waker) = sending.waker.take() {
        waker.wake();
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
    connection: Arc<Connection>,
    ended: bool,
}

impl Reader {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
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
        match self.connection.stream.poll_read_bytes(None, size.min(MAX_CALL)) {
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
            poll_fn(|cx| self.connection.stream.poll_readable(cx)).await;
        }
    }
}

/// The guest's output stream.
#[derive(Debug)]
pub(crate) struct Writer {
    connection: Arc<Connection>,
    /// What the last `check-write` allowed.
    permit: usize,
    ended: bool,
}

impl Writer {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
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
            let mut sending = self.connection.sending();
            match sending.failed.take() {
                Some(kind) => Err(kind.into()),
                None if sending.busy => Ok(Some(0)),
                None => self.connection.stream.room(),
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
