//! The virtual network: Services, names, NodePorts, HTTP components, loopback and egress.

use serde_json::Value;
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    thread,
};
use wharf_tests::{Cluster, eventually};

fn tool(name: &str, args: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  restartPolicy: Never\n  \
         containers:\n  - {{name: main, image: tool, args: {args}}}\n"
    )
}

/// A pod of the guest for sockets.
fn net(name: &str, args: &str) -> String {
    tool(name, args).replace("image: tool", "image: net")
}

/// The guest that fetches what `/fetch?URL` names, behind this NodePort.
fn fetcher(node_port: u16) -> String {
    include_str!("../../samples/function/function.yaml")
        .replace("image: function", "image: http")
        .replace("30081", &node_port.to_string())
}

/// An address of this machine that others could reach; none where it has no network.
fn address_of_machine() -> Option<IpAddr> {
    // Nothing is sent: this finds the address that the kernel would send from.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("203.0.113.1:9").ok()?;
    Some(socket.local_addr().unwrap().ip())
}

/// Answers each HTTP request, on a thread of its own, until the process ends.
fn serve_http(listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            while lines.next().is_some_and(|line| !line.is_empty()) {}
            // Who asked may have gone.
            let _ = (&stream)
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\noutside");
        }
    });
}

/// Sends each datagram back, on a thread of its own, until the process ends.
fn echo(socket: UdpSocket) {
    thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

/// `samples/web` in another number.
fn web(replicas: u32) -> String {
    include_str!("../../samples/web/web.yaml").replace("replicas: 3", &format!("replicas: {replicas}"))
}

#[test]
fn a_deployment_answers_behind_its_service_from_outside_and_inside() {
    let cluster = Cluster::with_images(&["web", "tool", "client"]);
    cluster.apply(&web(3));
    cluster.kubectl("rollout status deployment/web --timeout=60s");

    // NodePort, from each replica.
    let pods: BTreeSet<String> = (0..60).filter_map(|_| cluster.http(30080, "/x")).collect();
    assert_eq!(pods.len(), 3, "{pods:?}");
    assert!(
        pods.iter().all(|answer| answer.starts_with("hello from web-") && answer.ends_with(": /x\n")),
        "{pods:?}"
    );

    // By each form of its name, and by its address.
    let ip = cluster.get("service web")["spec"]["clusterIP"].as_str().unwrap().to_owned();
    for (number, host) in
        ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local", &ip].iter().enumerate()
    {
        let name = format!("get-{number}");
        cluster.apply(&tool(&name, &format!("[get, '{host}:80']")));
        cluster.wait_phase(&name, "Succeeded");
        assert!(cluster.kubectl(&format!("logs {name}")).starts_with("hello from web-"), "by {host}");
    }
    cluster.apply(include_str!("../../samples/client/client.yaml"));
    cluster.wait_phase("client", "Succeeded");
    let lines = cluster.kubectl("logs client");
    assert_eq!(lines.lines().filter(|line| line.starts_with("hello from web-")).count(), 10, "{lines}");

    // Evenly.
    cluster.apply(&tool("many", "[get-many, 'web:80', '300']"));
    cluster.wait_phase("many", "Succeeded");
    let log = cluster.kubectl("logs many");
    for pod in &pods {
        let share = log.lines().filter(|line| line.split(": ").next() == pod.split(": ").next()).count();
        assert!((50..=150).contains(&share), "{pod} answered {share} of 300");
    }

    // Nobody is behind it any more.
    cluster.kubectl("scale deployment/web --replicas=0");
    cluster.wait("endpointslices -l kubernetes.io/service-name=web", "no endpoint", |slices| {
        slices["items"].as_array().is_some_and(|items| {
            items.iter().all(|slice| slice["endpoints"].as_array().is_none_or(Vec::is_empty))
        })
    });
    cluster.apply(&tool("nobody", "[get, 'web:80']"));
    cluster.wait_phase("nobody", "Failed");
    assert!(cluster.kubectl("logs nobody").contains("refused"), "{}", cluster.kubectl("logs nobody"));
}

#[test]
fn an_http_component_serves_its_port_with_an_instance_a_request() {
    let cluster = Cluster::with_images(&["function", "tool"]);
    cluster.apply(include_str!("../../samples/function/function.yaml"));
    cluster.kubectl("rollout status deployment/function --timeout=60s");
    eventually("the function to answer", || {
        cluster.http(30081, "/a?b=c").filter(|answer| answer == "hello from a function: /a?b=c\n")
    });
    cluster.apply(&tool("inside", "[get, 'function:80']"));
    cluster.wait_phase("inside", "Succeeded");
    assert!(cluster.kubectl("logs inside").starts_with("hello from a function: /"));
}

#[test]
fn containers_of_a_pod_share_loopback_and_pods_do_not() {
    let cluster = Cluster::with_images(&["tool"]);
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: pair}\nspec:\n  restartPolicy: OnFailure\n  containers:\n  \
         - {name: server, image: tool, args: [serve, '127.0.0.1:9000']}\n  \
         - {name: client, image: tool, args: [get, 'localhost:9000']}\n",
    );
    cluster.wait_log("pair -c client", "pair to 127.0.0.1");
    cluster.apply(&tool("stranger", "[get, '127.0.0.1:9000']"));
    cluster.wait_phase("stranger", "Failed");
    let ip = cluster.get("pod pair")["status"]["podIP"].as_str().unwrap().to_owned();
    cluster.apply(&tool("other", &format!("[get, '{ip}:9000']")));
    cluster.wait_phase("other", "Failed");
    assert!(cluster.kubectl("logs other").contains("refused"));
}

