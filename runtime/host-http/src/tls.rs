//! TLS of outgoing requests: whose certificates are trusted.
//!
//! A guest of `wasi:http` cannot name an authority of its own, so the host decides, by where a connection leads. To the
//! outside the host's root certificates count, read once when the first guest needs them. Inside of the virtual network
//! the cluster's authority counts as well: it signs the certificate of the API, which pods reach as the Service
//! `default/kubernetes`. It vouches for nobody outside.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi_http::Error;

/// The authorities that guests' TLS connections trust. One serves all pods.
#[derive(Debug, Default)]
pub struct Trust {
    /// Beside the host's own, inside of the virtual network.
    cluster: Option<CertificateDer<'static>>,
    configs: OnceCell<Configs>,
}

#[derive(Debug)]
struct Configs {
    outside: Arc<ClientConfig>,
    inside: Arc<ClientConfig>,
}

/// Where a connection leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// To an address of the virtual network: a pod or a Service.
    Inside,
    /// To any other.
    Outside,
}

impl Trust {
    /// Trusts the cluster's authority too, a certificate in PEM.
    pub fn with_cluster_authority(pem: &str) -> Result<Self, pem::Error> {
        Ok(Self { cluster: Some(CertificateDer::from_pem_slice(pem.as_bytes())?), ..Self::default() })
    }

    /// Secures a connection to the host of that name.
    pub(crate) async fn connect<S>(&self, host: &str, side: Side, stream: S) -> Result<TlsStream<S>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name =
            ServerName::try_from(bare.to_owned()).map_err(|_not_a_name| Error::HttpRequestUriInvalid)?;
        let configs = self.configs.get_or_try_init(|| self.load()).await?;
        let config = match side {
            Side::Inside => &configs.inside,
            Side::Outside => &configs.outside,
        };
        let connector = TlsConnector::from(Arc::clone(config));
        connector.connect(name, stream).await.map_err(|error| crate::error::of_tls(&error))
    }

    async fn load(&self) -> Result<Configs, Error> {
        let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
            .await
            .map_err(|error| Error::InternalError(Some(error.to_string())))?;
        for error in &found.errors {
            tracing::warn!(%error, "a root certificate of the host could not be read");
        }
        let mut roots = RootCertStore::empty();
        let (n_added, _n_ignored) = roots.add_parsable_certificates(found.certs);
        if n_added == 0 {
            tracing::warn!("the host has no root certificates: guests' TLS to the outside will be refused");
        }
        let outside = config(roots.clone())?;
        roots.add_parsable_certificates(self.cluster.clone());
        Ok(Configs { outside, inside: config(roots)? })
    }
}

fn config(roots: RootCertStore) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::InternalError(Some(error.to_string())))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio_rustls::TlsAcceptor;

    /// Shakes hands with a server whose certificate, for `web.default.svc`, the cluster's authority signed.
    async fn check(trusted: bool, host: &str, side: Side, expected: Result<(), &str>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["web.default.svc".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let trust =
            if trusted { Trust::with_cluster_authority(&authority.pem()) } else { Ok(Trust::default()) };
        let trust = trust.unwrap();

        let (here, there) = tokio::io::duplex(64 * 1024);
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let (shaken, _accepted) = tokio::join!(trust.connect(host, side, here), acceptor.accept(there));
        let shaken = shaken.map(drop).map_err(|error| error.to_string());
        assert_eq!(shaken, expected.map_err(str::to_owned), "{host} {side:?}, trusted: {trusted}");
    }

    #[tokio::test]
    async fn the_clusters_authority_counts_inside_and_for_the_right_name() {
        let refused = Err("TLS certificate error");
        check(true, "web.default.svc", Side::Inside, Ok(())).await;
        check(true, "web.default.svc", Side::Outside, refused).await;
        check(true, "other.default.svc", Side::Inside, refused).await;
        check(false, "web.default.svc", Side::Inside, refused).await;
    }

    #[test]
    fn an_authority_is_a_certificate_in_pem() {
        assert!(Trust::with_cluster_authority("no certificate").is_err());
    }
}
