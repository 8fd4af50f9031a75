//! A port of the host, handed on to a port of the pod.

use super::options::Published;
use anyhow::{Context as _, Result};
use runtime_net::Network;
use std::net::{IpAddr, SocketAddr};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Duration, sleep},
};

/// Connections at once, for each port.
const MAX_CONNECTIONS: usize = 1_024;
/// How long a new connection waits for the guest to listen, so that the first request may come with the start.
const PATIENCE: Duration = Duration::from_secs(3);

/// Listens on the host.
pub(crate) async fn bind(published: Published) -> Result<TcpListener> {
    let address = SocketAddr::new(published.address, published.host);
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Hands connections on, until it is dropped.
pub(crate) async fn forward(listener: TcpListener, network: Network, pod: IpAddr, port: u16) {
    let mut connections = JoinSet::new();
    loop {
        // One too many waits in the kernel's queue.
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _peer)) => {
                connections.spawn(connect(stream, network.clone(), SocketAddr::new(pod, port)));
            }
            Err(error) => {
                // Out of files, most likely: closing connections is what helps, and takes time.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connect(mut client: TcpStream, network: Network, pod: SocketAddr) {
    if let Err(error) = client.set_nodelay(true) {
        tracing::debug!(%error, "the client is gone already");
        return;
    }
    let mut waited = Duration::ZERO;
    let mut pod = loop {
        match network.connect_from_host(pod).await {
            Ok(pod) => break pod,
            Err(error) if waited >= PATIENCE => {
                tracing::warn!(%pod, %error, "the guest does not listen");
                return;
            }
            Err(_not_yet) => {
                let pause = Duration::from_millis(20);
                sleep(pause).await;
                waited += pause;
            }
        }
    };
    if let Err(error) = copy_bidirectional(&mut client, &mut pod).await {
        tracing::debug!(%error, "a connection broke");
    }
}
