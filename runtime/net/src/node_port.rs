//! NodePorts: kernel listeners of the node, kept in line with the Services.
//!
//! A client's socket is handed to the listener of the chosen pod as it is; between them nothing is copied. Only an
//! endpoint outside the process needs a task that carries the bytes.

use crate::attachment::Pod;
use crate::connect::{Target, connect_outside, deliver, try_deliver};
use crate::network::{Network, WeakNetwork};
use crate::node_port_udp::{self, Flows};
use crate::services::{Protocol, Service};
use crate::stream::Stream;
use socket2::SockRef;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that wait for a pod's backlog, or are carried to an endpoint outside, for all ports; past it a client
/// is reset.
const MAX_CARRIED: usize = 4096;
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
    runtime: Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
    carried: Arc<Semaphore>,
    open: BTreeMap<Port, Open>,
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
    pub(crate) fn new(address: IpAddr, runtime: Handle) -> Self {
        Self {
            address,
            runtime,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            carried: Arc::new(Semaphore::new(MAX_CARRIED)),
            open: BTreeMap::new(),
        }
    }

    /// The ports a Service wants open on the node.
    pub(crate) fn wanted(service: &Service) -> Vec<Port> {
        service.ports.iter().filter_map(|port| Some((port.node_port?, port.protocol))).collect()
    }

    /// Makes the owner's open ports the wanted ones. Ports that stay are not touched.
    pub(crate) fn set(&mut self, network: &Network, owner: Owner, wanted: Vec<Port>) -> Vec<NodePortProblem> {
        self.open.retain(|port, open| {
            let keep = open.owner != owner || wanted.contains(port);
            if !keep {
                open.close();
            }
            keep
        });
        let mut problems = Vec::new();
        for port in wanted {
            if self.open.get(&port).is_some_and(|open| open.owner == owner) {
                continue;
            }
            if let Err(source) = self.open(network, owner.clone(), port) {
                let (namespace, name) = owner.clone();
                problems.push(NodePortProblem { namespace, name, port: port.0, protocol: port.1, source });
            }
        }
        problems
    }

    /// Closes all ports; the tracker ends with the last connection's task.
    pub(crate) fn close(&mut self) -> TaskTracker {
        self.stop.cancel();
        for open in std::mem::take(&mut self.open).into_values() {
            open.close();
        }
        self.tasks.close();
        self.tasks.clone()
    }

    fn open(&mut self, network: &Network, owner: Owner, port: Port) -> io::Result<()> {
        if let Some(open) = self.open.get(&port) {
            let (namespace, name) = &open.owner;
            let text = format!("the port belongs to service {namespace}/{name}");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let stop = self.stop.child_token();
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
            let _in_runtime = self.runtime.enter();
            Arc::new(TcpListener::from_std(listener)?)
        };
        let server = Server {
            network: network.downgrade(),
            port,
            carried: self.carried.clone(),
            tasks: self.tasks.clone(),
            stop,
        };
        self.tasks.spawn_on(server.run(listener.clone()), &self.runtime);
        Ok(listener)
    }

    fn open_udp(&self, network: &Network, port: u16, stop: CancellationToken) -> io::Result<()> {
        let socket = std::net::UdpSocket::bind((self.address, port))?;
        socket.set_nonblocking(true)?;
        let socket = {
            let _in_runtime = self.runtime.enter();
            Arc::new(UdpSocket::from_std(socket)?)
        };
        let network = network.downgrade();
        let tasks = self.tasks.clone();
        let server = node_port_udp::Server { network, port, socket, tasks, stop, flows: Flows::default() };
        self.tasks.spawn_on(server.run(), &self.runtime);
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
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Hands the connection to an endpoint, at once where that needs no waiting. A client that finds nobody is reset.
    fn place(&self, socket: TcpStream, client: SocketAddr) {
        let _without_it_slower = socket.set_nodelay(true);
        let Some(network) = self.network.upgrade() else { return };
        let endpoint =
            network.services().node_endpoint(self.port, Protocol::Tcp, client.ip(), Instant::now());
        let target = endpoint.and_then(|endpoint| network.route_endpoint(endpoint, endpoint).ok());
        let (pod, at) = match target {
            None => return refuse(&socket),
            Some(Target::Outside(to)) => return self.carry(socket, move |socket| carry_outside(socket, to)),
            Some(Target::Pod(pod, at)) => (pod, at),
        };
        match try_deliver(&pod, at) {
            Err(_) => refuse(&socket),
            Ok(Some(delivery)) => {
                // A listener that went meanwhile has dropped, and so closed, the socket.
                let _gone = delivery.hand_over(Stream::kernel(socket, at, client), at);
            }
            Ok(None) => self.carry(socket, move |socket| wait_for_pod(socket, pod, at, client)),
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

async fn wait_for_pod(socket: TcpStream, pod: Arc<Pod>, at: SocketAddr, client: SocketAddr) {
    match deliver(&pod, at).await {
        Ok(delivery) => {
            let _gone = delivery.hand_over(Stream::kernel(socket, at, client), at);
        }
        Err(_) => refuse(&socket),
    }
}

async fn carry_outside(mut socket: TcpStream, to: SocketAddr) {
    match connect_outside(to).await {
        Ok(mut outside) => {
            let _either_end_closed = tokio::io::copy_bidirectional(&mut socket, &mut outside).await;
        }
        Err(_) => refuse(&socket),
    }
}

/// Makes the close of the socket a reset.
fn refuse(socket: &TcpStream) {
    let _already_gone = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
