//! The cluster's own certificates: an authority made at the first start, and what it signs.
//!
//! Files in one folder (mode 0700, keys 0600): `ca`, `apiserver` and `admin`, each a `.crt` and a `.key`. Whatever the
//! authority can sign again is signed again when it nears its end, when its names change, or when it is missing; the
//! authority itself is never replaced silently, as every kubeconfig handed out trusts it. Reading the certificate that
//! a client shows is left to `authenticate`.

use crate::private_file::{create_private_dir, read, write_file};
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Years that the authority holds.
const CA_YEARS: i64 = 10;
/// Days that a certificate signed by it holds.
const LEAF_DAYS: i64 = 365;
/// A certificate with fewer days left is signed again at the next start.
const RENEW_DAYS: i64 = 30;
/// Name under which the API server's Service is reachable from pods, with its address: the first of 10.96.0.0/16.
const SERVICE_NAMES: [&str; 6] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "10.96.0.1",
];

/// Why the certificates could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file of the folder could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file is there, and is not what it should be.
    #[error("{} is damaged ({detail}); {remedy}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
        /// What to do about it.
        remedy: String,
    },
    /// The authority's time is over.
    #[error("the certificate authority {} ended on {not_after}; {remedy}", path.display())]
    Expired {
        /// The authority's certificate.
        path: PathBuf,
        /// When it ended.
        not_after: Timestamp,
        /// What to do about it.
        remedy: String,
    },
    /// A certificate could not be signed.
    #[error("cannot sign the certificate {name}")]
    Sign {
        /// Which one: `ca`, `apiserver`, `admin`.
        name: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

/// A certificate with its private key, as PEM.
#[derive(Clone)]
struct Pair {
    cert_pem: String,
    key_pem: String,
}

/// The cluster's certificates, in memory.
#[derive(Clone)]
pub struct Pki {
    ca_pem: String,
    server: Pair,
    admin: Pair,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("ca", &self.ca_pem).finish_non_exhaustive()
    }
}

impl Pki {
    /// Reads the certificates in `dir`, making what is missing, ending or for other names. `names` are further host
    /// names or addresses of the server; those of this host and of the Service `default/kubernetes` are always in.
    pub fn load_or_create(dir: &Path, now: Timestamp, names: &[String]) -> Result<Self, PkiError> {
        create_private_dir(dir)?;
        let (ca_pem, issuer) = load_or_create_ca(dir, now)?;
        let ca_key_id = key_id(&ca_pem, &dir.join("ca.crt"), &ca_remedy(dir))?;
        let names = all_names(names);
        let server = Leaf { name: "apiserver", user: "kube-apiserver", group: None, names: &names };
        let nobody = BTreeSet::new();
        let admin =
            Leaf { name: "admin", user: "kubernetes-admin", group: Some("system:masters"), names: &nobody };
        Ok(Self {
            server: server.load_or_sign(dir, now, &issuer, &ca_key_id)?,
            admin: admin.load_or_sign(dir, now, &issuer, &ca_key_id)?,
            ca_pem,
        })
    }

    /// The authority's certificate as PEM: what clients trust, and what ConfigMap `kube-root-ca.crt` holds.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The text of a kubeconfig for the administrator, its certificates within.
    pub fn kubeconfig(&self, server: SocketAddr) -> String {
        use base64::Engine as _;
        let data = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
        let server = SocketAddr::new(reachable(server.ip()), server.port());
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: wharf\nclusters:\n- name: wharf\n  cluster:\n    \
             server: https://{server}\n    certificate-authority-data: {}\ncontexts:\n- name: wharf\n  context:\n    \
             cluster: wharf\n    user: kubernetes-admin\nusers:\n- name: kubernetes-admin\n  user:\n    \
             client-certificate-data: {}\n    client-key-data: {}\n",
            data(&self.ca_pem),
            data(&self.admin.cert_pem),
            data(&self.admin.key_pem),
        )
    }

    /// The authority's certificate.
    pub(crate) fn ca_der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).expect("it was parsed when it was loaded")
    }

    /// The server's certificate and key.
    pub(crate) fn server_der(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let cert = CertificateDer::from_pem_slice(self.server.cert_pem.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.server.key_pem.as_bytes());
        (cert.expect("it was parsed when it was loaded"), key.expect("it was parsed when it was loaded"))
    }

    /// The administrator's certificate and key, both as PEM: for clients in the same process.
    pub fn admin_pem(&self) -> (&str, &str) {
        (&self.admin.cert_pem, &self.admin.key_pem)
    }
}

/// Where a client on this host reaches a server that listens on `ip`.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

