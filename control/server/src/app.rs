//! What happens to every request, whatever it asks for, in this order: an id, who asks, what for, whether they may,
//! a place among those being answered, the handler, and the count. A handler's panic is one request's 500.

use crate::authenticate::{self, User};
use crate::authorize;
use crate::compress::compress;
use crate::handlers::{self, Context};
use crate::health::Health;
use crate::logs::LogOpener;
use crate::metrics::{ActionLabels, Metrics};
use crate::negotiate;
use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::respond::{self, Body};
use crate::system::Documents;
use control_api::error::ApiError;
use control_registry::Registry;
use futures::FutureExt;
use http::header::{ACCEPT, HeaderName, USER_AGENT};
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use jiff::Timestamp;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a request that does not stream may take, its body included.
const REQUEST: Duration = Duration::from_secs(60);
/// Told to clients that find no place.
const RETRY_AFTER_SECS: u32 = 1;

/// What every request can reach.
pub(crate) struct App {
    pub(crate) registry: Registry,
    pub(crate) logs: LogOpener,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) documents: Documents,
    pub(crate) now: fn() -> Timestamp,
    /// Ends streams that would last.
    pub(crate) stop: CancellationToken,
    /// Reading requests at once, apart from streams.
    pub(crate) readers: Semaphore,
    /// Changing requests at once.
    pub(crate) writers: Semaphore,
}

impl App {
    /// Answers one request.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        user: Option<Arc<User>>,
    ) -> Response<Body> {
        let started = Instant::now();
        let audit_id = uuid::Uuid::new_v4().to_string();
        let (head, body) = request.into_parts();
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let info = RequestInfo::parse(&head.method, head.uri.path(), &query);
        let accept = head.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let encoding = negotiate::encoding(accept, pretty(&query, &head.headers));
        let is_head = head.method == Method::HEAD;
        let labels = self.labels(&info);
        let long_running = info.long_running(&query);
        let context = Context {
            app: self.clone(),
            method: head.method,
            headers: head.headers.clone(),
            info,
            query,
            encoding,
            labels,
        };
        let (labels, describes) =
            (context.labels.clone(), format!("{} {}", context.method, context.info.path));
        let handled = AssertUnwindSafe(self.clone().admit(context, body, user, long_running)).catch_unwind();
        let result = match handled.await {
            Ok(result) => result,
            Err(panic) => {
                tracing::error!(
                    request = describes,
                    audit_id,
                    panic = panic_text(&*panic),
                    "a request panicked"
                );
                Err(ApiError::internal("this request caused the server to panic; its log has the details"))
            }
        };
        let mut response = result.unwrap_or_else(|error| {
            if error.code >= 500 {
                tracing::warn!(request = describes, audit_id, %error, "a request failed");
            }
            respond::error(&error, encoding)
        });
        respond::set(&mut response, HeaderName::from_static("audit-id"), &audit_id);
        let mut response = compress(response, &head.headers);
        if is_head {
            respond::drop_body(&mut response);
        }
        let took = (!long_running).then(|| started.elapsed());
        self.metrics.answered(&labels, response.status().as_u16(), took);
        tracing::trace!(request = describes, code = response.status().as_u16(), ?took, "answered");
        response
    }

    async fn admit(
        self: Arc<Self>,
        context: Context,
        body: Incoming,
        user: Option<Arc<User>>,
        long_running: bool,
    ) -> Result<Response<Body>, ApiError> {
        let now = (self.now)();
        if !authorize::public(&context.info) {
            let user = authenticate::authenticate(user.as_deref(), &context.headers, now)?;
            authorize::authorize(user, &context.info)?;
        }
        if long_running {
            return handlers::handle(context, body).await;
        }
        let mutating = context.info.mutating();
        let _place = self.place(mutating)?;
        let _counted = self.metrics.in_flight(mutating);
        let what = format!("request did not complete within the allotted timeout ({} s)", REQUEST.as_secs());
        match tokio::time::timeout(REQUEST, handlers::handle(context, body)).await {
            Ok(result) => result,
            Err(_) => Err(ApiError::timeout(what, RETRY_AFTER_SECS)),
        }
    }

    fn place(&self, mutating: bool) -> Result<SemaphorePermit<'_>, ApiError> {
        let places = if mutating { &self.writers } else { &self.readers };
        places.try_acquire().map_err(|_full| {
            ApiError::too_many_requests("Too many requests, please try again later.", RETRY_AFTER_SECS)
        })
    }

    fn labels(&self, info: &RequestInfo) -> ActionLabels {
        let served = info.resource.as_ref().is_some_and(|resource| {
            self.registry
                .resources()
                .by_plural(&resource.group, &resource.version, &resource.resource)
                .is_some()
        });
        ActionLabels::of(info, served)
    }
}

/// Whether a person reads the answer: they asked for it, or use a tool for people.
fn pretty(query: &Query, headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    query
        .flag_option("pretty")
        .unwrap_or_else(|| ["curl", "Wget", "Mozilla/5.0"].iter().any(|tool| agent.starts_with(tool)))
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
