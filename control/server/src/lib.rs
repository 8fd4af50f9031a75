//! The Kubernetes API over HTTPS.
//!
//! A connection is accepted and its client's certificate looked at (`accept`, `tls`); each request becomes a
//! `RequestInfo`, is authenticated, authorized, given a place and counted (`app`); what it asks for is
//! looked up in the table of kinds (`route`) and answered by a handler that names no kind (`handlers`), or is a
//! document about the server itself (`system`). What happens to objects is the registry's, what they look like is
//! `control-api`'s.
//!
//! Routing is data, so a router with a closure a path would hold a single catch-all entry; hyper is used directly.

mod accept;
mod app;
mod authenticate;
mod authorize;
mod compress;
mod handlers;
mod health;
mod logs;
mod metrics;
mod negotiate;
mod pki;
mod pod_log;
mod private_file;
mod query;
mod request_info;
mod respond;
mod route;
mod server;
mod system;
mod tls;

pub use health::{Check, Health};
pub use logs::{LogError, LogOpener, LogRequest, LogStream};
pub use metrics::Metrics;
pub use pki::{Pki, PkiError};
pub use private_file::write_private;
pub use server::{Server, ServerConfig, ServerError};
pub use tls::TlsError;
