//! Large answers are compressed for clients that read gzip: a piece at a time, so that nobody else waits for a whole one.

use crate::negotiate::parse_accept;
use crate::respond::{self, Body};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue, VARY};
use http::{Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use std::io::{self, Write};

/// Bodies up to this size are sent as they are; upstream's bound.
const THRESHOLD_BYTES: u64 = 128 * 1024;
/// What is compressed at once.
const PIECE_BYTES: usize = 64 * 1024;

/// The answer as a client with these headers gets it: compressed if it is large, known whole, and they read gzip.
pub(crate) fn compress(response: Response<Body>, request: &HeaderMap) -> Response<Body> {
    let is_large = response.body().size_hint().exact().is_some_and(|size| size > THRESHOLD_BYTES);
    if !is_large || response.status() == StatusCode::NOT_MODIFIED || !reads_gzip(request) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    // Level 1: higher ones cost much and save little.
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    let compressing = Compressing { body, rest: Bytes::new(), encoder };
    let pieces = stream::try_unfold(compressing, |mut compressing| async move {
        Ok(compressing.next().await?.map(|piece| (piece, compressing)))
    });
    Response::from_parts(head, respond::streamed(pieces))
}

fn reads_gzip(request: &HeaderMap) -> bool {
    let headers = request.get_all(ACCEPT_ENCODING).iter().filter_map(|header| header.to_str().ok());
    headers.flat_map(parse_accept).any(|range| range.media_type == "gzip")
}

/// A body on its way through the encoder.
struct Compressing {
    body: Body,
    /// Of the body's last frame, what is to be compressed.
    rest: Bytes,
    /// None once all is written.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Compressing {
    /// The next compressed bytes; none at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(encoder) = &mut self.encoder {
            if self.rest.is_empty() {
                match self.body.frame().await {
                    Some(frame) => self.rest = frame?.into_data().unwrap_or_default(),
                    None => {
                        let finished = self.encoder.take().map(GzEncoder::finish).transpose()?;
                        return Ok(finished.map(Bytes::from));
                    }
                }
                continue;
            }
            let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
            encoder.write_all(&piece)?;
            let written = std::mem::take(encoder.get_mut());
            if !written.is_empty() {
                return Ok(Some(Bytes::from(written)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    async fn check(accept: &str, size: usize) -> (bool, usize) {
        let text: String =
            (0..).map(|n: u64| format!("{n} ")).take(size).collect::<String>()[..size].to_owned();
        let mut request = HeaderMap::new();
        request.insert(ACCEPT_ENCODING, accept.parse().unwrap());
        let response =
            compress(respond::answer(StatusCode::OK, respond::JSON, respond::full(text.clone())), &request);
        let is_compressed = response.headers().contains_key(CONTENT_ENCODING);
        let sent = response.into_body().collect().await.unwrap().to_bytes();
        let mut read = String::new();
        if is_compressed {
            GzDecoder::new(sent.as_ref()).read_to_string(&mut read).unwrap();
        } else {
            read = String::from_utf8(sent.to_vec()).unwrap();
        }
        assert_eq!(read, text);
        (is_compressed, sent.len())
    }

    #[tokio::test]
    async fn what_is_large_is_compressed_for_those_who_read_it() {
        let large = 1024 * 1024;
        let (is_compressed, sent) = check("gzip, deflate", large).await;
        assert!(is_compressed && sent < large / 2, "{sent}");
        assert!(check("br, gzip;q=0.5", large).await.0);
        assert!(!check("gzip;q=0", large).await.0);
        assert!(!check("deflate", large).await.0);
        assert!(!check("gzip", 128 * 1024).await.0);
    }
}
