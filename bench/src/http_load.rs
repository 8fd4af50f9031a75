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

/// Loads `address` for some seconds.
pub(crate) async fn run(address: SocketAddr, connections: usize, seconds: u64) -> Result<Report> {
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
    let mut report = Report::default();
    let requests = f64::from(u32::try_from(durations.len())?);
    let measured = f64::from(u32::try_from(seconds)?);
    report.add("requests per second", requests / measured, "1/s");
    report.add_durations("request", durations);
    Ok(report)
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
