//! The server as its owner sees it: bound to an address, then run until told to stop.

use crate::accept::Acceptor;
use crate::app::App;
use crate::health::Health;
use crate::logs::LogOpener;
use crate::metrics::Metrics;
use crate::pki::Pki;
use crate::system::Documents;
use crate::tls::{self, ClientCertificates, TlsError};
use control_registry::Registry;
use jiff::Timestamp;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How the server is set up.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Our certificates.
    pub pki: Pki,
    /// The process's metrics, shown at `/metrics`.
    pub metrics: Metrics,
    /// The process's checks, shown at `/readyz`.
    pub health: Health,
    /// Connections at once; further ones wait in the system's queue.
    pub connections: usize,
    /// Reading requests at once, apart from watches and their like; further ones are told to come back.
    pub readers: usize,
    /// Changing requests at once; further ones are told to come back.
    pub writers: usize,
    /// How long a connection may be open without a request; upstream has the same bound.
    pub idle: Duration,
    /// How long open requests may go on after the stop.
    pub grace: Duration,
}

impl ServerConfig {
    /// The usual bounds.
    pub fn new(listen: SocketAddr, pki: Pki) -> Self {
        Self {
            listen,
            pki,
            metrics: Metrics::new(),
            health: Health::default(),
            connections: 4096,
            readers: 400,
            writers: 400,
            idle: Duration::from_secs(90),
            grace: Duration::from_secs(5),
        }
    }
}

/// Why the server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] TlsError),
}

/// A server that listens, and does not answer before [`Server::run`].
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    tls: TlsAcceptor,
    clients: ClientCertificates,
    config: ServerConfig,
    registry: Registry,
    logs: LogOpener,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds the address and prepares TLS.
    pub async fn bind(
        config: ServerConfig,
        registry: Registry,
        logs: LogOpener,
    ) -> Result<Self, ServerError> {
        let (tls, clients) = tls::server(&config.pki).map_err(ServerError::Tls)?;
        let failed = |source| ServerError::Listen { listen: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, local_addr, tls: tls.into(), clients, config, registry, logs })
    }

    /// The address in use.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `stop`; watches end at once then, other open requests within the grace.
    pub async fn run(self, stop: CancellationToken) {
        let config = self.config;
        let store = self.registry.store().clone();
        config.health.add("store", move || match store.is_writable() {
            true => Ok(()),
            false => Err("the store takes no writes: it was closed, or its disk has failed".to_owned()),
        });
        config.metrics.register_objects(self.registry.clone());
        let app = Arc::new(App {
            documents: Documents::new(self.registry.resources().clone(), self.local_addr.to_string()),
            registry: self.registry,
            logs: self.logs,
            metrics: config.metrics,
            health: config.health,
            now: Timestamp::now,
            stop: stop.clone(),
            readers: Semaphore::new(config.readers),
            writers: Semaphore::new(config.writers),
        });
        let acceptor = Acceptor {
            tls: self.tls,
            clients: self.clients,
            connections: config.connections,
            idle: config.idle,
            grace: config.grace,
            now: Timestamp::now,
            service: move |request, user| app.clone().answer(request, user),
        };
        match acceptor.run(self.listener, stop).await {
            0 => tracing::debug!("every connection has ended"),
            left => tracing::warn!(left, "connections were cut, as their requests did not end in time"),
        }
    }
}
