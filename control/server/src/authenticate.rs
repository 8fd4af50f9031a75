//! Who asks: the user behind a client certificate, or behind none.

use crate::pki;
use control_api::error::{ApiError, Reason};
use http::HeaderMap;
use jiff::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};

/// An authenticated user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// The certificate's common name.
    pub(crate) name: String,
    /// The certificate's organizations, and `system:authenticated`.
    pub(crate) groups: Vec<String>,
    /// When the certificate ends: a connection may outlive it, a request may not.
    pub(crate) until: Timestamp,
}

/// The user of a certificate whose chain is verified; `None` without a common name.
pub(crate) fn user_of_certificate(der: &[u8]) -> Option<User> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let name = cert.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    let organizations = cert.subject().iter_organization().filter_map(|part| part.as_str().ok());
    let mut groups: Vec<String> = organizations.map(str::to_owned).collect();
    groups.push("system:authenticated".to_owned());
    Some(User { name, groups, until: pki::ends(&cert) })
}

/// The user of one request.
pub(crate) fn authenticate<'a>(
    user: Option<&'a User>,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<&'a User, ApiError> {
    let user = user.filter(|user| user.until > now).ok_or_else(ApiError::unauthorized)?;
    match headers.keys().find(|name| name.as_str().starts_with("impersonate-")) {
        None => Ok(user),
        // Taking the header for granted would give the answer of another user than the one asked for.
        Some(header) => Err(ApiError::new(
            Reason::Forbidden,
            format!(
                "users is forbidden: User {:?} cannot impersonate: the request header {:?} is not supported by this server",
                user.name,
                header.as_str()
            ),
        )),
    }
}
