//! One request and its guest.

use super::GuestTemplate;
use super::counters::Counters;
use super::gate::{Gate, Pass};
use crate::outgoing;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use runtime_engine::{Exit, GuestControl, GuestState, Image, Killed, StartError};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::Store;
use wasmtime::component::Resource;
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

/// The guest's body, or a line of ours.
pub(crate) type Reply = Either<GuestBody, Full<Bytes>>;

type FromGuest = Result<Response<HyperOutgoingBody>, ErrorCode>;

/// What every request of a listener needs.
pub(crate) struct Handler {
    image: Arc<Image>,
    pre: ProxyPre<GuestState>,
    template: GuestTemplate,
    gate: Arc<Gate>,
    counters: Arc<Counters>,
    /// Guests that the end of serving waits for.
    tasks: TaskTracker,
    /// Ends all guests.
    abort: CancellationToken,
}

/// A guest made for a request, before it runs.
struct Prepared {
    store: Store<GuestState>,
    control: GuestControl,
    request: Resource<HostIncomingRequest>,
    out: Resource<HostResponseOutparam>,
}

impl Handler {
    pub(crate) fn new(
        image: Arc<Image>,
        template: GuestTemplate,
        gate: Arc<Gate>,
        counters: Arc<Counters>,
        tasks: TaskTracker,
        abort: CancellationToken,
    ) -> wasmtime::Result<Self> {
        let pre = ProxyPre::new(image.pre().clone())?;
        Ok(Self { image, pre, template, gate, counters, tasks, abort })
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        self.gate.config().header_timeout
    }

    /// Answers a request, if need be with a line of our own.
    pub(crate) async fn handle(self: &Arc<Self>, request: Request<Incoming>) -> Response<Reply> {
        self.counters.request();
        let Some(pass) = self.gate.pass().await else {
            self.counters.reject();
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too many requests are waiting\n");
        };
        let bodiless = request.method() == Method::HEAD;
        let (sender, receiver) = oneshot::channel();
        let prepared = match self.prepare(request, sender).await {
            Ok(prepared) => prepared,
            Err(response) => return *response,
        };
        let alive = Alive(Some(prepared.control.clone()));
        let run = self.tasks.track_future(self.clone().run(prepared, pass));
        self.image.engine().spawn(run);
        match receiver.await {
            Ok(Ok(response)) => {
                let left = if bodiless { Some(0) } else { length(&response) };
                response.map(|inner| Either::Left(GuestBody::new(inner, left, alive)))
            }
            Ok(Err(code)) => {
                alive.let_live();
                tracing::debug!(?code, "a guest answered with an error");
                plain(StatusCode::BAD_GATEWAY, "the component answered with an error\n")
            }
            Err(_no_answer) => {
                alive.let_live();
                plain(StatusCode::INTERNAL_SERVER_ERROR, "the component gave no answer\n")
            }
        }
    }

    /// A store with the request in it, or the response that says why not.
    async fn prepare(
        &self,
        request: Request<Incoming>,
        sender: oneshot::Sender<FromGuest>,
    ) -> Result<Prepared, Box<Response<Reply>>> {
        let (mut store, control) = self.image.store((self.template)()).await.map_err(|error| {
            let status = match error {
                StartError::NoRoom { .. } | StartError::Closed => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            self.counters.reject();
            tracing::warn!(%error, "an instance for a request could not be made");
            Box::new(plain(status, "no instance could be made for the request\n"))
        })?;
        let mut http = outgoing::view(store.data_mut());
        // Fails for a request without a host, and for too many handles, which a new store does not have.
        let request = http
            .new_incoming_request(Scheme::Http, request)
            .map_err(|_no_host| Box::new(plain(StatusCode::BAD_REQUEST, "the request names no host\n")))?;
        let out = http.new_response_outparam(sender).map_err(|_full| {
            Box::new(plain(StatusCode::INTERNAL_SERVER_ERROR, "no instance could be made\n"))
        })?;
        Ok(Prepared { store, control, request, out })
    }

    /// Runs the guest to its end, which may come after its answer.
    async fn run(self: Arc<Self>, prepared: Prepared, pass: Pass) {
        self.counters.begin();
        let control = prepared.control.clone();
        let call = control.run(call(self.pre.clone(), prepared));
        let request_timeout = self.gate.config().request_timeout;
        let ended = tokio::select! {
            ended = timeout(request_timeout, call) => ended,
            () = self.abort.cancelled() => Ok(Err(Killed)),
        };
        self.counters.end();
        if let Ok(Ok(Ok(()))) = ended {
            self.gate.learn(control.usage().memory_peak);
        }
        drop(pass);
        let message = match ended {
            Ok(Ok(Ok(()))) => return,
            Ok(ended) => match ended.map_or_else(
                |Killed| control.exit_of_kill(),
                |result| result.map_or_else(|error| Exit::of_error(&error, &control), |()| Exit::Code(0)),
            ) {
                Exit::Code(_) | Exit::Killed => return,
                Exit::Trapped { message, backtrace } => {
                    self.counters.trap();
                    format!("trap in a request: {message}\n{backtrace}\n")
                }
                Exit::OutOfMemory { limit } => {
                    self.counters.trap();
                    format!("a request needed more memory than {limit} bytes\n")
                }
            },
            Err(_elapsed) => {
                self.counters.timeout();
                format!("a request took longer than {request_timeout:?} and was ended\n")
            }
        };
        self.tell(&message).await;
    }

    /// Writes to the container's standard error.
    async fn tell(&self, message: &str) {
        let mut stderr = Pin::from((self.template)().stderr.async_stream());
        if stderr.write_all(message.as_bytes()).await.is_err() || stderr.flush().await.is_err() {
            tracing::warn!(message, "a container's standard error is closed");
        }
    }
}

async fn call(pre: ProxyPre<GuestState>, prepared: Prepared) -> wasmtime::Result<()> {
    let Prepared { mut store, request, out, .. } = prepared;
    let proxy = pre.instantiate_async(&mut store).await?;
    proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
}

/// How long the body will be, if the guest says so: hyper drops it then without having seen its end.
fn length(response: &Response<HyperOutgoingBody>) -> Option<u64> {
    if matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Some(0);
    }
    response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn plain(status: StatusCode, text: &'static str) -> Response<Reply> {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response
}

/// Ends the guest when it is dropped, unless the guest was let live.
struct Alive(Option<GuestControl>);

impl Alive {
    fn let_live(mut self) {
        self.0 = None;
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(control) = &self.0 {
            control.kill();
        }
    }
}

/// A guest's response body. Dropped before its end, it ends the guest: the client is gone.
pub(crate) struct GuestBody {
    inner: HyperOutgoingBody,
    /// Bytes still to come, where the response has a length.
    left: Option<u64>,
    alive: Alive,
}

impl GuestBody {
    fn new(inner: HyperOutgoingBody, left: Option<u64>, alive: Alive) -> Self {
        let mut body = Self { inner, left, alive };
        body.end_if(left == Some(0));
        body
    }

    /// From the end of its response on, a guest is free of its client.
    fn end_if(&mut self, ended: bool) {
        if ended {
            self.alive.0 = None;
        }
    }
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        if let (Poll::Ready(Some(Ok(frame))), Some(left)) = (&polled, &mut this.left) {
            let size = frame.data_ref().map_or(0, Bytes::len);
            *left = left.saturating_sub(u64::try_from(size).unwrap_or(u64::MAX));
        }
        let ended = matches!(polled, Poll::Ready(None)) || this.left == Some(0) || this.inner.is_end_stream();
        this.end_if(ended);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
