//! The body of a request: read whole, within a bound.

use bytes::{Bytes, BytesMut};
use control_api::error::ApiError;
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// As upstream bounds it.
const LIMIT: usize = 3 * 1024 * 1024;
/// What is read of a body that is too large: a client that is still sending would miss the refusal.
const DRAIN: usize = 8 * LIMIT;

/// Reads a body of at most 3 MiB.
pub(super) async fn read(mut body: Incoming) -> Result<Bytes, ApiError> {
    let mut read = BytesMut::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| ApiError::bad_request(format!("cannot read the request's body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        size += data.len();
        if size <= LIMIT {
            read.extend_from_slice(&data);
        } else if size > DRAIN {
            break;
        } else {
            read = BytesMut::new();
        }
    }
    match size <= LIMIT {
        true => Ok(read.freeze()),
        false => Err(ApiError::too_large(format!("Request entity too large: limit is {LIMIT}"))),
    }
}
