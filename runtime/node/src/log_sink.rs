//! Where a container's output goes: a small bounded queue a container, one thread that writes them all to files.
//!
//! A guest that writes faster than the disk takes it waits: its queue holds [`MAX_PENDING`] bytes and no more. Queues
//! are served in turn, so that a flood does not hold up the others. An idle container has neither a buffer nor an open
//! file: files are opened at the first write and closed when a while passes without any.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::{io::AsyncWrite, sync::Notify};
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use crate::log_format::{self, Source};

const MAX_PENDING: usize = 64 << 10;
const MAX_OPEN: usize = 64;
const CLOSE_AFTER: Duration = Duration::from_millis(500);

/// The thread that writes all logs.
#[derive(Clone, Debug)]
pub(crate) struct LogWriter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    max_bytes: u64,
    max_files: u32,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    /// Each sink at most once, so it is bounded by their number.
    sinks: VecDeque<Arc<LogSink>>,
    closed: bool,
}

/// The output of one run of a container.
#[derive(Debug)]
pub(crate) struct LogSink {
    id: u64,
    path: PathBuf,
    writer: LogWriter,
    inner: Mutex<Inner>,
    /// Bytes reached the file, or the log ended.
    written: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    pending: Vec<u8>,
    partial: [Vec<u8>; 2],
    waiting: Vec<Waker>,
    queued: bool,
    finished: bool,
    discarded: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogWriter {
    /// Starts the thread. It ends with the last clone of this handle or by [`LogWriter::close`].
    pub(crate) fn start(max_bytes: u64, max_files: u32) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            max_bytes,
            max_files,
            next_id: AtomicU64::new(0),
        });
        let thread = Arc::clone(&shared);
        thread::Builder::new().name("wharf-logs".to_owned()).spawn(move || write_all(&thread))?;
        Ok(Self(shared))
    }

    /// A log that is appended to this file.
    pub(crate) fn sink(&self, path: PathBuf) -> Arc<LogSink> {
        Arc::new(LogSink {
            id: self.0.next_id.fetch_add(1, Ordering::Relaxed),
            path,
            writer: self.clone(),
            inner: Mutex::default(),
            written: Notify::new(),
        })
    }

    /// Ends the thread once all is written.
    pub(crate) fn close(&self) {
        lock(&self.0.queue).closed = true;
        self.0.wake.notify_one();
    }

    fn enqueue(&self, sink: Arc<LogSink>) {
        lock(&self.0.queue).sinks.push_back(sink);
        self.0.wake.notify_one();
    }
}

impl LogSink {
    /// The stream to give to a guest.
    pub(crate) fn stream(self: &Arc<Self>, source: Source) -> Box<dyn StdoutStream + Sync> {
        Box::new(GuestOutput { sink: Arc::clone(self), source })
    }

    fn room(&self) -> usize {
        MAX_PENDING.saturating_sub(lock(&self.inner).pending.len())
    }

    fn append(self: &Arc<Self>, source: Source, bytes: &[u8]) {
        let mut inner = lock(&self.inner);
        let Inner { pending, partial, discarded, .. } = &mut *inner;
        if *discarded {
            return;
        }
        log_format::append(pending, &mut partial[slot(source)], source, bytes, Timestamp::now());
        self.queue_up(inner);
    }

    fn queue_up(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>) {
        if !inner.queued && (!inner.pending.is_empty() || inner.finished) {
            inner.queued = true;
            drop(inner);
            self.writer.enqueue(Arc::clone(self));
        }
    }

    /// Ends the log: returns when all of it is in the file.
    pub(crate) async fn finish(self: &Arc<Self>) {
        {
            let mut inner = lock(&self.inner);
            let Inner { pending, partial, finished, .. } = &mut *inner;
            for source in [Source::Stdout, Source::Stderr] {
                log_format::finish(pending, &mut partial[slot(source)], source, Timestamp::now());
            }
            *finished = true;
            self.queue_up(inner);
        }
        loop {
            let notified = self.written.notified();
            if self.is_complete() {
                return;
            }
            notified.await;
        }
    }

    /// From now on nothing is written: the file is about to be removed.
    pub(crate) fn discard(&self) {
        let mut inner = lock(&self.inner);
        *inner = Inner { queued: inner.queued, finished: true, discarded: true, ..Inner::default() };
        drop(inner);
        self.written.notify_waiters();
    }

    /// Whether the log has ended and is in the file.
    pub(crate) fn is_complete(&self) -> bool {
        let inner = lock(&self.inner);
        inner.finished && inner.pending.is_empty() && !inner.queued
    }

    /// Waits until the file has grown or the log has ended; call [`LogSink::is_complete`] after polling this once.
    pub(crate) fn written(&self) -> tokio::sync::futures::Notified<'_> {
        self.written.notified()
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn wait_for_room(&self, waker: &Waker) -> bool {
        let mut inner = lock(&self.inner);
        if inner.pending.len() < MAX_PENDING {
            return true;
        }
        if !inner.waiting.iter().any(|other| other.will_wake(waker)) {
            inner.waiting.push(waker.clone());
        }
        false
    }
}

fn slot(source: Source) -> usize {
    match source {
        Source::Stdout => 0,
        Source::Stderr => 1,
    }
}

