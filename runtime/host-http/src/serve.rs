//! Incoming requests: hyper on a pod's listener, an instance of the component per request.
//!
//! All of it runs on the guests' runtime, so that a request changes threads no more often than it must; a client's
//! kernel socket is served directly, without a hop over the virtual network. A request passes the [`Gate`] before its
//! guest is made: requests beyond `concurrency`, or beyond the memory limit, wait in order, and beyond `queue` or
//! `queue_timeout` get 503. A client that goes away ends its guest; so does the deadline.

mod counters;
mod gate;
mod guest;
mod opening;

pub use counters::{Counters, Served};
pub use gate::Gate;

use guest::{Handler, Reply};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use runtime_engine::{GuestSpec, Image};
use runtime_net::{Listener, NetError, Stream};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What each instance is started with. Called once a request, and once more for the container's standard error when a
/// guest traps.
pub type GuestTemplate = Arc<dyn Fn() -> GuestSpec + Send + Sync>;

/// The bounds of a pod's HTTP.
#[derive(Clone, Copy, Debug)]
pub struct ServeConfig {
    /// Instances at once.
    pub concurrency: usize,
    /// Requests that wait for one.
    pub queue: usize,
    /// How long they wait.
    pub queue_timeout: Duration,
    /// How long an instance may live.
    pub request_timeout: Duration,
    /// How long a client may take to begin, for a request's headers, and over HTTP/2 to show that it is still there.
    pub header_timeout: Duration,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            concurrency: 128,
            queue: 1024,
            queue_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(300),
            header_timeout: Duration::from_secs(30),
        }
    }
}

/// Serving ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The component exports no `wasi:http/incoming-handler`.
    #[error("the component does not handle HTTP requests")]
    NotAHandler(#[source] wasmtime::Error),
    /// The pod left the network.
    #[error("listening")]
    Listen(#[source] NetError),
}

/// Most bytes of a request's head.
const MAX_HEAD: usize = 64 * 1024;

/// Serves the listener until `stop`; then takes no more connections, lets the requests and guests under way end and
/// returns.
/// Dropping the future ends everything at once.
pub async fn serve(
    image: Arc<Image>,
    template: GuestTemplate,
    listener: Listener,
    gate: Arc<Gate>,
    counters: Arc<Counters>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let engine = image.engine().clone();
    let abort = CancellationToken::new();
    let _abort_on_drop = abort.clone().drop_guard();
    let tasks = TaskTracker::new();
    let handler = Handler::new(image, template, gate, counters, tasks.clone(), abort.clone())
        .map_err(ServeError::NotAHandler)?;
    let handler = Arc::new(handler);
    let ended = loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(stream) => stream,
                Err(error) => break Err(ServeError::Listen(error)),
            },
            () = stop.cancelled() => break Ok(()),
        };
        let (handler, stop, abort) = (handler.clone(), stop.clone(), abort.clone());
        let connection = tasks.track_future(async move {
            tokio::select! {
                () = connection(stream, handler, stop) => {}
                () = abort.cancelled() => {}
            }
        });
        engine.spawn(connection);
    };
    drop(listener);
    tasks.close();
    tasks.wait().await;
    ended
}

async fn connection(stream: Stream, handler: Arc<Handler>, stop: CancellationToken) {
    let Ok(stream) = stream.adopt() else { return };
    let header_timeout = handler.header_timeout();
    let opened = tokio::select! {
        opened = timeout(header_timeout, opening::open(stream)) => opened,
        () = stop.cancelled() => return,
    };
    let Ok(Ok(Some(stream))) = opened else { return };
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = handler.clone();
        async move { Ok::<Response<Reply>, Infallible>(handler.handle(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_HEAD)
        .pipeline_flush(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(65_536)
        .max_concurrent_streams(256)
        .keep_alive_interval(header_timeout)
        .keep_alive_timeout(header_timeout);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A connection ends badly when its client does: nothing to tell anybody.
        _ended = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ended = connection.await;
}
