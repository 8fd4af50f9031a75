//! The network itself: who is on it, which Services there are, and the names of both.

use crate::allocator::{AddressPool, Refusal};
use crate::attachment::{AttachSpec, Attachment, Pod};
use crate::lookup::Resolver;
use crate::names::{Candidate, candidates, literal};
use crate::node_port::{NodePortProblem, NodePorts};
use crate::ports::Ports;
use crate::quota::{Permit, Quota, SocketLimits, default_kernel_sockets};
use crate::services::{Answer, Service, Services};
use crate::stream::Stream;
use crate::udp::Mailbox;
use crate::{Cidr, EgressPolicy, NameError, NetError, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many aliases a name may pass through.
const MAX_ALIASES: usize = 8;

/// What the network is made of.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Where pods' addresses come from.
    pub pod_cidr: Cidr,
    /// Where Services' addresses come from: what is unknown there has no route.
    pub service_cidr: Cidr,
    /// The domain under which names are the cluster's own.
    pub cluster_domain: String,
    /// Where NodePorts listen.
    pub node_address: IpAddr,
    /// What pods may reach outside.
    pub egress: EgressPolicy,
    /// How many sockets each pod may hold.
    pub socket_limits: SocketLimits,
    /// How many connections and UDP sockets of the kernel there may be for all pods together.
    pub kernel_sockets: usize,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            pod_cidr: Cidr::new(Ipv4Addr::new(10, 244, 0, 0).into(), 16),
            service_cidr: Cidr::new(Ipv4Addr::new(10, 96, 0, 0).into(), 16),
            cluster_domain: "cluster.local".to_owned(),
            node_address: Ipv4Addr::LOCALHOST.into(),
            egress: EgressPolicy::default(),
            socket_limits: SocketLimits::default(),
            kernel_sockets: default_kernel_sockets(),
        }
    }
}

/// Where the network's own tasks run, and how they are told to end.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) runtime: Handle,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Work {
    /// Work for the current runtime.
    pub(crate) fn new() -> Result<Self, NetError> {
        let runtime = Handle::try_current().map_err(|error| NetError::Io(std::io::Error::other(error)))?;
        Ok(Self { runtime, tasks: TaskTracker::new(), stop: CancellationToken::new() })
    }
}

/// The virtual network. Clones are the same network.
#[derive(Clone, Debug)]
pub struct Network {
    inner: Arc<Inner>,
}

/// A reference that does not keep the network alive.
#[derive(Clone, Debug)]
pub(crate) struct WeakNetwork(Weak<Inner>);

impl WeakNetwork {
    pub(crate) fn upgrade(&self) -> Option<Network> {
        self.0.upgrade().map(|inner| Network { inner })
    }
}

#[expect(clippy::disallowed_types, reason = "looked up at every connect, never iterated")]
type PodTable = std::collections::HashMap<IpAddr, Weak<Pod>>;

#[derive(Debug)]
struct Inner {
    config: NetworkConfig,
    gateway: IpAddr,
    addresses: Mutex<AddressPool>,
    pods: RwLock<PodTable>,
    services: RwLock<Services>,
    host_endpoints: RwLock<BTreeMap<SocketAddr, SocketAddr>>,
    node_ports: Mutex<NodePorts>,
    /// UDP ports of the node's own address on the pods' network.
    node_udp: Mutex<Ports<Arc<Mailbox>>>,
    kernel_sockets: Arc<Semaphore>,
    resolver: Resolver,
    work: Work,
}

