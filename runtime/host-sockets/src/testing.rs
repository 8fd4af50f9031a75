//! What several tests begin with.

use crate::pod_network::PodNetwork;
use runtime_net::{AttachSpec, Endpoint, Network, NetworkConfig, Protocol, Service, ServicePort, Stream};
use tokio::net::TcpStream;

/// The network, a pod's part of it, a connection that it accepted from a client outside, and that client.
pub(crate) async fn accepted() -> (Network, PodNetwork, Stream, TcpStream) {
    let network = Network::new(NetworkConfig::default()).unwrap();
    let pod = network.attach(AttachSpec::default()).unwrap();
    let listener = pod.listen("0.0.0.0:80".parse().unwrap(), 8).unwrap();
    let node_port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let endpoint = Endpoint { ip: pod.ip(), port: 80, ready: true, draining: false, hostname: None };
    let port = ServicePort {
        name: String::new(),
        protocol: Protocol::Tcp,
        port: 80,
        node_port: Some(node_port),
        endpoints: vec![endpoint],
    };
    assert!(network.upsert_service(Service { ports: vec![port], ..Service::default() }).is_empty());
    let client = TcpStream::connect(("127.0.0.1", node_port)).await.unwrap();
    let stream = listener.accept().await.unwrap();
    (network, PodNetwork::new(pod), stream, client)
}
