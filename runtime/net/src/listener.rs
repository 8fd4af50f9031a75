//! A listening socket of a pod and the connections that wait for `accept`.
//!
//! A full backlog makes `connect` wait in order, as Linux does by dropping the SYN until the client's retries end. When
//! the listener goes, those who wait are refused and those already queued are reset.

use crate::attachment::BoundTcp;
use crate::quota::Permit;
use crate::stream::Stream;
use crate::{NetError, lock};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The longest backlog, as `net.core.somaxconn`.
pub(crate) const MAX_BACKLOG: u32 = 4096;

/// The queue of a listening socket.
#[derive(Debug)]
pub(crate) struct Backlog {
    slots: Arc<Semaphore>,
    closed: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Each with its slot.
    queue: VecDeque<(Stream, Permit)>,
    waiting: Vec<Waker>,
    closed: bool,
}

impl Backlog {
    pub(crate) fn new(size: u32) -> Arc<Self> {
        let slots = usize::try_from(size.clamp(1, MAX_BACKLOG)).expect("4096 fits");
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(slots)),
            closed: CancellationToken::new(),
            state: Mutex::default(),
        })
    }

    /// A place in the queue, waited for in order. `None`: the listener is gone.
    pub(crate) async fn slot(&self) -> Option<Permit> {
        self.slots.clone().acquire_owned().await.ok()
    }

    /// A place in the queue if one is free now.
    pub(crate) fn try_slot(&self) -> Option<Permit> {
        self.slots.clone().try_acquire_owned().ok()
    }

    /// Waits until the listener is gone.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Queues a connection. Whether that is done; when the listener is gone, the connection is closed.
    pub(crate) fn push(&self, stream: Stream, slot: Permit) -> bool {
        let waiting = {
            let mut state = lock(&self.state);
            if state.closed {
                return false;
            }
            state.queue.push_back((stream, slot));
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
        true
    }

    pub(crate) fn close(&self) {
        self.slots.close();
        self.closed.cancel();
        let (queue, waiting) = {
            let mut state = lock(&self.state);
            state.closed = true;
            (std::mem::take(&mut state.queue), std::mem::take(&mut state.waiting))
        };
        for (stream, _) in queue {
            stream.reset();
        }
        waiting.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, cx: Option<&mut Context<'_>>) -> Poll<Option<()>> {
        let mut state = lock(&self.state);
        if !state.queue.is_empty() {
            return Poll::Ready(Some(()));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        if let Some(cx) = cx
            && !state.waiting.iter().any(|waker| waker.will_wake(cx.waker()))
        {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// A listening socket. Dropping it frees the port, refuses those who connect and resets those who wait.
#[derive(Debug)]
pub struct Listener {
    backlog: Arc<Backlog>,
    bound: BoundTcp,
}

impl Listener {
    pub(crate) fn new(backlog: Arc<Backlog>, bound: BoundTcp) -> Self {
        Self { backlog, bound }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.bound.local_addr()
    }

    /// The next connection.
    pub async fn accept(&self) -> Result<Stream, NetError> {
        poll_fn(|cx| self.poll_accept(Some(cx))).await
    }

    /// The next connection if there is one; without a context nobody is woken later.
    pub fn poll_accept(&self, mut cx: Option<&mut Context<'_>>) -> Poll<Result<Stream, NetError>> {
        loop {
            match self.backlog.poll(cx.as_deref_mut()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Err(NetError::Detached(self.bound.pod_ip()))),
                Poll::Ready(Some(())) => {
                    if let Some((stream, _slot)) = lock(&self.backlog.state).queue.pop_front() {
                        return Poll::Ready(Ok(stream));
                    }
                }
            }
        }
    }

    /// Ready when `accept` would not wait.
    pub fn poll_acceptable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.backlog.poll(Some(cx)).map(drop)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.backlog.close();
    }
}