fn all_names(extra: &[String]) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = SERVICE_NAMES.iter().map(|&name| name.to_owned()).collect();
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    for name in extra {
        match name.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() => continue,
            // As a certificate gives it back, or it would be signed anew at every start.
            Ok(ip) => names.insert(ip.to_string()),
            Err(_) => names.insert(name.clone()),
        };
    }
    names
}

fn ca_remedy(dir: &Path) -> String {
    format!(
        "restore ca.crt and ca.key from a copy, or remove the folder {}: a new authority is made at the next start, \
         and every kubeconfig must be fetched anew",
        dir.display()
    )
}

fn load_or_create_ca(dir: &Path, now: Timestamp) -> Result<(String, Issuer<'static, KeyPair>), PkiError> {
    let (cert_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
    let damaged = |path: &Path, detail: String| PkiError::Damaged {
        path: path.to_owned(),
        detail,
        remedy: ca_remedy(dir),
    };
    let sign = |source| PkiError::Sign { name: "ca", source };
    let (cert_pem, key_pem) = match (read(&cert_path)?, read(&key_path)?) {
        (Some(cert), Some(key)) => (cert, key),
        (Some(_), None) => return Err(damaged(&key_path, "it is missing".to_owned())),
        (None, key_pem) => {
            let key = match &key_pem {
                // What a crash between the two writes leaves behind. Whoever trusts a certificate of this key trusts every
                // other one of the same name.
                Some(pem) => KeyPair::from_pem(pem).map_err(|e| damaged(&key_path, e.to_string()))?,
                None => KeyPair::generate().map_err(sign)?,
            };
            let mut params = params(now, now + (24 * 365 * CA_YEARS).hours());
            params.distinguished_name.push(DnType::CommonName, "wharf");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyCertSign,
                KeyUsagePurpose::CrlSign,
            ];
            let cert = params.self_signed(&key).map_err(sign)?;
            // The key first: a certificate without its key would be taken for a damaged authority.
            if key_pem.is_none() {
                write_file(&key_path, &key.serialize_pem(), 0o600)?;
            }
            write_file(&cert_path, &cert.pem(), 0o644)?;
            (cert.pem(), key.serialize_pem())
        }
    };
    let key = KeyPair::from_pem(&key_pem).map_err(|e| damaged(&key_path, e.to_string()))?;
    let der = CertificateDer::from_pem_slice(cert_pem.as_bytes())
        .map_err(|e| damaged(&cert_path, e.to_string()))?;
    let (_, cert) = X509Certificate::from_der(&der).map_err(|e| damaged(&cert_path, e.to_string()))?;
    if cert.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
        return Err(damaged(&key_path, "it is not the key of ca.crt".to_owned()));
    }
    let not_after = ends(&cert);
    if not_after <= now {
        return Err(PkiError::Expired { path: cert_path, not_after, remedy: ca_remedy(dir) });
    }
    let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| damaged(&cert_path, e.to_string()))?;
    Ok((cert_pem, issuer))
}

/// A certificate that the authority signs.
struct Leaf<'a> {
    name: &'static str,
    user: &'static str,
    group: Option<&'static str>,
    /// Names of a server; none for a client.
    names: &'a BTreeSet<String>,
}

