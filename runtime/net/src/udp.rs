//! UDP: datagrams into bounded mailboxes that drop when they are full, as a kernel's receive buffer does, or when their
//! pod's sockets hold too much together.
//!
//! A flow to a Service keeps its endpoint (kube-proxy does so by conntrack), and answers come back under the Service's
//! address. What leaves the process goes through one kernel socket a UDP socket, opened when first needed.

use crate::attachment::Pod;
use crate::connect::Target;
use crate::network::Network;
use crate::pipe::SMALL;
use crate::quota::{Budget, Permit};
use crate::services::Protocol;
use crate::{NetError, lock};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::time::Instant;

/// Bytes a mailbox holds, headers counted, as `net.core.rmem_default`.
const MAILBOX_BYTES: usize = 212_992;
/// What each datagram counts beside its own bytes.
const OVERHEAD: usize = 256;
/// The largest datagram of IPv4.
const MAX_DATAGRAM: usize = 65_507;
/// Flows a socket remembers; past it the eldest is forgotten.
const MAX_FLOWS: usize = 1024;
/// How long a flow keeps its endpoint without traffic, while the Service has it.
const FLOW_IDLE: Duration = Duration::from_secs(120);

/// Where datagrams for a bound address wait.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    state: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<(Bytes, SocketAddr)>,
    bytes: usize,
    /// What `bytes` counts on, if anything.
    budget: Option<Arc<Budget>>,
    waker: Option<Waker>,
}

impl Waiting {
    /// An empty mailbox takes a small datagram however much its pod holds.
    fn has_room(&self, size: usize) -> bool {
        self.bytes + size <= MAILBOX_BYTES
            && (self.budget.as_ref().is_none_or(|budget| budget.room() >= size)
                || self.bytes == 0 && size <= SMALL)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.remove(self.bytes);
        }
    }
}

impl Mailbox {
    fn new(budget: Arc<Budget>) -> Self {
        let mailbox = Self::default();
        lock(&mailbox.state).budget = Some(budget);
        mailbox
    }