#[test]
fn datagrams_reach_a_pod_by_its_service() {
    let cluster = Cluster::with_images(&["tool"]);
    cluster.apply(&tool("echo", "[udp-echo, '0.0.0.0:5300']"));
    cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: echo}\nspec:\n  selector: {app: echo}\n  \
         ports: [{port: 53, targetPort: 5300, protocol: UDP}]\n",
    );
    cluster.kubectl("wait --for=condition=Ready pod/echo --timeout=60s");
    cluster.wait("endpointslices -l kubernetes.io/service-name=echo", "an endpoint", |slices| {
        slices["items"][0]["endpoints"].as_array().is_some_and(|endpoints| !endpoints.is_empty())
    });
    let ip = cluster.get("service echo")["spec"]["clusterIP"].as_str().unwrap().to_owned();
    cluster.apply(&tool("ask", &format!("[udp-send, '{ip}:53', ping]")));
    cluster.wait_phase("ask", "Succeeded");
    assert!(cluster.kubectl("logs ask").contains(": ping"));
}

#[test]
fn what_is_outside_is_reached_and_what_is_only_the_hosts_is_not() {
    let cluster = Cluster::with_images(&["tool", "net", "http"]);
    cluster.apply(&fetcher(30082));
    let fetch = |url: &str| cluster.http(30082, &format!("/fetch?{url}"));

    // The loopback is the pod's own, whatever listens on the host's; other addresses are refused by the policy.
    let listener = TcpListener::bind((cluster.node_address(), 0)).unwrap();
    let own = listener.local_addr().unwrap();
    cluster.apply(&net("refused", &format!("[fail, '{own}', '169.254.169.254:80', '[fd00:ec2::254]:80']")));
    cluster.wait_phase("refused", "Succeeded");
    assert_eq!(
        cluster.kubectl("logs refused"),
        format!(
            "{own}: ConnectionRefused\n169.254.169.254:80: PermissionDenied\n[fd00:ec2::254]:80: PermissionDenied\n"
        )
    );
    cluster.apply(&net("refused-udp", "[udp-ask, '169.254.169.254:53', x]"));
    cluster.wait_phase("refused-udp", "Failed");
    assert!(cluster.kubectl("logs refused-udp").contains("PermissionDenied"));
    let own_url = format!("http://{own}/");
    for (url, error) in
        [(&*own_url, "ConnectionRefused"), ("http://169.254.169.254/", "DestinationIpProhibited")]
    {
        let error = format!("ErrorCode::{error}");
        eventually("the refusal of a request", || fetch(url).filter(|answer| *answer == error));
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "a guest reached a server of the host");

    // What the host offers to its network is outside, as the network is.
    let Some(ip) = address_of_machine() else { return };
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let outside = SocketAddr::new(ip, listener.local_addr().unwrap().port());
    serve_http(listener);
    cluster.apply(&tool("get", &format!("[get, '{outside}']")));
    cluster.wait_phase("get", "Succeeded");
    assert_eq!(cluster.kubectl("logs get"), "outside\n");
    eventually("the answer to a request", || {
        fetch(&format!("http://{outside}/")).filter(|answer| answer == "200 outside")
    });
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    let outside = socket.local_addr().unwrap();
    echo(socket);
    cluster.apply(&tool("send", &format!("[udp-send, '{outside}', ping]")));
    cluster.wait_phase("send", "Succeeded");
    assert_eq!(cluster.kubectl("logs send"), format!("{outside}: ping\n"));
}

#[test]
fn many_pods_ask_the_pods_of_a_service_all_at_once() {
    const CLIENTS: usize = 20;
    let cluster = Cluster::with_images(&["web", "tool"]);
    cluster.apply(&web(20));
    cluster.kubectl("rollout status deployment/web --timeout=60s");
    let client = |number: usize| {
        let pod = tool(&format!("client-{number}"), "[get-many, 'web:80', '100']");
        format!("---\n{}", pod.replace(&format!("app: client-{number}"), "app: client"))
    };
    cluster.apply(&(0..CLIENTS).map(client).collect::<String>());
    let pods = cluster.wait("pods -l app=client", "the end of all clients", |pods| {
        let ended = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        pods["items"].as_array().is_some_and(|pods| pods.len() == CLIENTS && pods.iter().all(ended))
    });
    let logs = cluster.kubectl("logs -l app=client --tail=-1 --max-log-requests=100");
    // Nobody was refused or cut off, and every server had its part.
    assert!(
        pods["items"].as_array().unwrap().iter().all(|pod| pod["status"]["phase"] == "Succeeded"),
        "{logs}"
    );
    let answers: Vec<&str> = logs.lines().filter(|line| line.starts_with("hello from web-")).collect();
    assert_eq!(answers.len(), 100 * CLIENTS);
    let servers: BTreeSet<&str> = answers.into_iter().collect();
    assert_eq!(servers.len(), 20);
}

