//! How many sockets a pod may hold, counted apart for each use: a guest that spends all its raw sockets must still be
//! able to answer requests and to make them, or it would lock itself up.

use crate::NetError;
use std::sync::Arc;
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
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self { raw: 1024, inbound: 1024, outbound_http: 1024 }
    }
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
}

impl Quota {
    pub(crate) fn new(limits: SocketLimits) -> Self {
        let semaphore = |limit: usize| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        Self {
            limits,
            raw: semaphore(limits.raw),
            inbound: semaphore(limits.inbound),
            outbound_http: semaphore(limits.outbound_http),
        }
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
        let quota = Quota::new(SocketLimits { raw: 1, inbound: 1, outbound_http: 1 });
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