/// The thread's work.
fn write_all(shared: &Shared) {
    let mut open = Files::default();
    loop {
        let sink = {
            let mut queue = lock(&shared.queue);
            loop {
                if let Some(sink) = queue.sinks.pop_front() {
                    break sink;
                }
                if queue.closed {
                    return;
                }
                let (again, timeout) =
                    shared.wake.wait_timeout(queue, CLOSE_AFTER).unwrap_or_else(PoisonError::into_inner);
                queue = again;
                if timeout.timed_out() {
                    open.0.clear();
                    if queue.sinks.is_empty() && !queue.closed {
                        queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    }
                }
            }
        };
        let (bytes, waiting, finished, discarded) = {
            let mut inner = lock(&sink.inner);
            let bytes = std::mem::take(&mut inner.pending);
            (bytes, std::mem::take(&mut inner.waiting), inner.finished, inner.discarded)
        };
        waiting.into_iter().for_each(Waker::wake);
        if !bytes.is_empty()
            && !discarded
            && let Err(error) = open.write(&sink, &bytes, shared)
        {
            tracing::warn!(path = %sink.path.display(), %error, "a container's log cannot be written");
            open.0.remove(&sink.id);
        }
        if finished || discarded {
            open.0.remove(&sink.id);
        }
        let mut inner = lock(&sink.inner);
        if inner.pending.is_empty() {
            inner.queued = false;
            drop(inner);
        } else {
            drop(inner);
            lock(&shared.queue).sinks.push_back(Arc::clone(&sink));
        }
        sink.written.notify_waiters();
    }
}

/// Open files, by the sink's number.
#[derive(Default)]
struct Files(BTreeMap<u64, (File, u64)>);

impl Files {
    fn write(&mut self, sink: &LogSink, bytes: &[u8], shared: &Shared) -> io::Result<()> {
        if !self.0.contains_key(&sink.id) {
            if self.0.len() >= MAX_OPEN {
                self.0.clear();
            }
            if let Some(parent) = sink.path.parent() {
                fs::create_dir_all(parent)?;
            }
            let file = OpenOptions::new().create(true).append(true).open(&sink.path)?;
            let size = file.metadata()?.len();
            self.0.insert(sink.id, (file, size));
        }
        let Some((file, size)) = self.0.get_mut(&sink.id) else { return Ok(()) };
        file.write_all(bytes)?;
        *size += u64::try_from(bytes.len()).unwrap_or(0);
        if *size >= shared.max_bytes {
            self.0.remove(&sink.id);
            rotate(&sink.path, shared.max_files)?;
        }
        Ok(())
    }
}

/// Puts a full file aside as `<name>.1` and the older ones one further, as far as there may be so many.
fn rotate(path: &Path, max_files: u32) -> io::Result<()> {
    let aside = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    if max_files <= 1 {
        fs::remove_file(path)?;
        return File::create(path).map(drop);
    }
    for n in (1..max_files - 1).rev() {
        match fs::rename(aside(n), aside(n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, aside(1))?;
    // Whoever reads the end of the log now reads this one, and not the oldest.
    File::create(path).map(drop)
}

/// A guest's stdout or stderr.
#[derive(Clone, Debug)]
struct GuestOutput {
    sink: Arc<LogSink>,
    source: Source,
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for GuestOutput {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.sink.wait_for_room(cx.waker()) {
            return Poll::Pending;
        }
        let taken = bytes.len().min(self.sink.room().max(1));
        self.sink.append(self.source, &bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| {
            if self.sink.wait_for_room(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.sink.append(self.source, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.sink.room())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_in_the_file_when_the_log_ends_and_large_files_are_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod/c/0.log");
        let writer = LogWriter::start(40_000, 3).unwrap();
        let sink = writer.sink(path.clone());
        assert!(!path.exists(), "nothing is opened before the first write");
        let mut out = sink.stream(Source::Stdout).p2_stream();
        for _ in 0..30 {
            out.ready().await;
            out.write(Bytes::from(format!("{}\n", "x".repeat(8_000)))).unwrap();
        }
        sink.finish().await;
        assert!(sink.is_complete());
        let name = |n: &str| path.with_file_name(format!("0.log{n}"));
        assert!(name(".1").exists() && name(".2").exists() && !name(".3").exists());
        assert!(fs::metadata(name(".1")).unwrap().len() < 40_000 + 100_000);
        writer.close();
    }

    #[test]
    fn after_a_rotation_there_is_an_empty_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for max_files in [1, 3] {
            fs::write(&path, "old").unwrap();
            rotate(&path, max_files).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"");
        }
        assert_eq!(fs::read(dir.path().join("0.log.1")).unwrap(), b"old");
    }

    #[tokio::test]
    async fn a_flood_waits_for_the_disk_and_takes_bounded_memory() {
        let dir = tempfile::tempdir().unwrap();
        let writer = LogWriter::start(1 << 30, 2).unwrap();
        let sink = writer.sink(dir.path().join("0.log"));
        let mut out = sink.stream(Source::Stdout).p2_stream();
        let mut sent = 0;
        while sent < 4 << 20 {
            out.ready().await;
            let n = out.check_write().unwrap();
            assert!(n <= MAX_PENDING);
            out.write(Bytes::from(vec![b'y'; n])).unwrap();
            sent += n;
            assert!(lock(&sink.inner).pending.len() <= 2 * MAX_PENDING);
        }
        sink.finish().await;
        assert!(fs::metadata(sink.path()).unwrap().len() > 4 << 20);
        writer.close();
    }
}
