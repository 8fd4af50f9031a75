//! A guest's UDP socket and its two datagram streams.

use crate::bindings::wasi::sockets::network::{ErrorCode, IpAddressFamily};
use crate::error::SocketResult;
use crate::pod_network::PodNetwork;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use wasmtime_wasi_io::poll::Pollable;

/// The `udp-socket` resource.
#[derive(Debug)]
pub struct UdpSocket {
    pub(crate) family: IpAddressFamily,
    pub(crate) binding: bool,
    pub(crate) hop_limit: u8,
    pub(crate) receive_buffer: u64,
    pub(crate) send_buffer: u64,
    bound: Option<Arc<runtime_net::UdpSocket>>,
}

impl UdpSocket {
    pub(crate) fn new(family: IpAddressFamily) -> Self {
        Self {
            family,
            binding: false,
            hop_limit: 64,
            receive_buffer: 212_992,
            send_buffer: 212_992,
            bound: None,
        }
    }

    pub(crate) fn bind(&mut self, network: &PodNetwork, address: SocketAddr) -> SocketResult<()> {
        if self.bound.is_some() {
            return Err(ErrorCode::InvalidState.into());
        }
        self.bound = Some(Arc::new(network.attachment().bind_udp(address)?));
        Ok(())
    }

    /// The socket of the network, once bound.
    pub(crate) fn bound(&self) -> SocketResult<&Arc<runtime_net::UdpSocket>> {
        self.bound.as_ref().ok_or(ErrorCode::InvalidState.into())
    }
}

#[async_trait::async_trait]
impl Pollable for UdpSocket {
    async fn ready(&mut self) {
        // Binding is done at once: nothing to wait for.
    }
}

/// The `incoming-datagram-stream` resource.
#[derive(Debug)]
pub struct IncomingDatagrams(pub(crate) Arc<runtime_net::UdpSocket>);

#[async_trait::async_trait]
impl Pollable for IncomingDatagrams {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.poll_receivable(cx)).await;
    }
}

/// The `outgoing-datagram-stream` resource.
#[derive(Debug)]
pub struct OutgoingDatagrams {
    pub(crate) socket: Arc<runtime_net::UdpSocket>,
    /// What the last `check-send` allowed.
    pub(crate) permit: usize,
}

#[async_trait::async_trait]
impl Pollable for OutgoingDatagrams {
    async fn ready(&mut self) {
        // Sending never waits: what does not fit is dropped on the way.
    }
}
