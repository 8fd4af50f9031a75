//! The body of a request: read whole, within a bound.

use bytes::Bytes;
use control_api::error::ApiError;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};

/// As upstream bounds it.
const LIMIT: usize = 3 * 1024 * 1024;

/// Reads a body of at most 3 MiB.
pub(super) async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::too_large(format!("Request entity too large: limit is {LIMIT}"));
    // A length that is told and too great is refused before anything is read.
    if body.size_hint().lower() > LIMIT as u64 {
        return Err(too_large());
    }
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(ApiError::bad_request(format!("cannot read the request's body: {error}"))),
    }
}
