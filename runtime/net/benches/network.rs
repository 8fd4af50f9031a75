//! What the network costs: a connection, a round trip, bulk data, a Service.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use runtime_net::{
    AttachSpec, Attachment, Endpoint, Network, NetworkConfig, Protocol, Service, ServicePort, Stream,
};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

fn pods(network: &Network) -> (Attachment, Attachment) {
    let attach = || network.attach(AttachSpec::default()).expect("there is room");
    (attach(), attach())
}

/// A client whose server echoes on a task of its own.
async fn echo(network: &Network, tasks: &mut JoinSet<()>) -> Stream {
    let (server, client) = pods(network);
    let listener = server.listen("0.0.0.0:80".parse().expect("an address"), 128).expect("free");
    let stream = client.connect(SocketAddr::new(server.ip(), 80)).await.expect("it listens");
    let mut accepted = listener.accept().await.expect("one waits");
    tasks.spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = accepted.read(&mut buffer).await {
            if accepted.write_all(&buffer[..n]).await.is_err() {
                return;
            }
        }
    });
    stream
}

fn benches(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let network = Network::new(NetworkConfig::default()).expect("a runtime is there");

    c.bench_function("connect and accept", |b| {
        let (server, client) = pods(&network);
        let listener = server.listen("0.0.0.0:80".parse().expect("an address"), 128).expect("free");
        let to = SocketAddr::new(server.ip(), 80);
        b.to_async(&runtime).iter(async || {
            let stream = client.connect(to).await.expect("it listens");
            (stream, listener.accept().await.expect("one waits"))
        });
    });

    c.bench_function("connect by one of 10,000 services", |b| {
        let (server, client) = pods(&network);
        let listener = server.listen("0.0.0.0:80".parse().expect("an address"), 128).expect("free");
        for n in 0..10_000_u32 {
            network.upsert_service(Service {
                namespace: "default".to_owned(),
                name: format!("web-{n}"),
                cluster_ip: Some(std::net::Ipv4Addr::from(0x0a60_0000 + n).into()),
                ports: vec![ServicePort {
                    name: String::new(),
                    protocol: Protocol::Tcp,
                    port: 80,
                    node_port: None,
                    endpoints: vec![Endpoint {
                        ip: server.ip(),
                        port: 80,
                        ready: true,
                        draining: false,
                        hostname: None,
                    }],
                }],
                ..Service::default()
            });
        }
        let to = "10.96.3.4:80".parse().expect("an address");
        b.to_async(&runtime).iter(async || {
            let stream = client.connect(to).await.expect("it listens");
            (stream, listener.accept().await.expect("one waits"))
        });
    });

    c.bench_function("round trip of 64 bytes", |b| {
        let mut tasks = JoinSet::new();
        let mut stream = runtime.block_on(echo(&network, &mut tasks));
        let mut buffer = [0; 64];
        b.iter_custom(|n| {
            let started = tokio::time::Instant::now();
            runtime.block_on(async {
                for _ in 0..n {
                    stream.write_all(&buffer).await.expect("it is open");
                    stream.read_exact(&mut buffer).await.expect("it is open");
                }
            });
            started.elapsed()
        });
    });

    let mut group = c.benchmark_group("throughput");
    const SIZE: usize = 16 << 20;
    group.throughput(Throughput::Bytes(SIZE.try_into().expect("it fits")));
    group.sample_size(20);
    group.bench_function("16 MiB one way", |b| {
        let (server, client) = pods(&network);
        let listener = server.listen("0.0.0.0:80".parse().expect("an address"), 128).expect("free");
        let to = SocketAddr::new(server.ip(), 80);
        let data = vec![7; 64 * 1024];
        b.to_async(&runtime).iter(async || {
            let mut stream = client.connect(to).await.expect("it listens");
            let mut accepted = listener.accept().await.expect("one waits");
            let send = async {
                for _ in 0..SIZE / data.len() {
                    stream.write_all(&data).await.expect("it is open");
                }
                drop(stream);
            };
            let receive = async {
                let mut buffer = vec![0; 64 * 1024];
                while accepted.read(&mut buffer).await.expect("it is open") > 0 {}
            };
            tokio::join!(send, receive)
        });
    });
    group.finish();
}

criterion_group!(group, benches);
criterion_main!(group);
