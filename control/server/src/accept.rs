//! The accept loop: TLS connections in, one service for all of them, an orderly end.
//!
//! A permit is taken before a connection is accepted and lives as long as it does; every step of a connection has a
//! deadline; all that runs is on one tracker, so that the end waits for all of it and for nothing else.

use crate::authenticate::User;
use crate::tls::ClientCertificates;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the head of a request may take, and an HTTP/1.1 connection may be idle.
const HEADERS: Duration = Duration::from_secs(60);
/// Silence after which an HTTP/2 peer is asked whether it is there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(30);
/// Requests, watches among them, that one HTTP/2 connection may have open.
const STREAMS: u32 = 1000;
/// Pause after the system could not give us a connection (no file descriptors left).
const PAUSE: Duration = Duration::from_millis(100);

/// What the loop needs besides its listener.
pub(crate) struct Acceptor<S> {
    /// Our side of TLS.
    pub(crate) tls: TlsAcceptor,
    /// Whose certificate a client shows.
    pub(crate) clients: ClientCertificates,
    /// Connections at once.
    pub(crate) connections: usize,
    /// How long connections may last after the stop.
    pub(crate) grace: Duration,
    /// The time, for certificates.
    pub(crate) now: fn() -> jiff::Timestamp,
    /// Answers a request of a user, or of nobody.
    pub(crate) service: S,
}

impl<S, F, B> Acceptor<S>
where
    S: Fn(Request<Incoming>, Option<Arc<User>>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Serves until `stop`, then lets open requests end within the grace. Returns how many connections were cut.
    pub(crate) async fn run(self, listener: TcpListener, stop: CancellationToken) -> usize {
        let tracker = TaskTracker::new();
        let cut = CancellationToken::new();
        let permits = Arc::new(Semaphore::new(self.connections));
        let grace = self.grace;
        let this = Arc::new(self);
        loop {
            let permit = tokio::select! {
                () = stop.cancelled() => break,
                permit = permits.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
            };
            let stream = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        if !of_one_connection(&error) {
                            tracing::warn!(%error, "cannot accept connections");
                            tokio::time::sleep(PAUSE).await;
                        }
                        continue;
                    }
                },
            };
            let connection = this.clone().connection(stream, tracker.clone(), stop.clone());
            let cut = cut.clone();
            tracker.spawn(async move {
                let _permit = permit;
                tokio::select! {
                    () = cut.cancelled() => (),
                    () = connection => (),
                }
            });
        }
        drop(listener);
        tracker.close();
        if timeout(grace, tracker.wait()).await.is_ok() {
            return 0;
        }
        let left = tracker.len();
        cut.cancel();
        // What runs on the connections' behalf (HTTP/2 streams) ends with them, unless it is stuck: that is not waited for.
        let _ = timeout(grace, tracker.wait()).await;
        left
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, tracker: TaskTracker, stop: CancellationToken) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let handshake = tokio::select! {
            () = stop.cancelled() => return,
            handshake = timeout(HANDSHAKE, self.tls.accept(stream)) => handshake,
        };
        let stream = match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => return tracing::debug!("TLS handshake took too long"),
        };
        let (_, tls) = stream.get_ref();
        let user = tls
            .peer_certificates()
            .and_then(|chain| self.clients.identify(chain, (self.now)()))
            .map(Arc::new);
        let is_http2 = tls.alpn_protocol() == Some(b"h2");
        // The protocol is settled, so no time is spent, nor unbounded time waited, on guessing it from the first bytes.
        let builder = auto::Builder::new(Tracked(tracker));
        let mut builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(64 * 1024);
        let service = hyper::service::service_fn(|request| {
            let answer = (self.service)(request, user.clone());
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = &*error, "connection ended");
        }
    }
}

/// Errors of `accept` that concern only the connection that was about to be accepted.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Runs what hyper spawns on the tracker of the connections.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
