//! The traits of wasi:sockets 0.2, generated from its WIT, with our resource types.

wasmtime::component::bindgen!({
    path: "wit",
    world: "wharf:host-sockets/imports",
    imports: { default: trappable },
    require_store_data_send: true,
    trappable_error_type: {
        "wasi:sockets/network.error-code" => crate::error::SocketError,
    },
    with: {
        "wasi:io/poll": wasmtime_wasi_io::bindings::wasi::io::poll,
        "wasi:io/streams": wasmtime_wasi_io::bindings::wasi::io::streams,
        "wasi:sockets/network.network": crate::pod_network::NetworkHandle,
        "wasi:sockets/tcp.tcp-socket": crate::tcp::TcpSocket,
        "wasi:sockets/udp.udp-socket": crate::udp::UdpSocket,
        "wasi:sockets/udp.incoming-datagram-stream": crate::udp::IncomingDatagrams,
        "wasi:sockets/udp.outgoing-datagram-stream": crate::udp::OutgoingDatagrams,
        "wasi:sockets/ip-name-lookup.resolve-address-stream": crate::lookup::Lookup,
    },
});
