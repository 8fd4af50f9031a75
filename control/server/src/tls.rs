//! TLS of the server: our certificate, HTTP/2 and HTTP/1.1 by ALPN, and client certificates on request.
//!
//! A client may show a certificate or not, and a handshake never fails over whose it is: whether it is one of our
//! authority is decided once a connection by [`ClientCertificates::identify`], and a stranger gets a 401 that says so
//! instead of a broken connection. Possession of the key is proved in the handshake all the same.

use crate::authenticate::{self, User};
use crate::pki::Pki;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate or key of the server is of no use.
    #[error("cannot use the server's certificate")]
    Server(#[source] rustls::Error),
    /// The authority's certificate is of no use.
    #[error("cannot use the certificate authority")]
    Authority(#[source] rustls::Error),
    /// No verifier can be built on the authority.
    #[error("cannot verify clients against the certificate authority")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// Tells whose certificate a client showed.
#[derive(Debug, Clone)]
pub(crate) struct ClientCertificates {
    verifier: Arc<dyn ClientCertVerifier>,
}

/// The server's side of TLS.
pub(crate) fn server(pki: &Pki) -> Result<(Arc<ServerConfig>, ClientCertificates), TlsError> {
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca_der()).map_err(TlsError::Authority)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(TlsError::Verifier)?;
    let (cert, key) = pki.server_der();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Server)?
        .with_client_cert_verifier(Arc::new(TakeAny { inner: verifier.clone() }))
        .with_single_cert(vec![cert], key)
        .map_err(TlsError::Server)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(config), ClientCertificates { verifier }))
}

impl ClientCertificates {
    /// Who showed these certificates; `None` where our authority has not signed them for a client.
    pub(crate) fn identify(&self, chain: &[CertificateDer<'_>], now: jiff::Timestamp) -> Option<User> {
        let (first, rest) = chain.split_first()?;
        let since_epoch = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
        let now = UnixTime::since_unix_epoch(since_epoch);
        match self.verifier.verify_client_cert(first, rest, now) {
            Ok(_) => authenticate::user_of_certificate(first),
            Err(error) => {
                tracing::debug!(%error, "client certificate refused");
                None
            }
        }
    }
}

/// Asks for a certificate, takes none or any, and has the possession of its key proved.
#[derive(Debug)]
struct TakeAny {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for TakeAny {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
