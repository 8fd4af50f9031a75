//! What is wrong is refused with the field, the value and the remedy.

use std::fs;
use wharf_tests::{Cluster, guest, text, wharf};

/// Manifests, and what must be said of them.
const MANIFESTS: &[(&str, &str, &[&str])] = &[
    (
        "a wrong type",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {replicas: three, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}",
        &["replicas"],
    ),
    (
        "an unknown field",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {contianers: [], containers: [{name: c, image: i}]}",
        &["unknown field \"spec.contianers\""],
    ),
    (
        "a bad name",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad_Name}",
        &["metadata.name: Invalid value: \"Bad_Name\"", "a lowercase RFC 1123 subdomain"],
    ),
    (
        "a selector that misses its template",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: c, image: i}]}}}",
        &["spec.template.metadata.labels: Invalid value", "`selector` does not match template `labels`"],
    ),
    (
        "no container",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}",
        &["spec.containers: Required value"],
    ),
    (
        "two faults at once",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {restartPolicy: Sometimes, containers: [{name: Bad_, image: i}]}",
        &[
            "spec.restartPolicy: Unsupported value: \"Sometimes\"",
            "spec.containers[0].name: Invalid value: \"Bad_\"",
        ],
    ),
    (
        "a volume that is not there",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /v}]}]}",
        &["spec.containers[0].volumeMounts[0].name: Not found: \"v\""],
    ),
];

#[test]
fn manifests_are_refused_with_the_field_and_the_reason() {
    let cluster = Cluster::start();
    for (what, manifest, expected) in MANIFESTS {
        let refused = cluster.kubectl_refused("create -f -", manifest);
        for part in *expected {
            assert!(refused.contains(part), "{what}: {part:?} is not in {refused}");
        }
    }
    let refused = cluster.kubectl_refused("get pods -l 'a in'", "");
    assert!(refused.contains("unable to parse requirement"), "{refused}");
    let refused = cluster.kubectl_refused("get configmap nobody", "");
    assert_eq!(refused, "Error from server (NotFound): configmaps \"nobody\" not found\n");
    cluster.kubectl("create configmap twice");
    let refused = cluster.kubectl_refused("create configmap twice", "");
    assert!(refused.contains("configmaps \"twice\" already exists"), "{refused}");
    let selector = cluster.kubectl_with(
        "create --dry-run=server -o name -f -",
        MANIFESTS[2].1.replace("Bad_Name", "good").as_str(),
    );
    assert_eq!(selector, "configmap/good\n");
    assert_eq!(cluster.kubectl("get configmap good --ignore-not-found"), "");
}

#[test]
fn what_is_no_wasm_is_no_image() {
    let cluster = Cluster::start();
    let load = |content: &[u8]| {
        let file = cluster.dir().join("file.wasm");
        fs::write(&file, content).unwrap();
        let output = std::process::Command::new(wharf())
            .args(["image", "load", file.to_str().unwrap(), "-t", "x"])
            .env("WHARF_HOME", cluster.dir())
            .output()
            .unwrap();
        assert!(!output.status.success());
        let said = text(&output.stderr);
        assert_eq!(said.lines().count(), 1, "one line: {said}");
        said
    };
    assert!(load(b"\x7fELF\x02\x01\x01").contains("ELF"));
    load(b"");
    load(b"hello");
    // Looks like a module, and is none.
    let mut garbage = b"\0asm\x01\0\0\0".to_vec();
    garbage.extend((0..2000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8));
    load(&garbage);
    // Cut in the middle.
    let whole = fs::read(guest("tool")).unwrap();
    assert!(load(&whole[..whole.len() / 2]).contains("it is cut off"));
    assert_eq!(cluster.wharf(&["image", "ls"]).lines().count(), 1, "only the head");
}

#[test]
fn an_import_that_nothing_satisfies_is_named_when_the_image_is_loaded() {
    let cluster = Cluster::start();
    let file = guest("unmet");
    let output = std::process::Command::new(wharf())
        .args(["image", "load", file.to_str().unwrap(), "-t", "unmet"])
        .env("WHARF_HOME", cluster.dir())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains("wasi:keyvalue/store") && said.contains("wac plug"), "{said}");
}

#[test]
fn garbage_on_the_wire_does_not_end_the_server() {
    use std::io::Write as _;
    let cluster = Cluster::start();
    let kubeconfig = fs::read_to_string(cluster.dir().join("kubeconfig")).unwrap();
    let address =
        kubeconfig.split("https://").nth(1).unwrap().split(['"', '\n', ' ', '\'']).next().unwrap().to_owned();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\xff\xff\x01", &[0xff; 70_000]] {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        // The server may hang up before it has read it all.
        let _ = stream.write_all(garbage);
    }
    for (path, body) in [
        ("/api/v1/namespaces/default/pods", "{"),
        ("/api/v1/namespaces/default/configmaps", "[1,2"),
        ("/api/v1/nothing", "{}"),
    ] {
        let refused = cluster.kubectl_refused(&format!("create --raw {path} -f -"), body);
        assert!(!refused.is_empty());
    }
    let deep = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"data\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    cluster.kubectl_refused("create --raw /api/v1/namespaces/default/configmaps -f -", &deep);
    assert_eq!(cluster.kubectl("get --raw /readyz"), "ok");
}
