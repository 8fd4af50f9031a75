//! An HTTP handler with many paths, for tests.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest,
    OutgoingResponse, RequestOptions, ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

struct Handler;

wasip2::http::proxy::export!(Handler);

impl wasip2::exports::http::incoming_handler::Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        match path.split('?').next().unwrap_or_default() {
            "/trap" => panic!("told to trap"),
            "/silent" => {}
            "/spin" => loop {
                std::hint::black_box(());
            },
            "/hog" => {
                let mut held = Vec::new();
                loop {
                    held.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            "/wait" => {
                wasip2::clocks::monotonic_clock::subscribe_duration(3_600_000_000_000).block();
            }
            "/endless" => endless(out),
            "/echo" => echo(&request, out),
            "/length" => answer(out, Some("5"), "hello"),
            "/fetch" => {
                let url = path.split_once('?').map(|(_, url)| url).unwrap_or_default();
                let text = fetch(url).unwrap_or_else(|error| format!("{error:?}"));
                answer(out, None, &text);
            }
            path => answer(out, None, &format!("hello {path}\n")),
        }
    }
}

fn answer(out: ResponseOutparam, length: Option<&str>, text: &str) {
    let headers = Fields::new();
    if let Some(length) = length {
        headers.append("content-length", length.as_bytes()).expect("the header is allowed");
    }
    let response = OutgoingResponse::new(headers);
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    let _ = stream.blocking_write_and_flush(text.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// Writes until nobody reads any more.
fn endless(out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    while stream.blocking_write_and_flush(&[b'x'; 4096]).is_ok() {}
}

/// Sends the request's body back as it comes.
fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    let incoming = request.consume().expect("the body is taken once");
    let input = incoming.stream().expect("the stream is taken once");
    while let Ok(bytes) = input.blocking_read(4096) {
        if stream.blocking_write_and_flush(&bytes).is_err() {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

fn fetch(url: &str) -> Result<String, ErrorCode> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let request = OutgoingRequest::new(Fields::new());
    request.set_method(&Method::Get).expect("a method");
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).expect("a scheme");
    request.set_authority(Some(authority)).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    request.set_path_with_query(Some(&format!("/{path}"))).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    let options = RequestOptions::new();
    options.set_first_byte_timeout(Some(500_000_000)).expect("timeouts are supported");
    let future = outgoing_handler::handle(request, Some(options))?;
    future.subscribe().block();
    let response = future.get().expect("it is ready").expect("it is taken once")?;
    let status = response.status();
    let body = response.consume().expect("the body is taken once");
    let stream = body.stream().expect("the stream is taken once");
    let mut text = format!("{status} ").into_bytes();
    loop {
        match stream.blocking_read(4096) {
            Ok(bytes) => text.extend(bytes),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(ErrorCode::InternalError(Some(error.to_debug_string())));
            }
        }
    }
    drop(stream);
    let _ = IncomingBody::finish(body);
    Ok(String::from_utf8_lossy(&text).into_owned())
}
