//! NodePorts: kernel listeners of the node, kept in line with the Services.
//!
//! A client's socket is handed to the listener of the chosen pod as it is; between them nothing is copied. Only an
//! endpoint outside the process needs a task that carries the bytes.

use crate::attachment::Pod;
use crate::connect::{CONNECT_TIMEOUT, Target, deliver, try_deliver};
use crate::network::{Network, WeakNetwork, Work};
use crate::node_port_udp::{self, Flows};
use crate::quota::Permit;
use crate::services::{Protocol, Service};
use crate::stream::Stream;
use socket2::SockRef;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections of one port that wait for a pod's backlog, or are carried to an endpoint outside; past it a client is
/// reset.
const MAX_CARRIED: usize = 4096;
/// How often ports that could not be opened are tried again.
const RETRY: Duration = Duration::from_secs(30);
/// How long to wait after a failed accept (descriptors are used up, usually).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A port of the node that could not be opened, to be told to the Service's owner.
#[derive(Debug, thiserror::Error)]
#[error("node port {port} of service {namespace}/{name} cannot be opened")]
pub struct NodePortProblem {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Why.
    #[source]
    pub source: io::Error,
}

type Owner = (String, String);
type Port = (u16, Protocol);

/// The open ports and whose they are.
#[derive(Debug)]
pub(crate) struct NodePorts {
    address: IpAddr,
    work: Work,
    open: BTreeMap<Port, Open>,
    /// Ports that are wanted and could not be opened.
    missing: BTreeSet<(Owner, Port)>,
    /// Whether a task tries those again.
    retrying: bool,
}

#[derive(Debug)]
struct Open {
    owner: Owner,
    stop: CancellationToken,
    /// For TCP.
    listener: Option<Arc<TcpListener>>,
}

impl Open {
    fn close(&self) {
        // A TCP port can be bound again at once; the task lets go of the descriptor a little later.
        if let Some(listener) = &self.listener {
            let _already_closed = SockRef::from(&**listener).shutdown(Shutdown::Both);
        }
        self.stop.cancel();
    }
}

impl NodePorts {
    pub(crate) fn new(address: IpAddr, work: Work) -> Self {
        Self { address, work, open: BTreeMap::new(), missing: BTreeSet::new(), retrying: false }
    }

    /// The ports a Service wants open on the node.
    pub(crate) fn wanted(service: &Service) -> Vec<Port> {
        service.ports.iter().filter_map(|port| Some((port.node_port?, port.protocol))).collect()
    }

    /// Makes the owner's open ports the wanted ones. Ports that stay are not touched; those that cannot be opened now are
    /// tried again, when another is given up and from time to time.
    pub(crate) fn set(&mut self, network: &Network, owner: Owner, wanted: Vec<Port>) -> Vec<NodePortProblem> {
        let n_before = self.open.len();
        self.open.retain(|port, open| {
            let keep = open.owner != owner || wanted.contains(port);
            if !keep {
                open.close();
            }
            keep
        });
        let is_given_up = self.open.len() < n_before;
        self.missing.retain(|(of, _)| *of != owner);
        let mut problems = Vec::new();
        for port in wanted {
            if self.open.get(&port).is_some_and(|open| open.owner == owner) {
                continue;
            }
            if let Err(source) = self.open(network, owner.clone(), port) {
                self.missing.insert((owner.clone(), port));
                let (namespace, name) = owner.clone();
                problems.push(NodePortProblem { namespace, name, port: port.0, protocol: port.1, source });
            }
        }
        if is_given_up {
            self.try_missing(network);
        }
        self.retry_later(network);
        problems
    }

    /// Tries the missing ports again for the task that does so from time to time. Whether it may end: none is missing.
    pub(crate) fn retry(&mut self, network: &Network) -> bool {
        self.try_missing(network);
        self.retrying = !self.missing.is_empty();
        !self.retrying
    }

    /// Closes all ports.
    pub(crate) fn close(&mut self) {
        self.missing.clear();
        for open in std::mem::take(&mut self.open).into_values() {
            open.close();
        }
    }

    fn try_missing(&mut self, network: &Network) {
        for (owner, port) in std::mem::take(&mut self.missing) {
            match self.open(network, owner.clone(), port) {
                Ok(()) => {
                    tracing::info!(
                        namespace = owner.0,
                        name = owner.1,
                        port = port.0,
                        "a node port is open at last"
                    );
                }
                Err(_still) => {
                    self.missing.insert((owner, port));
                }
            }
        }
    }

    fn retry_later(&mut self, network: &Network) {
        if self.missing.is_empty() || std::mem::replace(&mut self.retrying, true) {
            return;
        }
        let (network, stop) = (network.downgrade(), self.work.stop.clone());
        let retrying = async move {
            loop {
                tokio::select! {
                    () = sleep(RETRY) => {}
                    () = stop.cancelled() => return,
                }
                if network.upgrade().is_none_or(|network| network.retry_node_ports()) {
                    return;
                }
            }
        };
        self.work.tasks.spawn_on(retrying, &self.work.runtime);
    }

