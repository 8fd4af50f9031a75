//! One direction of an in-memory connection: a bounded queue of bytes.
//!
//! Memory is taken when bytes are queued and given back when they are read, so an idle connection costs two small
//! structs. Large writes are queued as the caller's own buffer, small ones are gathered in a tail buffer. The reader is
//! woken when something arrives while it waits; the writer not at the first free byte but at half a buffer, so that
//! a bulk transfer switches tasks once per 32 KiB.
//!
//! What is queued counts on the writer's pod. Where that has too much in all its pipes, each takes only a little at a
//! time: slow, but every writer gets on.

use crate::lock;
use crate::quota::Budget;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// How many bytes wait in one direction before a writer does.
pub(crate) const CAPACITY: usize = 64 * 1024;
/// Writes up to this size are gathered; and this much an empty pipe always takes.
pub(crate) const SMALL: usize = 4096;

/// The queue and who waits at its ends.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    /// Small writes not yet read; they come after `chunks`.
    tail: BytesMut,
    len: usize,
    /// What `len` counts on, if anything.
    budget: Option<Arc<Budget>>,
    /// The writer is done: end of stream after what is queued.
    finished: bool,
    wanted: Wanted,
    /// The connection was reset: nothing is written any more, and what is still queued is the last.
    reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What the reader does with what is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    Yes,
    /// It is dropped, and the writer is not told.
    Discard,
    /// The reader is gone: writing is an error.
    Gone,
}

impl Pipe {
    pub(crate) fn new(budget: Option<Arc<Budget>>) -> Self {
        let pipe = Self::default();
        lock(&pipe.state).budget = budget;
        pipe
    }

    /// Moves up to `max` bytes out; empty bytes are the end of the stream.
    pub(crate) fn poll_read_bytes(
        &self,
        cx: Option<&mut Context<'_>>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        let mut state = lock(&self.state);
        match state.readable() {
            Readable::Data if max > 0 => {}
            Readable::Data | Readable::End => return Poll::Ready(Ok(Bytes::new())),
            Readable::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Readable::Nothing => return wait(&mut state.reader, cx),
        }
        let bytes = state.take(max);
        state.after_read();
        let writer = state.writer_to_wake();
        drop(state);
        wake(writer);
        Poll::Ready(Ok(bytes))
    }

    /// Copies into `buffer`; nothing copied is the end of the stream.
    pub(crate) fn poll_read_into(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = lock(&self.state);
        match state.readable() {
            Readable::Data => {}
            Readable::End => return Poll::Ready(Ok(())),
            Readable::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Readable::Nothing => return wait(&mut state.reader, Some(cx)),
        }
        state.copy_into(buffer);
        state.after_read();
        let writer = state.writer_to_wake();
        drop(state);
        wake(writer);
        Poll::Ready(Ok(()))
    }

    /// Ready when a read would not wait.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        match state.readable() {
            Readable::Data | Readable::End | Readable::Reset => Poll::Ready(()),
            Readable::Nothing => wait(&mut state.reader, Some(cx)),
        }
    }

    /// Queues a copy of as much of the slices as there is room for.
    pub(crate) fn poll_write(
        &self,
        cx: Option<&mut Context<'_>>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.state);
        let Poll::Ready(room) = state.room()? else { return wait(&mut state.writer, cx) };
        let mut written = 0;
        for slice in slices {
            let part = &slice[..slice.len().min(room - written)];
            written += part.len();
            if state.wanted == Wanted::Yes {
                state.push_copy(part);
            }
        }
        let reader = if written > 0 { state.reader.take() } else { None };
        drop(state);
        wake(reader);
        Poll::Ready(Ok(written))
    }

    /// Queues as much of `bytes` as there is room for without copying, and leaves the rest in it.
    pub(crate) fn poll_write_bytes(
        &self,
        cx: Option<&mut Context<'_>>,
        bytes: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        let mut state = lock(&self.state);
        let Poll::Ready(room) = state.room()? else { return wait(&mut state.writer, cx) };
        let part = bytes.split_to(bytes.len().min(room));
        if part.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if state.wanted == Wanted::Yes {
            state.push(part);
        }
        let reader = state.reader.take();
        drop(state);
        wake(reader);
        Poll::Ready(Ok(()))
    }

    /// How many bytes a write would take now.
    pub(crate) fn room(&self) -> io::Result<usize> {
        match lock(&self.state).room()? {
            Poll::Ready(room) => Ok(room),
            Poll::Pending => Ok(0),
        }
    }

    /// Ready when a write would not wait.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        match state.room() {
            Ok(Poll::Pending) => wait(&mut state.writer, Some(cx)),
            Ok(Poll::Ready(_)) | Err(_) => Poll::Ready(()),
        }
    }

    /// The writer is done: the reader sees the end after what is queued.
    pub(crate) fn finish(&self) {
        self.change(|state| state.finished = true);
    }

    /// The reader wants no more: what is queued and what comes is dropped, and the writer is not told.
    pub(crate) fn discard(&self) {
        self.change(|state| {
            state.wanted = Wanted::Discard;
            state.clear();
        });
    }

    /// The reader is gone. Whether unread bytes were lost with it.
    pub(crate) fn abandon(&self) -> bool {
        let mut lost = false;
        self.change(|state| {
            lost = state.len > 0;
            state.wanted = Wanted::Gone;
            state.clear();
        });
        lost
    }

    /// Breaks the connection for both ends.
    pub(crate) fn reset(&self) {
        self.change(|state| {
            state.reset = true;
            state.clear();
        });
    }

    /// The writer is gone, and bytes sent to it were lost: the reader sees a reset after what is queued, as on Linux. It
    /// sees the end where the writer had announced it before.
    pub(crate) fn sever(&self) {
        self.change(|state| state.reset |= !state.finished);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        change(&mut state);
        let wakers = (state.reader.take(), state.writer.take());
        drop(state);
        wake(wakers.0);
        wake(wakers.1);
    }
}

