//! The network through its public API: pods, Services, names, node ports and the outside.

use expect_test::expect;
use runtime_net::{
    AttachSpec, Attachment, EgressPolicy, Endpoint, NameError, NetError, Network, NetworkConfig, Protocol,
    Service, ServicePort, SocketKind, SocketLimits, Stream,
};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

fn network() -> Network {
    Network::new(NetworkConfig::default()).expect("a runtime is there")
}

fn pod(network: &Network, name: &str) -> Attachment {
    let spec = AttachSpec { namespace: "shop".to_owned(), hostname: name.to_owned(), want: None };
    network.attach(spec).expect("there is room")
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn service(name: &str, cluster_ip: Option<&str>, node_port: Option<u16>, pods: &[&Attachment]) -> Service {
    let endpoint = |pod: &&Attachment| Endpoint {
        ip: pod.ip(),
        port: 80,
        ready: true,
        draining: false,
        hostname: Some(pod.hostname().to_owned()),
    };
    Service {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        cluster_ip: cluster_ip.map(ip),
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 8080,
            node_port,
            endpoints: pods.iter().map(endpoint).collect(),
        }],
        ..Service::default()
    }
}

/// Sends a line from one end and reads it at the other.
async fn talk(from: &mut Stream, to: &mut Stream, text: &str) {
    from.write_all(text.as_bytes()).await.expect("the connection is open");
    let mut read = vec![0; text.len()];
    to.read_exact(&mut read).await.expect("the connection is open");
    assert_eq!(read, text.as_bytes());
}

#[tokio::test]
async fn pods_talk_to_each_other_by_address() {
    let network = network();
    let (server, client) = (pod(&network, "server"), pod(&network, "client"));
    let listener = server.listen(at("0.0.0.0:80"), 8).expect("the port is free");
    let mut outgoing = client.connect(SocketAddr::new(server.ip(), 80)).await.expect("it listens");
    let mut incoming = listener.accept().await.expect("one waits");
    assert_eq!(incoming.peer_addr().ip(), client.ip());
    assert_eq!(incoming.local_addr(), SocketAddr::new(server.ip(), 80));
    talk(&mut outgoing, &mut incoming, "hello").await;
    talk(&mut incoming, &mut outgoing, "hello back").await;
}

