//! Services: who answers behind a cluster address, looked up by hash at connect.
//!
//! Only ready endpoints are chosen, one after the other, and those that end but still serve where none is ready; the turn is kept when the endpoints change, so that frequent
//! changes do not favour the first. With session affinity a client keeps its endpoint while it is there and ready.

use crate::lock;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A Service as the network needs it.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// The namespace of its name.
    pub namespace: String,
    /// Its name within the namespace.
    pub name: String,
    /// Its virtual address; `None` for a headless Service, whose name gives the endpoints' own addresses.
    pub cluster_ip: Option<IpAddr>,
    /// Its ports with who answers there. A headless Service without ports has one of number 0.
    pub ports: Vec<ServicePort>,
    /// How long a client keeps its endpoint after its last connection.
    pub session_affinity: Option<Duration>,
    /// The outside name it stands for.
    pub external_name: Option<String>,
}

/// One port of a Service.
#[derive(Clone, Debug)]
pub struct ServicePort {
    /// Its name, empty if the Service has only one.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number on the virtual address.
    pub port: u16,
    /// Its number on the node's address.
    pub node_port: Option<u16>,
    /// Who answers.
    pub endpoints: Vec<Endpoint>,
}

/// Who answers behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A pod's address, or one outside.
    pub ip: IpAddr,
    /// The port there.
    pub port: u16,
    /// Whether it takes connections. A Service that publishes addresses before they are ready says so of all.
    pub ready: bool,
    /// Whether it serves still although it ends: then it is chosen when nobody is ready.
    pub draining: bool,
    /// The pod's own name under the Service's.
    pub hostname: Option<String>,
}

/// Clients remembered for session affinity per port; past it the eldest is forgotten.
const MAX_SESSIONS: usize = 65_536;

/// The endpoints of one port and whose turn it is.
#[derive(Debug)]
pub(crate) struct Balancer {
    /// Who takes connections, in order.
    takers: Vec<SocketAddr>,
    affinity: Option<Duration>,
    carried: Arc<Carried>,
}

/// What outlives a change of the endpoints.
#[derive(Debug, Default)]
struct Carried {
    turn: AtomicUsize,
    sessions: Mutex<BTreeMap<IpAddr, (SocketAddr, Instant)>>,
}

impl Balancer {
    fn new(port: &ServicePort, affinity: Option<Duration>, before: Option<&Self>) -> Self {
        let those = |wanted: fn(&&Endpoint) -> bool| -> Vec<SocketAddr> {
            let endpoints = port.endpoints.iter().filter(wanted);
            endpoints.map(|endpoint| SocketAddr::new(endpoint.ip, endpoint.port)).collect()
        };
        let mut takers = those(|endpoint| endpoint.ready);
        if takers.is_empty() {
            takers = those(|endpoint| endpoint.draining);
        }
        takers.sort_unstable();
        takers.dedup();
        let carried = before.map_or_else(
            || Arc::new(Carried { turn: AtomicUsize::new(fastrand::usize(..1 << 16)), ..Carried::default() }),
            |before| before.carried.clone(),
        );
        Self { takers, affinity, carried }
    }

    /// Whether the endpoint is one of those it chooses from.
    fn has(&self, endpoint: SocketAddr) -> bool {
        self.takers.binary_search(&endpoint).is_ok()
    }

    /// The endpoint for a connection of `client`, or `None` when nobody takes it.
    pub(crate) fn choose(&self, client: IpAddr, now: Instant) -> Option<SocketAddr> {
        if self.takers.is_empty() {
            return None;
        }
        let Some(keep) = self.affinity else { return Some(self.next()) };
        let mut sessions = lock(&self.carried.sessions);
        let endpoint = match sessions.get(&client) {
            Some((endpoint, last)) if now - *last < keep && self.has(*endpoint) => *endpoint,
            _ => self.next(),
        };
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(&client) {
            sessions.retain(|_, (_, last)| now - *last < keep);
            if sessions.len() >= MAX_SESSIONS {
                let eldest = sessions.iter().min_by_key(|(_, (_, last))| *last).map(|(client, _)| *client);
                eldest.and_then(|eldest| sessions.remove(&eldest));
            }
        }
        sessions.insert(client, (endpoint, now));
        Some(endpoint)
    }

    fn next(&self) -> SocketAddr {
        let turn = self.carried.turn.fetch_add(1, Ordering::Relaxed);
        self.takers[turn % self.takers.len()]
    }
}

/// A Service in the tables.
#[derive(Debug)]
struct Entry {
    service: Service,
    balancers: Vec<Arc<Balancer>>,
}