impl Leaf<'_> {
    fn load_or_sign(
        &self,
        dir: &Path,
        now: Timestamp,
        issuer: &Issuer<'_, KeyPair>,
        ca_key_id: &[u8],
    ) -> Result<Pair, PkiError> {
        let (cert_path, key_path) =
            (dir.join(format!("{}.crt", self.name)), dir.join(format!("{}.key", self.name)));
        if let (Some(cert_pem), Some(key_pem)) = (read(&cert_path)?, read(&key_path)?) {
            let pair = Pair { cert_pem, key_pem };
            if self.holds(&pair, &cert_path, &key_path, now, ca_key_id)? {
                return Ok(pair);
            }
        }
        let sign = |source| PkiError::Sign { name: self.name, source };
        let key = KeyPair::generate().map_err(sign)?;
        let mut params = params(now, now + (24 * LEAF_DAYS).hours());
        let names: Vec<String> = self.names.iter().cloned().collect();
        params.subject_alt_names = CertificateParams::new(names).map_err(sign)?.subject_alt_names;
        params.distinguished_name.push(DnType::CommonName, self.user);
        if let Some(group) = self.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = match self.names.is_empty() {
            true => vec![ExtendedKeyUsagePurpose::ClientAuth],
            false => vec![ExtendedKeyUsagePurpose::ServerAuth],
        };
        let cert = params.signed_by(&key, issuer).map_err(sign)?;
        let pair = Pair { cert_pem: cert.pem(), key_pem: key.serialize_pem() };
        write_file(&key_path, &pair.key_pem, 0o600)?;
        write_file(&cert_path, &pair.cert_pem, 0o644)?;
        Ok(pair)
    }

    /// Whether a pair on disk serves on; one that cannot be read at all is for a person to look at.
    fn holds(
        &self,
        pair: &Pair,
        cert_path: &Path,
        key_path: &Path,
        now: Timestamp,
        ca_key_id: &[u8],
    ) -> Result<bool, PkiError> {
        let remedy = format!(
            "remove {} and {}: they are made anew at the next start",
            cert_path.display(),
            key_path.display()
        );
        let damaged = |path: &Path, detail: String| PkiError::Damaged {
            path: path.to_owned(),
            detail,
            remedy: remedy.clone(),
        };
        let key = KeyPair::from_pem(&pair.key_pem).map_err(|e| damaged(key_path, e.to_string()))?;
        let der = CertificateDer::from_pem_slice(pair.cert_pem.as_bytes())
            .map_err(|e| damaged(cert_path, e.to_string()))?;
        let (_, cert) = X509Certificate::from_der(&der).map_err(|e| damaged(cert_path, e.to_string()))?;
        let signed_by_ca = cert.extensions().iter().any(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().is_some_and(|id| id.0 == ca_key_id)
            }
            _ => false,
        });
        // A key of another certificate is what a crash between the two writes leaves behind.
        let matches = cert.public_key().subject_public_key.data.as_ref() == key.der_bytes();
        let lasts = ends(&cert) > now + (24 * RENEW_DAYS).hours();
        Ok(signed_by_ca && matches && lasts && names_of(&cert) == *self.names)
    }
}

