//! wasi:http's view of a guest, and what its outgoing requests become.

use crate::client::HttpClient;
use http::Request;
use runtime_engine::GuestState;
use std::fmt;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks};

/// Bytes in one write to an outgoing body.
const CHUNK: usize = 32 * 1024;
/// Writes that an outgoing body holds before the guest waits.
const CHUNKS: usize = 2;
/// What the fields of one message may take, as the host holds them. Common servers take 8 to 16 KiB on the wire.
const MAX_FIELDS: usize = 32 * 1024;

/// The HTTP of one guest: goes into its extensions. Without one a guest's outgoing requests are denied.
pub struct PodHttp {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

impl fmt::Debug for PodHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodHttp").field("client", &self.hooks.client).finish_non_exhaustive()
    }
}

impl PodHttp {
    /// A guest's HTTP over its pod's client.
    pub fn new(client: HttpClient) -> Self {
        Self::with(Some(client))
    }

    fn with(client: Option<HttpClient>) -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(MAX_FIELDS);
        Self { ctx, hooks: Hooks { client } }
    }
}

/// What wasi:http's functions see of a guest.
pub(crate) fn view(state: &mut GuestState) -> WasiHttpCtxView<'_> {
    if state.extensions.get::<PodHttp>().is_none() {
        state.extensions.insert(PodHttp::with(None));
    }
    let http = state.extensions.get_mut::<PodHttp>().expect("it was put there just now");
    WasiHttpCtxView { hooks: &mut http.hooks, table: &mut state.table, ctx: &mut http.ctx }
}

struct Hooks {
    client: Option<HttpClient>,
}

type Worker = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sending = Box<dyn Future<Output = Result<(http::Response<WasiBody>, Worker), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_read: Worker,
    ) -> Sending {
        let client = self.client.clone();
        Box::new(async move {
            let client = client.ok_or(Error::HttpRequestDenied)?;
            let response = client.send(request, options.unwrap_or_default()).await?;
            // The connection is driven by the client's own task.
            Ok((response, Box::new(async { Ok(()) }) as Worker))
        })
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        CHUNKS
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }
}
