//! The network itself: who is on it, which Services there are, and the names of both.

use crate::allocator::{AddressPool, Refusal};
use crate::attachment::{AttachSpec, Attachment, Pod};
use crate::names::{Candidate, candidates, literal};
use crate::node_port::{NodePortProblem, NodePorts};
use crate::ports::Ports;
use crate::quota::{Quota, SocketLimits};
use crate::services::{Answer, Service, Services};
use crate::stream::Stream;
use crate::udp::Mailbox;
use crate::{Cidr, EgressPolicy, NameError, NetError, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long the host's resolver may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How many lookups the host's resolver does at once; more wait in order, within their time.
const MAX_LOOKUPS: usize = 32;
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
        }
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
    lookups: Semaphore,
}

impl Network {
    /// A network with nobody on it. Must be called in a tokio runtime: NodePorts are served there.
    pub fn new(config: NetworkConfig) -> Result<Self, NetError> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| NetError::Io(std::io::Error::other(error)))?;
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
                node_ports: Mutex::new(NodePorts::new(config.node_address, runtime)),
                node_udp: Mutex::new(Ports::new(fastrand::u16(..))),
                lookups: Semaphore::new(MAX_LOOKUPS),
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

    /// Closes the ports of the node and waits for their connections' tasks to end, which are told to.
    pub async fn shutdown(&self) {
        let closing = lock(&self.inner.node_ports).close();
        closing.wait().await;
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
                match self.answer(candidate).await? {
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

    async fn answer(&self, candidate: Candidate) -> Result<Answer, NameError> {
        Ok(match candidate {
            Candidate::Service { namespace, name } => self.services().resolve(&namespace, &name),
            Candidate::Hostname { hostname, subdomain, namespace } => {
                self.services().resolve_hostname(&namespace, &subdomain, &hostname)
            }
            Candidate::PodIp { namespace, ip } => match self.pod(ip.into()) {
                Some(pod) if pod.namespace == namespace => Answer::Addresses(vec![ip.into()]),
                _ => Answer::NoSuchName,
            },
            Candidate::Outside(name) => self.look_up_outside(&name).await?,
        })
    }

    async fn look_up_outside(&self, name: &str) -> Result<Answer, NameError> {
        let failed = |why: &str| NameError::TryAgain(name.to_owned(), why.to_owned());
        let lookup = async {
            let _permit = self.inner.lookups.acquire().await;
            tokio::net::lookup_host((name, 0)).await
        };
        let found = timeout(LOOKUP_TIMEOUT, lookup).await.map_err(|_elapsed| failed("no answer in time"))?;
        let ips: Vec<IpAddr> = match found {
            Ok(found) => found.map(|address| address.ip().to_canonical()).collect(),
            Err(error) => {
                tracing::debug!(name, %error, "the host's resolver has no answer");
                Vec::new()
            }
        };
        Ok(if ips.is_empty() { Answer::NoSuchName } else { Answer::Addresses(ips) })
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

    pub(crate) fn egress(&self) -> &EgressPolicy {
        &self.inner.config.egress
    }
}
