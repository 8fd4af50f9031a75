//! UDP node ports: a flow per client, with a mailbox at the node's own address for the answers.
//!
//! A flow keeps its endpoint while the Service has it, until nothing came for a minute; one that was not a conversation
//! yet, half of that, as Linux' connection tracking has it. Past the bound the eldest goes, those first that were no
//! conversation. Endpoints outside the process get nothing: their answers would have to be carried by a socket per
//! client, for which nobody asked yet.

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
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Clients of one port that are remembered.
const MAX_FLOWS: usize = 4096;
/// How long a conversation lives without traffic.
const IDLE: Duration = Duration::from_secs(60);
/// How long a flow does that is none.
const SHORT: Duration = Duration::from_secs(30);
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
#[derive(Debug)]
pub(crate) struct Flow {
    /// The node's end, where answers go.
    local: SocketAddr,
    endpoint: SocketAddr,
    exchange: Exchange,
    last: Instant,
    /// Ends the flow's task when it is forgotten.
    _task: DropGuard,
}

/// What went over a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Exchange {
    Asked,
    Answered,
    /// The client went on after an answer.
    Conversation,
}

impl Flow {
    // Answered -> Conversation
    fn asked(&mut self, now: Instant) {
        self.last = now;
        if self.exchange == Exchange::Answered {
            self.exchange = Exchange::Conversation;
        }
    }

    // Asked -> Answered
    fn answered(&mut self, now: Instant) {
        self.last = now;
        self.exchange = self.exchange.max(Exchange::Answered);
    }

    /// When it is forgotten, should nothing come.
    fn expires(&self) -> Instant {
        self.last + if self.exchange == Exchange::Conversation { IDLE } else { SHORT }
    }
}

/// A port of the node's own address on the pods' network. Dropping it frees the port.
#[derive(Debug)]
struct NodeEnd {
    network: WeakNetwork,
    bound: SocketAddr,
    mailbox: Arc<Mailbox>,
}

impl NodeEnd {
    fn bind(network: &Network) -> Option<Self> {
        let mailbox = Arc::new(Mailbox::default());
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let bound = lock(network.node_udp()).bind(any, network.gateway(), mailbox.clone()).ok()?;
        Some(Self { network: network.downgrade(), bound, mailbox })
    }
}

