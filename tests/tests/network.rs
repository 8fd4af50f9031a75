//! The virtual network: Services, names, NodePorts, HTTP components, loopback and egress.

use std::collections::BTreeSet;
use wharf_tests::{Cluster, eventually};

fn tool(name: &str, args: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  restartPolicy: Never\n  \
         containers:\n  - {{name: main, image: tool, args: {args}}}\n"
    )
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
fn the_host_and_metadata_services_are_out_of_reach() {
    let cluster = Cluster::with_images(&["tool"]);
    // A server of the host's own.
    let listener = std::net::TcpListener::bind((cluster.node_address(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    for (name, address) in [
        ("host", format!("{}:{port}", cluster.node_address())),
        ("metadata", "169.254.169.254:80".to_owned()),
    ] {
        cluster.apply(&tool(name, &format!("[get, '{address}']")));
        cluster.wait_phase(name, "Failed");
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "the guest reached a server of the host");
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
    let cluster = Cluster::with_images(&["tool"]);
    cluster.apply(&tool("names", "[resolve, kubernetes.default.svc]"));
    cluster.wait_phase("names", "Succeeded");
    assert_eq!(cluster.kubectl("logs names"), "10.96.0.1\n");
    let slices = cluster.get("endpointslices -l kubernetes.io/service-name=kubernetes");
    assert!(slices["items"][0]["endpoints"][0]["addresses"][0].is_string(), "{slices:#}");
}
