//! Ends and new beginnings of the server: SIGTERM, SIGKILL, a second server on the same folder.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};
use wharf_tests::{Cluster, text, wharf};

fn identities(cluster: &Cluster) -> BTreeSet<String> {
    let pods = cluster.get("pods -l app=web");
    let items = pods["items"].as_array().unwrap();
    items.iter().map(|pod| format!("{} {}", pod["metadata"]["name"], pod["metadata"]["uid"])).collect()
}

#[test]
fn the_same_pods_come_back_after_sigterm_and_after_sigkill() {
    let mut cluster = Cluster::with_images(&["web"]);
    cluster.apply(include_str!("../../samples/web/web.yaml"));
    cluster.kubectl("rollout status deployment/web --timeout=60s");
    let before = identities(&cluster);

    let status = cluster.terminate();
    assert!(status.success(), "{status}");
    cluster.restart();
    cluster.kubectl("wait --for=condition=Ready pod -l app=web --timeout=60s");
    assert_eq!(identities(&cluster), before);
    wharf_tests::eventually("the Service to answer", || cluster.http(30080, "/"));

    cluster.kill_and_restart();
    cluster.kubectl("wait --for=condition=Ready pod -l app=web --timeout=60s");
    assert_eq!(identities(&cluster), before);
    wharf_tests::eventually("the Service to answer", || cluster.http(30080, "/"));
}

/// A pod of the test guest that ends with 0 when it is told to end, and one that stays until it is killed.
fn steps(policy: &str, grace_secs: u32) -> String {
    ["wait", "sleep"].map(|verb| {
        let name = format!("{verb}-{}", policy.to_lowercase());
        let args = if verb == "sleep" { "[sleep, '3600']" } else { "[wait]" };
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: {policy}\n  \
             terminationGracePeriodSeconds: {grace_secs}\n  containers:\n  - {{name: main, image: tool, args: {args}}}\n---\n"
        )
    })
    .concat()
}

#[test]
fn what_ended_for_good_in_the_shutdown_comes_back_with_its_end() {
    let mut cluster = Cluster::with_images(&["tool"]);
    for policy in ["Never", "OnFailure", "Always"] {
        cluster.apply(&steps(policy, 1));
    }
    let names =
        ["wait-never", "sleep-never", "wait-onfailure", "sleep-onfailure", "wait-always", "sleep-always"];
    let before = names.map(|name| {
        cluster.wait_log(name, "ing");
        cluster.get(&format!("pod {name}"))
    });
    let status = cluster.terminate();
    assert!(status.success(), "{status}");
    cluster.restart();
    for (name, before) in names.into_iter().zip(before) {
        let expect = match name {
            "wait-never" | "wait-onfailure" => "Succeeded",
            "sleep-never" => "Failed",
            _ => "Running",
        };
        let pod = match expect {
            "Running" => cluster.wait(&format!("pod {name}"), "to be ready again", |pod| {
                let container = &pod["status"]["containerStatuses"][0];
                container["ready"] == true
                    && container["containerID"] != before["status"]["containerStatuses"][0]["containerID"]
            }),
            _ => cluster.get(&format!("pod {name}")),
        };
        assert_eq!(pod["metadata"]["uid"], before["metadata"]["uid"]);
        let status = &pod["status"];
        let container = &status["containerStatuses"][0];
        assert_eq!((&status["phase"], &container["restartCount"]), (&expect.into(), &0.into()), "{pod:#}");
        let end = &container["state"]["terminated"];
        let end = (&end["exitCode"], &end["reason"]);
        match (name, expect) {
            (_, "Succeeded") => assert_eq!(end, (&0.into(), &"Completed".into()), "{pod:#}"),
            (_, "Failed") => {
                assert_eq!(end, (&137.into(), &"Error".into()), "{pod:#}");
                assert_eq!(status["reason"], "Terminated");
            }
            _ => {}
        }
    }
}

#[test]
fn a_shutdown_takes_no_longer_than_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_in(&dir.path().join("data"), &["--shutdown-grace-period", "500ms"]);
    cluster.load("tool");
    cluster.apply(&steps("Never", 3600));
    cluster.wait_log("sleep-never", "sleeping");
    cluster.wait_log("wait-never", "waiting");
    assert!(cluster.terminate().success());
    cluster.restart();
    let exit = |name: &str| {
        let pod = cluster.get(&format!("pod {name}"));
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].clone()
    };
    assert_eq!((exit("wait-never"), exit("sleep-never")), (0.into(), 137.into()));
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill_in_the_middle_of_writes() {
    let mut cluster = Cluster::with_images(&["web"]);
    let stop = &AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let shared = &cluster;
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                scope.spawn(move || {
                    let mut done = Vec::new();
                    for number in 0..50 {
                        let name = format!("write-{writer}-{number}");
                        let output =
                            shared.kubectl_command(&format!("create configmap {name}")).output().unwrap();
                        if output.status.success() {
                            done.push(name);
                        } else if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    done
                })
            })
            .collect();
        shared.apply(&include_str!("../../samples/web/web.yaml").replace("replicas: 3", "replicas: 20"));
        // In the middle: some are written, more are under way.
        shared.wait("configmaps", "some writes", |maps| {
            maps["items"].as_array().is_some_and(|maps| maps.len() > 40)
        });
        stop.store(true, Ordering::Relaxed);
        wharf_tests::signal(shared.pid(), 9);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    cluster.kill_and_restart();
    let there = cluster.kubectl("get configmaps -o name");
    let missing: Vec<_> =
        acknowledged.iter().filter(|name| !there.contains(&format!("configmap/{name}\n"))).collect();
    assert!(acknowledged.len() > 30, "{} writes were acknowledged", acknowledged.len());
    assert_eq!(missing, Vec::<&String>::new());
    cluster.kubectl("rollout status deployment/web --timeout=60s");
    assert_eq!(identities(&cluster).len(), 20);
}

#[test]
fn a_second_server_on_the_same_folder_or_port_is_refused_in_one_line() {
    let cluster = Cluster::start();
    let second = |arguments: &[&str]| {
        let output = Command::new(wharf())
            .arg("serve")
            .args(arguments)
            .env("WHARF_HOME", cluster.dir())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        let last = said.lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("wharf: "), "{said}");
        last
    };
    assert!(second(&["--listen", "127.0.0.1:0"]).contains("in use by another wharf"));
    let other = tempfile::tempdir().unwrap();
    let other = other.path().to_str().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    assert!(second(&["--listen", &taken, "--data-dir", other]).contains(&taken));
}

#[test]
fn an_unreadable_store_is_told_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut cluster = Cluster::start_in(&data, &[]);
    assert!(cluster.terminate().success());
    let store = data.join("store.redb");
    std::fs::write(&store, "this is no store, and it is long enough to be looked at ".repeat(100)).unwrap();
    let output = Command::new(wharf())
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.lines().last().unwrap_or_default().contains("store.redb"), "{said}");
}

#[test]
fn in_memory_leaves_no_store_behind() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut cluster = Cluster::start_in(&data, &["--in-memory"]);
    cluster.kubectl("create configmap gone");
    assert!(cluster.terminate().success());
    assert!(!data.join("store.redb").exists());
}
