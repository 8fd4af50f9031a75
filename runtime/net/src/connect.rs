//! From a destination to a connection: where an address leads, and the hand-over to a listener.

use crate::attachment::Pod;
use crate::listener::Backlog;
use crate::network::Network;
use crate::quota::Permit;
use crate::services::{Found, Protocol};
use crate::stream::Stream;
use crate::{NetError, Verdict, lock};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// How long a connect waits at most: about what Linux takes to give up its SYN retries.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(127);

/// Where an address leads, after Services.
#[derive(Debug)]
pub(crate) enum Target {
    /// To a pod, at this address of its own.
    Pod(Arc<Pod>, SocketAddr),
    /// Out of the process.
    Outside(SocketAddr),
}

/// A connection on its way to a pod's listener: its places are taken.
#[derive(Debug)]
pub(crate) struct Delivery {
    backlog: Arc<Backlog>,
    slot: Permit,
    inbound: Permit,
}

impl Delivery {
    /// Hands the connection over; the address tells a refusal.
    pub(crate) fn hand_over(self, stream: Stream, to: SocketAddr) -> Result<(), NetError> {
        let stream = stream.with_permit(self.inbound);
        if self.backlog.push(stream, self.slot) { Ok(()) } else { Err(NetError::Refused(to)) }
    }
}

impl Network {
    /// Where `remote` leads for `from`; `None` is the node itself, which may reach what it likes.
    pub(crate) fn route(
        &self,
        from: Option<&Arc<Pod>>,
        remote: SocketAddr,
        protocol: Protocol,
    ) -> Result<Target, NetError> {
        let client = from.map_or_else(|| self.gateway(), |pod| pod.ip);
        let ip = remote.ip().to_canonical();
        let at = SocketAddr::new(ip, remote.port());
        if let Some(pod) = from
            && (ip.is_loopback() || ip.is_unspecified() || ip == pod.ip)
        {
            // As on Linux, the unspecified address is the loopback.
            let ip = match ip {
                IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                other => other,
            };
            return Ok(Target::Pod(pod.clone(), SocketAddr::new(ip, remote.port())));
        }
        if let Some(host) = self.host_endpoint_of(at) {
            return Ok(Target::Outside(host));
        }
        if self.is_node(ip) {
            // A NodePort, from within: no kernel socket is needed for it.
            let endpoint = self.services().node_endpoint(at.port(), protocol, client, Instant::now());
            match endpoint {
                Some(endpoint) => return self.route_endpoint(endpoint, remote),
                None if ip == self.gateway() => return Err(NetError::Refused(remote)),
                // What else listens at the host's address is outside.
                None => {}
            }
        }
        if self.pod_cidr().contains(ip) {
            return match self.pod(ip) {
                Some(pod) => Ok(Target::Pod(pod, at)),
                None => Err(NetError::Unreachable(remote)),
            };
        }
        let found = self.services().endpoint(at, protocol, client, Instant::now());
        match found {
            Found::Endpoint(endpoint) => return self.route_endpoint(endpoint, remote),
            Found::Nobody => return Err(NetError::Refused(remote)),
            Found::NoService if self.service_cidr().contains(ip) => {
                return Err(NetError::Unreachable(remote));
            }
            Found::NoService => {}
        }
        self.route_outside(from, at)
    }

