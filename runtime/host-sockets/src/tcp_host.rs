//! The `tcp` and `tcp-create-socket` interfaces: arguments are checked here, the rest is [`TcpSocket`]'s.

use crate::View;
use crate::address::{check_local, check_remote};
use crate::bindings::wasi::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use crate::bindings::wasi::sockets::tcp::{Host, HostTcpSocket, ShutdownType};
use crate::bindings::wasi::sockets::tcp_create_socket;
use crate::error::{SocketError, SocketResult, code_of_io};
use crate::pod_network::NetworkHandle;
use crate::tcp::{Operation, OptionKind, Options, TcpSocket};
use std::net::{Shutdown, SocketAddr};
use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::{DynPollable, subscribe};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

type Socket = Resource<TcpSocket>;
type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

/// Keep-alive times are whole seconds on Linux, of at most this many.
const MAX_KEEP_ALIVE_NANOS: u64 = 32_767 * 1_000_000_000;

impl tcp_create_socket::Host for View<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Socket> {
        self.pod()?;
        // A full table is the guest's own doing: it holds too many handles.
        self.table.push(TcpSocket::new(family)).map_err(|_full| ErrorCode::NewSocketLimit.into())
    }
}

impl View<'_> {
    /// The socket of an operation that starts, when none is under way.
    fn idle_tcp(&mut self, this: &Socket) -> SocketResult<&mut TcpSocket> {
        let socket = self.table.get_mut(this)?;
        match socket.in_progress {
            Some(_) => Err(ErrorCode::ConcurrencyConflict.into()),
            None => Ok(socket),
        }
    }

    fn finish_tcp(&mut self, this: &Socket, operation: Operation) -> SocketResult<()> {
        let socket = self.table.get_mut(this)?;
        if socket.in_progress != Some(operation) {
            return Err(ErrorCode::NotInProgress.into());
        }
        socket.in_progress = None;
        Ok(())
    }

    fn options(&mut self, this: &Socket) -> SocketResult<&Options> {
        Ok(&self.table.get(this)?.options)
    }

    fn set_option(
        &mut self,
        this: &Socket,
        kind: OptionKind,
        set: impl FnOnce(&mut Options),
    ) -> SocketResult<()> {
        self.table.get_mut(this)?.set_option(kind, set);
        Ok(())
    }

    fn push_streams(
        &mut self,
        this: &Socket,
        input: DynInputStream,
        output: DynOutputStream,
    ) -> SocketResult<Streams> {
        let input = self.table.push_child(input, this)?;
        let output = self.table.push_child(output, this)?;
        Ok((input, output))
    }
}

/// Zero is no value for any of the options that are numbers.
fn not_zero<T: PartialEq + From<u8>>(value: T) -> SocketResult<T> {
    if value == T::from(0) { Err(ErrorCode::InvalidArgument.into()) } else { Ok(value) }
}

impl Host for View<'_> {}

