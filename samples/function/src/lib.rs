//! A function: an instance answers one request, and is gone.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Function;

wasip2::http::proxy::export!(Function);

impl wasip2::exports::http::incoming_handler::Guest for Function {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("the stream is taken once");
        // A client that went away is no fault of ours.
        let _ = stream.blocking_write_and_flush(format!("hello from a function: {path}\n").as_bytes());
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