    /// Leaves a datagram, or drops it when the mailbox is full.
    pub(crate) fn push(&self, data: Bytes, from: SocketAddr) {
        let waker = {
            let mut state = lock(&self.state);
            let size = data.len() + OVERHEAD;
            if !state.has_room(size) {
                return;
            }
            state.bytes += size;
            if let Some(budget) = &state.budget {
                budget.add(size);
            }
            state.queue.push_back((data, from));
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next datagram; without a context nobody is woken later.
    pub(crate) fn poll(&self, cx: Option<&mut Context<'_>>) -> Poll<(Bytes, SocketAddr)> {
        let mut state = lock(&self.state);
        match state.queue.pop_front() {
            Some((data, from)) => {
                state.bytes -= data.len() + OVERHEAD;
                if let Some(budget) = &state.budget {
                    budget.remove(data.len() + OVERHEAD);
                }
                if state.queue.is_empty() {
                    state.queue = VecDeque::new();
                }
                Poll::Ready((data, from))
            }
            None => {
                if let Some(cx) = cx {
                    state.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn poll_filled(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.queue.is_empty() {
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

/// A bound UDP socket of a pod. Dropping it frees the port.
#[derive(Debug)]
pub struct UdpSocket {
    pod: Arc<Pod>,
    local: SocketAddr,
    mailbox: Arc<Mailbox>,
    state: Mutex<State>,
    _permit: Permit,
}

#[derive(Debug, Default)]
struct State {
    connected: Option<SocketAddr>,
    /// Nobody took the last datagram of a connected socket: told at the next call, as ICMP does.
    refused: bool,
    /// Which endpoint a Service's address means for this socket, and since when without traffic.
    flows: BTreeMap<SocketAddr, (SocketAddr, Instant)>,
    outside: Option<Arc<tokio::net::UdpSocket>>,
    /// The place of `outside` among the kernel sockets.
    _kernel: Option<Permit>,
}

impl UdpSocket {
    pub(crate) fn bind(pod: &Arc<Pod>, address: SocketAddr, permit: Permit) -> Result<Self, NetError> {
        let mailbox = Arc::new(Mailbox::new(pod.quota.buffers().clone()));
        let local = lock(&pod.udp).bind(address, pod.ip, mailbox.clone())?;
        Ok(Self { pod: pod.clone(), local, mailbox, state: Mutex::default(), _permit: permit })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What it is connected to.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        lock(&self.state).connected
    }

    /// Fixes the destination and takes datagrams from it alone.
    pub fn connect(&self, remote: SocketAddr) -> Result<(), NetError> {
        self.check_family(remote)?;
        let network = self.pod.network()?;
        if remote.ip() == network.gateway() {
            lock(&self.state).connected = Some(remote);
            return Ok(());
        }
        match network.route(Some(&self.pod), remote, Protocol::Udp) {
            // Who is not there is found out by sending.
            Ok(_) | Err(NetError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        let mut state = lock(&self.state);
        state.connected = Some(remote);
        state.refused = false;
        Ok(())
    }

    /// Takes datagrams from everybody again.
    pub fn disconnect(&self) {
        let mut state = lock(&self.state);
        state.connected = None;
        state.refused = false;
    }

    /// Sends a datagram, to where the socket is connected if no destination is given. Never waits: as UDP has it, what
    /// does not fit is dropped on the way.
    pub fn send(&self, data: Bytes, to: Option<SocketAddr>) -> Result<(), NetError> {
        if data.len() > MAX_DATAGRAM {
            return Err(NetError::DatagramTooLarge(data.len()));
        }
        let connected = {
            let mut state = lock(&self.state);
            if let Some(peer) = state.connected.filter(|_| std::mem::take(&mut state.refused)) {
                return Err(NetError::Refused(peer));
            }
            state.connected
        };
        let to = match (connected, to) {
            (Some(peer), Some(to)) if to != peer => return Err(NetError::IsConnected(peer)),
            (Some(peer), _) => peer,
            (None, Some(to)) => to,
            (None, None) => return Err(NetError::NotConnected),
        };
        self.check_family(to)?;
        let network = self.pod.network()?;
        if to.ip() == network.gateway() {
            // The answer to a client of a node port, unless it is for a node port itself.
            let mailbox = lock(network.node_udp()).lookup(to).cloned();
            if let Some(mailbox) = mailbox {
                mailbox.push(data, self.source(to));
                return Ok(());
            }
        }
        match self.target(&network, to) {
            Ok(Target::Pod(pod, at)) => {
                let mailbox = lock(&pod.udp).lookup(at).cloned();
                match mailbox {
                    Some(mailbox) => mailbox.push(data, self.source(at)),
                    None => lock(&self.state).refused = connected.is_some(),
                }
                Ok(())
            }
            Ok(Target::Outside(at)) => self.send_outside(&network, &data, at),
            Err(NetError::Refused(_)) => {
                lock(&self.state).refused = connected.is_some();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The next datagram and who sent it.
    pub async fn recv(&self) -> Result<(Bytes, SocketAddr), NetError> {
        poll_fn(|cx| self.poll_recv(Some(cx))).await
    }

    /// The next datagram if there is one; without a context nobody is woken later.
    pub fn poll_recv(&self, mut cx: Option<&mut Context<'_>>) -> Poll<Result<(Bytes, SocketAddr), NetError>> {
        let (connected, outside) = {
            let mut state = lock(&self.state);
            if let Some(peer) = state.connected.filter(|_| std::mem::take(&mut state.refused)) {
                return Poll::Ready(Err(NetError::Refused(peer)));
            }
            (state.connected, state.outside.clone())
        };
        let wanted = |from: SocketAddr| connected.is_none_or(|peer| peer == from);
        while let Poll::Ready((data, from)) = self.mailbox.poll(cx.as_deref_mut()) {
            let from = self.seen_as(from);
            if wanted(from) {
                return Poll::Ready(Ok((data, from)));
            }
        }
        let Some(outside) = outside else { return Poll::Pending };
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let received = match cx.as_deref_mut() {
                Some(cx) => {
                    let mut buffer = ReadBuf::new(&mut buffer);
                    let from = ready!(outside.poll_recv_from(cx, &mut buffer));
                    from.map(|from| (buffer.filled().len(), from))
                }
                None => match outside.try_recv_from(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                    other => other,
                },
            };
            let (n, from) = received.map_err(NetError::Io)?;
            let from = self.seen_as(from);
            if wanted(from) {
                return Poll::Ready(Ok((Bytes::copy_from_slice(&buffer[..n]), from)));
            }
        }
    }

    /// Ready when a receive may not wait.
    pub fn poll_receivable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let outside = {
            let state = lock(&self.state);
            if state.refused {
                return Poll::Ready(());
            }
            state.outside.clone()
        };
        if self.mailbox.poll_filled(cx).is_ready() {
            return Poll::Ready(());
        }
        match outside {
            Some(outside) => outside.poll_recv_ready(cx).map(drop),
            None => Poll::Pending,
        }
    }

    fn check_family(&self, remote: SocketAddr) -> Result<(), NetError> {
        if remote.is_ipv4() == self.local.is_ipv4() { Ok(()) } else { Err(NetError::WrongFamily(remote)) }
    }

    /// Where a destination leads: for a Service the endpoint of this flow.
    fn target(&self, network: &Network, to: SocketAddr) -> Result<Target, NetError> {
        let now = Instant::now();
        let kept = {
            let mut state = lock(&self.state);
            match state.flows.get_mut(&to) {
                Some((endpoint, last)) if now - *last < FLOW_IDLE => {
                    *last = now;
                    Some(*endpoint)
                }
                _ => None,
            }
        };
        if let Some(endpoint) = kept
            && network.is_still_at(to, endpoint)
            && let Ok(target) = network.route_endpoint(endpoint, to)
        {
            return Ok(target);
        }
        let target = network.route(Some(&self.pod), to, Protocol::Udp)?;
        let (Target::Pod(_, at) | Target::Outside(at)) = &target;
        if *at != to && !to.ip().is_unspecified() {
            let mut state = lock(&self.state);
            if state.flows.len() >= MAX_FLOWS {
                let eldest = state.flows.iter().min_by_key(|(_, (_, last))| *last).map(|(to, _)| *to);
                eldest.and_then(|eldest| state.flows.remove(&eldest));
            }
            state.flows.insert(to, (*at, now));
        }
        Ok(target)
    }

    /// The address an answer of `from` comes under: the Service's that this socket asked.
    fn seen_as(&self, from: SocketAddr) -> SocketAddr {
        let state = lock(&self.state);
        if let Some(peer) = state.connected
            && state.flows.get(&peer).is_some_and(|(endpoint, _)| *endpoint == from)
        {
            return peer;
        }
        state.flows.iter().find(|(_, (endpoint, _))| *endpoint == from).map_or(from, |(seen, _)| *seen)
    }

    /// This socket's address as the receiver at `to` sees it.
    fn source(&self, to: SocketAddr) -> SocketAddr {
        let ip = match self.local.ip() {
            ip if !ip.is_unspecified() => ip,
            _ if to.ip().is_loopback() => to.ip(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            IpAddr::V4(_) => self.pod.ip,
        };
        SocketAddr::new(ip, self.local.port())
    }

    fn send_outside(&self, network: &Network, data: &[u8], to: SocketAddr) -> Result<(), NetError> {
        let socket = {
            let mut state = lock(&self.state);
            match &state.outside {
                Some(socket) => socket.clone(),
                None => {
                    let any: IpAddr = match to {
                        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                    };
                    let place = network.kernel_socket()?;
                    let socket = std::net::UdpSocket::bind((any, 0)).map_err(NetError::Io)?;
                    socket.set_nonblocking(true).map_err(NetError::Io)?;
                    let socket = tokio::net::UdpSocket::from_std(socket).map_err(NetError::Io)?;
                    let socket = Arc::new(socket);
                    state.outside = Some(socket.clone());
                    state._kernel = Some(place);
                    // Whoever waits for datagrams must wait for this socket's too.
                    if let Some(waker) = lock(&self.mailbox.state).waker.take() {
                        waker.wake();
                    }
                    socket
                }
            }
        };
        match socket.try_send_to(data, to) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // A socket is not known to be writable before its first readiness: send past the runtime.
                match socket2::SockRef::from(&*socket).send_to(data, &to.into()) {
                    Ok(_) => Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                    Err(error) => Err(NetError::Io(error)),
                }
            }
            Err(error) => Err(NetError::Io(error)),
        }
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        lock(&self.pod.udp).unbind(self.local);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_that_hold_too_much_together_take_little() {
        let budget = Budget::new(10_000);
        let [full, empty] = [0; 2].map(|_| Mailbox::new(budget.clone()));
        let from = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53);
        for mailbox in [&full, &empty] {
            for size in [5000, 4000, 1000] {
                mailbox.push(vec![0; size].into(), from);
            }
        }
        let read = |mailbox: &Mailbox| match mailbox.poll(None) {
            Poll::Ready((data, _)) => data.len(),
            Poll::Pending => 0,
        };
        assert_eq!([read(&full), read(&full), read(&full)], [5000, 4000, 0]);
        assert_eq!(
            [read(&empty), read(&empty)],
            [1000, 0],
            "a large one does not fit, the next small one does"
        );
        full.push(vec![0; 100].into(), from);
        drop((full, empty));
        assert_eq!(budget.used(), 0);
    }
}
