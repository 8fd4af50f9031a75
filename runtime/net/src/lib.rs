//! The virtual network: addresses, streams, services, names.
//!
//! Every pod has an address of its own, and all traffic between pods stays in this process: a connection is two
//! bounded byte queues, a Service is a hash lookup at connect, a name is a lookup in the same tables. Kernel sockets
//! exist for what enters (NodePort) and what leaves (egress, filtered), and nowhere else.
//!
//! This crate knows no WebAssembly and no Kubernetes object: the node tells it about Services in its own plain types,
//! and `host-sockets` and `host-http` put it before guests.
//!
//! Where BSD sockets leave a choice, the choice is Linux's, and it is written at the function: a full backlog makes
//! `connect` wait, a port nobody listens on refuses, a close with unread data resets.

mod allocator;
mod attachment;
mod cidr;
mod connect;
mod egress;
mod error;
mod listener;
mod lookup;
mod names;
mod network;
mod node_port;
mod node_port_udp;
mod pipe;
mod ports;
mod quota;
mod services;
mod stream;
mod udp;

pub use attachment::{AttachSpec, Attachment, BoundTcp};
pub use cidr::Cidr;
pub use egress::{EgressPolicy, Verdict};
pub use error::{NameError, NetError};
pub use listener::Listener;
pub use network::{Network, NetworkConfig};
pub use node_port::NodePortProblem;
pub use quota::{SocketKind, SocketLimits};
pub use services::{Endpoint, Protocol, Service, ServicePort};
pub use stream::Stream;
pub use udp::UdpSocket;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a plain struct for a few lines. A panic elsewhere leaves it consistent, as every critical section here
/// finishes its change before anything that can panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