#[expect(clippy::disallowed_types, reason = "looked up at every connect, never iterated")]
type VipTable = std::collections::HashMap<(IpAddr, u16, Protocol), Arc<Balancer>>;

/// All Services.
#[derive(Debug, Default)]
pub(crate) struct Services {
    by_name: BTreeMap<(String, String), Entry>,
    by_vip: VipTable,
    /// How many Services have the address: one that has it refuses unknown ports, others have no route.
    vips: BTreeMap<IpAddr, usize>,
    by_node_port: BTreeMap<(u16, Protocol), Arc<Balancer>>,
}

/// What a cluster address leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Endpoint(SocketAddr),
    /// The Service is there, but not this port, or nobody is ready.
    Nobody,
    /// No Service has the address.
    NoService,
}

/// What a Service's name leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Addresses(Vec<IpAddr>),
    Alias(String),
    NoSuchName,
}

impl Services {
    /// Adds a Service or replaces the one of the same name. The cost depends on this Service alone.
    pub(crate) fn upsert(&mut self, service: Service) {
        let key = (service.namespace.clone(), service.name.clone());
        let before = self.take(&key);
        let mut balancers = Vec::with_capacity(service.ports.len());
        for port in &service.ports {
            let old = before.as_ref().and_then(|before| before.balancer(port));
            let balancer = Arc::new(Balancer::new(port, service.session_affinity, old));
            if let Some(ip) = service.cluster_ip {
                self.by_vip.insert((ip, port.port, port.protocol), balancer.clone());
            }
            if let Some(node_port) = port.node_port {
                self.by_node_port.insert((node_port, port.protocol), balancer.clone());
            }
            balancers.push(balancer);
        }
        if let Some(ip) = service.cluster_ip {
            *self.vips.entry(ip).or_default() += 1;
        }
        self.by_name.insert(key, Entry { service, balancers });
    }

    /// Forgets a Service.
    pub(crate) fn remove(&mut self, namespace: &str, name: &str) {
        self.take(&(namespace.to_owned(), name.to_owned()));
    }

    /// The names of all Services.
    pub(crate) fn names(&self) -> Vec<(String, String)> {
        self.by_name.keys().cloned().collect()
    }

    /// Who answers a connection of `client` to a cluster address.
    pub(crate) fn endpoint(&self, to: SocketAddr, protocol: Protocol, client: IpAddr, now: Instant) -> Found {
        match self.by_vip.get(&(to.ip(), to.port(), protocol)) {
            Some(balancer) => balancer.choose(client, now).map_or(Found::Nobody, Found::Endpoint),
            None if self.vips.contains_key(&to.ip()) => Found::Nobody,
            None => Found::NoService,
        }
    }

    /// Who answers a connection to a port of the node.
    pub(crate) fn node_endpoint(
        &self,
        port: u16,
        protocol: Protocol,
        client: IpAddr,
        now: Instant,
    ) -> Option<SocketAddr> {
        self.by_node_port.get(&(port, protocol))?.choose(client, now)
    }

    /// Whether what is sent to a cluster address may still go to the endpoint chosen before.
    pub(crate) fn still_at(&self, to: SocketAddr, protocol: Protocol, endpoint: SocketAddr) -> bool {
        self.by_vip.get(&(to.ip(), to.port(), protocol)).is_some_and(|balancer| balancer.has(endpoint))
    }

    /// Whether what is sent to a port of the node may still go to the endpoint chosen before.
    pub(crate) fn still_at_node(&self, port: u16, protocol: Protocol, endpoint: SocketAddr) -> bool {
        self.by_node_port.get(&(port, protocol)).is_some_and(|balancer| balancer.has(endpoint))
    }

    /// What a Service's name stands for.
    pub(crate) fn resolve(&self, namespace: &str, name: &str) -> Answer {
        let Some(entry) = self.by_name.get(&(namespace.to_owned(), name.to_owned())) else {
            return Answer::NoSuchName;
        };
        if let Some(alias) = &entry.service.external_name {
            return Answer::Alias(alias.clone());
        }
        match entry.service.cluster_ip {
            Some(ip) => Answer::Addresses(vec![ip]),
            None => entry.addresses(|_| true),
        }
    }

    /// The pod of a headless Service by its own name.
    pub(crate) fn resolve_hostname(&self, namespace: &str, service: &str, hostname: &str) -> Answer {
        match self.by_name.get(&(namespace.to_owned(), service.to_owned())) {
            Some(entry) => entry.addresses(|endpoint| endpoint.hostname.as_deref() == Some(hostname)),
            None => Answer::NoSuchName,
        }
    }

