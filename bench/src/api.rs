//! A small client of the API: the kubeconfig's certificates, one HTTP/2 connection, JSON in and out.

use anyhow::{Context, Result, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use std::{fs, path::Path, sync::Arc};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::TlsConnector;

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

/// A connection to the API. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    sender: Sender,
    authority: String,
    _connection: Arc<JoinHandle<()>>,
}

impl Api {
    /// Connects as the kubeconfig in a server's data directory says.
    pub(crate) async fn connect(home: &Path) -> Result<Self> {
        let file = home.join("kubeconfig");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let config: Value = serde_yaml_ng::from_str(&text)?;
        let pem = |value: &Value| -> Result<Vec<u8>> {
            let text = value.as_str().context("the kubeconfig lacks a certificate or key")?;
            Ok(BASE64_STANDARD.decode(text)?)
        };
        let cluster = &config["clusters"][0]["cluster"];
        let user = &config["users"][0]["user"];
        let server = cluster["server"].as_str().context("the kubeconfig names no server")?;
        let authority = server.trim_start_matches("https://").trim_end_matches('/').to_owned();

        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem(&cluster["certificate-authority-data"])?)?)?;
        let certificate = CertificateDer::from_pem_slice(&pem(&user["client-certificate-data"])?)?;
        let key = PrivateKeyDer::from_pem_slice(&pem(&user["client-key-data"])?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];

        let stream =
            TcpStream::connect(&authority).await.with_context(|| format!("connecting to {authority}"))?;
        stream.set_nodelay(true)?;
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _port)| host).to_owned();
        let stream = TlsConnector::from(Arc::new(tls)).connect(ServerName::try_from(host)?, stream).await?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let connection = tokio::runtime::Handle::current().spawn(async move {
            // Its end shows in the requests.
            drop(connection.await);
        });
        Ok(Self { sender, authority, _connection: Arc::new(connection) })
    }

    /// Sends a request; gives the response's body as a stream of frames.
    pub(crate) async fn open(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Incoming> {
        let mut sender = self.sender.clone();
        sender.ready().await?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(&method)
            .uri(format!("https://{}{path}", self.authority))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        if !status.is_success() {
            let body = response.into_body().collect().await?.to_bytes();
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(response.into_body())
    }

    /// Sends a request and decodes the answer.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = self.open(method, path, body).await?.collect().await?.to_bytes();
        Ok(serde_json::from_slice(&body)?)
    }

    /// Calls `seen` with each event of a watch until it says that it has seen enough.
    pub(crate) async fn watch(&self, path: &str, mut seen: impl FnMut(&Value) -> bool) -> Result<()> {
        let mut body = self.open(Method::GET, path, None).await?;
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if seen(&serde_json::from_slice(&line)?) {
                    return Ok(());
                }
            }
        }
        bail!("the watch ended early")
    }
}
