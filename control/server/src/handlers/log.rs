//! The log of a Pod's container.

use super::Call;
use crate::logs::LogError;
use crate::pod_log::{self, LogAnswer};
use crate::respond::{self, Body};
use control_api::error::{ApiError, Reason};
use futures::StreamExt;
use http::{Response, StatusCode};

impl Call {
    /// The output of a container, as text.
    pub(super) async fn log(&self) -> Result<Response<Body>, ApiError> {
        let app = &self.context.app;
        let pod = app.registry.get(&self.resource, self.namespace(), self.name())?.value();
        let request = match pod_log::plan(&pod, &self.context.query)? {
            LogAnswer::Open(request) => request,
            LogAnswer::Nothing => {
                let mut response = Response::new(respond::full(""));
                *response.status_mut() = StatusCode::NO_CONTENT;
                return Ok(response);
            }
        };
        let follow = request.follow;
        let stream = (app.logs)(request).await.map_err(|error| refusal(&error))?;
        let counted = follow.then(|| app.metrics.long_running(&self.context.labels));
        let stopped = app.stop.clone().cancelled_owned();
        let stream = stream.take_until(stopped).inspect(move |_| {
            // Counted as long as the stream lives.
            let _ = &counted;
        });
        Ok(respond::answer(StatusCode::OK, "text/plain", respond::streamed(stream)))
    }
}

fn refusal(error: &LogError) -> ApiError {
    match error {
        LogError::BadRequest(text) => ApiError::bad_request(text.clone()),
        LogError::NotFound(text) => ApiError::new(Reason::NotFound, text.clone()),
        LogError::Internal(source) => {
            tracing::warn!(error = %source, "cannot read a log");
            ApiError::internal(error)
        }
    }
}
