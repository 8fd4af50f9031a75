//! An HTTP handler in the foreground: an instance for each request, until a signal.

use super::{KILLED, Pod, Signals, options::Published};
use crate::logging;
use anyhow::{Context as _, Result};
use runtime_engine::{GuestSpec, Image};
use runtime_host_http::{Counters, Gate, GuestTemplate, ServeConfig};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// Serves the pod's ports, tells where, and gives the exit code.
pub(super) async fn serve(
    image: Arc<Image>,
    pod: Pod,
    ports: &[Published],
    signals: &mut Signals,
) -> Result<i32> {
    let stop = CancellationToken::new();
    let mut servers = JoinSet::new();
    let pod = Arc::new(pod);
    let template: GuestTemplate = Arc::new({
        let pod = Arc::clone(&pod);
        // A request has no terminal to read from.
        move || GuestSpec { stdin: Box::new(tokio::io::empty()), ..pod.spec() }
    });
    let gate = Arc::new(Gate::new(ServeConfig::default(), pod.memory(), image.initial_memory()));
    for published in ports {
        let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), published.pod);
        let listener = pod
            .attachment
            .listen(address, BACKLOG)
            .with_context(|| format!("cannot listen on the pod's port {}", published.pod))?;
        servers.spawn(runtime_host_http::serve(
            Arc::clone(&image),
            Arc::clone(&template),
            listener,
            Arc::clone(&gate),
            Arc::new(Counters::default()),
            stop.clone(),
        ));
        logging::complain(&format!(
            "serving HTTP on http://{}/ (Ctrl-C ends it)",
            SocketAddr::new(published.address, published.host)
        ));
    }
    let code = tokio::select! {
        ended = servers.join_next() => {
            ended.context("there is no port to serve")?.context("serving panicked")??;
            return Ok(0);
        }
        code = signals.next() => code,
    };
    stop.cancel();
    // Requests under way may end; a second signal ends them.
    tokio::select! {
        () = async { while servers.join_next().await.is_some() {} } => Ok(code),
        _second = signals.next() => Ok(KILLED),
    }
}