#[test]
fn the_end_of_a_pod_is_the_end_of_its_connections() {
    let cluster = Cluster::with_images(&["net"]);
    let address = |pod: &str| {
        cluster.wait_phase(pod, "Running")["status"]["podIP"].as_str().unwrap().to_owned() + ":8080"
    };
    // In the middle of what it is sent.
    cluster.apply(&net("server", "[swallow, '0.0.0.0:8080']"));
    cluster
        .apply(&net("client", &format!("[pour-on, '{}']", address("server"))).replace("Never", "OnFailure"));
    cluster.wait_log("client", "connected");
    cluster.kubectl("delete pod server --now");
    cluster.wait_phase("client", "Succeeded");
    assert!(cluster.kubectl("logs client").contains("ended: "));

    // In the middle of what it sends.
    cluster.apply(&net("reader", "[swallow, '0.0.0.0:8080']"));
    cluster
        .apply(&net("writer", &format!("[pour-on, '{}']", address("reader"))).replace("Never", "OnFailure"));
    cluster.wait_log("writer", "connected");
    cluster.kubectl("delete pod writer --now");
    cluster.wait("pod reader", "its end", |pod| {
        matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
    });
}

#[test]
fn a_service_without_endpoints_refuses_and_a_headless_one_has_no_address() {
    let cluster = Cluster::with_images(&["net"]);
    cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: empty}\nspec: {selector: {app: none}, ports: [{port: 80}]}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {name: headless}\n\
         spec: {clusterIP: None, selector: {app: none}, ports: [{port: 80}]}\n",
    );
    cluster.apply(&net("connect", "[fail, 'empty:80']"));
    cluster.wait_log("connect", "empty:80: ConnectionRefused");
    cluster.apply(&net("names", "[resolve, headless, headless.default.svc.cluster.local]"));
    cluster.wait_phase("names", "Succeeded");
    assert_eq!(
        cluster.kubectl("logs names"),
        "headless: unknown\nheadless.default.svc.cluster.local: unknown\n"
    );
}

#[test]
fn a_guest_that_opens_sockets_without_end_is_stopped_at_its_limit() {
    let cluster = Cluster::with_images(&["tool"]);
    cluster.apply(&tool("greedy", "[sockets]"));
    cluster.wait_phase("greedy", "Succeeded");
    let log = cluster.kubectl("logs greedy");
    assert!(log.contains(" sockets, then: "), "{log}");
}

#[test]
fn the_api_is_a_service_too() {
    let cluster = Cluster::with_images(&["tool", "tls", "http"]);
    cluster.apply(&tool("names", "[resolve, kubernetes.default.svc]"));
    cluster.wait_phase("names", "Succeeded");
    assert_eq!(cluster.kubectl("logs names"), "10.96.0.1\n");
    let slices = cluster.get("endpointslices -l kubernetes.io/service-name=kubernetes");
    assert!(slices["items"][0]["endpoints"][0]["addresses"][0].is_string(), "{slices:#}");

    // By TLS of the guest's own, with the authority that each namespace has.
    let secure = |name: &str, host: &str| {
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: Never\n  \
             volumes: [{{name: ca, configMap: {{name: kube-root-ca.crt}}}}]\n  containers:\n  - name: main\n    \
             image: tls\n    args: [{host}, /version, /ca/ca.crt]\n    \
             volumeMounts: [{{name: ca, mountPath: /ca}}]\n"
        ));
    };
    for (name, host) in [("by-name", "kubernetes.default.svc"), ("by-address", "10.96.0.1")] {
        secure(name, host);
        cluster.wait_phase(name, "Succeeded");
        let version = cluster.kubectl(&format!("logs {name}"));
        assert!(version.contains("\"gitVersion\":\"v1.36."), "{version}");
    }
    cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: alias}\n\
         spec: {type: ExternalName, externalName: kubernetes.default.svc.cluster.local}\n",
    );
    secure("by-another-name", "alias");
    cluster.wait_phase("by-another-name", "Failed");
    let refusal = cluster.kubectl("logs by-another-name");
    assert!(refusal.contains("NotValidForName"), "{refusal}");

    // By a request that the host secures for the guest.
    cluster.apply(&fetcher(30083));
    let fetch = |url: &str, wanted: &str| {
        eventually(&format!("{wanted:?} from {url}"), || {
            cluster.http(30083, &format!("/fetch?{url}")).filter(|answer| answer.starts_with(wanted))
        })
    };
    for host in ["kubernetes.default.svc", "10.96.0.1"] {
        let version = fetch(&format!("https://{host}/version"), "200 ");
        assert!(version.contains("\"gitVersion\":\"v1.36."), "{version}");
    }
    fetch("https://kubernetes.default.svc/api/v1/secrets", "401 ");
    fetch("https://alias/version", "ErrorCode::TlsCertificateError");
}
