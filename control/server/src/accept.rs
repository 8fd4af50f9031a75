//! The accept loop: TLS connections in, one service for all of them, an orderly end.
//!
//! A permit is taken before a connection is accepted and lives as long as it does; every step of a connection has a
//! deadline, and so has its rest between requests; all that runs is on one tracker, so that the end waits for all of it
//! and for nothing else.

use crate::authenticate::User;
use crate::tls::ClientCertificates;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::{SockRef, TcpKeepalive};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
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
/// Silence after which the system asks whether a peer is there, and how long it waits until it asks again. HTTP/1.1 has no
/// question of its own: a log that is followed by nobody any more would stay open.
const KEEPALIVE: Duration = Duration::from_secs(180);
const KEEPALIVE_AGAIN: Duration = Duration::from_secs(30);
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
    /// How long a connection may be open without a request.
    pub(crate) idle: Duration,
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
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
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
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%error, "cannot set TCP_NODELAY and SO_KEEPALIVE");
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
        let requests = Requests::default();
        let service = hyper::service::service_fn(|request| {
            let open = requests.open();
            let answer = (self.service)(request, user.clone());
            async move { Ok::<_, Infallible>(answer.await.map(|body| Answer { body, _open: open })) }
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let mut ends = false;
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = stop.cancelled(), if !ends => {}
                () = requests.rest(self.idle) => {
                    if ends {
                        return tracing::debug!("a peer that was told to go stayed");
                    }
                }
            }
            // A request that is on its way is answered; without one, the peer has as long again to go.
            ends = true;
            connection.as_mut().graceful_shutdown();
        };
        if let Err(error) = ended {
            tracing::debug!(error = &*error, "connection ended");
        }
    }
}

/// What every connection has.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_AGAIN);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// The open requests of a connection: how many there are.
#[derive(Debug, Clone, Default)]
struct Requests(Arc<watch::Sender<usize>>);

/// A request that is open until its answer is sent.
struct Open(Requests);

impl Requests {
    fn open(&self) -> Open {
        self.0.send_modify(|open| *open += 1);
        Open(self.clone())
    }

    /// Returns when none has been open for so long.
    async fn rest(&self, idle: Duration) {
        let mut open = self.0.subscribe();
        loop {
            let rests = *open.borrow_and_update() == 0;
            tokio::select! {
                // An error would mean that `self` is gone.
                _ = open.changed() => {}
                () = tokio::time::sleep(idle), if rests => return,
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}

/// The body of an answer, and the request that is open until it is sent.
struct Answer<B> {
    body: B,
    _open: Open,
}

impl<B: http_body::Body + Unpin> http_body::Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<http_body::Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_asks_whether_a_silent_peer_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        prepare(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_begins_anew_with_every_request() {
        let requests = Requests::default();
        let begin = tokio::time::Instant::now();
        let idle = Duration::from_secs(90);
        let wait = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        let use_it = async {
            wait(80).await;
            // Over before anybody looks.
            drop(requests.open());
            wait(80).await;
            let (first, second) = (requests.open(), requests.open());
            wait(1000).await;
            drop(first);
            wait(1000).await;
            drop(second);
        };
        tokio::join!(use_it, requests.rest(idle));
        assert_eq!(begin.elapsed(), Duration::from_secs(80 + 80 + 1000 + 1000 + 90));
    }
}