    fn take(&mut self, key: &(String, String)) -> Option<Entry> {
        let entry = self.by_name.remove(key)?;
        for (port, balancer) in entry.service.ports.iter().zip(&entry.balancers) {
            if let Some(ip) = entry.service.cluster_ip
                && self.by_vip.get(&(ip, port.port, port.protocol)).is_some_and(|b| Arc::ptr_eq(b, balancer))
            {
                self.by_vip.remove(&(ip, port.port, port.protocol));
            }
            if let Some(node_port) = port.node_port
                && self
                    .by_node_port
                    .get(&(node_port, port.protocol))
                    .is_some_and(|b| Arc::ptr_eq(b, balancer))
            {
                self.by_node_port.remove(&(node_port, port.protocol));
            }
        }
        if let Some(ip) = entry.service.cluster_ip
            && let Some(n_services) = self.vips.get_mut(&ip)
        {
            *n_services -= 1;
            if *n_services == 0 {
                self.vips.remove(&ip);
            }
        }
        Some(entry)
    }
}

impl Entry {
    fn balancer(&self, port: &ServicePort) -> Option<&Balancer> {
        let same = |other: &&ServicePort| other.port == port.port && other.protocol == port.protocol;
        let index = self.service.ports.iter().position(|other| same(&other))?;
        self.balancers.get(index).map(Arc::as_ref)
    }

