//! The `udp` and `udp-create-socket` interfaces.

use crate::View;
use crate::address::{check_local, check_remote};
use crate::bindings::wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use crate::bindings::wasi::sockets::udp::{
    Host, HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, IncomingDatagram,
    OutgoingDatagram,
};
use crate::bindings::wasi::sockets::udp_create_socket;
use crate::error::{SocketError, SocketResult};
use crate::pod_network::NetworkHandle;
use crate::udp::{IncomingDatagrams, OutgoingDatagrams, UdpSocket};
use std::any::Any;
use std::net::SocketAddr;
use std::task::Poll;
use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::{DynPollable, subscribe};

type Socket = Resource<UdpSocket>;

/// Datagrams in one call.
const MAX_DATAGRAMS: usize = 16;
/// Bytes received in one call, after which no further datagram is taken.
const MAX_RECEIVED: usize = 64 * 1024;

impl udp_create_socket::Host for View<'_> {
    fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Socket> {
        self.pod()?;
        self.table.push(UdpSocket::new(family)).map_err(|_full| ErrorCode::NewSocketLimit.into())
    }
}

impl Host for View<'_> {}

impl HostUdpSocket for View<'_> {
    fn start_bind(
        &mut self,
        this: Socket,
        network: Resource<NetworkHandle>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let address = SocketAddr::from(address);
        let pod = self.pod()?.clone();
        let socket = self.table.get_mut(&this)?;
        if socket.binding {
            return Err(ErrorCode::ConcurrencyConflict.into());
        }
        check_local(address, socket.family)?;
        socket.bind(&pod, address)?;
        socket.binding = true;
        Ok(())
    }

    fn finish_bind(&mut self, this: Socket) -> SocketResult<()> {
        let socket = self.table.get_mut(&this)?;
        if !std::mem::take(&mut socket.binding) {
            return Err(ErrorCode::NotInProgress.into());
        }
        Ok(())
    }

    fn stream(
        &mut self,
        this: Socket,
        remote: Option<IpSocketAddress>,
    ) -> SocketResult<(Resource<IncomingDatagrams>, Resource<OutgoingDatagrams>)> {
        let is_stream =
            |child: &(dyn Any + Send)| child.is::<IncomingDatagrams>() || child.is::<OutgoingDatagrams>();
        let has_streams = self.table.iter_children(&this)?.any(is_stream);
        if has_streams {
            return Err(SocketError::trap("the socket's datagram streams are not dropped yet"));
        }
        let socket = self.table.get(&this)?;
        let bound = socket.bound()?.clone();
        match remote.map(SocketAddr::from) {
            Some(remote) => {
                check_remote(remote, socket.family)?;
                bound.connect(remote)?;
            }
            None => bound.disconnect(),
        }
        let incoming = self.table.push_child(IncomingDatagrams(bound.clone()), &this)?;
        let outgoing = self.table.push_child(OutgoingDatagrams { socket: bound, permit: 0 }, &this)?;
        Ok((incoming, outgoing))
    }

    fn local_address(&mut self, this: Socket) -> SocketResult<IpSocketAddress> {
        Ok(self.table.get(&this)?.bound()?.local_addr().into())
    }

    fn remote_address(&mut self, this: Socket) -> SocketResult<IpSocketAddress> {
        let peer = self.table.get(&this)?.bound()?.peer_addr();
        Ok(peer.ok_or(ErrorCode::InvalidState)?.into())
    }

    fn address_family(&mut self, this: Socket) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family)
    }

    fn unicast_hop_limit(&mut self, this: Socket) -> SocketResult<u8> {
        Ok(self.table.get(&this)?.hop_limit)
    }

    fn set_unicast_hop_limit(&mut self, this: Socket, value: u8) -> SocketResult<()> {
        if value == 0 {
            return Err(ErrorCode::InvalidArgument.into());
        }
        self.table.get_mut(&this)?.hop_limit = value;
        Ok(())
    }

    fn receive_buffer_size(&mut self, this: Socket) -> SocketResult<u64> {
        Ok(self.table.get(&this)?.receive_buffer)
    }

    fn set_receive_buffer_size(&mut self, this: Socket, value: u64) -> SocketResult<()> {
        if value == 0 {
            return Err(ErrorCode::InvalidArgument.into());
        }
        self.table.get_mut(&this)?.receive_buffer = value;
        Ok(())
    }

    fn send_buffer_size(&mut self, this: Socket) -> SocketResult<u64> {
        Ok(self.table.get(&this)?.send_buffer)
    }

    fn set_send_buffer_size(&mut self, this: Socket, value: u64) -> SocketResult<()> {
        if value == 0 {
            return Err(ErrorCode::InvalidArgument.into());
        }
        self.table.get_mut(&this)?.send_buffer = value;
        Ok(())
    }

    fn subscribe(&mut self, this: Socket) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Socket) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl HostIncomingDatagramStream for View<'_> {
    fn receive(
        &mut self,
        this: Resource<IncomingDatagrams>,
        max_results: u64,
    ) -> SocketResult<Vec<IncomingDatagram>> {
        let socket = &self.table.get(&this)?.0;
        let max = usize::try_from(max_results).unwrap_or(MAX_DATAGRAMS).min(MAX_DATAGRAMS);
        let mut datagrams = Vec::new();
        let mut size = 0;
        while datagrams.len() < max && size < MAX_RECEIVED {
            match socket.poll_recv(None) {
                Poll::Pending => break,
                Poll::Ready(Ok((data, from))) => {
                    size += data.len() + 1;
                    datagrams.push(IncomingDatagram { data: data.into(), remote_address: from.into() });
                }
                // The error is lost to the next call, as errors of UDP may be; what came before it is not.
                Poll::Ready(Err(_)) if !datagrams.is_empty() => break,
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
        }
        Ok(datagrams)
    }

    fn subscribe(&mut self, this: Resource<IncomingDatagrams>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<IncomingDatagrams>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl HostOutgoingDatagramStream for View<'_> {
    fn check_send(&mut self, this: Resource<OutgoingDatagrams>) -> SocketResult<u64> {
        self.table.get_mut(&this)?.permit = MAX_DATAGRAMS;
        Ok(u64::try_from(MAX_DATAGRAMS).expect("16 fits"))
    }

    fn send(
        &mut self,
        this: Resource<OutgoingDatagrams>,
        datagrams: Vec<OutgoingDatagram>,
    ) -> SocketResult<u64> {
        let stream = self.table.get_mut(&this)?;
        if datagrams.is_empty() {
            return Ok(0);
        }
        if datagrams.len() > stream.permit {
            return Err(SocketError::trap("more datagrams than check-send allowed"));
        }
        stream.permit = 0;
        let family =
            if stream.socket.local_addr().is_ipv4() { IpAddressFamily::Ipv4 } else { IpAddressFamily::Ipv6 };
        let mut sent = 0;
        for datagram in datagrams {
            let to = datagram.remote_address.map(SocketAddr::from);
            let result = match to.map_or(Ok(()), |to| check_remote(to, family)) {
                Ok(()) => stream.socket.send(datagram.data.into(), to).map_err(SocketError::from),
                Err(code) => Err(code.into()),
            };
            match result {
                Ok(()) => sent += 1,
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn subscribe(&mut self, this: Resource<OutgoingDatagrams>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn drop(&mut self, this: Resource<OutgoingDatagrams>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
