//! kubectl's everyday verbs, with every kubectl of the machine: older and newer ones differ in what they ask.

use std::path::PathBuf;
use wharf_tests::{Cluster, text, with_input};

/// The kubectl in use, and its siblings of other versions where there are some.
fn versions() -> Vec<PathBuf> {
    let first = wharf_tests::kubectl();
    let on_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let found = std::iter::once(first.clone())
        .chain(on_path.map(|dir| dir.join("kubectl")))
        .find(|file| file.is_file());
    let Some(found) = found.and_then(|file| file.canonicalize().ok()) else { return vec![first] };
    let mut all = vec![found.clone()];
    for entry in found.parent().and_then(|dir| dir.read_dir().ok()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("kubectl.") {
            all.push(entry.path());
        }
    }
    all.sort();
    all
}

#[test]
fn the_everyday_verbs_work_with_old_and_new_kubectl() {
    let cluster = Cluster::with_images(&["web", "hello"]);
    for (number, kubectl) in versions().iter().enumerate() {
        println!("with {}", kubectl.display());
        let namespace = format!("v{number}");
        let run = |words: &str, input: &str| {
            let output = with_input(cluster.kubectl_of(kubectl, &format!("-n {namespace} {words}")), input);
            assert!(
                output.status.success(),
                "{} {words}: {}{}",
                kubectl.display(),
                text(&output.stdout),
                text(&output.stderr)
            );
            text(&output.stdout)
        };
        verbs(&namespace, &run);
    }
}

fn verbs(namespace: &str, run: &dyn Fn(&str, &str) -> String) {
    run(&format!("create namespace {namespace}"), "");
    // Create, from flags: protobuf bodies with newer kubectl.
    run("create configmap map --from-literal=a=1 --from-literal=b=2", "");
    run("create secret generic secret --from-literal=key=value", "");
    run("create deployment web --image=web --replicas=2 --port=8080", "");
    run("create service clusterip plain --tcp=80:8080", "");
    run("expose deployment web --port=80 --target-port=8080", "");
    assert!(run("rollout status deployment/web --timeout=60s", "").contains("successfully rolled out"));

    // Get, in its forms.
    assert!(run("get configmaps", "").contains("NAME"));
    assert!(run("get pods -o wide", "").contains("NODE"));
    assert!(run("get configmap map -o yaml", "").contains("a: \"1\""));
    assert_eq!(run("get configmap map -o jsonpath={.data.b}", ""), "2");
    assert_eq!(run("get secret secret -o jsonpath={.data.key}", ""), "dmFsdWU=");
    assert!(run("get pods -A -l app=web", "").contains(namespace));
    assert!(run("get deployments,services,replicasets", "").contains("deployment.apps/web"));
    assert!(run("get all", "").contains("service/plain"));
    assert!(run("get nodes", "").contains("Ready"));
    assert!(run("get pods --field-selector=status.phase=Running -o name", "").lines().count() == 2);

    // Change.
    assert!(run("label configmap map tier=one", "").contains("labeled"));
    assert!(run("annotate configmap map note=two", "").contains("annotate"));
    run("patch configmap map --type=merge -p '{\"data\":{\"c\":\"3\"}}'", "");
    run("patch configmap map --type=json -p '[{\"op\":\"add\",\"path\":\"/data/d\",\"value\":\"4\"}]'", "");
    run(
        "patch deployment web -p '{\"spec\":{\"template\":{\"metadata\":{\"annotations\":{\"x\":\"y\"}}}}}'",
        "",
    );
    assert_eq!(run("get configmap map -o jsonpath={.data.c}{.data.d}{.metadata.labels.tier}", ""), "34one");
    run("scale deployment web --replicas=3", "");
    run("set image deployment/web web=web:latest", "");
    run("rollout status deployment/web --timeout=60s", "");
    assert!(run("rollout history deployment/web", "").contains("REVISION"));
    run("rollout undo deployment/web", "");
    run("rollout status deployment/web --timeout=60s", "");

    // Apply: twice the same, then a change, then less.
    let map =
        |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: applied}}\ndata: {data}\n");
    assert!(run("apply -f -", &map("{a: one, b: two}")).contains("created"));
    assert!(run("apply -f -", &map("{a: one, b: two}")).contains("unchanged"));
    assert!(run("apply -f -", &map("{a: three}")).contains("configured"));
    assert_eq!(run("get configmap applied -o jsonpath={.data}", ""), "{\"a\":\"three\"}");
    run("diff -f -", &map("{a: three}"));
    run("replace -f -", &map("{z: last}"));

    // Look closer.
    assert!(run("describe deployment web", "").contains("ScalingReplicaSet"));
    assert!(run("describe pods", "").contains("Successfully assigned"));
    assert!(run("describe configmap map", "").contains("tier=one"));
    assert!(run("describe service web", "").contains("Endpoints:"));
    assert!(run("describe node", "").contains("Allocatable"));
    assert!(run("explain deployment.spec.strategy", "").contains("rollingUpdate"));
    assert!(run("explain pod.spec.containers", "").contains("imagePullPolicy"));
    assert!(run("events", "").contains("ScalingReplicaSet"));
    assert!(run("get events", "").contains("LAST SEEN"));
    assert!(run("api-resources", "").contains("replicasets"));
    assert!(run("api-versions", "").contains("apps/v1"));
    assert!(run("version", "").contains("v1.36"));
    assert!(run("cluster-info", "").contains("running at"));
    assert!(run("logs deployment/web", "").contains("listens on"));

    // A pod, its end and its log.
    run("run once --image=hello --restart=Never -- kubectl", "");
    run("wait --for=jsonpath={.status.phase}=Succeeded pod/once --timeout=60s", "");
    assert_eq!(run("logs once", ""), "hello, kubectl\n");

    // Delete, and wait for it.
    run("delete pod once --timeout=60s", "");
    run("delete configmap --all", "");
    run("delete deployment web --timeout=60s", "");
    run(&format!("delete namespace {namespace} --timeout=60s"), "");
}

#[test]
fn edit_and_watch_work() {
    let cluster = Cluster::start();
    cluster.kubectl("create configmap map --from-literal=color=blue");
    let mut edit = cluster.kubectl_command("edit configmap map");
    edit.env("KUBE_EDITOR", "sed -i s/blue/green/");
    assert!(text(&edit.output().unwrap().stdout).contains("edited"));
    assert_eq!(cluster.kubectl("get configmap map -o jsonpath={.data.color}"), "green");

    let mut watch = cluster.kubectl_command("get configmaps -w -o name");
    let mut watch = watch.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
    let mut next_is = |wanted: &str| {
        let found = lines.by_ref().map_while(Result::ok).any(|line| line == wanted);
        assert!(found, "{wanted} did not come");
    };
    next_is("configmap/map");
    cluster.kubectl("create configmap later");
    next_is("configmap/later");
    watch.kill().unwrap();
    watch.wait().unwrap();
}
