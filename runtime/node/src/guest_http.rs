//! Components that handle HTTP requests: served on their pod's ports, with an instance a request.
//!
//! Such a container has no process. It runs as long as its ports are served, is ready as soon as they are, and ends
//! with code 0 once it was told to and the requests under way are answered.

use std::{net::SocketAddr, sync::Arc};

use futures::future::try_join_all;
use runtime_engine::{Exit, Image, Meter, Usage};
use runtime_host_http::{Counters, Gate, GuestTemplate, ServeConfig, Served};
use runtime_net::Attachment;
use tokio_util::sync::CancellationToken;

use crate::{
    error::chain,
    start::GuestParts,
    worker::{Inner, PodEntry},
};

/// A container that is served.
#[derive(Clone, Debug)]
pub(crate) struct HttpService {
    stop: CancellationToken,
    kill: CancellationToken,
    /// What its instances use together.
    meter: Meter,
    counters: Arc<Counters>,
}

impl HttpService {
    pub(crate) fn new(meter: Meter) -> Self {
        Self {
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            meter,
            counters: Arc::default(),
        }
    }

    /// What its instances used so far.
    pub(crate) fn usage(&self) -> Usage {
        self.meter.usage()
    }

    /// What became of its requests so far.
    pub(crate) fn served(&self) -> Served {
        self.counters.now()
    }

    /// Takes no more requests, and waits for those under way.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    #[cfg(test)]
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Ends all at once.
    pub(crate) fn kill(&self) {
        self.kill.cancel();
    }
}

/// Ports that listen, about to be served.
pub(crate) struct Listening {
    image: Arc<Image>,
    parts: GuestParts,
    listeners: Vec<runtime_net::Listener>,
    service: HttpService,
}

/// Opens a container's ports. `meter` counts what all guests of these parts use.
pub(crate) fn listen(
    image: Arc<Image>,
    parts: GuestParts,
    meter: Meter,
    attachment: &Attachment,
    ports: &[u16],
) -> Result<(Listening, HttpService), String> {
    let mut listeners = Vec::new();
    for port in ports {
        let address = SocketAddr::from(([0, 0, 0, 0], *port));
        let listener = attachment.listen(address, 1024);
        listeners.push(listener.map_err(|error| format!("listening on port {port}: {}", chain(&error)))?);
    }
    let service = HttpService::new(meter);
    Ok((Listening { image, parts, listeners, service: service.clone() }, service))
}

/// Serves until it is told to end, and reports how it ended.
pub(crate) async fn run(
    inner: Arc<Inner>,
    entry: Arc<PodEntry>,
    index: usize,
    id: String,
    listening: Listening,
) {
    let Listening { image, parts, listeners, service } = listening;
    let gate = Gate::new(ServeConfig::default(), parts.memory_bytes(), image.initial_memory());
    let gate = Arc::new(gate);
    let template: GuestTemplate = {
        let image = Arc::clone(&image);
        Arc::new(move || parts.spec(&image).0)
    };
    let serving = try_join_all(listeners.into_iter().map(|listener| {
        runtime_host_http::serve(
            Arc::clone(&image),
            Arc::clone(&template),
            listener,
            Arc::clone(&gate),
            Arc::clone(&service.counters),
            service.stop.clone(),
        )
    }));
    let exit = tokio::select! {
        ended = serving => match ended {
            Ok(_all) => Exit::Code(0),
            Err(error) => Exit::Trapped { message: chain(&error), backtrace: String::new() },
        },
        () = service.kill.cancelled() => Exit::Killed,
    };
    inner.ended(&entry, index, &id, exit).await;
}