    /// Where a Service's endpoint leads: no Service again.
    pub(crate) fn route_endpoint(
        &self,
        endpoint: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Target, NetError> {
        if let Some(host) = self.host_endpoint_of(endpoint) {
            return Ok(Target::Outside(host));
        }
        if self.pod_cidr().contains(endpoint.ip()) {
            return match self.pod(endpoint.ip()) {
                Some(pod) => Ok(Target::Pod(pod, endpoint)),
                None => Err(NetError::Unreachable(remote)),
            };
        }
        // An endpoint is written by a user: the policy holds for the node's own way to it too.
        match self.egress().check(endpoint.ip()) {
            Verdict::Allow => Ok(Target::Outside(endpoint)),
            Verdict::Deny(reason) => Err(NetError::Denied(remote, reason)),
        }
    }

    /// Whether datagrams to `to` may still go to the endpoint chosen before.
    pub(crate) fn is_still_at(&self, to: SocketAddr, endpoint: SocketAddr) -> bool {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let services = self.services();
        services.still_at(to, Protocol::Udp, endpoint)
            || self.is_node(to.ip()) && services.still_at_node(to.port(), Protocol::Udp, endpoint)
    }

    fn route_outside(&self, from: Option<&Arc<Pod>>, at: SocketAddr) -> Result<Target, NetError> {
        match self.egress().check(at.ip()) {
            Verdict::Deny(reason) if from.is_some() => Err(NetError::Denied(at, reason)),
            Verdict::Allow | Verdict::Deny(_) => Ok(Target::Outside(at)),
        }
    }

    /// Connects, from a pod or from the node, within the time Linux would take.
    pub(crate) async fn connect(
        &self,
        from: Option<&Arc<Pod>>,
        bound: Option<SocketAddr>,
        remote: SocketAddr,
    ) -> Result<Stream, NetError> {
        match self.route(from, remote, Protocol::Tcp)? {
            Target::Pod(pod, at) => {
                let local = self.local_address(from, bound, remote, at)?;
                let delivery = match try_deliver(&pod, at)? {
                    Some(delivery) => delivery,
                    None => timeout(CONNECT_TIMEOUT, deliver(&pod, at))
                        .await
                        .map_err(|_elapsed| NetError::TimedOut(remote))?
                        .map_err(|_refused| NetError::Refused(remote))?,
                };
                let budgets = [from, Some(&pod)].map(|pod| pod.map(|pod| pod.quota.buffers().clone()));
                let (client, server) = Stream::pair(local, remote, at, budgets);
                delivery.hand_over(server, remote)?;
                Ok(client)
            }
            Target::Outside(to) => {
                let (socket, place) = self.connect_outside(to).await?;
                let local = match bound {
                    Some(bound) if !bound.ip().is_unspecified() => bound,
                    _ => self.local_address(from, bound, remote, to)?,
                };
                Ok(Stream::kernel(socket, local, remote, place))
            }
        }
    }

    /// A kernel connection, without Nagle's delay, and its place among them.
    pub(crate) async fn connect_outside(&self, to: SocketAddr) -> Result<(TcpStream, Permit), NetError> {
        let place = self.kernel_socket()?;
        let socket = timeout(CONNECT_TIMEOUT, TcpStream::connect(to))
            .await
            .map_err(|_elapsed| NetError::TimedOut(to))?
            .map_err(NetError::Io)?;
        socket.set_nodelay(true).map_err(NetError::Io)?;
        Ok((socket, place))
    }

    /// The client's own address: where it is bound, else its own IP (loopback to loopback) and an ephemeral port.
    fn local_address(
        &self,
        from: Option<&Arc<Pod>>,
        bound: Option<SocketAddr>,
        remote: SocketAddr,
        to: SocketAddr,
    ) -> Result<SocketAddr, NetError> {
        let ip = match bound {
            Some(bound) if !bound.ip().is_unspecified() => bound.ip(),
            _ if to.ip().is_loopback() && from.is_some() => to.ip(),
            _ => from.map_or_else(|| self.gateway(), |pod| pod.ip),
        };
        let port = match (bound, from) {
            (Some(bound), _) => bound.port(),
            (None, Some(pod)) => {
                lock(&pod.tcp).next_ephemeral(ip).ok_or(NetError::AddressNotAvailable(remote))?
            }
            (None, None) => fastrand::u16(crate::ports::EPHEMERAL),
        };
        Ok(SocketAddr::new(ip, port))
    }
}

/// Places at the pod's listener if there are some now; `None` when one must wait.
pub(crate) fn try_deliver(pod: &Arc<Pod>, at: SocketAddr) -> Result<Option<Delivery>, NetError> {
    let backlog = backlog_of(pod, at)?;
    let Some(slot) = backlog.try_slot() else { return Ok(None) };
    let Ok(inbound) = pod.quota.inbound().clone().try_acquire_owned() else { return Ok(None) };
    Ok(Some(Delivery { backlog, slot, inbound }))
}

/// Places at the pod's listener, waited for in order: first in the backlog, then among the pod's connections.
pub(crate) async fn deliver(pod: &Arc<Pod>, at: SocketAddr) -> Result<Delivery, NetError> {
    let backlog = backlog_of(pod, at)?;
    let slot = backlog.slot().await.ok_or(NetError::Refused(at))?;
    let inbound = tokio::select! {
        inbound = pod.quota.inbound().clone().acquire_owned() => inbound.ok(),
        () = backlog.closed() => None,
    };
    let inbound = inbound.ok_or(NetError::Refused(at))?;
    Ok(Delivery { backlog, slot, inbound })
}

fn backlog_of(pod: &Pod, at: SocketAddr) -> Result<Arc<Backlog>, NetError> {
    lock(&pod.tcp).lookup(at).and_then(Clone::clone).ok_or(NetError::Refused(at))
}
