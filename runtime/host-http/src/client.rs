//! Outgoing requests of a pod: names by the pod's resolver, connections over its network, kept for reuse.

use crate::body::TimedBody;
use crate::error::{of_connect, of_exchange, of_name};
use crate::pool::{Destination, Pool};
use crate::tls::{Side, Trust};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use runtime_net::{Attachment, SocketKind, Stream};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// How long each part of an exchange may take when the guest does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// How often a request is sent again because a kept connection was closed before it could be sent.
const MAX_STALE: usize = 3;

/// A pod's HTTP client. Clones share the connections; they are closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    attachment: Attachment,
    trust: Arc<Trust>,
    idle: Mutex<Idle>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Idle {
    pool: Pool<SendRequest<WasiBody>>,
    /// Whether a task drops what has waited for long. There is one while anything waits.
    reaped: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl HttpClient {
    /// The client of a pod.
    pub fn new(attachment: Attachment, trust: Arc<Trust>) -> Self {
        Self {
            inner: Arc::new(Inner {
                attachment,
                trust,
                idle: Mutex::default(),
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
            }),
        }
    }

    /// How many connections wait for another request.
    pub fn n_idle(&self) -> usize {
        self.inner.idle().pool.len()
    }

    /// Sends a request whose URI is absolute, and gives the response as soon as its headers are there.
    pub(crate) async fn send(
        &self,
        mut request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Response<WasiBody>, Error> {
        let tls = request.uri().scheme() == Some(&Scheme::HTTPS);
        let authority = request.uri().authority().ok_or(Error::HttpRequestUriInvalid)?.clone();
        let host = authority.host().to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let to: Destination = (tls, format!("{host}:{port}"));
        *request.uri_mut() = origin_form(request.uri());

        let first_byte = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let between_bytes = options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let mut n_stale = 0;
        loop {
            let kept = if n_stale < MAX_STALE {
                self.inner.idle().pool.take(&to, |sender| sender.is_ready() && !sender.is_closed())
            } else {
                None
            };
            let is_kept = kept.is_some();
            let mut sender = match kept {
                Some(sender) => sender,
                None => {
                    let limit = options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
                    let connecting = self.connect(&host, port, tls);
                    timeout(limit, connecting).await.map_err(|_elapsed| Error::ConnectionTimeout)??
                }
            };
            let sending = timeout(first_byte, sender.try_send_request(request)).await;
            match sending.map_err(|_elapsed| Error::HttpResponseTimeout)? {
                Ok(response) => {
                    self.keep(to, sender);
                    return Ok(response.map(|body| TimedBody::new(body, between_bytes).boxed_unsync()));
                }
                Err(mut failed) => match failed.take_message() {
                    // The other side closed a kept connection just now: nothing of the request has left.
                    Some(unsent) if is_kept => {
                        request = unsent;
                        n_stale += 1;
                    }
                    _ => return Err(of_exchange(failed.into_error())),
                },
            }
        }
    }

    async fn connect(&self, host: &str, port: u16, tls: bool) -> Result<SendRequest<WasiBody>, Error> {
        let (stream, side) = self.connect_to_any(host, port).await?;
        if tls {
            self.handshake(self.inner.trust.connect(host, side, stream).await?).await
        } else {
            self.handshake(stream).await
        }
    }

    /// The first of the name's addresses that takes the connection; else the failure of the last.
    async fn connect_to_any(&self, host: &str, port: u16) -> Result<(Stream, Side), Error> {
        let attachment = &self.inner.attachment;
        let addresses = attachment.resolve(host).await.map_err(|error| of_name(&error))?;
        let mut failure = Error::DestinationNotFound;
        for ip in addresses {
            match attachment.connect_as(SocketAddr::new(ip, port), SocketKind::OutboundHttp).await {
                Ok(stream) => {
                    let side = if attachment.is_inside(ip) { Side::Inside } else { Side::Outside };
                    return Ok((stream, side));
                }
                Err(error) => failure = of_connect(&error),
            }
        }
        Err(failure)
    }

    async fn handshake<S>(&self, stream: S) -> Result<SendRequest<WasiBody>, Error>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(of_exchange)?;
        let stop = self.inner.stop.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                // What goes wrong here is told to whoever waits for the response.
                _ended = connection => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(sender)
    }

    /// Puts the connection back once the response is read to its end.
    fn keep(&self, to: Destination, mut sender: SendRequest<WasiBody>) {
        let client = Arc::downgrade(&self.inner);
        self.inner.tasks.spawn(async move {
            if sender.ready().await.is_ok()
                && let Some(client) = client.upgrade()
            {
                client.put_back(&to, sender);
            }
        });
    }
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_back(self: &Arc<Self>, to: &Destination, sender: SendRequest<WasiBody>) {
        let mut idle = self.idle();
        let now = Instant::now();
        if idle.pool.put(to, sender, now) && !std::mem::replace(&mut idle.reaped, true) {
            let (client, stop) = (Arc::downgrade(self), self.stop.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = reap(client, now + IDLE) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    /// Closes what nobody wanted for long. When to look again, while anything waits.
    fn expire(&self) -> Option<Instant> {
        let mut idle = self.idle();
        let eldest = idle.pool.expire(IDLE, Instant::now());
        idle.reaped = eldest.is_some();
        eldest.map(|since| since + IDLE)
    }
}

async fn reap(client: Weak<Inner>, mut at: Instant) {
    loop {
        sleep_until(at).await;
        match client.upgrade().and_then(|client| client.expire()) {
            Some(next) => at = next,
            None => return,
        }
    }
}

/// What stands in the request's first line: a server is asked for a path, only a proxy for a whole URI.
fn origin_form(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Empty;
    use runtime_net::{AttachSpec, Network, NetworkConfig};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::sleep;

    /// Answers each request of one connection.
    async fn serve(mut stream: Stream) {
        let mut head = Vec::new();
        while stream.read_buf(&mut head).await.unwrap_or(0) > 0 {
            if head.ends_with(b"\r\n\r\n") {
                head.clear();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_over_a_kept_connection_leave_no_tasks_behind() {
        let network = Network::new(NetworkConfig::default()).unwrap();
        let pod = network.attach(AttachSpec::default()).unwrap();
        let listener = pod.listen("0.0.0.0:80".parse().unwrap(), 8).unwrap();
        let servers = TaskTracker::new();
        let server = servers.spawn(async move { serve(listener.accept().await.unwrap()).await });
        let client = HttpClient::new(pod.clone(), Arc::default());
        let settled = async |n_idle: usize, n_tasks: usize| {
            let now = || (client.n_idle(), client.inner.tasks.len());
            let waiting = async {
                while now() != (n_idle, n_tasks) {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(IDLE / 2, waiting).await.unwrap_or_else(|_| panic!("{:?}", now()));
        };
        for _ in 0..20 {
            let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
            let request = Request::get(format!("http://{}/", pod.ip())).body(body).unwrap();
            client.send(request, RequestOptions::default()).await.unwrap();
            // The connection's own, and the one that looks after idle connections.
            settled(1, 2).await;
        }
        timeout(2 * IDLE, server).await.expect("an idle connection is closed in the end").unwrap();
        settled(0, 0).await;
    }

    #[test]
    fn a_server_is_asked_for_a_path() {
        let ask = |uri: &str| origin_form(&uri.parse().unwrap()).to_string();
        assert_eq!(ask("http://web:8080/a/b?c=d"), "/a/b?c=d");
        assert_eq!(ask("http://web"), "/");
        assert_eq!(ask("https://web?x"), "/?x");
    }
}
