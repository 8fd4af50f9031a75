//! How many sockets a pod may hold, counted apart for each use: a guest that spends all its raw sockets must still be
//! able to answer requests and to make them, or it would lock itself up. And how many bytes may wait in them.

use crate::NetError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a connection is for; each use has a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// Sockets the guest opened itself: listeners, outgoing connections, UDP.
    Raw,
    /// Connections others made to the pod.
    Inbound,
    /// Connections of the pod's outgoing `wasi:http` requests.
    OutboundHttp,
}

/// The limits of one pod.
#[derive(Clone, Copy, Debug)]
pub struct SocketLimits {
    /// Sockets the guest opened itself.
    pub raw: usize,
    /// Accepted connections, waiting ones included.
    pub inbound: usize,
    /// Outgoing `wasi:http` connections.
    pub outbound_http: usize,
    /// Bytes that wait in all its sockets, beside a little in each.
    pub buffer_bytes: usize,
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self { raw: 1024, inbound: 1024, outbound_http: 1024, buffer_bytes: 16 << 20 }
    }
}

/// How many kernel sockets all pods may have together: half of the files that the process may open, as the rest of it
/// (clients of the API, pods' volumes, the store) opens some too.
pub(crate) fn default_kernel_sockets() -> usize {
    const UNKNOWN: u64 = 1024;
    let (soft, _hard) = rlimit::getrlimit(rlimit::Resource::NOFILE).unwrap_or((UNKNOWN, UNKNOWN));
    usize::try_from(soft / 2).unwrap_or(Semaphore::MAX_PERMITS).clamp(1, Semaphore::MAX_PERMITS)
}

/// What a socket holds while it lives. Dropping it gives the place back.
pub(crate) type Permit = OwnedSemaphorePermit;

/// A pod's counters.
#[derive(Debug)]
pub(crate) struct Quota {
    limits: SocketLimits,
    raw: Arc<Semaphore>,
    inbound: Arc<Semaphore>,
    outbound_http: Arc<Semaphore>,
    buffers: Arc<Budget>,
}

/// The bytes that wait for others in a pod's connections, and for the pod in its mailboxes. It is looked at before bytes
/// are taken, and counts them then: writers at once may pass it by what each takes.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// How many bytes more there may be.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.used())
    }

    /// How many there are.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn remove(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

impl Quota {
    pub(crate) fn new(limits: SocketLimits) -> Self {
        let semaphore = |limit: usize| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        Self {
            limits,
            raw: semaphore(limits.raw),
            inbound: semaphore(limits.inbound),
            outbound_http: semaphore(limits.outbound_http),
            buffers: Budget::new(limits.buffer_bytes),
        }
    }

    /// The bytes that wait in the pod's sockets.
    pub(crate) fn buffers(&self) -> &Arc<Budget> {
        &self.buffers
    }

    /// A place now, or the error that names the limit.
    pub(crate) fn take(&self, kind: SocketKind) -> Result<Permit, NetError> {
        let (semaphore, what, limit) = match kind {
            SocketKind::Raw => (&self.raw, "sockets", self.limits.raw),
            SocketKind::Inbound => (&self.inbound, "inbound connections", self.limits.inbound),
            SocketKind::OutboundHttp => {
                (&self.outbound_http, "outgoing HTTP connections", self.limits.outbound_http)
            }
        };
        semaphore.clone().try_acquire_owned().map_err(|_full| NetError::TooManySockets { what, limit })
    }

    /// The places for connections others make to the pod: these wait in order instead of failing.
    pub(crate) fn inbound(&self) -> &Arc<Semaphore> {
        &self.inbound
    }

    /// How many sockets of the kind are held.
    pub(crate) fn in_use(&self, kind: SocketKind) -> usize {
        let (semaphore, limit) = match kind {
            SocketKind::Raw => (&self.raw, self.limits.raw),
            SocketKind::Inbound => (&self.inbound, self.limits.inbound),
            SocketKind::OutboundHttp => (&self.outbound_http, self.limits.outbound_http),
        };
        limit.min(Semaphore::MAX_PERMITS).saturating_sub(semaphore.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_limit_of_its_own() {
        let quota = Quota::new(SocketLimits { raw: 1, inbound: 1, outbound_http: 1, buffer_bytes: 1 });
        let held = quota.take(SocketKind::Raw).unwrap();
        assert_eq!(
            quota.take(SocketKind::Raw).unwrap_err().to_string(),
            "the pod's limit of 1 sockets is reached"
        );
        let _outbound = quota.take(SocketKind::OutboundHttp).unwrap();
        drop(held);
        assert_eq!(quota.in_use(SocketKind::Raw), 0);
        let _again = quota.take(SocketKind::Raw).unwrap();
    }
}