impl HostTcpSocket for View<'_> {
    fn start_bind(
        &mut self,
        this: Socket,
        network: Resource<NetworkHandle>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let address = SocketAddr::from(address);
        let pod = self.pod()?.clone();
        let socket = self.idle_tcp(&this)?;
        check_local(address, socket.family)?;
        socket.bind(&pod, address)?;
        socket.in_progress = Some(Operation::Bind);
        Ok(())
    }

    fn finish_bind(&mut self, this: Socket) -> SocketResult<()> {
        self.finish_tcp(&this, Operation::Bind)
    }

    fn start_connect(
        &mut self,
        this: Socket,
        network: Resource<NetworkHandle>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        self.table.get(&network)?;
        let address = SocketAddr::from(address);
        let pod = self.pod()?.clone();
        let socket = self.idle_tcp(&this)?;
        check_remote(address, socket.family)?;
        socket.connect(&pod, address)?;
        socket.in_progress = Some(Operation::Connect);
        Ok(())
    }

    fn finish_connect(&mut self, this: Socket) -> SocketResult<Streams> {
        let pod = self.pod()?.clone();
        let socket = self.table.get_mut(&this)?;
        if socket.in_progress != Some(Operation::Connect) {
            return Err(ErrorCode::NotInProgress.into());
        }
        let (input, output) = socket.take_streams(&pod)?;
        self.push_streams(&this, input, output)
    }

    fn start_listen(&mut self, this: Socket) -> SocketResult<()> {
        let socket = self.idle_tcp(&this)?;
        socket.listen()?;
        socket.in_progress = Some(Operation::Listen);
        Ok(())
    }

    fn finish_listen(&mut self, this: Socket) -> SocketResult<()> {
        self.finish_tcp(&this, Operation::Listen)
    }

    fn accept(
        &mut self,
        this: Socket,
    ) -> SocketResult<(Socket, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let pod = self.pod()?.clone();
        let listener = self.table.get_mut(&this)?;
        let stream = listener.accept()?;
        let (socket, input, output) = TcpSocket::accepted(listener, stream, &pod);
        let socket = self.table.push(socket).map_err(|_full| ErrorCode::NewSocketLimit)?;
        let (input, output) = self.push_streams(&socket, input, output)?;
        Ok((socket, input, output))
    }

    fn local_address(&mut self, this: Socket) -> SocketResult<IpSocketAddress> {
        Ok(self.table.get(&this)?.local_address()?.into())
    }

    fn remote_address(&mut self, this: Socket) -> SocketResult<IpSocketAddress> {
        Ok(self.table.get(&this)?.remote_address()?.into())
    }

    fn is_listening(&mut self, this: Socket) -> wasmtime::Result<bool> {
        Ok(self.table.get(&this)?.is_listening())
    }

    fn address_family(&mut self, this: Socket) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family)
    }

    fn set_listen_backlog_size(&mut self, this: Socket, value: u64) -> SocketResult<()> {
        self.table.get_mut(&this)?.set_backlog(value)
    }

    fn keep_alive_enabled(&mut self, this: Socket) -> SocketResult<bool> {
        Ok(self.options(&this)?.keep_alive_enabled)
    }

    fn set_keep_alive_enabled(&mut self, this: Socket, value: bool) -> SocketResult<()> {
        self.set_option(&this, OptionKind::KeepAlive, |options| options.keep_alive_enabled = value)
    }

    fn keep_alive_idle_time(&mut self, this: Socket) -> SocketResult<u64> {
        Ok(self.options(&this)?.keep_alive_idle_nanos)
    }

    fn set_keep_alive_idle_time(&mut self, this: Socket, value: u64) -> SocketResult<()> {
        let value = not_zero(value)?.min(MAX_KEEP_ALIVE_NANOS);
        self.set_option(&this, OptionKind::KeepAlive, |options| options.keep_alive_idle_nanos = value)
    }

    fn keep_alive_interval(&mut self, this: Socket) -> SocketResult<u64> {
        Ok(self.options(&this)?.keep_alive_interval_nanos)
    }

    fn set_keep_alive_interval(&mut self, this: Socket, value: u64) -> SocketResult<()> {
        let value = not_zero(value)?.min(MAX_KEEP_ALIVE_NANOS);
        self.set_option(&this, OptionKind::KeepAlive, |options| options.keep_alive_interval_nanos = value)
    }

    fn keep_alive_count(&mut self, this: Socket) -> SocketResult<u32> {
        Ok(self.options(&this)?.keep_alive_count)
    }

    fn set_keep_alive_count(&mut self, this: Socket, value: u32) -> SocketResult<()> {
        let value = not_zero(value)?.min(127);
        self.set_option(&this, OptionKind::KeepAlive, |options| options.keep_alive_count = value)
    }

    fn hop_limit(&mut self, this: Socket) -> SocketResult<u8> {
        Ok(self.options(&this)?.hop_limit)
    }

    fn set_hop_limit(&mut self, this: Socket, value: u8) -> SocketResult<()> {
        let value = not_zero(value)?;
        self.set_option(&this, OptionKind::HopLimit, |options| options.hop_limit = value)
    }

    fn receive_buffer_size(&mut self, this: Socket) -> SocketResult<u64> {
        Ok(self.options(&this)?.receive_buffer)
    }

    fn set_receive_buffer_size(&mut self, this: Socket, value: u64) -> SocketResult<()> {
        let value = not_zero(value)?;
        self.set_option(&this, OptionKind::ReceiveBuffer, |options| options.receive_buffer = value)
    }

    fn send_buffer_size(&mut self, this: Socket) -> SocketResult<u64> {
        Ok(self.options(&this)?.send_buffer)
    }

    fn set_send_buffer_size(&mut self, this: Socket, value: u64) -> SocketResult<()> {
        let value = not_zero(value)?;
        self.set_option(&this, OptionKind::SendBuffer, |options| options.send_buffer = value)
    }

    fn subscribe(&mut self, this: Socket) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn shutdown(&mut self, this: Socket, how: ShutdownType) -> SocketResult<()> {
        let how = match how {
            ShutdownType::Receive => Shutdown::Read,
            ShutdownType::Send => Shutdown::Write,
            ShutdownType::Both => Shutdown::Both,
        };
        let connection = self.table.get(&this)?.connection()?;
        connection.shutdown(how).map_err(|error| SocketError::Code(code_of_io(error.kind())))
    }

    fn drop(&mut self, this: Socket) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