impl Network {
    /// A network with nobody on it. Must be called in a tokio runtime: NodePorts are served there.
    pub fn new(config: NetworkConfig) -> Result<Self, NetError> {
        let work = Work::new()?;
        let addresses = AddressPool::new(config.pod_cidr);
        if addresses.capacity() == 0 {
            return Err(NetError::NoFreeAddress(config.pod_cidr));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                gateway: addresses.gateway().into(),
                addresses: Mutex::new(addresses),
                pods: RwLock::default(),
                services: RwLock::default(),
                host_endpoints: RwLock::default(),
                node_ports: Mutex::new(NodePorts::new(config.node_address, work.clone())),
                node_udp: Mutex::new(Ports::new(fastrand::u16(..))),
                kernel_sockets: Arc::new(Semaphore::new(config.kernel_sockets.min(Semaphore::MAX_PERMITS))),
                resolver: Resolver::new(work.clone()),
                work,
                config,
            }),
        })
    }

    /// How many pods fit.
    pub fn capacity(&self) -> u32 {
        lock(&self.inner.addresses).capacity()
    }

    /// Gives a pod its place. A wanted address that another pod has, or that is not of the range, is an error.
    pub fn attach(&self, spec: AttachSpec) -> Result<Attachment, NetError> {
        let ip = lock(&self.inner.addresses).take(spec.want).map_err(|refusal| {
            let wanted = SocketAddr::new(spec.want.unwrap_or(self.inner.gateway), 0);
            match refusal {
                Refusal::Taken => NetError::AddressInUse(wanted),
                Refusal::OutOfRange => NetError::AddressNotAvailable(wanted),
                Refusal::Exhausted => NetError::NoFreeAddress(self.inner.config.pod_cidr),
            }
        })?;
        let ip = IpAddr::V4(ip);
        let quota = Quota::new(self.inner.config.socket_limits);
        let pod = Pod::new(WeakNetwork(Arc::downgrade(&self.inner)), ip, spec, quota);
        self.inner.pods.write().unwrap_or_else(PoisonError::into_inner).insert(ip, Arc::downgrade(&pod));
        Ok(Attachment { pod })
    }

    pub(crate) fn forget(&self, ip: IpAddr) {
        self.inner.pods.write().unwrap_or_else(PoisonError::into_inner).remove(&ip);
        lock(&self.inner.addresses).free(ip);
    }

    /// Replaces all Services. The ports of the node that could not be opened come back.
    pub fn set_services(&self, services: Vec<Service>) -> Vec<NodePortProblem> {
        let keep: BTreeSet<_> = services.iter().map(|s| (s.namespace.clone(), s.name.clone())).collect();
        let gone: Vec<_> = self.services().names().into_iter().filter(|name| !keep.contains(name)).collect();
        for (namespace, name) in gone {
            self.remove_service(&namespace, &name);
        }
        services.into_iter().flat_map(|service| self.upsert_service(service)).collect()
    }

    /// Adds a Service or replaces the one of its name. Its ports of the node that could not be opened come back.
    pub fn upsert_service(&self, service: Service) -> Vec<NodePortProblem> {
        let wanted = NodePorts::wanted(&service);
        let name = (service.namespace.clone(), service.name.clone());
        self.inner.services.write().unwrap_or_else(PoisonError::into_inner).upsert(service);
        lock(&self.inner.node_ports).set(self, name, wanted)
    }

    /// Forgets a Service and closes its ports of the node. Connections go on.
    pub fn remove_service(&self, namespace: &str, name: &str) {
        self.inner.services.write().unwrap_or_else(PoisonError::into_inner).remove(namespace, name);
        lock(&self.inner.node_ports).set(self, (namespace.to_owned(), name.to_owned()), Vec::new());
    }

    /// Makes an address that pods see lead to one of the host, past the egress policy: for what the operator offers
    /// to pods on purpose, such as the API server.
    pub fn host_endpoint(&self, seen: SocketAddr, host: SocketAddr) {
        self.inner.host_endpoints.write().unwrap_or_else(PoisonError::into_inner).insert(seen, host);
    }

    /// Connects from the node itself to a pod or a Service, as probes and proxies do. Its own address is the gateway's.
    pub async fn connect_from_host(&self, remote: SocketAddr) -> Result<Stream, NetError> {
        self.connect(None, None, remote).await
    }

    /// Closes the ports of the node and waits for the network's tasks to end, which are told to.
    pub async fn shutdown(&self) {
        let work = &self.inner.work;
        work.stop.cancel();
        lock(&self.inner.node_ports).close();
        work.tasks.close();
        work.tasks.wait().await;
    }

    /// The node's address as pods see it.
    pub fn gateway(&self) -> IpAddr {
        self.inner.gateway
    }

    /// The pod's own addresses come first, then Services and pods by the search list, then the host's resolver.
    pub(crate) async fn resolve(&self, pod: &Pod, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let mut name = name.to_owned();
        for _ in 0..MAX_ALIASES {
            if let Some(ip) = literal(&name) {
                return Ok(vec![ip]);
            }
            let plain = name.strip_suffix('.').unwrap_or(&name);
            if plain.eq_ignore_ascii_case("localhost") {
                return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
            }
            if plain.eq_ignore_ascii_case(&pod.hostname) {
                return Ok(vec![pod.ip]);
            }
            let mut alias = None;
            for candidate in candidates(&name, &pod.namespace, &self.inner.config.cluster_domain)? {
                match self.answer(pod, candidate).await? {
                    Answer::Addresses(ips) => return Ok(ips),
                    Answer::Alias(to) => {
                        // An alias is an absolute name.
                        alias = Some(format!("{}.", to.trim_end_matches('.')));
                        break;
                    }
                    Answer::NoSuchName => {}
                }
            }
            match alias {
                Some(to) => name = to,
                None => break,
            }
        }
        Err(NameError::NotFound(name))
    }

    async fn answer(&self, pod: &Pod, candidate: Candidate) -> Result<Answer, NameError> {
        Ok(match candidate {
            Candidate::Service { namespace, name } => shuffled(self.services().resolve(&namespace, &name)),
            Candidate::Hostname { hostname, subdomain, namespace } => {
                shuffled(self.services().resolve_hostname(&namespace, &subdomain, &hostname))
            }
            Candidate::PodIp { namespace, ip } => match self.pod(ip.into()) {
                Some(pod) if pod.namespace == namespace => Answer::Addresses(vec![ip.into()]),
                _ => Answer::NoSuchName,
            },
            Candidate::Outside(name) => match self.inner.resolver.look_up(&pod.lookups, &name).await {
                Ok(ips) => Answer::Addresses(ips),
                Err(NameError::NotFound(_)) => Answer::NoSuchName,
                Err(error) => return Err(error),
            },
        })
    }

    /// A place for a kernel socket, of those that all pods share.
    pub(crate) fn kernel_socket(&self) -> Result<Permit, NetError> {
        let limit = self.inner.config.kernel_sockets;
        self.inner
            .kernel_sockets
            .clone()
            .try_acquire_owned()
            .map_err(|_full| NetError::TooManyKernelSockets { limit })
    }

    /// Tries once more to open the node's ports that could not be opened. Whether all are open.
    pub(crate) fn retry_node_ports(&self) -> bool {
        lock(&self.inner.node_ports).retry(self)
    }

    /// Whether an address is the node's: its own on the pods' network, or the one where NodePorts listen. A loopback
    /// is each pod's own.
    pub(crate) fn is_node(&self, ip: IpAddr) -> bool {
        let listening = self.inner.config.node_address;
        ip == self.inner.gateway || ip == listening && !listening.is_loopback() && !listening.is_unspecified()
    }

    pub(crate) fn pod(&self, ip: IpAddr) -> Option<Arc<Pod>> {
        self.inner.pods.read().unwrap_or_else(PoisonError::into_inner).get(&ip)?.upgrade()
    }

    pub(crate) fn services(&self) -> RwLockReadGuard<'_, Services> {
        self.inner.services.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn host_endpoint_of(&self, seen: SocketAddr) -> Option<SocketAddr> {
        self.inner.host_endpoints.read().unwrap_or_else(PoisonError::into_inner).get(&seen).copied()
    }

    pub(crate) fn node_udp(&self) -> &Mutex<Ports<Arc<Mailbox>>> {
        &self.inner.node_udp
    }

    pub(crate) fn downgrade(&self) -> WeakNetwork {
        WeakNetwork(Arc::downgrade(&self.inner))
    }

    pub(crate) fn pod_cidr(&self) -> Cidr {
        self.inner.config.pod_cidr
    }

    pub(crate) fn service_cidr(&self) -> Cidr {
        self.inner.config.service_cidr
    }

    pub(crate) fn is_inside(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.pod_cidr().contains(ip) || self.service_cidr().contains(ip)
    }

    pub(crate) fn egress(&self) -> &EgressPolicy {
        &self.inner.config.egress
    }
}

/// In an order of chance, as CoreDNS has it: most clients take the first.
fn shuffled(mut answer: Answer) -> Answer {
    if let Answer::Addresses(ips) = &mut answer {
        fastrand::shuffle(ips);
    }
    answer
}