    fn addresses(&self, wanted: impl Fn(&Endpoint) -> bool) -> Answer {
        let mut ips: Vec<IpAddr> = self
            .service
            .ports
            .iter()
            .flat_map(|port| &port.endpoints)
            .filter(|endpoint| endpoint.ready && wanted(endpoint))
            .map(|endpoint| endpoint.ip)
            .collect();
        ips.sort_unstable();
        ips.dedup();
        if ips.is_empty() { Answer::NoSuchName } else { Answer::Addresses(ips) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn service(name: &str, cluster_ip: Option<&str>, endpoints: &[(&str, bool)]) -> Service {
        let endpoints = endpoints
            .iter()
            .map(|(ip, ready)| Endpoint {
                ip: ip.parse().unwrap(),
                port: 8080,
                ready: *ready,
                draining: false,
                hostname: Some(format!("host-{}", &ip[ip.len() - 1..])),
            })
            .collect();
        Service {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            cluster_ip: cluster_ip.map(|ip| ip.parse().unwrap()),
            ports: vec![ServicePort {
                name: String::new(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: Some(30_080),
                endpoints,
            }],
            ..Service::default()
        }
    }

    fn connect(services: &Services, to: &str, client: &str, now: Instant) -> Found {
        services.endpoint(to.parse().unwrap(), Protocol::Tcp, client.parse().unwrap(), now)
    }

    #[tokio::test(start_paused = true)]
    async fn connections_spread_evenly_over_ready_endpoints() {
        let mut services = Services::default();
        let ips = [("10.244.0.2", true), ("10.244.0.3", false), ("10.244.0.4", true), ("10.244.0.5", true)];
        services.upsert(service("web", Some("10.96.0.7"), &ips));
        let mut counts = BTreeMap::new();
        for _ in 0..300 {
            let Found::Endpoint(endpoint) = connect(&services, "10.96.0.7:80", "10.244.0.9", Instant::now())
            else {
                panic!("there are ready endpoints");
            };
            *counts.entry(endpoint.to_string()).or_insert(0) += 1;
        }
        let expected = ["10.244.0.2:8080", "10.244.0.4:8080", "10.244.0.5:8080"].map(|e| (e.to_owned(), 100));
        assert_eq!(counts, BTreeMap::from(expected));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_keeps_its_endpoint_while_it_is_ready_and_in_time() {
        let mut services = Services::default();
        let affine = |ips: &[(&str, bool)]| Service {
            session_affinity: Some(Duration::from_secs(10)),
            ..service("web", Some("10.96.0.7"), ips)
        };
        services.upsert(affine(&[("10.244.0.2", true), ("10.244.0.3", true)]));
        let ask = |services: &Services| connect(services, "10.96.0.7:80", "10.244.0.9", Instant::now());
        let first = ask(&services);
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(9)).await;
            assert_eq!(ask(&services), first);
        }
        services.upsert(affine(&[("10.244.0.2", true), ("10.244.0.3", true), ("10.244.0.4", true)]));
        assert_eq!(ask(&services), first, "a change of others does not move it");
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(11)).await;
            let Found::Endpoint(endpoint) = ask(&services) else { panic!("there are ready endpoints") };
            seen.insert(endpoint);
        }
        assert_eq!(seen.len(), 3, "each time its time is over it is the next one's turn");
        services.upsert(affine(&[("10.244.0.9", true)]));
        assert_eq!(ask(&services), Found::Endpoint("10.244.0.9:8080".parse().unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_ready_is_told_apart_from_no_service() {
        let now = Instant::now();
        let mut services = Services::default();
        services.upsert(service("web", Some("10.96.0.7"), &[("10.244.0.2", false)]));
        assert_eq!(connect(&services, "10.96.0.7:80", "10.244.0.9", now), Found::Nobody);
        assert_eq!(connect(&services, "10.96.0.7:81", "10.244.0.9", now), Found::Nobody);
        assert_eq!(connect(&services, "10.96.0.8:80", "10.244.0.9", now), Found::NoService);
        services.remove("shop", "web");
        assert_eq!(connect(&services, "10.96.0.7:80", "10.244.0.9", now), Found::NoService);
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_that_end_are_chosen_while_nobody_else_is_ready() {
        // (ready, draining) of 10.244.0.2, .3 and .4, and whether each is chosen.
        let cases = [
            ([(true, false), (false, true), (false, false)], [true, false, false]),
            ([(false, true), (false, true), (false, false)], [true, true, false]),
            ([(false, false), (false, false), (false, false)], [false, false, false]),
        ];
        for (endpoints, expected) in cases {
            let ips = ["10.244.0.2", "10.244.0.3", "10.244.0.4"];
            let mut web = service("web", Some("10.96.0.7"), &ips.map(|ip| (ip, false)));
            for (endpoint, (ready, draining)) in web.ports[0].endpoints.iter_mut().zip(endpoints) {
                (endpoint.ready, endpoint.draining) = (ready, draining);
            }
            let mut services = Services::default();
            services.upsert(web);
            let mut chosen = BTreeSet::new();
            for _ in 0..ips.len() {
                if let Found::Endpoint(endpoint) =
                    connect(&services, "10.96.0.7:80", "10.244.0.9", Instant::now())
                {
                    chosen.insert(endpoint.ip().to_string());
                }
            }
            assert_eq!(ips.map(|ip| chosen.contains(ip)), expected, "{endpoints:?}");
            let at_service = "10.96.0.7:80".parse().unwrap();
            let still = ips.map(|ip| {
                let endpoint = SocketAddr::new(ip.parse().unwrap(), 8080);
                let by_node = services.still_at_node(30_080, Protocol::Tcp, endpoint);
                assert_eq!(services.still_at(at_service, Protocol::Tcp, endpoint), by_node);
                by_node
            });
            assert_eq!(still, expected, "{endpoints:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_taken_over_survives_the_end_of_its_first_owner() {
        let now = Instant::now();
        let mut services = Services::default();
        services.upsert(service("old", Some("10.96.0.7"), &[("10.244.0.2", true)]));
        services.upsert(service("new", Some("10.96.0.7"), &[("10.244.0.3", true)]));
        services.remove("shop", "old");
        let expected = "10.244.0.3:8080".parse().unwrap();
        assert_eq!(connect(&services, "10.96.0.7:80", "10.244.0.9", now), Found::Endpoint(expected));
        assert_eq!(services.node_endpoint(30_080, Protocol::Tcp, expected.ip(), now), Some(expected));
    }

    #[test]
    fn names_give_cluster_addresses_pods_or_aliases() {
        let mut services = Services::default();
        let addresses = |ips: &[&str]| Answer::Addresses(ips.iter().map(|ip| ip.parse().unwrap()).collect());
        let ips = [("10.244.0.3", true), ("10.244.0.2", true), ("10.244.0.4", false)];
        services.upsert(service("web", Some("10.96.0.7"), &ips));
        services.upsert(service("db", None, &ips));
        services
            .upsert(Service { external_name: Some("example.com".to_owned()), ..service("out", None, &[]) });
        assert_eq!(services.resolve("shop", "web"), addresses(&["10.96.0.7"]));
        assert_eq!(services.resolve("shop", "db"), addresses(&["10.244.0.2", "10.244.0.3"]));
        assert_eq!(services.resolve("shop", "out"), Answer::Alias("example.com".to_owned()));
        assert_eq!(services.resolve("other", "web"), Answer::NoSuchName);
        assert_eq!(services.resolve_hostname("shop", "db", "host-3"), addresses(&["10.244.0.3"]));
        assert_eq!(services.resolve_hostname("shop", "db", "host-4"), Answer::NoSuchName);
    }
}