#[tokio::test]
async fn loopback_is_the_pod_s_own() {
    let network = network();
    let (one, other) = (pod(&network, "one"), pod(&network, "other"));
    let listener = one.listen(at("127.0.0.1:80"), 8).expect("the port is free");
    let sidecar = one.clone();
    let stream = sidecar.connect(at("127.0.0.1:80")).await.expect("same pod");
    assert_eq!(stream.local_addr().ip(), ip("127.0.0.1"));
    listener.accept().await.expect("one waits");
    for address in ["127.0.0.1:80", "[::1]:80"] {
        let refused = other.connect(at(address)).await.expect_err("another pod's loopback is another one");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
    let refused =
        other.connect(SocketAddr::new(one.ip(), 80)).await.expect_err("it listens on loopback alone");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn each_way_to_fail_has_its_error() {
    let network = network();
    let (one, other) = (pod(&network, "one"), pod(&network, "other"));
    let _listener = one.listen(at("0.0.0.0:80"), 8).expect("the port is free");
    let text = |error: NetError| error.to_string();
    let told = [
        text(one.listen(at("0.0.0.0:80"), 8).expect_err("in use")),
        text(one.listen(at("10.244.9.9:80"), 8).expect_err("not ours")),
        text(other.connect(at("10.244.0.2:81")).await.expect_err("nobody listens")),
        text(other.connect(at("10.244.9.9:80")).await.expect_err("nobody has it")),
        text(other.connect(at("10.96.0.9:80")).await.expect_err("no Service has it")),
        text(other.connect(at("169.254.169.254:80")).await.expect_err("metadata")),
        text(other.connect(at("[::ffff:169.254.169.254]:80")).await.expect_err("metadata")),
    ];
    expect![[r#"
        address 0.0.0.0:80 is in use
        address 10.244.9.9:80 is not this pod's
        connection to 10.244.0.2:81 refused
        no route to 10.244.9.9:80
        no route to 10.96.0.9:80
        egress to 169.254.169.254:80 is refused: link-local or metadata address
        egress to 169.254.169.254:80 is refused: link-local or metadata address"#]]
    .assert_eq(&told.join("\n"));
}

#[tokio::test]
async fn a_listener_that_goes_refuses_and_resets() {
    let network = network();
    let (server, client) = (pod(&network, "server"), pod(&network, "client"));
    let to = SocketAddr::new(server.ip(), 80);
    let listener = server.listen(at("0.0.0.0:80"), 1).expect("the port is free");
    let mut queued = client.connect(to).await.expect("there is room");
    let waiting = client.connect(to);
    let mut waiting = std::pin::pin!(waiting);
    assert!(timeout(Duration::from_millis(1), waiting.as_mut()).await.is_err(), "the backlog is full");
    drop(listener);
    assert_eq!(waiting.await.expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);
    assert_eq!(queued.read_u8().await.expect_err("never accepted").kind(), ErrorKind::ConnectionReset);
    server.listen(at("0.0.0.0:80"), 1).expect("the port is free again");
}

#[tokio::test(start_paused = true)]
async fn a_full_backlog_makes_connect_wait_and_then_time_out() {
    let network = network();
    let (server, client) = (pod(&network, "server"), pod(&network, "client"));
    let to = SocketAddr::new(server.ip(), 80);
    let listener = server.listen(at("0.0.0.0:80"), 1).expect("the port is free");
    let _queued = client.connect(to).await.expect("there is room");
    assert_eq!(client.connect(to).await.expect_err("no room").kind(), ErrorKind::TimedOut);
    let (accepted, connected) = tokio::join!(listener.accept(), client.connect(to));
    accepted.expect("the first");
    connected.expect("there is room now");
}

#[tokio::test]
async fn sockets_of_each_kind_are_limited_apart() {
    let limits = SocketLimits { raw: 2, inbound: 1, outbound_http: 1, ..SocketLimits::default() };
    let network =
        Network::new(NetworkConfig { socket_limits: limits, ..NetworkConfig::default() }).expect("a runtime");
    let (server, client) = (pod(&network, "server"), pod(&network, "client"));
    let to = SocketAddr::new(server.ip(), 80);
    let listener = server.listen(at("0.0.0.0:80"), 8).expect("the port is free");
    let first = client.connect_as(to, SocketKind::OutboundHttp).await.expect("within the limit");
    let over = client.connect_as(to, SocketKind::OutboundHttp).await.expect_err("over it");
    assert_eq!(over.to_string(), "the pod's limit of 1 outgoing HTTP connections is reached");
    let second = client.connect(to);
    let mut second = std::pin::pin!(second);
    assert!(
        timeout(Duration::from_millis(1), second.as_mut()).await.is_err(),
        "the server has its one connection"
    );
    drop(listener.accept().await.expect("the first"));
    drop(first);
    second.await.expect("there is room now");
    assert_eq!(client.sockets_in_use(SocketKind::OutboundHttp), 0);
}

#[tokio::test]
async fn a_service_spreads_over_its_pods_and_hairpins() {
    let network = network();
    let pods: Vec<_> = (0..3).map(|n| pod(&network, &format!("web-{n}"))).collect();
    let listeners: Vec<_> = pods.iter().map(|pod| pod.listen(at("0.0.0.0:80"), 64).expect("free")).collect();
    network.upsert_service(service("web", Some("10.96.0.7"), None, &pods.iter().collect::<Vec<_>>()));
    for _ in 0..30 {
        let stream = pods[0].connect(at("10.96.0.7:8080")).await.expect("pods are ready");
        assert_eq!(stream.peer_addr(), at("10.96.0.7:8080"));
    }
    for (listener, pod) in listeners.iter().zip(&pods) {
        for _ in 0..10 {
            let stream = listener.accept().await.expect("ten each");
            assert_eq!(stream.local_addr(), SocketAddr::new(pod.ip(), 80));
        }
    }
    network.upsert_service(service("web", Some("10.96.0.7"), None, &[]));
    assert_eq!(
        pods[0].connect(at("10.96.0.7:8080")).await.expect_err("nobody is ready").kind(),
        ErrorKind::ConnectionRefused
    );
    network.remove_service("shop", "web");
    assert_eq!(
        pods[0].connect(at("10.96.0.7:8080")).await.expect_err("no such Service").kind(),
        ErrorKind::HostUnreachable
    );
}

#[tokio::test]
async fn names_resolve_as_in_a_cluster() {
    let network = network();
    let (web, other) = (pod(&network, "web-0"), pod(&network, "other"));
    network.set_services(vec![
        service("web", Some("10.96.0.7"), None, &[&web]),
        service("db", None, None, &[&web]),
        Service { external_name: Some("localhost".to_owned()), ..service("alias", None, None, &[]) },
    ]);
    let ask = async |name: &str| match other.resolve(name).await {
        Ok(ips) => ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    };
    let mut told = String::new();
    for name in [
        "web",
        "web.shop",
        "web.shop.svc",
        "web.shop.svc.cluster.local",
        "WEB.shop.svc.cluster.local.",
        "db",
        "web-0.db",
        "web-0.db.shop.svc.cluster.local",
        "10-244-0-2.shop.pod.cluster.local",
        "other",
        "localhost",
        "alias",
        "10.1.2.3",
        "nobody.shop.svc.cluster.local",
        "not a name",
    ] {
        told.push_str(&format!("{name}: {}\n", ask(name).await));
    }
    expect![[r#"
        web: 10.96.0.7
        web.shop: 10.96.0.7
        web.shop.svc: 10.96.0.7
        web.shop.svc.cluster.local: 10.96.0.7
        WEB.shop.svc.cluster.local.: 10.96.0.7
        db: 10.244.0.2
        web-0.db: 10.244.0.2
        web-0.db.shop.svc.cluster.local: 10.244.0.2
        10-244-0-2.shop.pod.cluster.local: 10.244.0.2
        other: 10.244.0.3
        localhost: 127.0.0.1 ::1
        alias: 127.0.0.1 ::1
        10.1.2.3: 10.1.2.3
        nobody.shop.svc.cluster.local: no such host: nobody.shop.svc.cluster.local
        not a name: "not a name" is not a host name
    "#]]
    .assert_eq(&told);
    assert!(matches!(other.resolve("").await, Err(NameError::Invalid(_))));
}

#[tokio::test]
async fn an_address_comes_back_to_its_pod_and_is_free_after_it() {
    let network = network();
    let first = pod(&network, "web");
    let address = first.ip();
    let want = AttachSpec { want: Some(address), ..AttachSpec::default() };
    let taken = network.attach(want.clone()).expect_err("the pod lives");
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    let listener = first.listen(at("0.0.0.0:80"), 1).expect("free");
    drop(first);
    assert_eq!(network.attach(want.clone()).expect_err("its socket lives").kind(), ErrorKind::AddrInUse);
    drop(listener);
    assert_eq!(network.attach(want.clone()).expect("it is free").ip(), address);
    let again = network.attach(want).expect("it is free");
    again.detach();
    assert!(matches!(again.connect(at("10.244.0.9:1")).await, Err(NetError::Detached(_))));
}

/// A port of the host that is free just now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("the host has ports");
    listener.local_addr().expect("it is bound").port()
}

#[tokio::test]
async fn a_node_port_hands_the_client_to_a_pod() {
    let network = network();
    let web = pod(&network, "web");
    let listener = web.listen(at("0.0.0.0:80"), 8).expect("the port is free");
    let port = free_port();
    assert!(network.upsert_service(service("web", Some("10.96.0.7"), Some(port), &[&web])).is_empty());
    let mut client = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let mut accepted = listener.accept().await.expect("one waits");
    assert!(accepted.is_kernel());
    assert_eq!(accepted.peer_addr(), client.local_addr().expect("it is connected"));
    client.write_all(b"hi").await.expect("it is open");
    client.shutdown().await.expect("it is open");
    let mut text = String::new();
    accepted.read_to_string(&mut text).await.expect("it is open");
    assert_eq!(text, "hi");

    let problems = network.upsert_service(service("other", None, Some(port), &[&web]));
    assert_eq!(problems[0].source.to_string(), "the port belongs to service shop/web");
    network.remove_service("shop", "other");

    network.upsert_service(service("web", Some("10.96.0.7"), Some(port), &[]));
    let mut refused = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    assert!(refused.read_u8().await.is_err(), "nobody is ready");

    network.remove_service("shop", "web");
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err());
    assert!(
        network.upsert_service(service("other", None, Some(port), &[&web])).is_empty(),
        "the port is free"
    );
    network.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_port_that_could_not_be_opened_is_tried_again() {
    let network = network();
    let web = pod(&network, "web");
    let _listener = web.listen(at("0.0.0.0:80"), 8).expect("the port is free");
    let foreign = std::net::TcpListener::bind("127.0.0.1:0").expect("the host has ports");
    let port = foreign.local_addr().expect("it is bound").port();
    assert_eq!(network.upsert_service(service("web", None, Some(port), &[&web])).len(), 1);
    drop(foreign);
    timeout(Duration::from_secs(60), async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("it opens in time");

    assert_eq!(network.upsert_service(service("other", None, Some(port), &[&web])).len(), 1);
    network.remove_service("shop", "web");
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it is the other's at once");
    network.remove_service("shop", "other");
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err());
    network.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_of_a_node_port_does_not_wait_for_a_full_backlog_for_ever() {
    let network = network();
    let web = pod(&network, "web");
    let _listener = web.listen(at("0.0.0.0:80"), 1).expect("the port is free");
    let port = free_port();
    assert!(network.upsert_service(service("web", None, Some(port), &[&web])).is_empty());
    let _queued = network.connect_from_host(SocketAddr::new(web.ip(), 80)).await.expect("there is room");
    let mut client = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let refused =
        timeout(Duration::from_secs(300), client.read_u8()).await.expect("as long as a connect takes");
    assert_eq!(refused.expect_err("no room").kind(), ErrorKind::ConnectionReset);
    network.shutdown().await;
}

#[tokio::test]
async fn kernel_sockets_are_counted_over_all_pods() {
    let outside = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("the host has ports");
    let host = outside.local_addr().expect("it is bound");
    let network = Network::new(NetworkConfig { kernel_sockets: 2, ..NetworkConfig::default() });
    let network = network.expect("a runtime");
    network.host_endpoint(at("10.96.0.1:443"), host);
    let (one, other) = (pod(&network, "one"), pod(&network, "other"));
    let listener = one.listen(at("0.0.0.0:80"), 8).expect("the port is free");
    let port = free_port();
    assert!(network.upsert_service(service("web", None, Some(port), &[&one])).is_empty());

    let first = one.connect(at("10.96.0.1:443")).await.expect("within the limit");
    let _client = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let _accepted = listener.accept().await.expect("one waits");
    let over = other.connect(at("10.96.0.1:443")).await.expect_err("over it");
    assert_eq!(over.to_string(), "the node's limit of 2 kernel sockets is reached");
    let datagrams = other.bind_udp(at("0.0.0.0:0")).expect("free");
    assert!(datagrams.send("hello".into(), Some(at("10.96.0.1:443"))).is_err(), "it needs one as well");
    let mut refused = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    assert!(refused.read_u8().await.is_err(), "there is none left for it");
    other.connect(SocketAddr::new(one.ip(), 80)).await.expect("pods need none among themselves");

    drop(first);
    other.connect(at("10.96.0.1:443")).await.expect("there is room now");
    network.shutdown().await;
}

#[tokio::test]
async fn who_waits_for_a_place_among_connections_learns_that_the_listener_is_gone() {
    let limits = SocketLimits { inbound: 1, ..SocketLimits::default() };
    let network =
        Network::new(NetworkConfig { socket_limits: limits, ..NetworkConfig::default() }).expect("a runtime");
    let (server, client) = (pod(&network, "server"), pod(&network, "client"));
    let to = SocketAddr::new(server.ip(), 80);
    let listener = server.listen(at("0.0.0.0:80"), 8).expect("the port is free");
    let _first = client.connect(to).await.expect("within the limit");
    let _accepted = listener.accept().await.expect("one waits");
    let mut second = std::pin::pin!(client.connect(to));
    assert!(timeout(Duration::from_millis(1), second.as_mut()).await.is_err(), "the server has its one");
    drop(listener);
    let refused =
        timeout(Duration::from_secs(20), second).await.expect("at once").expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn pods_reach_node_ports_at_the_node_s_address() {
    let network = network();
    let (web, client) = (pod(&network, "web"), pod(&network, "client"));
    let listener = web.listen(at("0.0.0.0:80"), 8).expect("the port is free");
    let port = free_port();
    assert!(network.upsert_service(service("web", None, Some(port), &[&web])).is_empty());
    let node_port = SocketAddr::new(network.gateway(), port);
    let mut stream = client.connect(node_port).await.expect("it is there");
    let mut accepted = listener.accept().await.expect("one waits");
    assert_eq!((stream.peer_addr(), accepted.peer_addr().ip()), (node_port, client.ip()));
    talk(&mut stream, &mut accepted, "hello").await;
    let nobody = client.connect(SocketAddr::new(network.gateway(), 1)).await.expect_err("no node port");
    assert_eq!(nobody.kind(), ErrorKind::ConnectionRefused);

    let mut dns = service("dns", None, Some(port), &[&web]);
    dns.ports[0].protocol = Protocol::Udp;
    assert!(network.upsert_service(dns).is_empty());
    let listening = web.bind_udp(at("0.0.0.0:80")).expect("free");
    let asking = client.bind_udp(at("0.0.0.0:0")).expect("free");
    asking.connect(node_port).expect("it is there");
    asking.send("web?".into(), None).expect("it is connected");
    let (question, from) = listening.recv().await.expect("one came");
    assert_eq!((&question[..], from.ip()), (&b"web?"[..], client.ip()));
    listening.send("yes".into(), Some(from)).expect("it is a pod");
    let (answer, from) = asking.recv().await.expect("one came");
    assert_eq!((&answer[..], from), (&b"yes"[..], node_port));
    network.shutdown().await;
}

#[tokio::test]
async fn the_pods_of_a_headless_service_take_turns_to_be_first() {
    let network = network();
    let pods: Vec<_> = (0..3).map(|n| pod(&network, &format!("db-{n}"))).collect();
    network.upsert_service(service("db", None, None, &pods.iter().collect::<Vec<_>>()));
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let mut ips = pods[0].resolve("db").await.expect("pods are ready");
        first.insert(ips[0]);
        ips.sort_unstable();
        assert!(ips.iter().eq(pods.iter().map(Attachment::ip).collect::<Vec<_>>().iter()), "all are there");
    }
    assert_eq!(first.len(), 3);
}

#[tokio::test]
async fn the_host_reaches_pods_and_pods_reach_what_the_host_offers() {
    let outside = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("the host has ports");
    let host = outside.local_addr().expect("it is bound");
    let network = network();
    let web = pod(&network, "web");
    let denied = web.connect(host).await.expect_err("the host's loopback is its own");
    assert_eq!(
        denied.kind(),
        ErrorKind::ConnectionRefused,
        "it is the pod's own loopback, and nobody listens there"
    );
    network.host_endpoint(at("10.96.0.1:443"), host);
    let (mut stream, accepted) = tokio::join!(web.connect(at("10.96.0.1:443")), outside.accept());
    let (mut accepted, _) = accepted.expect("the pod connects");
    stream.as_mut().expect("the host listens").write_all(b"hello").await.expect("it is open");
    let mut read = [0; 5];
    accepted.read_exact(&mut read).await.expect("it is open");

    let listener = web.listen(at("0.0.0.0:80"), 8).expect("the port is free");
    let mut probe = network.connect_from_host(SocketAddr::new(web.ip(), 80)).await.expect("it listens");
    let mut incoming = listener.accept().await.expect("one waits");
    assert_eq!(incoming.peer_addr().ip(), network.gateway());
    talk(&mut probe, &mut incoming, "alive?").await;
}

#[tokio::test]
async fn the_policy_holds_for_endpoints_that_a_user_wrote() {
    let network = network();
    let client = pod(&network, "client");
    let mut sly = service("sly", Some("10.96.0.7"), None, &[]);
    sly.ports[0].endpoints =
        vec![Endpoint { ip: ip("127.0.0.1"), port: 22, ready: true, draining: false, hostname: None }];
    network.upsert_service(sly);
    let denied = client.connect(at("10.96.0.7:8080")).await.expect_err("host loopback");
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn datagrams_reach_pods_and_services_and_come_back() {
    let network = network();
    let (server, client) = (pod(&network, "server"), pod(&network, "client"));
    let listening = server.bind_udp(at("0.0.0.0:53")).expect("free");
    network.upsert_service(dns(None, &[&server]));
    let asking = client.bind_udp(at("0.0.0.0:0")).expect("free");
    asking.connect(at("10.96.0.10:53")).expect("there is a Service");
    asking.send("web?".into(), None).expect("it is connected");
    let (question, from) = listening.recv().await.expect("one came");
    assert_eq!(
        (&question[..], from),
        (&b"web?"[..], SocketAddr::new(client.ip(), asking.local_addr().port()))
    );
    listening.send("10.96.0.7".into(), Some(from)).expect("it is a pod");
    let (answer, from) = asking.recv().await.expect("one came");
    assert_eq!((&answer[..], from), (&b"10.96.0.7"[..], at("10.96.0.10:53")), "under the Service's address");

    drop(listening);
    asking.send("web?".into(), None).expect("nobody knows yet");
    assert_eq!(
        asking.send("web?".into(), None).expect_err("now it is known").kind(),
        ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn a_node_port_carries_datagrams_and_their_answers() {
    let network = network();
    let dns = pod(&network, "dns");
    let listening = dns.bind_udp(at("0.0.0.0:80")).expect("free");
    let port = {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("the host has ports");
        free.local_addr().expect("it is bound").port()
    };
    let mut service = service("dns", None, Some(port), &[&dns]);
    service.ports[0].protocol = Protocol::Udp;
    assert!(network.upsert_service(service).is_empty());
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("the host has ports");
    client.connect(("127.0.0.1", port)).await.expect("it is there");
    for text in ["one", "two"] {
        client.send(text.as_bytes()).await.expect("it is open");
        let (question, from) = listening.recv().await.expect("one came");
        assert_eq!((&question[..], from.ip()), (text.as_bytes(), network.gateway()));
        listening.send(question, Some(from)).expect("the node takes it");
        let mut buffer = [0; 16];
        let n = timeout(Duration::from_secs(20), client.recv(&mut buffer))
            .await
            .expect("in time")
            .expect("one came");
        assert_eq!(&buffer[..n], text.as_bytes());
    }
    network.shutdown().await;
}

/// A UDP Service of port 53 at 10.96.0.10.
fn dns(node_port: Option<u16>, pods: &[&Attachment]) -> Service {
    let mut dns = service("dns", Some("10.96.0.10"), node_port, pods);
    dns.ports[0].protocol = Protocol::Udp;
    dns.ports[0].port = 53;
    dns.ports[0].endpoints.iter_mut().for_each(|endpoint| endpoint.port = 53);
    dns
}

#[tokio::test]
async fn datagrams_follow_the_service_s_endpoints() {
    let network = network();
    let client = pod(&network, "client");
    let servers = ["one", "other"].map(|name| pod(&network, name));
    let [one, other] = servers.each_ref().map(|pod| pod.bind_udp(at("0.0.0.0:53")).expect("free"));
    let port = {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("the host has ports");
        free.local_addr().expect("it is bound").port()
    };
    assert!(network.upsert_service(dns(Some(port), &[&servers[0]])).is_empty());
    let inside = client.bind_udp(at("0.0.0.0:0")).expect("free");
    inside.connect(at("10.96.0.10:53")).expect("there is a Service");
    let outside = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("the host has ports");
    outside.connect(("127.0.0.1", port)).await.expect("it is there");
    // Pod one lives on, but is not ready any more.
    for (server, pod) in [(&one, &servers[0]), (&other, &servers[1]), (&one, &servers[0])] {
        assert!(network.upsert_service(dns(Some(port), &[pod])).is_empty());
        for text in ["from a pod", "from outside", "again"] {
            match text {
                "from a pod" => inside.send(text.into(), None).expect("it is connected"),
                _ => drop(outside.send(text.as_bytes()).await.expect("it is connected")),
            }
            let received = timeout(Duration::from_secs(20), server.recv()).await.expect("it follows");
            let (question, from) = received.expect("one came");
            assert_eq!(&question[..], text.as_bytes());
            server.send(question, Some(from)).expect("it is there");
            let answer = match text {
                "from a pod" => {
                    let (answer, from) = inside.recv().await.expect("one came");
                    assert_eq!(from, at("10.96.0.10:53"));
                    answer.to_vec()
                }
                _ => {
                    let mut answer = vec![0; 64];
                    let received = timeout(Duration::from_secs(20), outside.recv(&mut answer)).await;
                    answer.truncate(received.expect("in time").expect("one came"));
                    answer
                }
            };
            assert_eq!(answer, text.as_bytes());
        }
    }
    assert!(network.upsert_service(dns(Some(port), &[])).is_empty());
    inside.send("nobody?".into(), None).expect("nobody knows yet");
    assert!(inside.send("nobody?".into(), None).is_err(), "now it is known");
    network.shutdown().await;
}

#[tokio::test]
async fn a_mailbox_that_is_full_drops() {
    let network = network();
    let (server, client) = (pod(&network, "server"), pod(&network, "client"));
    let listening = server.bind_udp(at("0.0.0.0:53")).expect("free");
    let sending = client.bind_udp(at("0.0.0.0:0")).expect("free");
    let to = SocketAddr::new(server.ip(), 53);
    for _ in 0..1000 {
        sending.send(vec![0; 1000].into(), Some(to)).expect("sending never waits");
    }
    let mut n_received = 0;
    while timeout(Duration::from_millis(1), listening.recv()).await.is_ok() {
        n_received += 1;
    }
    assert_eq!(n_received, 212_992 / (1000 + 256));
    let large = sending.send(vec![0; 65_508].into(), Some(to)).expect_err("too large");
    assert!(matches!(large, NetError::DatagramTooLarge(65_508)));
}

#[tokio::test]
async fn an_allowed_range_opens_the_host_to_datagrams_too() {
    let outside = tokio::net::UdpSocket::bind("127.0.0.2:0").await.expect("the host has ports");
    let to = outside.local_addr().expect("it is bound");
    let egress = EgressPolicy { allow: vec!["127.0.0.2/32".parse().expect("a range")] };
    let network = Network::new(NetworkConfig { egress, ..NetworkConfig::default() }).expect("a runtime");
    network.host_endpoint(at("10.96.0.53:53"), to);
    let client = pod(&network, "client");
    let socket = client.bind_udp(at("0.0.0.0:0")).expect("free");
    socket.send("hello".into(), Some(at("10.96.0.53:53"))).expect("it is offered");
    let mut buffer = [0; 16];
    let (n, from) = outside.recv_from(&mut buffer).await.expect("one came");
    assert_eq!(&buffer[..n], b"hello");
    outside.send_to(b"back", from).await.expect("it is there");
    let (answer, from) = socket.recv().await.expect("one came");
    assert_eq!((&answer[..], from), (&b"back"[..], at("10.96.0.53:53")));
}