impl Drop for NodeEnd {
    fn drop(&mut self) {
        if let Some(network) = self.network.upgrade() {
            lock(network.node_udp()).unbind(self.bound);
        }
    }
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
            let Some((local, endpoint)) = self.flow(&network, client) else { continue };
            match network.route_endpoint(endpoint, endpoint) {
                Ok(Target::Pod(pod, at)) => {
                    let mailbox = lock(&pod.udp).lookup(at).cloned();
                    if let Some(mailbox) = mailbox {
                        mailbox.push(Bytes::copy_from_slice(&buffer[..n]), local);
                    }
                }
                Ok(Target::Outside(_)) => {}
                // The next datagram may find somebody.
                Err(_) => drop(lock(&self.flows).remove(&client)),
            }
        }
    }

    /// The node's end and the endpoint of the client's flow, which is made if it is new. An endpoint that the Service has
    /// no more is replaced.
    fn flow(&self, network: &Network, client: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
        let now = Instant::now();
        let mut flows = lock(&self.flows);
        if let Some(flow) = flows.get_mut(&client) {
            if !network.services().still_at_node(self.port, Protocol::Udp, flow.endpoint) {
                flow.endpoint = self.choose(network, client, now)?;
            }
            flow.asked(now);
            return Some((flow.local, flow.endpoint));
        }
        let endpoint = self.choose(network, client, now)?;
        if flows.len() >= MAX_FLOWS {
            let eldest =
                flows.iter().min_by_key(|(_, flow)| (flow.exchange == Exchange::Conversation, flow.last));
            let eldest = eldest.map(|(client, _)| *client);
            eldest.and_then(|eldest| flows.remove(&eldest));
        }
        let end = NodeEnd::bind(network)?;
        let local = SocketAddr::new(network.gateway(), end.bound.port());
        let stop = self.stop.child_token();
        let task = stop.clone().drop_guard();
        flows.insert(client, Flow { local, endpoint, exchange: Exchange::Asked, last: now, _task: task });
        let server = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = server.answer(client, local, &end.mailbox) => {}
                () = stop.cancelled() => {}
            }
        });
        Some((local, endpoint))
    }

    fn choose(&self, network: &Network, client: SocketAddr, now: Instant) -> Option<SocketAddr> {
        network.services().node_endpoint(self.port, Protocol::Udp, client.ip(), now)
    }

    /// Carries answers back until the flow is idle, and forgets it then.
    async fn answer(&self, client: SocketAddr, local: SocketAddr, mailbox: &Mailbox) {
        let mut expires = Instant::now() + SHORT;
        loop {
            let answer = timeout_at(expires, poll_fn(|cx| mailbox.poll(Some(cx)))).await.ok();
            let now = Instant::now();
            let mut flows = lock(&self.flows);
            let Some(flow) = flows.get_mut(&client).filter(|flow| flow.local == local) else { return };
            let is_answer = answer.as_ref().is_some_and(|(_, from)| *from == flow.endpoint);
            if is_answer {
                flow.answered(now);
            }
            expires = flow.expires();
            if expires <= now {
                flows.remove(&client);
                return;
            }
            drop(flows);
            if let Some((data, _)) = answer.filter(|_| is_answer) {
                // Lost, should the kernel have no room: it is UDP.
                let _lost = self.socket.try_send_to(&data, client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttachSpec, Attachment, Endpoint, NetworkConfig, Service, ServicePort};
    use tokio::time::{sleep, timeout};

    const PORT: u16 = 30_053;

    /// A network, the pod behind its port, and the port's server, without a loop.
    async fn port() -> (Network, Attachment, Server) {
        let network = Network::new(NetworkConfig::default()).unwrap();
        let pod = network.attach(AttachSpec::default()).unwrap();
        let endpoint = Endpoint { ip: pod.ip(), port: 53, ready: true, draining: false, hostname: None };
        let port = ServicePort {
            name: String::new(),
            protocol: Protocol::Udp,
            port: 53,
            node_port: Some(PORT),
            endpoints: vec![endpoint],
        };
        // The kernel's port, should it be free, is not needed here.
        let _not_opened = network.upsert_service(Service { ports: vec![port], ..Service::default() });
        let server = Server {
            network: network.downgrade(),
            port: PORT,
            socket: Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap()),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            flows: Flows::default(),
        };
        (network, pod, server)
    }

    fn client(n: usize) -> SocketAddr {
        let n = u32::try_from(n).unwrap();
        SocketAddr::new(Ipv4Addr::from(u32::from(Ipv4Addr::new(203, 0, 0, 0)) + n).into(), 5353)
    }

    /// Waits until so many ports of the node are taken, and how long that took.
    async fn taken(network: &Network, wanted: usize) -> Duration {
        let start = Instant::now();
        let waiting = async {
            while lock(network.node_udp()).iter().count() != wanted {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(10 * IDLE, waiting).await.expect("in time");
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_client_takes_the_place_of_the_eldest_that_is_no_conversation() {
        let (network, _pod, server) = port().await;
        for n in 0..MAX_FLOWS {
            assert!(server.flow(&network, client(n)).is_some());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        {
            let mut flows = lock(&server.flows);
            let eldest = flows.get_mut(&client(0)).unwrap();
            let last = eldest.last;
            eldest.answered(last);
            eldest.asked(last);
        }
        for n in MAX_FLOWS..MAX_FLOWS + 10 {
            assert!(server.flow(&network, client(n)).is_some());
        }
        let remembered: Vec<bool> = [0, 1, 10, 11, MAX_FLOWS + 9]
            .iter()
            .map(|n| lock(&server.flows).contains_key(&client(*n)))
            .collect();
        assert_eq!(remembered, [true, false, false, true, true]);
        assert_eq!(lock(&server.flows).len(), MAX_FLOWS);
        taken(&network, MAX_FLOWS).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_flow_is_forgotten_sooner_when_it_is_no_conversation() {
        let (network, pod, server) = port().await;
        let listening = pod.bind_udp("0.0.0.0:53".parse().unwrap()).unwrap();
        let near = |took: Duration, expected: Duration| took.abs_diff(expected) < Duration::from_secs(1);
        let (local, _) = server.flow(&network, client(0)).unwrap();
        listening.send("answer".into(), Some(local)).unwrap();
        let took = taken(&network, 0).await;
        assert!(near(took, SHORT), "{took:?}");

        let (local, _) = server.flow(&network, client(0)).unwrap();
        listening.send("answer".into(), Some(local)).unwrap();
        while lock(&server.flows)[&client(0)].exchange == Exchange::Asked {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(server.flow(&network, client(0)).unwrap().0, local, "it is the same");
        let took = taken(&network, 0).await;
        assert!(near(took, IDLE), "{took:?}");
        assert!(lock(&server.flows).is_empty());
    }
}