    fn open(&mut self, network: &Network, owner: Owner, port: Port) -> io::Result<()> {
        if let Some(open) = self.open.get(&port) {
            let (namespace, name) = &open.owner;
            let text = format!("the port belongs to service {namespace}/{name}");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let stop = self.work.stop.child_token();
        let listener = match port.1 {
            Protocol::Tcp => Some(self.open_tcp(network, port.0, stop.clone())?),
            Protocol::Udp => {
                self.open_udp(network, port.0, stop.clone())?;
                None
            }
        };
        self.open.insert(port, Open { owner, stop, listener });
        Ok(())
    }

    fn open_tcp(
        &self,
        network: &Network,
        port: u16,
        stop: CancellationToken,
    ) -> io::Result<Arc<TcpListener>> {
        let listener = std::net::TcpListener::bind((self.address, port))?;
        listener.set_nonblocking(true)?;
        let listener = {
            let _in_runtime = self.work.runtime.enter();
            Arc::new(TcpListener::from_std(listener)?)
        };
        let server = Server {
            network: network.downgrade(),
            port,
            carried: Arc::new(Semaphore::new(MAX_CARRIED)),
            tasks: self.work.tasks.clone(),
            stop,
        };
        self.work.tasks.spawn_on(server.run(listener.clone()), &self.work.runtime);
        Ok(listener)
    }

    fn open_udp(&self, network: &Network, port: u16, stop: CancellationToken) -> io::Result<()> {
        let socket = std::net::UdpSocket::bind((self.address, port))?;
        socket.set_nonblocking(true)?;
        let socket = {
            let _in_runtime = self.work.runtime.enter();
            Arc::new(UdpSocket::from_std(socket)?)
        };
        let network = network.downgrade();
        let tasks = self.work.tasks.clone();
        let server = node_port_udp::Server { network, port, socket, tasks, stop, flows: Flows::default() };
        self.work.tasks.spawn_on(server.run(), &self.work.runtime);
        Ok(())
    }
}

/// The accept loop of one port.
#[derive(Clone, Debug)]
struct Server {
    network: WeakNetwork,
    port: u16,
    carried: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    async fn run(self, listener: Arc<TcpListener>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((socket, client)) => self.place(socket, client),
                Err(error) => {
                    if self.stop.is_cancelled() {
                        return;
                    }
                    tracing::warn!(port = self.port, %error, "a node port could not accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Hands the connection to an endpoint, at once where that needs no waiting. A client that finds nobody is reset.
    fn place(&self, socket: TcpStream, client: SocketAddr) {
        let _without_it_slower = socket.set_nodelay(true);
        let Some(network) = self.network.upgrade() else { return };
        let Ok(kernel) = network.kernel_socket() else { return refuse(&socket) };
        let endpoint =
            network.services().node_endpoint(self.port, Protocol::Tcp, client.ip(), Instant::now());
        let target = endpoint.and_then(|endpoint| network.route_endpoint(endpoint, endpoint).ok());
        let (pod, at) = match target {
            None => return refuse(&socket),
            Some(Target::Outside(to)) => {
                return self.carry(socket, move |socket| async move {
                    let _kernel = kernel;
                    carry_outside(socket, network, to).await;
                });
            }
            Some(Target::Pod(pod, at)) => (pod, at),
        };
        match try_deliver(&pod, at) {
            Err(_) => refuse(&socket),
            Ok(Some(delivery)) => {
                // A listener that went meanwhile has dropped, and so closed, the socket.
                let _gone = delivery.hand_over(Stream::kernel(socket, at, client, kernel), at);
            }
            Ok(None) => self.carry(socket, move |socket| wait_for_pod(socket, kernel, pod, at, client)),
        }
    }

    fn carry<F: Future<Output = ()> + Send + 'static>(
        &self,
        socket: TcpStream,
        how: impl FnOnce(TcpStream) -> F,
    ) {
        let Ok(permit) = self.carried.clone().try_acquire_owned() else { return refuse(&socket) };
        let stop = self.stop.clone();
        let work = how(socket);
        self.tasks.spawn(async move {
            let _permit = permit;
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn wait_for_pod(socket: TcpStream, kernel: Permit, pod: Arc<Pod>, at: SocketAddr, client: SocketAddr) {
    let delivery = tokio::select! {
        delivery = timeout(CONNECT_TIMEOUT, deliver(&pod, at)) => delivery,
        // The client has reset the connection. One that merely sends no more may wait for its answer.
        _error = socket.ready(Interest::ERROR) => return,
    };
    match delivery {
        Ok(Ok(delivery)) => {
            let _gone = delivery.hand_over(Stream::kernel(socket, at, client, kernel), at);
        }
        Ok(Err(_)) | Err(_) => refuse(&socket),
    }
}

async fn carry_outside(mut socket: TcpStream, network: Network, to: SocketAddr) {
    let connected = network.connect_outside(to).await;
    drop(network);
    match connected {
        Ok((mut outside, _kernel)) => {
            let _either_end_closed = tokio::io::copy_bidirectional(&mut socket, &mut outside).await;
        }
        Err(_) => refuse(&socket),
    }
}

/// Makes the close of the socket a reset.
fn refuse(socket: &TcpStream) {
    let _already_gone = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
