//! TLS to the outside, with the host's own root certificates, read once when the first guest needs them.

use runtime_net::Stream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi_http::Error;

static CONFIG: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();

/// Secures a connection to the host of that name.
pub(crate) async fn connect(host: &str, stream: Stream) -> Result<TlsStream<Stream>, Error> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(|_not_a_name| Error::HttpRequestUriInvalid)?;
    let config = CONFIG.get_or_try_init(load).await?.clone();
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| crate::error::of_tls(&error))
}

async fn load() -> Result<Arc<ClientConfig>, Error> {
    let failed = |why: String| Error::InternalError(Some(why));
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
        .await
        .map_err(|error| failed(error.to_string()))?;
    for error in &found.errors {
        tracing::warn!(%error, "a root certificate of the host could not be read");
    }
    let mut roots = RootCertStore::empty();
    let (n_added, _n_ignored) = roots.add_parsable_certificates(found.certs);
    if n_added == 0 {
        tracing::warn!("the host has no root certificates: every TLS connection of guests will be refused");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
