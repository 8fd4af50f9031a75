//! Real guests on std's sockets, and one on the raw interface, over a network of two pods.

use bytes::Bytes;
use expect_test::{Expect, expect};
use runtime_engine::{Engine, EngineConfig, Exit, Guest, GuestSpec, Image, PoolSizes};
use runtime_host_sockets::{AbortHandle, PodNetwork};
use runtime_net::{
    AttachSpec, Attachment, Endpoint, Network, NetworkConfig, Protocol, Service, ServicePort, SocketLimits,
};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

/// Longer than anything here takes, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

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
    image: Arc<Image>,
    network: Network,
    server: Attachment,
    client: Attachment,
}

impl World {
    async fn new() -> Self {
        Self::with(NetworkConfig::default()).await
    }

    async fn with(config: NetworkConfig) -> Self {
        let sizes = EngineConfig { pool: PoolSizes::for_guests(4), ..EngineConfig::default() };
        let engine = Engine::new(sizes, &[runtime_host_sockets::capability()]).expect("an engine");
        let bytes = std::fs::read(guest_file("net")).expect("the guest is readable");
        let image = engine.load(Bytes::from(bytes)).await.expect("the guest loads");
        let network = Network::new(config).expect("a runtime is there");
        let pod = |hostname: &str| AttachSpec {
            namespace: "default".to_owned(),
            hostname: hostname.to_owned(),
            want: None,
        };
        let server = network.attach(pod("server")).expect("there is room");
        let client = network.attach(pod("client")).expect("there is room");
        Self { image, network, server, client }
    }

    async fn start(&self, pod: Option<&Attachment>, args: &str) -> Running {
        let stdout = MemoryOutputPipe::new(1 << 20);
        let stderr = MemoryOutputPipe::new(1 << 20);
        let mut spec = GuestSpec {
            args: std::iter::once("net").chain(args.split_whitespace()).map(str::to_owned).collect(),
            stdout: Box::new(stdout.clone()),
            stderr: Box::new(stderr.clone()),
            ..GuestSpec::default()
        };
        let mut abort = AbortHandle::default();
        if let Some(pod) = pod {
            let network = PodNetwork::new(pod.clone());
            abort = network.abort_handle();
            spec.extensions.insert(network);
        }
        let guest = self.image.start(spec).await.expect("there is room");
        Running { guest, stdout, stderr, abort }
    }

