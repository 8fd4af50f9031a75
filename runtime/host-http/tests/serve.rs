//! A handler component behind a node port and a Service, with real clients and each kind of bad request.

use bytes::Bytes;
use runtime_engine::{Engine, EngineConfig, GuestSpec, Meter, PoolSizes};
use runtime_host_http::{Counters, Gate, GuestTemplate, HttpClient, PodHttp, ServeConfig, Served, serve};
use runtime_host_sockets::PodNetwork;
use runtime_net::{AttachSpec, Attachment, Endpoint, Network, NetworkConfig, Protocol, Service, ServicePort};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

/// Longer than anything here takes, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A component of `tests/guests`.
fn guest_file(name: &str) -> PathBuf {
    let built = std::env::var_os("WHARF_GUESTS").map_or_else(
        || {
            let exe = std::env::current_exe().expect("a test has a file");
            exe.ancestors().nth(3).expect("it is in target/debug/deps").join("guests/wasm32-wasip2/release")
        },
        PathBuf::from,
    );
    let file = built.join(name).with_extension("wasm");
    assert!(file.is_file(), "{} is missing: cargo xtask samples", file.display());
    file
}

struct World {
    network: Network,
    pod: Attachment,
    client: HttpClient,
    stderr: MemoryOutputPipe,
    counters: Arc<Counters>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl World {
    async fn new(config: ServeConfig) -> Self {
        Self::with_memory(config, 64 << 20).await
    }

    /// With so many bytes for all instances together.
    async fn with_memory(config: ServeConfig, limit: u64) -> Self {
        let sizes = EngineConfig { pool: PoolSizes::for_guests(16), ..EngineConfig::default() };
        let capabilities = [runtime_host_sockets::capability(), runtime_host_http::capability()];
        let engine = Engine::new(sizes, &capabilities).expect("an engine");
        let bytes = std::fs::read(guest_file("http")).expect("the guest is readable");
        let image = engine.load(Bytes::from(bytes)).await.expect("the guest loads");
        let network = Network::new(NetworkConfig::default()).expect("a runtime is there");
        let pod = network.attach(AttachSpec { namespace: "default".to_owned(), ..AttachSpec::default() });
        let pod = pod.expect("there is room");
        let endpoint = Endpoint { ip: pod.ip(), port: 8080, ready: true, draining: false, hostname: None };
        network.upsert_service(Service {
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            cluster_ip: Some("10.96.0.7".parse().expect("an address")),
            ports: vec![ServicePort {
                name: String::new(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: None,
                endpoints: vec![endpoint],
            }],
            ..Service::default()
        });
        let stderr = MemoryOutputPipe::new(1 << 20);
        let gate = Arc::new(Gate::new(config, Some(limit), image.initial_memory()));
        let shared = Meter::new(Some(limit), None);
        let client = HttpClient::new(pod.clone(), Arc::default());
        let template: GuestTemplate = Arc::new({
            let (pod, stderr, client) = (pod.clone(), stderr.clone(), client.clone());
            move || {
                let mut spec = GuestSpec {
                    stderr: Box::new(stderr.clone()),
                    memory_bytes: Some(limit),
                    shared: Some(shared.clone()),
                    ..GuestSpec::default()
                };
                spec.extensions.insert(PodNetwork::new(pod.clone()));
                spec.extensions.insert(PodHttp::new(client.clone()));
                spec
            }
        });
        let listener = pod.listen("0.0.0.0:8080".parse().expect("an address"), 128).expect("free");
        let counters = Arc::new(Counters::default());
        let stop = CancellationToken::new();
        let run = serve(image, template, listener, gate, counters.clone(), stop.clone());
        let serving = TaskTracker::new().spawn(async move { run.await.expect("it serves") });
        Self { network, pod, client, stderr, counters, stop, serving }
    }

    async fn send(&self, text: &str) -> runtime_net::Stream {
        let to = SocketAddr::new(self.pod.ip(), 8080);
        let mut stream = self.network.connect_from_host(to).await.expect("it listens");
        stream.write_all(text.as_bytes()).await.expect("it is open");
        stream
    }

    /// The status and the body of one request.
    async fn get(&self, path: &str) -> String {
        let mut stream =
            self.send(&format!("GET {path} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")).await;
        let mut answer = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("an answer").expect("it is open");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status");
        format!("{status} {}", unchunk(body, head))
    }

    async fn counts(&self, wanted: impl Fn(Served) -> bool) -> Served {
        timeout(DEADLINE, async {
            while !wanted(self.counters.now()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap_or_else(|_elapsed| panic!("the counts are {:?}", self.counters.now()));
        self.counters.now()
    }

    async fn kept_connections(&self, wanted: usize) {
        timeout(DEADLINE, async {
            while self.client.n_idle() != wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap_or_else(|_elapsed| panic!("{} connections are kept", self.client.n_idle()));
    }

    async fn told(&self, text: &str) {
        timeout(DEADLINE, async {
            while !String::from_utf8_lossy(&self.stderr.contents()).contains(text) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap_or_else(|_elapsed| {
            panic!("standard error holds {}", String::from_utf8_lossy(&self.stderr.contents()))
        });
    }
}

/// The text of a chunked body, or the body as it is.
fn unchunk(body: &str, head: &str) -> String {
    if !head.contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let mut rest = body;
    let mut text = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size @ 1..) = usize::from_str_radix(size, 16) else { break };
        text.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    text
}

#[tokio::test]
async fn an_instance_answers_each_request() {
    let world = World::new(ServeConfig::default()).await;
    assert_eq!(world.get("/a").await, "200 hello /a\n");
    assert_eq!(world.get("/length").await, "200 hello");
    let mut stream = world.send("").await;
    for n in 0..3 {
        let request = format!("POST /echo HTTP/1.1\r\nhost: web\r\ncontent-length: 6\r\n\r\nping {n}");
        stream.write_all(request.as_bytes()).await.expect("kept alive");
        let mut read = Vec::new();
        while !read.ends_with(b"0\r\n\r\n") {
            let n_read = stream.read_buf(&mut read).await.expect("it is open");
            assert!(n_read > 0, "the connection is kept");
        }
        assert!(String::from_utf8_lossy(&read).contains(&format!("ping {n}")));
    }
    let served = world.counts(|served| served.active == 0).await;
    assert_eq!(served, Served { requests: 5, ..Served::default() });
}

#[tokio::test]
async fn a_trap_is_a_500_and_told_on_the_container_s_stderr() {
    let world = World::new(ServeConfig::default()).await;
    assert_eq!(world.get("/trap").await, "500 the component gave no answer\n");
    assert_eq!(world.get("/silent").await, "500 the component gave no answer\n");
    world.told("trap in a request: wasm trap: wasm `unreachable` instruction executed").await;
    world.told("told to trap").await;
    assert_eq!(world.get("/hog").await, "500 the component gave no answer\n");
    world.told("a request needed more memory than 67108864 bytes").await;
    assert_eq!(world.get("/a").await, "200 hello /a\n");
    assert_eq!(world.counts(|served| served.active == 0).await.traps, 2);
}

#[tokio::test]
async fn a_request_without_a_host_is_bad() {
    let world = World::new(ServeConfig::default()).await;
    let mut stream = world.send("GET / HTTP/1.0\r\n\r\n").await;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it is open");
    assert!(answer.starts_with("HTTP/1.0 400"), "{answer}");
    assert!(answer.ends_with("the request names no host\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_guest() {
    let world = World::new(ServeConfig::default()).await;
    let mut streaming = world.send("GET /endless HTTP/1.1\r\nhost: web\r\n\r\n").await;
    let mut buffer = vec![0; 100_000];
    streaming.read_exact(&mut buffer).await.expect("there is no end to it");
    let waiting = world.send("GET /wait HTTP/1.1\r\nhost: web\r\n\r\n").await;
    let spinning = world.send("GET /spin HTTP/1.1\r\nhost: web\r\n\r\n").await;
    world.counts(|served| served.active == 3).await;
    drop((streaming, waiting, spinning));
    world.counts(|served| served.active == 0).await;
}

#[tokio::test]
async fn a_guest_is_ended_at_its_deadline() {
    let config = ServeConfig { request_timeout: Duration::from_millis(200), ..ServeConfig::default() };
    let world = World::new(config).await;
    assert_eq!(world.get("/spin").await, "500 the component gave no answer\n");
    assert_eq!(world.get("/wait").await, "500 the component gave no answer\n");
    world.told("a request took longer than 200ms and was ended").await;
    assert_eq!(world.counts(|served| served.timeouts == 2).await.active, 0);
}

#[tokio::test]
async fn requests_wait_in_order_and_beyond_the_queue_get_503() {
    let config = ServeConfig { concurrency: 1, queue: 1, ..ServeConfig::default() };
    let world = World::new(config).await;
    let busy = world.send("GET /wait HTTP/1.1\r\nhost: web\r\n\r\n").await;
    world.counts(|served| served.active == 1).await;
    let queued = world.get("/queued");
    let turned_away = async {
        world.counts(|served| served.requests == 2).await;
        let answer = world.get("/late").await;
        drop(busy);
        answer
    };
    let (queued, turned_away) = tokio::join!(queued, turned_away);
    assert_eq!(turned_away, "503 too many requests are waiting\n");
    assert_eq!(queued, "200 hello /queued\n");
}

#[tokio::test]
async fn load_waits_for_memory_instead_of_running_out_of_it() {
    // Room for two or three instances.
    let world = World::with_memory(ServeConfig::default(), 4 << 20).await;
    let answers = futures::future::join_all((0..100).map(|_| world.get("/length"))).await;
    let wrong: Vec<&String> = answers.iter().filter(|answer| *answer != "200 hello").collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(world.counts(|served| served.active == 0).await.traps, 0);
}

#[tokio::test]
async fn a_guest_calls_services_by_name_over_kept_connections() {
    let world = World::new(ServeConfig::default()).await;
    for n in 0..5 {
        assert_eq!(world.get(&format!("/fetch?http://web/{n}")).await, format!("200 200 hello /{n}\n"));
        // The answer may be here before the connection that brought it is put back.
        world.kept_connections(1).await;
    }
    // Five requests from outside, and five over one connection of the pod to itself.
    assert_eq!(world.counters.now().requests, 10);
    assert_eq!(world.pod.sockets_in_use(runtime_net::SocketKind::OutboundHttp), 1);
}

#[tokio::test]
async fn failures_of_outgoing_requests_have_their_codes() {
    let world = World::new(ServeConfig::default()).await;
    let told = [
        world.get("/fetch?http://nobody.default.svc.cluster.local/").await,
        world.get("/fetch?http://web:81/").await,
        world.get("/fetch?http://10.244.9.9/").await,
        world.get("/fetch?http://169.254.169.254/").await,
        world.get("/fetch?http://web/wait").await,
        world.get("/fetch?https://web:80/").await,
    ];
    expect_test::expect![[r#"
        200 ErrorCode::DnsError(DnsErrorPayload { rcode: Some("NXDOMAIN"), info-code: None })
        200 ErrorCode::ConnectionRefused
        200 ErrorCode::DestinationIpUnroutable
        200 ErrorCode::DestinationIpProhibited
        200 ErrorCode::HttpResponseTimeout
        200 ErrorCode::ConnectionTerminated"#]]
    .assert_eq(&told.join("\n"));
}

#[tokio::test]
async fn a_client_that_says_nothing_is_sent_away() {
    let config = ServeConfig { header_timeout: Duration::from_millis(100), ..ServeConfig::default() };
    let world = World::new(config).await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // Nothing, a part of what tells HTTP/2, a part of a head, and an HTTP/2 client that answers no ping.
    for said in ["", "PRI", "GET / HT", preface] {
        let mut stream = world.send(said).await;
        let mut answer = Vec::new();
        // How it is closed depends on how far it got.
        let _closed = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("it is closed");
    }
    assert_eq!(world.get("/a").await, "200 hello /a\n");
}

#[tokio::test]
async fn a_stop_lets_requests_end() {
    let world = World::new(ServeConfig::default()).await;
    let mut stream = world.send("POST /echo HTTP/1.1\r\nhost: web\r\ncontent-length: 4\r\n\r\n").await;
    world.counts(|served| served.active == 1).await;
    world.stop.cancel();
    let to = SocketAddr::new(world.pod.ip(), 8080);
    timeout(DEADLINE, async { while world.network.connect_from_host(to).await.is_ok() {} })
        .await
        .expect("it listens no more");
    stream.write_all(b"done").await.expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it ends by itself");
    assert!(answer.contains("done"), "{answer}");
    timeout(DEADLINE, world.serving).await.expect("it ends").expect("well");
}
