//! wasi:sockets over the virtual network.
//!
//! The interfaces are bound here anew, with resource types of our own: wasmtime's implementation cannot be given other
//! sockets than the kernel's. Streams and pollables are wasmtime's resources, so that a guest waits for sockets
//! and for everything else in one `poll`.
//!
//! A guest's way to the network is the [`PodNetwork`] in its extensions. Without one, creating a socket or looking a
//! name up is `access-denied`.

mod address;
mod bindings;
mod connection;
mod error;
mod lookup;
mod pod_network;
mod tcp;
mod tcp_host;
#[cfg(test)]
mod testing;
mod udp;
mod udp_host;

pub use error::SocketError;
pub use lookup::Lookup;
pub use pod_network::{AbortHandle, NetworkHandle, PodNetwork};
pub use tcp::TcpSocket;
pub use udp::{IncomingDatagrams, OutgoingDatagrams, UdpSocket};

use runtime_engine::{Capability, GuestState};
use wasmtime::component::{HasData, Linker, ResourceTable};

/// The capability to use sockets, for the engine.
pub fn capability() -> Capability {
    Capability { name: "sockets", add_to_linker }
}

/// What the host functions see of a guest.
pub(crate) struct View<'a> {
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) network: Option<&'a PodNetwork>,
}

/// The family of [`View`]s.
struct Sockets;

impl HasData for Sockets {
    type Data<'a> = View<'a>;
}

fn view(state: &mut GuestState) -> View<'_> {
    View { table: &mut state.table, network: state.extensions.get::<PodNetwork>() }
}

fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    use bindings::wasi::sockets;
    sockets::network::add_to_linker::<GuestState, Sockets>(linker, view)?;
    sockets::instance_network::add_to_linker::<GuestState, Sockets>(linker, view)?;
    sockets::ip_name_lookup::add_to_linker::<GuestState, Sockets>(linker, view)?;
    sockets::tcp::add_to_linker::<GuestState, Sockets>(linker, view)?;
    sockets::tcp_create_socket::add_to_linker::<GuestState, Sockets>(linker, view)?;
    sockets::udp::add_to_linker::<GuestState, Sockets>(linker, view)?;
    sockets::udp_create_socket::add_to_linker::<GuestState, Sockets>(linker, view)?;
    Ok(())
}
