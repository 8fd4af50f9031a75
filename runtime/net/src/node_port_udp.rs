//! UDP node ports: a flow per client, with a mailbox at the node's own address for the answers.
//!
//! A flow keeps its endpoint until nothing came for a minute. Endpoints outside the process get nothing: their answers
//! would have to be carried by a socket per client, for which nobody asked yet.

use crate::connect::Target;
use crate::lock;
use crate::network::{Network, WeakNetwork};
use crate::services::Protocol;
use crate::udp::Mailbox;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Clients of one port that are remembered; datagrams of more are dropped.
const MAX_FLOWS: usize = 1024;
/// How long a flow lives without traffic.
const IDLE: Duration = Duration::from_secs(60);
/// The largest datagram.
const MAX_DATAGRAM: usize = 65_535;

/// The loop of one port.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) network: WeakNetwork,
    pub(crate) port: u16,
    pub(crate) socket: Arc<UdpSocket>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) flows: Flows,
}

/// The clients of a port.
pub(crate) type Flows = Arc<Mutex<BTreeMap<SocketAddr, Flow>>>;

/// One client's way to its endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    /// The node's end, where answers go.
    local: SocketAddr,
    endpoint: SocketAddr,
    last: Instant,
}

impl Server {
    pub(crate) async fn run(self) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let received = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => received,
                () = self.stop.cancelled() => return,
            };
            // An error here is an ICMP message about an answer: nothing to do with the next datagram.
            let Ok((n, client)) = received else { continue };
            let Some(network) = self.network.upgrade() else { return };
            let Some(flow) = self.flow(&network, client) else { continue };
            if let Ok(Target::Pod(pod, at)) = network.route_endpoint(flow.endpoint, flow.endpoint) {
                let mailbox = lock(&pod.udp).lookup(at).cloned();
                if let Some(mailbox) = mailbox {
                    mailbox.push(Bytes::copy_from_slice(&buffer[..n]), flow.local);
                }
            }
        }
    }

    /// The client's flow, made if it is new.
    fn flow(&self, network: &Network, client: SocketAddr) -> Option<Flow> {
        let now = Instant::now();
        let mut flows = lock(&self.flows);
        if let Some(flow) = flows.get_mut(&client) {
            flow.last = now;
            return Some(*flow);
        }
        if flows.len() >= MAX_FLOWS {
            return None;
        }
        let endpoint = network.services().node_endpoint(self.port, Protocol::Udp, client.ip(), now)?;
        let mailbox = Arc::new(Mailbox::default());
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let bound = lock(network.node_udp()).bind(any, network.gateway(), mailbox.clone()).ok()?;
        let flow = Flow { local: SocketAddr::new(network.gateway(), bound.port()), endpoint, last: now };
        flows.insert(client, flow);
        let server = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = server.answer(client, &mailbox) => {}
                () = server.stop.cancelled() => {}
            }
            lock(&server.flows).remove(&client);
            if let Some(network) = server.network.upgrade() {
                lock(network.node_udp()).unbind(bound);
            }
        });
        Some(flow)
    }

    /// Carries answers back until the flow is idle.
    async fn answer(&self, client: SocketAddr, mailbox: &Mailbox) {
        loop {
            match timeout(IDLE, poll_fn(|cx| mailbox.poll(Some(cx)))).await {
                Ok((data, from)) => {
                    let mut flows = lock(&self.flows);
                    let Some(flow) = flows.get_mut(&client) else { return };
                    if from == flow.endpoint {
                        flow.last = Instant::now();
                        drop(flows);
                        // Lost, should the kernel have no room: it is UDP.
                        let _lost = self.socket.try_send_to(&data, client);
                    }
                }
                Err(_elapsed) => {
                    let idle = lock(&self.flows).get(&client).is_none_or(|flow| flow.last.elapsed() >= IDLE);
                    if idle {
                        return;
                    }
                }
            }
        }
    }
}
