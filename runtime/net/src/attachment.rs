//! A pod's place on the network: its address, its ports, its limits. All containers of a pod share one, and with it
//! their loopback.

use crate::listener::{Backlog, Listener};
use crate::network::{Network, WeakNetwork};
use crate::ports::Ports;
use crate::quota::{Permit, Quota, SocketKind};
use crate::stream::Stream;
use crate::udp::{Mailbox, UdpSocket};
use crate::{NameError, NetError, lock};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// What a pod brings when it joins the network.
#[derive(Clone, Debug, Default)]
pub struct AttachSpec {
    /// Its namespace: where its short names are looked up first.
    pub namespace: String,
    /// Its own name, which resolves to its address.
    pub hostname: String,
    /// The address it had before, if it should have it again.
    pub want: Option<IpAddr>,
}

/// A pod on the network. The address is free again when the last clone and the last socket are gone, or after
/// `detach`.
#[derive(Clone, Debug)]
pub struct Attachment {
    pub(crate) pod: Arc<Pod>,
}

/// The state behind an [`Attachment`].
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) network: WeakNetwork,
    pub(crate) ip: IpAddr,
    pub(crate) namespace: String,
    pub(crate) hostname: String,
    pub(crate) quota: Quota,
    /// Its names that the host's resolver is asked for at once.
    pub(crate) lookups: Arc<Semaphore>,
    pub(crate) tcp: Mutex<Ports<Option<Arc<Backlog>>>>,
    pub(crate) udp: Mutex<Ports<Arc<Mailbox>>>,
    detached: AtomicBool,
}

impl Pod {
    pub(crate) fn new(network: WeakNetwork, ip: IpAddr, spec: AttachSpec, quota: Quota) -> Arc<Self> {
        Arc::new(Self {
            network,
            ip,
            namespace: spec.namespace,
            hostname: spec.hostname,
            quota,
            lookups: Arc::new(Semaphore::new(crate::lookup::MAX_OF_POD)),
            tcp: Mutex::new(Ports::new(fastrand::u16(..))),
            udp: Mutex::new(Ports::new(fastrand::u16(..))),
            detached: AtomicBool::new(false),
        })
    }

    pub(crate) fn network(&self) -> Result<Network, NetError> {
        if self.detached.load(Ordering::Acquire) {
            return Err(NetError::Detached(self.ip));
        }
        self.network.upgrade().ok_or(NetError::Detached(self.ip))
    }

    /// Leaves the network once.
    fn leave(&self) {
        if self.detached.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(network) = self.network.upgrade() {
            network.forget(self.ip);
        }
        let backlogs: Vec<_> = lock(&self.tcp).iter().filter_map(|(_, backlog)| backlog.clone()).collect();
        for backlog in backlogs {
            backlog.close();
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Attachment {
    /// The pod's address.
    pub fn ip(&self) -> IpAddr {
        self.pod.ip
    }

    /// The pod's namespace.
    pub fn namespace(&self) -> &str {
        &self.pod.namespace
    }

    /// The pod's own name.
    pub fn hostname(&self) -> &str {
        &self.pod.hostname
    }

    /// Leaves the network: the address is free, listeners refuse, further operations fail. Open connections go on until
    /// their sockets are dropped.
    pub fn detach(&self) {
        self.pod.leave();
    }

    /// Takes a local TCP address, to listen on or to connect from. Port 0 takes an ephemeral one.
    pub fn bind(&self, address: SocketAddr) -> Result<BoundTcp, NetError> {
        let permit = self.pod.quota.take(SocketKind::Raw)?;
        self.pod.network()?;
        let address = lock(&self.pod.tcp).bind(address, self.pod.ip, None)?;
        Ok(BoundTcp { pod: self.pod.clone(), address, permit: Some(permit) })
    }

    /// Binds and listens.
    pub fn listen(&self, address: SocketAddr, backlog: u32) -> Result<Listener, NetError> {
        Ok(self.bind(address)?.listen(backlog))
    }

    /// Connects as a raw socket of the guest: to a pod, to a Service, to the pod itself or to the outside.
    pub async fn connect(&self, remote: SocketAddr) -> Result<Stream, NetError> {
        self.connect_as(remote, SocketKind::Raw).await
    }

    /// Connects under the limit of the given kind.
    pub async fn connect_as(&self, remote: SocketAddr, kind: SocketKind) -> Result<Stream, NetError> {
        let permit = self.pod.quota.take(kind)?;
        let network = self.pod.network()?;
        let stream = network.connect(Some(&self.pod), None, remote).await?;
        Ok(stream.with_permit(permit))
    }

    /// Binds a UDP socket. Port 0 takes an ephemeral one.
    pub fn bind_udp(&self, address: SocketAddr) -> Result<UdpSocket, NetError> {
        let permit = self.pod.quota.take(SocketKind::Raw)?;
        self.pod.network()?;
        UdpSocket::bind(&self.pod, address, permit)
    }

    /// The addresses of a name as this pod sees it.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let network = self.pod.network().map_err(|_gone| NameError::NotFound(name.to_owned()))?;
        network.resolve(&self.pod, name).await
    }

    /// Whether an address belongs to the virtual network: to a pod or a Service, there or not.
    pub fn is_inside(&self, ip: IpAddr) -> bool {
        self.pod.network().is_ok_and(|network| network.is_inside(ip))
    }

    /// The TCP addresses where the pod listens, in the order of the ports.
    pub fn listening(&self) -> Vec<SocketAddr> {
        lock(&self.pod.tcp)
            .iter()
            .filter(|(_, backlog)| backlog.is_some())
            .map(|(address, _)| address)
            .collect()
    }

    /// How many sockets of a kind the pod holds.
    pub fn sockets_in_use(&self, kind: SocketKind) -> usize {
        self.pod.quota.in_use(kind)
    }
}

/// A local TCP address that is taken. Dropping it frees the port.
#[derive(Debug)]
pub struct BoundTcp {
    pod: Arc<Pod>,
    address: SocketAddr,
    permit: Option<Permit>,
}

impl BoundTcp {
    /// The address taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pod_ip(&self) -> IpAddr {
        self.pod.ip
    }

    /// Starts to take connections.
    pub fn listen(self, backlog: u32) -> Listener {
        let queue = Backlog::new(backlog);
        if let Some(slot) = lock(&self.pod.tcp).get_mut(self.address) {
            *slot = Some(queue.clone());
        }
        if self.pod.network().is_err() {
            queue.close();
        }
        Listener::new(queue, self)
    }

    /// Connects from this address.
    pub async fn connect(mut self, remote: SocketAddr) -> Result<Stream, NetError> {
        let permit = self.permit.take();
        let network = self.pod.network()?;
        let stream = network.connect(Some(&self.pod), Some(self.address), remote).await?;
        Ok(match permit {
            Some(permit) => stream.with_permit(permit),
            None => stream,
        })
    }
}

impl Drop for BoundTcp {
    fn drop(&mut self) {
        lock(&self.pod.tcp).unbind(self.address);
    }
}
