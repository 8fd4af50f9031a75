//! Asking a container how it is, over the pod's network.

use std::{io, net::SocketAddr, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, HTTPHeader, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use runtime_net::Network;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{error::chain, probe::Outcome};

/// A status line is not longer.
const MAX_HEAD: usize = 4096;

/// Asks once, within the probe's time.
pub(crate) async fn ask(network: &Network, container: &Container, probe: &Probe, ip: &str) -> Outcome {
    let wait = Duration::from_secs(u64::try_from(probe.timeout_seconds.unwrap_or(1)).unwrap_or(1).max(1));
    if let Some(action) = &probe.http_get {
        return match timeout(wait, http_get(network, container, action, ip, "kube-probe/1.36")).await {
            Ok(Ok(status)) if (200..400).contains(&status) => Outcome::Success,
            Ok(Ok(status)) => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
            Ok(Err(Problem::Impossible(why))) => Outcome::Unknown(why),
            Ok(Err(Problem::Failed(url, error))) => Outcome::Failure(format!("Get {url:?}: {error}")),
            Err(_elapsed) => {
                let url = url(container, action, ip).map(|(url, _)| url).unwrap_or_default();
                Outcome::Failure(format!(
                    "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                ))
            }
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(ip);
        return match address(container, &action.port, host) {
            Err(why) => Outcome::Unknown(why),
            Ok(address) => match timeout(wait, network.connect_from_host(address)).await {
                Ok(Ok(_stream)) => Outcome::Success,
                Ok(Err(error)) => Outcome::Failure(format!("dial tcp {address}: {}", chain(&error))),
                Err(_elapsed) => Outcome::Failure(format!("dial tcp {address}: i/o timeout")),
            },
        };
    }
    let kind = if probe.exec.is_some() { "exec" } else { "grpc" };
    Outcome::Unknown(format!("{kind} probes are not supported yet; use httpGet or tcpSocket"))
}

/// Why a request has no status.
#[derive(Debug)]
pub(crate) enum Problem {
    /// It could never be made.
    Impossible(String),
    /// It was made in vain: the URL and what happened.
    Failed(String, String),
}

/// Makes a GET request and gives its status.
pub(crate) async fn http_get(
    network: &Network,
    container: &Container,
    action: &HTTPGetAction,
    ip: &str,
    agent: &str,
) -> Result<u16, Problem> {
    let (url, address) = url(container, action, ip).map_err(Problem::Impossible)?;
    if action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
        return Err(Problem::Impossible(
            "httpGet with scheme HTTPS is not supported yet; use HTTP".to_owned(),
        ));
    }
    let request = request(action, address, agent);
    let exchange = async {
        let mut stream = network.connect_from_host(address).await.map_err(io::Error::other)?;
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        let mut buffer = [0; 512];
        while !head.contains(&b'\n') && head.len() < MAX_HEAD {
            match stream.read(&mut buffer).await? {
                0 => break,
                n => head.extend_from_slice(&buffer[..n]),
            }
        }
        status_of(&head).ok_or_else(|| io::Error::other("malformed HTTP response"))
    };
    exchange.await.map_err(|error| Problem::Failed(url, chain(&error)))
}

fn url(container: &Container, action: &HTTPGetAction, ip: &str) -> Result<(String, SocketAddr), String> {
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(ip);
    let address = address(container, &action.port, host)?;
    let scheme = action.scheme.as_deref().unwrap_or("http").to_lowercase();
    Ok((format!("{scheme}://{address}{}", path(action)), address))
}

fn path(action: &HTTPGetAction) -> String {
    let path = action.path.as_deref().unwrap_or("/");
    let path: String = path.chars().filter(|c| !c.is_control() && *c != ' ').collect();
    if path.starts_with('/') { path } else { format!("/{path}") }
}

fn request(action: &HTTPGetAction, address: SocketAddr, agent: &str) -> String {
    let clean = |text: &str| text.replace(['\r', '\n'], "");
    let headers = action.http_headers.as_deref().unwrap_or_default();
    let has = |name: &str| headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    let mut text = format!("GET {} HTTP/1.1\r\n", path(action));
    if !has("Host") {
        text += &format!("Host: {address}\r\n");
    }
    if !has("User-Agent") {
        text += &format!("User-Agent: {agent}\r\n");
    }
    if !has("Accept") {
        text += "Accept: */*\r\n";
    }
    for HTTPHeader { name, value } in headers {
        text += &format!("{}: {}\r\n", clean(name), clean(value));
    }
    text + "Connection: close\r\n\r\n"
}

fn status_of(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

/// Where a port given by number or name is.
pub(crate) fn address(container: &Container, port: &IntOrString, host: &str) -> Result<SocketAddr, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match name.parse() {
            Ok(number) => number,
            Err(_not_a_number) => container
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_ref() == Some(name))
                .map(|port| port.container_port)
                .ok_or_else(|| format!("couldn't find port {name:?} in container {:?}", container.name))?,
        },
    };
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| format!("invalid port number: {number}"))?;
    let ip = host
        .parse()
        .map_err(|_not_an_ip| format!("host {host:?} is not an IP address; leave it out to ask the pod"))?;
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ContainerPort;

    #[test]
    fn ports_are_found_by_number_or_name() {
        let port =
            ContainerPort { name: Some("http".to_owned()), container_port: 8080, ..ContainerPort::default() };
        let container = Container { name: "a".to_owned(), ports: Some(vec![port]), ..Container::default() };
        let check = |port: IntOrString, expect: Result<&str, &str>| {
            let got = address(&container, &port, "10.244.0.5").map(|address| address.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), expect);
        };
        check(IntOrString::Int(80), Ok("10.244.0.5:80"));
        check(IntOrString::String("http".to_owned()), Ok("10.244.0.5:8080"));
        check(IntOrString::String("no".to_owned()), Err("couldn't find port \"no\" in container \"a\""));
        check(IntOrString::Int(0), Err("invalid port number: 0"));
    }

    #[test]
    fn a_request_is_written_and_its_status_read() {
        let action = HTTPGetAction {
            path: Some("/healthz?x=1\r\nEvil: 1".to_owned()),
            http_headers: Some(vec![HTTPHeader { name: "X".to_owned(), value: "1\r\nEvil: 2".to_owned() }]),
            ..HTTPGetAction::default()
        };
        let text = request(&action, "10.0.0.1:80".parse().unwrap(), "kube-probe/1.36");
        assert_eq!(
            text,
            "GET /healthz?x=1Evil:1 HTTP/1.1\r\nHost: 10.0.0.1:80\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\nX: 1Evil: 2\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(status_of(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status_of(b"SSH-2.0\r\n"), None);
    }
}