fn params(from: Timestamp, until: Timestamp) -> CertificateParams {
    // Certificates begin a day early, so that a clock that is a little off does not refuse them.
    let (from, until) =
        ((from - 24.hours()).to_zoned(TimeZone::UTC).date(), until.to_zoned(TimeZone::UTC).date());
    let time = |date: jiff::civil::Date| {
        let positive = |n: i8| u8::try_from(n).expect("months and days are positive");
        rcgen::date_time_ymd(date.year().into(), positive(date.month()), positive(date.day()))
    };
    let mut params = CertificateParams::default();
    params.not_before = time(from);
    params.not_after = time(until);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

/// When a certificate ends.
pub(crate) fn ends(cert: &X509Certificate<'_>) -> Timestamp {
    Timestamp::from_second(cert.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX)
}

fn key_id(cert_pem: &str, path: &Path, remedy: &str) -> Result<Vec<u8>, PkiError> {
    let damaged =
        |detail: String| PkiError::Damaged { path: path.to_owned(), detail, remedy: remedy.to_owned() };
    let der = CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(|e| damaged(e.to_string()))?;
    let (_, cert) = X509Certificate::from_der(&der).map_err(|e| damaged(e.to_string()))?;
    let id = cert.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    id.ok_or_else(|| damaged("it has no subject key identifier".to_owned()))
}

fn names_of(cert: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(names)) = cert.subject_alternative_name() else { return BTreeSet::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|ip| Ipv4Addr::from(ip).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|ip| Ipv6Addr::from(ip).to_string()),
            _ => None,
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn now() -> Timestamp {
        "2026-11-21T02:00:00Z".parse().unwrap()
    }

    #[test]
    fn certificates_are_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("pki");
        let first = Pki::load_or_create(&dir, now(), &[]).unwrap();
        let second = Pki::load_or_create(&dir, now() + 24.hours(), &[]).unwrap();
        assert_eq!(first.ca_pem, second.ca_pem);
        assert_eq!(first.server.cert_pem, second.server.cert_pem);
        assert_eq!(first.admin.key_pem, second.admin.key_pem);
        let mode = |name: &str| std::fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("ca.key"), mode("admin.key")), (0o700, 0o600, 0o600));
    }

    #[test]
    fn the_server_certificate_follows_its_names_and_the_calendar() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::load_or_create(dir.path(), now(), &["0.0.0.0".to_owned()]).unwrap();
        let renamed = Pki::load_or_create(dir.path(), now(), &["10.1.2.3".to_owned()]).unwrap();
        assert_ne!(first.server.cert_pem, renamed.server.cert_pem);
        assert_eq!(first.admin.cert_pem, renamed.admin.cert_pem);
        let later =
            Pki::load_or_create(dir.path(), now() + (24 * 340).hours(), &["10.1.2.3".to_owned()]).unwrap();
        assert_ne!(renamed.server.cert_pem, later.server.cert_pem);
        assert_ne!(renamed.admin.cert_pem, later.admin.cert_pem);
        assert_eq!(first.ca_pem, later.ca_pem);
    }

    #[test]
    fn a_first_start_that_was_cut_short_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let before = Pki::load_or_create(dir.path(), now(), &[]).unwrap();
        std::fs::remove_file(dir.path().join("ca.crt")).unwrap();
        let after = Pki::load_or_create(dir.path(), now() + 24.hours(), &[]).unwrap();
        assert_ne!(before.ca_pem, after.ca_pem);
        // What the first one signed is good before the second: nothing has to be handed out anew.
        let (old, new) = (before.ca_der(), after.ca_der());
        let (old, new) =
            (X509Certificate::from_der(&old).unwrap().1, X509Certificate::from_der(&new).unwrap().1);
        assert_eq!((old.subject(), old.public_key()), (new.subject(), new.public_key()));
        assert_eq!(before.server.cert_pem, after.server.cert_pem);
        assert_eq!(before.admin.cert_pem, after.admin.cert_pem);
    }

    #[test]
    fn names_are_told_apart_as_a_certificate_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["fd00:0::0001".to_owned(), "wharf.example".to_owned(), "*.wharf.example".to_owned()];
        let first = Pki::load_or_create(dir.path(), now(), &names).unwrap();
        let second = Pki::load_or_create(dir.path(), now(), &names).unwrap();
        assert_eq!(first.server.cert_pem, second.server.cert_pem);
    }

    #[test]
    fn names_of_the_service_are_in_the_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::load_or_create(dir.path(), now(), &["192.168.7.7".to_owned()]).unwrap();
        let (cert, _) = pki.server_der();
        let (_, cert) = X509Certificate::from_der(&cert).unwrap();
        let names: Vec<String> = names_of(&cert).into_iter().collect();
        expect_test::expect![
            "10.96.0.1 127.0.0.1 192.168.7.7 ::1 kubernetes kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local localhost"
        ]
        .assert_eq(&names.join(" "));
    }

    fn check_damage(file: &str, text: Option<&str>, expect: &expect_test::Expect) {
        let dir = tempfile::tempdir().unwrap();
        Pki::load_or_create(dir.path(), now(), &[]).unwrap();
        match text {
            Some(text) => std::fs::write(dir.path().join(file), text).unwrap(),
            None => std::fs::remove_file(dir.path().join(file)).unwrap(),
        }
        let result = Pki::load_or_create(dir.path(), now(), &[]);
        let text = result.map_or_else(|e| e.to_string(), |_| "made anew".to_owned());
        expect.assert_eq(&text.replace(&dir.path().display().to_string(), "PKI"));
    }

    #[test]
    fn a_damaged_file_is_named_with_its_remedy() {
        use expect_test::expect;
        check_damage(
            "ca.key",
            Some("garbage"),
            &expect![
                "PKI/ca.key is damaged (PEM error: malformedframing); restore ca.crt and ca.key from a copy, or remove the folder PKI: a new authority is made at the next start, and every kubeconfig must be fetched anew"
            ],
        );
        check_damage(
            "ca.key",
            None,
            &expect![
                "PKI/ca.key is damaged (it is missing); restore ca.crt and ca.key from a copy, or remove the folder PKI: a new authority is made at the next start, and every kubeconfig must be fetched anew"
            ],
        );
        check_damage(
            "ca.crt",
            Some(""),
            &expect![
                "PKI/ca.crt is damaged (no items found); restore ca.crt and ca.key from a copy, or remove the folder PKI: a new authority is made at the next start, and every kubeconfig must be fetched anew"
            ],
        );
        check_damage(
            "apiserver.crt",
            Some("garbage"),
            &expect![
                "PKI/apiserver.crt is damaged (no items found); remove PKI/apiserver.crt and PKI/apiserver.key: they are made anew at the next start"
            ],
        );
        check_damage("ca.crt", None, &expect!["made anew"]);
        check_damage("apiserver.crt", None, &expect!["made anew"]);
        check_damage("admin.key", None, &expect!["made anew"]);
    }

    #[test]
    fn an_ended_authority_is_told() {
        let dir = tempfile::tempdir().unwrap();
        Pki::load_or_create(dir.path(), now(), &[]).unwrap();
        let later = now() + (24 * 365 * 11).hours();
        assert!(matches!(Pki::load_or_create(dir.path(), later, &[]), Err(PkiError::Expired { .. })));
    }
}
