//! Requests a second on a handler component through a node port, beside a bare loop over the same wasmtime: hyper, a
//! store and an instance a request, and nothing else (what `wasmtime serve` does). The guest is `tests/guests/http`.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use runtime_engine::{Engine, EngineConfig, GuestSpec};
use runtime_host_http::{Counters, Gate, HttpClient, PodHttp, ServeConfig, serve};
use runtime_host_sockets::PodNetwork;
use runtime_net::{AttachSpec, Endpoint, Network, NetworkConfig, Protocol, Service, ServicePort};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasmtime::Store;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

/// Connections that each send one request after the other.
const CLIENTS: u64 = 16;

fn guest() -> Bytes {
    let built = std::env::var_os("WHARF_GUESTS")
        .map_or_else(|| PathBuf::from("target/guests/wasm32-wasip2/release"), PathBuf::from);
    Bytes::from(std::fs::read(built.join("http.wasm")).expect("the guests are built: cargo xtask samples"))
}

/// Sends `n` requests over kept connections and measures the time from the first to the last.
async fn load(to: SocketAddr, n: u64) -> Duration {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client = TcpStream::connect(to).await.expect("it listens");
        client.set_nodelay(true).expect("it is open");
        clients.push(client);
    }
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let mut buffer = Vec::with_capacity(1024);
            for _ in 0..n.div_ceil(CLIENTS) {
                client.write_all(b"GET /length HTTP/1.1\r\nhost: web\r\n\r\n").await.expect("it is open");
                buffer.clear();
                while !buffer.ends_with(b"hello") {
                    assert!(client.read_buf(&mut buffer).await.expect("it is open") > 0);
                }
            }
        });
    }
    tasks.join_all().await;
    started.elapsed()
}

struct Bare {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoRequests,
}

struct NoRequests;

type Worker = Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>;

impl WasiHttpHooks for NoRequests {
    fn send_request(
        &mut self,
        _: http::Request<wasmtime_wasi_http::WasiBody>,
        _: Option<wasmtime_wasi_http::RequestOptions>,
        _: Worker,
    ) -> Box<
        dyn Future<
                Output = Result<
                    (http::Response<wasmtime_wasi_http::WasiBody>, Worker),
                    wasmtime_wasi_http::Error,
                >,
            > + Send,
    > {
        Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) })
    }
}

impl WasiView for Bare {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Bare {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

async fn serve_bare(listener: TcpListener, pre: ProxyPre<Bare>) {
    let mut tasks = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("it is open");
        let pre = pre.clone();
        let service = service_fn(move |request| {
            let pre = pre.clone();
            async move {
                let state = Bare {
                    table: ResourceTable::new(),
                    wasi: WasiCtx::builder().build(),
                    http: WasiHttpCtx::new(),
                    hooks: NoRequests,
                };
                let mut store = Store::new(pre.engine(), state);
                store.set_epoch_deadline(1_000_000);
                let (sender, receiver) = tokio::sync::oneshot::channel();
                let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
                let out = store.data_mut().http().new_response_outparam(sender)?;
                let _running = wasmtime_wasi::runtime::spawn(async move {
                    let proxy = pre.instantiate_async(&mut store).await?;
                    proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await
                });
                let answer = receiver.await?;
                std::mem::forget(_running);
                Ok::<_, wasmtime::Error>(answer?)
            }
        });
        tasks.spawn(async move {
            let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn bare(runtime: &Runtime) -> SocketAddr {
    let mut config = wasmtime::Config::new();
    config.allocation_strategy(wasmtime::InstanceAllocationStrategy::pooling());
    config.epoch_interruption(true);
    let engine = wasmtime::Engine::new(&config).expect("an engine");
    let component = Component::new(&engine, guest()).expect("it compiles");
    let mut linker = Linker::<Bare>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("it links");
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).expect("it links");
    let pre = ProxyPre::new(linker.instantiate_pre(&component).expect("it links")).expect("a handler");
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("the host has ports");
    let to = listener.local_addr().expect("it is bound");
    // It runs until the runtime is dropped.
    drop(runtime.handle().spawn(serve_bare(listener, pre)));
    to
}

fn ours(runtime: &Runtime) -> (SocketAddr, CancellationToken, Network) {
    let capabilities = [runtime_host_sockets::capability(), runtime_host_http::capability()];
    let engine = Engine::new(EngineConfig::default(), &capabilities).expect("an engine");
    let image = runtime.block_on(engine.load(guest())).expect("it loads");
    let network = Network::new(NetworkConfig::default()).expect("a runtime is there");
    let pod = network.attach(AttachSpec::default()).expect("there is room");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("the host has ports");
    let to = free.local_addr().expect("it is bound");
    drop(free);
    let problems = network.upsert_service(Service {
        name: "web".to_owned(),
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(to.port()),
            endpoints: vec![Endpoint {
                ip: pod.ip(),
                port: 8080,
                ready: true,
                draining: false,
                hostname: None,
            }],
        }],
        ..Service::default()
    });
    assert!(problems.is_empty(), "{problems:?}");
    let listener = pod.listen("0.0.0.0:8080".parse().expect("an address"), 128).expect("free");
    let client = HttpClient::new(pod.clone(), Arc::default());
    let template = move || {
        let mut spec = GuestSpec { memory_bytes: Some(64 << 20), ..GuestSpec::default() };
        spec.extensions.insert(PodNetwork::new(pod.clone()));
        spec.extensions.insert(PodHttp::new(client.clone()));
        spec
    };
    let stop = CancellationToken::new();
    let gate = Arc::new(Gate::new(ServeConfig::default(), Some(64 << 20), image.initial_memory()));
    let run = serve(image, Arc::new(template), listener, gate, Arc::new(Counters::default()), stop.clone());
    drop(runtime.handle().spawn(async move {
        let _engine = engine;
        run.await.expect("it serves");
    }));
    (to, stop, network)
}

fn benches(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let mut group = c.benchmark_group("requests");
    group.throughput(Throughput::Elements(1));
    let to = bare(&runtime);
    group.bench_function("bare wasmtime", |b| b.iter_custom(|n| runtime.block_on(load(to, n))));
    let (to, stop, _network) = ours(&runtime);
    group.bench_function("node port to pod", |b| b.iter_custom(|n| runtime.block_on(load(to, n))));
    stop.cancel();
    group.finish();
}

criterion_group!(group, benches);
criterion_main!(group);