enum Readable {
    Data,
    End,
    Reset,
    Nothing,
}

impl State {
    fn readable(&self) -> Readable {
        if self.len > 0 {
            Readable::Data
        } else if self.reset {
            Readable::Reset
        } else if self.finished || self.wanted == Wanted::Discard {
            Readable::End
        } else {
            Readable::Nothing
        }
    }

    /// How much may be written; pending while full.
    fn room(&self) -> io::Result<Poll<usize>> {
        if self.reset {
            Err(io::ErrorKind::ConnectionReset.into())
        } else if self.finished || self.wanted == Wanted::Gone {
            Err(io::ErrorKind::BrokenPipe.into())
        } else {
            let free = CAPACITY.saturating_sub(self.len);
            let room = match self.budget.as_ref().map_or(CAPACITY, |budget| budget.room()) {
                ..SMALL if self.len == 0 => SMALL,
                ..SMALL => 0,
                room => free.min(room),
            };
            Ok(if room == 0 { Poll::Pending } else { Poll::Ready(room) })
        }
    }

    fn grow(&mut self, bytes: usize) {
        self.len += bytes;
        if let Some(budget) = &self.budget {
            budget.add(bytes);
        }
    }

    fn shrink(&mut self, bytes: usize) {
        self.len -= bytes;
        if let Some(budget) = &self.budget {
            budget.remove(bytes);
        }
    }

    fn push_copy(&mut self, part: &[u8]) {
        if part.len() <= SMALL && self.tail.len() + part.len() <= 4 * SMALL {
            self.tail.extend_from_slice(part);
            self.grow(part.len());
        } else {
            self.push(Bytes::copy_from_slice(part));
        }
    }

    fn push(&mut self, part: Bytes) {
        if part.len() <= SMALL / 8 && self.tail.len() + part.len() <= 4 * SMALL {
            self.push_copy(&part);
            return;
        }
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
        self.grow(part.len());
        self.chunks.push_back(part);
    }

    fn take(&mut self, max: usize) -> Bytes {
        let bytes = match self.chunks.front_mut() {
            Some(front) if front.len() > max => front.split_to(max),
            Some(_) => self.chunks.pop_front().expect("there is a front"),
            None => self.tail.split_to(self.tail.len().min(max)).freeze(),
        };
        self.shrink(bytes.len());
        bytes
    }

    fn copy_into(&mut self, buffer: &mut tokio::io::ReadBuf<'_>) {
        while self.len > 0 && buffer.remaining() > 0 {
            let source = self.chunks.front().map_or(&self.tail[..], |front| &front[..]);
            let n = source.len().min(buffer.remaining());
            buffer.put_slice(&source[..n]);
            self.shrink(n);
            match self.chunks.front_mut() {
                Some(front) => {
                    front.advance(n);
                    if front.is_empty() {
                        self.chunks.pop_front();
                    }
                }
                None => self.tail.advance(n),
            }
        }
    }

    /// Gives memory back once nothing is queued, all but a small tail buffer.
    fn after_read(&mut self) {
        if self.len == 0 {
            if self.tail.capacity() > SMALL {
                self.tail = BytesMut::new();
            }
            if self.chunks.capacity() > 8 {
                self.chunks = VecDeque::new();
            }
        }
    }

    fn clear(&mut self) {
        self.chunks = VecDeque::new();
        self.tail = BytesMut::new();
        self.shrink(self.len);
    }

    fn writer_to_wake(&mut self) -> Option<Waker> {
        if self.len <= CAPACITY / 2 { self.writer.take() } else { None }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.shrink(self.len);
    }
}

