//! A guest that secures its own connections, as an ordinary client library does: `tls HOST PATH AUTHORITY`.
//!
//! Prints the body that `https://HOST/PATH` answers with, if the certificate is for HOST and was signed by the authority
//! in that PEM file.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [host, path, authority] = args.as_slice() else { return Err("tls HOST PATH AUTHORITY".into()) };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    // All of it is Rust, so that the guest needs no C compiler.
    let config = ClientConfig::builder_with_provider(Arc::new(rustls_rustcrypto::provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), ServerName::try_from(host.clone())?)?;
    let mut socket = TcpStream::connect((host.as_str(), 443))?;
    let mut stream = Stream::new(&mut connection, &mut socket);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("{}", answer.split_once("\r\n\r\n").ok_or("no head")?.1);
    Ok(())
}
