//! A server for one test, and clients of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests; a panic is their answer")]

use bytes::Bytes;
use control_api::Resources;
use control_registry::{Config, Registry};
use control_server::{LogOpener, LogRequest, Pki, Server, ServerConfig};
use control_store::{RingSize, Store, StoreOptions};
use futures::StreamExt;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::{Certificate, Client, Identity, RequestBuilder};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What differs between tests.
#[derive(Default)]
pub(crate) struct Options {
    store: StoreOptions,
    readers: Option<usize>,
    idle: Option<Duration>,
}

impl Options {
    /// Few events are kept for watchers.
    pub(crate) fn small_ring(mut self) -> Self {
        self.store.ring = RingSize { events: 8, ..RingSize::default() };
        self
    }

    /// So many reading requests at once.
    pub(crate) fn readers(mut self, readers: usize) -> Self {
        self.readers = Some(readers);
        self
    }

    /// How long connections rest.
    pub(crate) fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }
}

/// A running server.
pub(crate) struct Api {
    pub(crate) pki: Pki,
    client: Client,
    base: String,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_with(|options| options).await
    }

    pub(crate) async fn start_with(with: impl FnOnce(Options) -> Options) -> Self {
        let options = with(Options::default());
        // A second test of the same process finds the provider in place.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::load_or_create(dir.path(), jiff::Timestamp::now(), &[]).unwrap();
        let store = Store::in_memory_with(options.store);
        let registry = Registry::new(Arc::new(Resources::built_in()), store, Config::default());
        let listen = "127.0.0.1:0".parse().unwrap();
        registry.bootstrap("127.0.0.1:6443".parse().unwrap()).await.unwrap();
        let mut config = ServerConfig::new(listen, pki.clone());
        config.readers = options.readers.unwrap_or(config.readers);
        config.idle = options.idle.unwrap_or(config.idle);
        let server = Server::bind(config, registry, logs()).await.unwrap();
        let base = format!("https://{}", server.local_addr());
        let stop = CancellationToken::new();
        let running = TaskTracker::new().spawn(server.run(stop.clone()));
        let client = client(&pki, Some(&pki));
        Self { pki, client, base, stop, running }
    }

    /// A client that trusts this server, with the certificate of another's administrator or with none.
    pub(crate) fn client(&self, of: Option<&Pki>) -> Client {
        client(&self.pki, of)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().unwrap(), self.url(path))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request("GET", path)
    }

    /// The code and the JSON of an answer (of a stream: its first line).
    pub(crate) async fn send(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut request = self.request(method, path);
        if !body.is_empty() {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        let mut response = request.send().await.unwrap();
        let code = response.status().as_u16();
        if path.contains("watch=") && code == 200 {
            let first = response.chunk().await.unwrap().unwrap_or_default();
            return (code, serde_json::from_slice(&first).unwrap());
        }
        let bytes = response.bytes().await.unwrap();
        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// The lines of a watch.
    pub(crate) async fn lines(&self, path: &str, accept: &str) -> Lines {
        let response = self.get(path).header("accept", accept).send().await.unwrap();
        assert_eq!(response.status(), 200);
        Lines { response, read: Vec::new() }
    }

    /// Stops the server and waits for it.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

/// A watch that is being read.
pub(crate) struct Lines {
    response: reqwest::Response,
    read: Vec<u8>,
}

impl Lines {
    /// The next line; none at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let more = tokio::time::timeout(Duration::from_secs(20), self.response.chunk());
            match more.await.expect("an event comes in time") {
                Ok(Some(piece)) => self.read.extend_from_slice(&piece),
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

fn client(server: &Pki, of: Option<&Pki>) -> Client {
    let root = Certificate::from_pem(server.ca_pem().as_bytes()).unwrap();
    let mut builder = Client::builder().tls_certs_only([root]).user_agent("test/1");
    if let Some(pki) = of {
        let (cert, key) = pki.admin_pem();
        builder = builder.identity(Identity::from_pem(format!("{key}{cert}").as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

/// An HTTP/2 connection of nobody, which ends only when the server ends it.
pub(crate) async fn http2(
    api: &Api,
) -> (SendRequest<Full<Bytes>>, impl Future<Output = hyper::Result<()>> + use<>) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(api.pki.ca_pem().as_bytes()).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let address: SocketAddr = api.url("").trim_start_matches("https://").parse().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(address.ip().into(), stream).await.unwrap();
    hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap()
}

/// Tells what was asked for; stays, if it is to follow; panics for a container of that name.
fn logs() -> LogOpener {
    Arc::new(|request: LogRequest| {
        Box::pin(async move {
            assert!(request.container != "panics", "as the test wants it");
            let line = futures::stream::iter([Ok(Bytes::from(format!("tail {:?}\n", request.tail_lines)))]);
            Ok(match request.follow {
                true => line.chain(futures::stream::pending()).boxed(),
                false => line.boxed(),
            })
        })
    })
}

/// A ConfigMap with one value.
pub(crate) fn config_map(name: &str, value: &str) -> String {
    json!({ "metadata": { "name": name }, "data": { "k": value } }).to_string()
}
