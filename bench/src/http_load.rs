//! Requests a second over kept connections: each sends the next request when it has read the answer.

use crate::report::Report;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, task::JoinSet};

const WARM_UP: Duration = Duration::from_secs(1);

/// A server to measure.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    name: String,
    address: SocketAddr,
}

/// Reads `NAME=ADDR:PORT`, or an address alone, which is its own name.
pub(crate) fn server(text: &str) -> Result<Named, String> {
    let (name, address) = text.split_once('=').unwrap_or((text, text));
    let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
    Ok(Named { name: name.to_owned(), address })
}

/// Loads the servers one after the other, several times round, so that what else the machine does meets each of them.
pub(crate) async fn run(
    servers: &[Named],
    rounds: usize,
    connections: usize,
    seconds: u64,
) -> Result<Report> {
    let mut measured: Vec<Vec<Duration>> = vec![Vec::new(); servers.len()];
    for _ in 0..rounds {
        for (server, durations) in servers.iter().zip(&mut measured) {
            durations.extend(load(server.address, connections, seconds).await?);
        }
    }
    let total = f64::from(u32::try_from(seconds)?) * f64::from(u32::try_from(rounds)?);
    let mut report = Report::default();
    let mut first = None;
    for (server, durations) in servers.iter().zip(measured) {
        let rate = f64::from(u32::try_from(durations.len())?) / total;
        report.add(&format!("{} requests per second", server.name), rate, "1/s");
        report.add_durations(&format!("{} request", server.name), durations);
        match first {
            None => first = Some((&server.name, rate)),
            Some((name, base)) => report.add(&format!("{} to {name}", server.name), rate / base, "times"),
        }
    }
    Ok(report)
}

/// How long each request took, of so many connections for some seconds.
async fn load(address: SocketAddr, connections: usize, seconds: u64) -> Result<Vec<Duration>> {
    let from = Instant::now() + WARM_UP;
    let until = from + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(connection(address, from, until));
    }
    let mut durations = Vec::new();
    while let Some(done) = tasks.join_next().await {
        durations.extend(done??);
    }
    if durations.is_empty() {
        bail!("{address} answered nothing within {seconds} s");
    }
    Ok(durations)
}

/// How long each request took that was answered between the two moments.
async fn connection(address: SocketAddr, from: Instant, until: Instant) -> Result<Vec<Duration>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let mut durations = Vec::new();
    loop {
        let sent = Instant::now();
        if sent >= until {
            return Ok(durations);
        }
        let request =
            Request::get("/").header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            bail!("{address} answered {}", response.status());
        }
        response.into_body().collect().await?;
        if sent >= from {
            durations.push(sent.elapsed());
        }
    }
}
