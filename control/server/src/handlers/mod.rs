//! Handlers over rows: none names a kind.

mod body;
mod log;
mod options;
mod output;
mod read;
mod watch;
mod write;

use crate::app::App;
use crate::metrics::ActionLabels;
use crate::negotiate::Encoding;
use crate::query::Query;
use crate::request_info::{RequestInfo, ResourceInfo};
use crate::respond::{self, Body};
use crate::route::{self, Action, NoRoute};
use crate::system;
use control_api::error::ApiError;
use control_api::resource::Resource;
use http::{HeaderMap, Method, Response};
use hyper::body::Incoming;
use std::sync::Arc;

/// One request, without its body.
pub(crate) struct Context {
    pub(crate) app: Arc<App>,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) info: RequestInfo,
    pub(crate) query: Query,
    /// How the answer is written.
    pub(crate) encoding: Encoding,
    pub(crate) labels: ActionLabels,
}

/// A request for a resource that is served.
struct Call {
    context: Context,
    resource: Arc<Resource>,
    target: ResourceInfo,
}

/// Answers a request that has been let in.
pub(crate) async fn handle(context: Context, body: Incoming) -> Result<Response<Body>, ApiError> {
    let Some(target) = context.info.resource.clone() else { return other(&context) };
    let found = match route::route(context.app.registry.resources(), &context.info) {
        Ok(found) => found,
        Err(NoRoute::NotFound) => return Err(ApiError::no_such_path()),
        Err(NoRoute::MethodNotAllowed(allowed)) => {
            return Ok(respond::not_allowed(allowed, context.encoding));
        }
    };
    // A Namespace is in none, though its path has the form of one.
    let target =
        ResourceInfo { namespace: target.namespace.filter(|_| found.resource.is_namespaced()), ..target };
    let call = Call { context, resource: found.resource, target };
    match found.action {
        Action::Get | Action::GetStatus => call.get(),
        Action::GetScale => call.get_scale(),
        Action::List => call.list(),
        Action::Watch => call.watch(),
        Action::Log => call.log().await,
        Action::Create => call.create(body).await,
        Action::Bind => call.bind(body).await,
        Action::Update(part) => call.update(part, body).await,
        Action::Patch(part) => call.patch(part, body).await,
        Action::Delete => call.delete(body).await,
        Action::DeleteCollection => call.delete_collection(body).await,
    }
}

/// Paths that are no resource can only be read.
fn other(context: &Context) -> Result<Response<Body>, ApiError> {
    match system::answer(context) {
        None => Err(ApiError::no_such_path()),
        Some(_) if !matches!(context.method, Method::GET | Method::HEAD) => {
            Ok(respond::not_allowed("GET", context.encoding))
        }
        Some(response) => response,
    }
}

impl Call {
    fn namespace(&self) -> Option<&str> {
        self.target.namespace.as_deref()
    }

    /// The object's name; routing lets only paths with one through to where it is needed.
    fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or_default()
    }
}