    /// Waits until a pod listens on a port.
    async fn listening(&self, pod: &Attachment, port: u16) {
        let listens = || pod.listening().iter().any(|address| address.port() == port);
        timeout(DEADLINE, async {
            while !listens() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("the guest listens");
    }
}

struct Running {
    guest: Guest,
    stdout: MemoryOutputPipe,
    stderr: MemoryOutputPipe,
    abort: AbortHandle,
}

impl Running {
    /// What it printed until its end.
    async fn end(self) -> String {
        let exit = timeout(DEADLINE, self.guest.wait()).await.expect("the guest ends");
        let mut text = String::from_utf8_lossy(&self.stdout.contents()).into_owned();
        text.push_str(&String::from_utf8_lossy(&self.stderr.contents()));
        if exit != Exit::Code(0) {
            text.push_str(&format!("{exit:?}\n"));
        }
        text
    }

    async fn printed(&self, text: &str) {
        timeout(DEADLINE, async {
            while !String::from_utf8_lossy(&self.stdout.contents()).contains(text) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("the guest prints it");
    }
}

fn web(pod: &Attachment, protocol: Protocol, port: u16) -> Service {
    Service {
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        cluster_ip: Some("10.96.0.7".parse().expect("an address")),
        ports: vec![ServicePort {
            name: String::new(),
            protocol,
            port,
            node_port: None,
            endpoints: vec![Endpoint { ip: pod.ip(), port, ready: true, draining: false, hostname: None }],
        }],
        ..Service::default()
    }
}

#[tokio::test]
async fn a_std_client_finds_a_std_server_by_its_service_s_name() {
    let world = World::new().await;
    world.network.upsert_service(web(&world.server, Protocol::Tcp, 8080));
    let server = world.start(Some(&world.server), "serve 0.0.0.0:8080 2").await;
    world.listening(&world.server, 8080).await;
    for name in ["web:8080", "web.default.svc.cluster.local:8080"] {
        let client = world.start(Some(&world.client), &format!("ask {name} hello")).await;
        assert_eq!(client.end().await, "HELLO\n");
    }
    assert_eq!(server.end().await, "listening on 0.0.0.0:8080\nanswered 10.244.0.3\nanswered 10.244.0.3\n");
}

#[tokio::test]
async fn the_containers_of_a_pod_share_their_loopback() {
    let world = World::new().await;
    let server = world.start(Some(&world.server), "serve 127.0.0.1:8080 1").await;
    world.listening(&world.server, 8080).await;
    let stranger = world.start(Some(&world.client), "fail 127.0.0.1:8080").await;
    assert_eq!(stranger.end().await, "127.0.0.1:8080: ConnectionRefused\n");
    let sidecar = world.start(Some(&world.server), "ask localhost:8080 hello").await;
    assert_eq!(sidecar.end().await, "HELLO\n");
    assert_eq!(server.end().await, "listening on 127.0.0.1:8080\nanswered 127.0.0.1\n");
}

#[tokio::test]
async fn many_bytes_arrive_whole() {
    let world = World::new().await;
    let server = world.start(Some(&world.server), "swallow 0.0.0.0:8080").await;
    world.listening(&world.server, 8080).await;
    let client = world.start(Some(&world.client), "pour 10.244.0.2:8080 5000000").await;
    assert_eq!(client.end().await, "the bytes add up to 5000000\n");
    assert_eq!(server.end().await, "");
}

#[tokio::test]
async fn a_client_outside_is_served_by_its_own_socket() {
    let world = World::new().await;
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("the host has ports");
        free.local_addr().expect("it is bound").port()
    };
    let mut service = web(&world.server, Protocol::Tcp, 8080);
    service.ports[0].node_port = Some(port);
    assert!(world.network.upsert_service(service).is_empty());
    let server = world.start(Some(&world.server), "swallow 0.0.0.0:8080").await;
    world.listening(&world.server, 8080).await;
    let mut client = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    client.write_all(&vec![1; 3_000_000]).await.expect("it is open");
    client.shutdown().await.expect("it is open");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("it is open");
    assert_eq!(answer, "the bytes add up to 3000000");
    assert_eq!(server.end().await, "");
}

#[tokio::test]
async fn names_and_failures_are_std_s() {
    let world = World::new().await;
    world.network.upsert_service(web(&world.server, Protocol::Tcp, 8080));
    check(
        &world,
        "resolve web web.default client localhost nobody.default.svc.cluster.local",
        expect![[r#"
            web: 10.96.0.7
            web.default: 10.96.0.7
            client: 10.244.0.3
            localhost: 127.0.0.1 ::1
            nobody.default.svc.cluster.local: unknown
        "#]],
    )
    .await;
    check(
        &world,
        "fail 10.244.0.2:81 10.244.77.1:80 10.96.0.9:80 169.254.169.254:80 web:8080 [::1]:80",
        expect![[r#"
            10.244.0.2:81: ConnectionRefused
            10.244.77.1:80: HostUnreachable
            10.96.0.9:80: HostUnreachable
            169.254.169.254:80: PermissionDenied
            web:8080: ConnectionRefused
            [::1]:80: ConnectionRefused
        "#]],
    )
    .await;
}

async fn check(world: &World, args: &str, expect: Expect) {
    expect.assert_eq(&world.start(Some(&world.client), args).await.end().await);
}

#[tokio::test]
async fn datagrams_go_by_name_and_come_back() {
    let world = World::new().await;
    world.network.upsert_service(web(&world.server, Protocol::Udp, 5353));
    let server = world.start(Some(&world.server), "udp-serve 0.0.0.0:5353 1").await;
    server.printed("listening").await;
    let client = world.start(Some(&world.client), "udp-ask web:5353 hello").await;
    assert_eq!(client.end().await, "HELLO\n");
    assert_eq!(server.end().await, "listening on 0.0.0.0:5353\n");
}

#[tokio::test]
async fn a_killed_container_s_connections_are_reset() {
    let world = World::new().await;
    let listener = world.server.listen("0.0.0.0:80".parse().expect("an address"), 8).expect("free");
    let client = world.start(Some(&world.client), "hold 10.244.0.2:80").await;
    let mut stream = listener.accept().await.expect("one comes");
    client.abort.abort();
    client.guest.control().kill();
    assert_eq!(timeout(DEADLINE, client.guest.wait()).await.expect("it ends"), Exit::Killed);
    let error = stream.read_u8().await.expect_err("the container is gone");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_guest_that_opens_sockets_without_end_meets_its_limit() {
    let socket_limits = SocketLimits { raw: 100, inbound: 1000, outbound_http: 1, ..SocketLimits::default() };
    let world = World::with(NetworkConfig { socket_limits, ..NetworkConfig::default() }).await;
    let listener = world.server.listen("0.0.0.0:80".parse().expect("an address"), 1000).expect("free");
    let to: SocketAddr = "10.244.0.2:80".parse().expect("an address");
    let client = world.start(Some(&world.client), "hoard 10.244.0.2:80").await;
    let text = client.end().await;
    assert!(text.starts_with("100 connections, then"), "{text}");
    assert!(listener.accept().await.is_ok());
    world.server.connect(to).await.expect("others are not touched");
}

#[tokio::test]
async fn a_guest_without_a_network_is_told() {
    let world = World::new().await;
    let guest = world.start(None, "fail 10.244.0.2:81").await;
    assert_eq!(guest.end().await, "10.244.0.2:81: PermissionDenied\n");
}

#[tokio::test]
async fn options_are_kept_and_what_would_wait_says_so() {
    let world = World::new().await;
    check(
        &world,
        "options 127.0.0.1:0",
        expect![[r#"
            accept: Err(WouldBlock)
            addresses agree: true
            ttl 32, nodelay true
            read: Err(WouldBlock)
            a full direction holds 65536
            read: Ok(0)
            server reads: Ok(0)
        "#]],
    )
    .await;
}

#[tokio::test]
async fn calls_out_of_order_are_told_apart() {
    let world = World::new().await;
    check(
        &world,
        "states",
        expect![[r#"
        finish-bind unstarted: not-in-progress
        finish-connect unstarted: not-in-progress
        finish-listen unstarted: not-in-progress
        listen unbound: invalid-state
        accept unbound: invalid-state
        local-address unbound: invalid-state
        shutdown unconnected: invalid-state
        bind multicast: invalid-argument
        bind another's address: address-not-bindable
        connect to port 0: invalid-argument
        connect to 0.0.0.0: invalid-argument
        bind: ok
        bind during bind: concurrency-conflict
        finish-bind: ok
        bind again: invalid-state
        bind the same: address-in-use
        backlog 0: invalid-argument
        hop limit 0: invalid-argument
        keep alive: ok
        keep alive time: ok
        hop limit: ok
        listen: ok
        listening: true
        accept: would-block
        connect while listening: invalid-state
        connect: ok
        inherited: Ok(true) Ok(5000000000) Ok(7)
        write to a closed peer: true
        udp stream unbound: invalid-state
        udp bind: ok
        udp remote-address: invalid-state
        udp receive: Ok(0)
        udp permits: Ok(16)
        udp send nowhere: invalid-argument
        udp send: Ok(1)
    "#]],
    )
    .await;
}