/// Registers the caller, if it gave a context, and says "not yet".
fn wait<T>(slot: &mut Option<Waker>, cx: Option<&mut Context<'_>>) -> Poll<T> {
    if let Some(cx) = cx {
        match slot {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *slot = Some(cx.waker().clone()),
        }
    }
    Poll::Pending
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(pipe: &Pipe, data: &[u8]) -> Poll<io::Result<usize>> {
        pipe.poll_write(None, &[io::IoSlice::new(data)])
    }

    fn read(pipe: &Pipe, max: usize) -> String {
        match pipe.poll_read_bytes(None, max) {
            Poll::Pending => "pending".to_owned(),
            Poll::Ready(Ok(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
            Poll::Ready(Err(error)) => error.kind().to_string(),
        }
    }

    #[test]
    fn what_was_written_is_read_before_the_end() {
        let pipe = Pipe::default();
        assert_eq!(read(&pipe, 10), "pending");
        assert!(matches!(write(&pipe, b"hello"), Poll::Ready(Ok(5))));
        pipe.finish();
        assert_eq!(read(&pipe, 3), "hel");
        assert_eq!(read(&pipe, 10), "lo");
        assert_eq!(read(&pipe, 10), "");
        assert!(
            matches!(write(&pipe, b"x"), Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe)
        );
    }

    #[test]
    fn a_reset_loses_what_is_queued() {
        let pipe = Pipe::default();
        assert!(write(&pipe, b"hello").is_ready());
        pipe.reset();
        assert_eq!(read(&pipe, 10), "connection reset");
    }

    #[test]
    fn a_reader_that_wants_no_more_is_not_noticed_by_the_writer() {
        let pipe = Pipe::default();
        pipe.discard();
        for _ in 0..10 {
            assert!(matches!(write(&pipe, &[0; CAPACITY]), Poll::Ready(Ok(CAPACITY))));
        }
        assert_eq!(read(&pipe, 10), "");
    }

    #[test]
    fn a_full_pipe_takes_no_more_and_an_empty_one_keeps_no_memory() {
        let pipe = Pipe::default();
        assert!(matches!(write(&pipe, &[1; CAPACITY + 1]), Poll::Ready(Ok(CAPACITY))));
        assert!(write(&pipe, b"x").is_pending());
        let mut more = Bytes::from_static(b"y");
        assert!(pipe.poll_write_bytes(None, &mut more).is_pending());
        assert_eq!(more.len(), 1);
        while pipe.poll_read_bytes(None, 4096).is_ready() {}
        let state = lock(&pipe.state);
        assert!(state.tail.capacity() <= SMALL && state.chunks.capacity() <= 8);
    }

    #[test]
    fn pipes_that_hold_too_much_together_take_a_little_each() {
        let budget = Budget::new(CAPACITY + 2 * SMALL);
        let pipes: [Pipe; 3] = std::array::from_fn(|_| Pipe::new(Some(budget.clone())));
        let taken = |pipe: &Pipe| match write(pipe, &[1; CAPACITY]) {
            Poll::Ready(n) => n.unwrap(),
            Poll::Pending => 0,
        };
        assert_eq!(pipes.each_ref().map(taken), [CAPACITY, 2 * SMALL, SMALL]);
        assert_eq!(pipes.each_ref().map(taken), [0; 3]);
        assert!(pipes[2].poll_read_bytes(None, SMALL / 2).is_ready());
        assert_eq!(taken(&pipes[2]), 0, "only an empty one");
        assert!(pipes[2].poll_read_bytes(None, SMALL).is_ready());
        assert_eq!(taken(&pipes[2]), SMALL);
        assert_eq!(budget.used(), CAPACITY + 3 * SMALL);
        pipes[0].abandon();
        assert_eq!(taken(&pipes[2]), CAPACITY - SMALL, "there is room again");
        drop(pipes);
        assert_eq!(budget.used(), 0);
    }

    proptest! {
        /// Against a plain queue of bytes as the oracle.
        #[test]
        fn bytes_come_out_in_the_order_they_went_in(
            steps in prop::collection::vec((0_u8..3, 0_usize..20_000), 0..100)
        ) {
            let budget = Budget::new(usize::MAX);
            let pipe = Pipe::new(Some(budget.clone()));
            let mut oracle = VecDeque::new();
            let mut next = 0_u8;
            for (what, size) in steps {
                let data: Vec<u8> = (0..size).map(|_| { next = next.wrapping_add(1); next }).collect();
                match what {
                    0 => {
                        let n = match write(&pipe, &data) { Poll::Ready(n) => n.unwrap(), Poll::Pending => 0 };
                        prop_assert_eq!(n, data.len().min(CAPACITY - oracle.len()));
                        oracle.extend(&data[..n]);
                    }
                    1 => {
                        let mut bytes = Bytes::from(data.clone());
                        let _ = pipe.poll_write_bytes(None, &mut bytes);
                        oracle.extend(&data[..data.len() - bytes.len()]);
                    }
                    _ => if let Poll::Ready(bytes) = pipe.poll_read_bytes(None, size) {
                        let bytes = bytes.unwrap();
                        prop_assert!(bytes.len() <= size);
                        let expected: Vec<u8> = oracle.drain(..bytes.len()).collect();
                        prop_assert_eq!(&bytes[..], &expected[..]);
                    } else {
                        prop_assert!(oracle.is_empty());
                    }
                }
                prop_assert_eq!(budget.used(), oracle.len());
            }
        }
    }
}
