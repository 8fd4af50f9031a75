//! Single pods: their ends, their environment, volumes, limits and logs, as kubectl shows them.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};
use wharf_tests::Cluster;

/// A pod of the test guest, with further lines of its container and of its spec.
fn tool(name: &str, args: &str, container: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  restartPolicy: Never\n{spec}\n  \
         containers:\n  - name: main\n    image: tool\n    args: {args}\n{container}\n"
    )
}

fn state(pod: &serde_json::Value) -> &serde_json::Value {
    &pod["status"]["containerStatuses"][0]["state"]
}

#[test]
fn a_pod_runs_to_its_end_and_says_how_it_ended() {
    let cluster = Cluster::with_images(&["tool"]);
    cluster.apply(&tool("good", "[echo, hello, there]", "", ""));
    cluster.apply(&tool("bad", "[exit, '3']", "", ""));
    cluster.apply(&tool("trap", "[trap]", "    terminationMessagePolicy: FallbackToLogsOnError", ""));

    let good = cluster.wait_phase("good", "Succeeded");
    assert_eq!(state(&good)["terminated"]["reason"], "Completed");
    assert_eq!(state(&good)["terminated"]["exitCode"], 0);
    let log = cluster.kubectl("logs good");
    assert!(log.contains("hello there\n") && log.contains("on stderr\n"), "{log}");

    let bad = cluster.wait_phase("bad", "Failed");
    assert_eq!(state(&bad)["terminated"]["reason"], "Error");
    // All that `wasi:cli/exit` of WASI 0.2 tells of a component is whether it failed.
    assert_eq!(state(&bad)["terminated"]["exitCode"], 1);

    let trap = cluster.wait_phase("trap", "Failed");
    assert_eq!(state(&trap)["terminated"]["exitCode"], 134);
    let message = state(&trap)["terminated"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("unreachable"), "{message}");

    let table = cluster.kubectl("get pods --no-headers");
    for line in ["bad    0/1   Error", "good   0/1   Completed", "trap   0/1   Error"] {
        assert!(table.contains(line), "{table}");
    }
}

#[test]
fn a_failing_container_is_restarted_with_back_off_and_its_last_log_is_kept() {
    let cluster = Cluster::with_images(&["tool"]);
    cluster.apply(
        &tool("crash", "[exit, '1']", "", "").replace("restartPolicy: Never", "restartPolicy: Always"),
    );
    let pod = cluster
        .wait("pod crash", "CrashLoopBackOff", |pod| state(pod)["waiting"]["reason"] == "CrashLoopBackOff");
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
    assert!(pod["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(1), "{pod:#}");
    let message = state(&pod)["waiting"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("back-off 10s restarting failed container=main pod=crash_default("),
        "{message}"
    );
    cluster.wait("events --field-selector reason=BackOff", "the event", |events| {
        !events["items"].as_array().unwrap().is_empty()
    });

    // Once more, by a marker on a volume that outlives the container.
    let manifest = tool(
        "second",
        "[fail-once, /data/marker]",
        "    volumeMounts: [{name: data, mountPath: /data}]",
        "  volumes: [{name: data, emptyDir: {}}]",
    );
    cluster.apply(&manifest.replace("restartPolicy: Never", "restartPolicy: OnFailure"));
    cluster.wait_phase("second", "Succeeded");
    assert!(cluster.kubectl("logs second").contains("second time"));
    assert!(cluster.kubectl("logs second --previous").contains("first time"));
}

#[test]
fn init_containers_run_in_order_before_the_rest() {
    let cluster = Cluster::with_images(&["tool"]);
    let init = "  volumes: [{name: data, emptyDir: {}}]\n  initContainers:\n  \
                - {name: one, image: tool, args: [write, /data/a, from one], volumeMounts: [{name: data, mountPath: /data}]}\n  \
                - {name: two, image: tool, args: [cat, /data/a], volumeMounts: [{name: data, mountPath: /data}]}";
    cluster.apply(&tool(
        "ordered",
        "[cat, /data/a]",
        "    volumeMounts: [{name: data, mountPath: /data}]",
        init,
    ));
    cluster.wait_phase("ordered", "Succeeded");
    assert_eq!(cluster.kubectl("logs ordered -c two"), "from one\n");
    assert_eq!(cluster.kubectl("logs ordered -c main"), "from one\n");
    let refused = cluster.kubectl_refused("logs ordered -c nobody", "");
    assert!(refused.contains("container nobody is not valid for pod ordered"), "{refused}");
}

#[test]
fn the_environment_comes_from_values_fields_configmaps_and_secrets() {
    let cluster = Cluster::with_images(&["tool"]);
    cluster.kubectl("create configmap settings --from-literal=COLOR=blue --from-literal=SIZE=7");
    cluster.kubectl("create secret generic token --from-literal=KEY=s3cret");
    let env = "    env:\n    - {name: PLAIN, value: one}\n    - {name: JOINED, value: '$(PLAIN)-two'}\n    \
               - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n    \
               - {name: APP, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}\n    \
               - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}\n    \
               - {name: PASSWORD, valueFrom: {secretKeyRef: {name: token, key: KEY}}}\n    \
               - {name: NONE, valueFrom: {configMapKeyRef: {name: absent, key: x, optional: true}}}\n    \
               envFrom: [{configMapRef: {name: settings}, prefix: SET_}]";
    cluster.apply(&tool("env", "[env]", env, ""));
    let pod = cluster.wait_phase("env", "Succeeded");
    let log = cluster.kubectl("logs env");
    let ip = pod["status"]["podIP"].as_str().unwrap();
    for line in [
        "PLAIN=one",
        "JOINED=one-two",
        "NAME=env",
        "APP=env",
        &format!("IP={ip}"),
        "PASSWORD=s3cret",
        "SET_COLOR=blue",
        "SET_SIZE=7",
        "HOSTNAME=env",
        "KUBERNETES_SERVICE_HOST=10.96.0.1",
    ] {
        assert!(log.lines().any(|found| found == line), "{line} is missing in\n{log}");
    }
    assert!(!log.contains("NONE="), "{log}");
}

#[test]
fn a_container_waits_for_its_configmap_and_starts_when_it_appears() {
    let cluster = Cluster::with_images(&["tool"]);
    cluster.apply(&tool(
        "waits",
        "[env]",
        "    env: [{name: COLOR, valueFrom: {configMapKeyRef: {name: late, key: color}}}]",
        "",
    ));
    let pod = cluster.wait("pod waits", "CreateContainerConfigError", |pod| {
        state(pod)["waiting"]["reason"] == "CreateContainerConfigError"
    });
    assert_eq!(state(&pod)["waiting"]["message"], "configmap \"late\" not found");
    cluster.kubectl("create configmap late --from-literal=color=green");
    cluster.wait_phase("waits", "Succeeded");
    assert!(cluster.kubectl("logs waits").contains("COLOR=green"));
}

#[test]
fn volumes_hold_configmaps_and_secrets_and_follow_their_changes() {
    let cluster = Cluster::with_images(&["tool"]);
    cluster.kubectl("create configmap text --from-literal=greeting=hello");
    let volumes = "  volumes: [{name: text, configMap: {name: text}}]";
    let mounts = "    volumeMounts: [{name: text, mountPath: /text, readOnly: true}]";
    cluster.apply(&tool("follow", "[follow, /text/greeting]", mounts, volumes));
    cluster.wait_log("follow", "hello");
    cluster.kubectl("patch configmap text -p '{\"data\":{\"greeting\":\"goodbye\"}}'");
    cluster.wait_log("follow", "goodbye");

    cluster.apply(&tool("write", "[write, /text/greeting, x]", mounts, volumes));
    cluster.wait_phase("write", "Failed");
    assert_eq!(cluster.get("configmap text")["data"]["greeting"], "goodbye");
}

#[test]
fn a_pod_whose_volume_holds_more_than_it_may_is_evicted() {
    let cluster = Cluster::with_images(&["tool"]);
    let manifest = |name: &str, bytes: &str| {
        tool(
            name,
            &format!("[fill, /scratch/file, '{bytes}']"),
            "    volumeMounts: [{name: scratch, mountPath: /scratch}]",
            "  volumes: [{name: scratch, emptyDir: {sizeLimit: 1Mi}}]",
        )
    };
    cluster.apply(&manifest("within", "1000000"));
    cluster.apply(&manifest("beyond", "2000000"));
    let pod = cluster.wait_phase("beyond", "Failed");
    let message = "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". ";
    assert_eq!(pod["status"]["reason"], "Evicted");
    assert_eq!(pod["status"]["message"], message);
    assert_eq!(state(&pod)["terminated"]["exitCode"], 137);
    let event = cluster.wait(
        "events --field-selector involvedObject.name=beyond,reason=Evicted",
        "the event",
        |events| events["items"][0].is_object(),
    );
    assert_eq!(event["items"][0]["type"], "Warning");
    assert_eq!(event["items"][0]["message"], message);
    assert_eq!(cluster.get("pod within")["status"]["phase"], "Running");
}

#[test]
fn a_container_over_its_memory_limit_is_oom_killed() {
    let cluster = Cluster::with_images(&["tool"]);
    cluster.apply(&tool("hog", "[hog]", "    resources: {limits: {memory: 16Mi}}", ""));
    let pod = cluster.wait_phase("hog", "Failed");
    assert_eq!(state(&pod)["terminated"]["reason"], "OOMKilled");
    assert_eq!(state(&pod)["terminated"]["exitCode"], 137);
}

#[test]
fn a_spinning_guest_leaves_its_neighbours_and_the_api_alone() {
    let cluster = Cluster::with_images(&["tool"]);
    for name in ["spin-1", "spin-2", "spin-3"] {
        cluster.apply(&tool(name, "[spin]", "", "  terminationGracePeriodSeconds: 1"));
        cluster.wait_phase(name, "Running");
    }
    cluster.apply(&tool("neighbour", "[echo, fine]", "", ""));
    cluster.wait_phase("neighbour", "Succeeded");
    cluster.kubectl("delete pod spin-1 spin-2 spin-3 --timeout=30s");
}

#[test]
fn a_guest_that_listens_gets_the_notice_and_its_grace() {
    let cluster = Cluster::with_images(&["tool"]);
    cluster.apply(&tool("polite", "[wait]", "", ""));
    cluster.wait_phase("polite", "Running");
    let mut follow = cluster.kubectl_command("logs -f polite").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(lines.next().as_deref(), Some("waiting"));
    cluster.kubectl("delete pod polite --timeout=20s");
    let log: String = lines.collect();
    follow.wait().unwrap();
    assert!(log.contains("told to end"), "{log}");
}

#[test]
fn a_pod_that_is_said_to_have_failed_is_ended_and_stays_failed() {
    let cluster = Cluster::with_images(&["tool"]);
    cluster.apply(&tool("said", "[wait]", "", "").replace("restartPolicy: Never", "restartPolicy: Always"));
    cluster.wait_log("said", "waiting");
    let patch = r#"{"status": {"phase": "Failed", "reason": "Rejected", "message": "by hand"}}"#;
    cluster.kubectl(&format!("patch pod said --subresource=status --type=merge -p '{patch}'"));
    let pod = cluster.wait("pod said", "its end", |pod| state(pod)["terminated"]["exitCode"] == 0);
    let status = &pod["status"];
    let said = ["phase", "reason", "message"].map(|field| status[field].as_str().unwrap_or_default());
    assert_eq!(said, ["Failed", "Rejected", "by hand"], "{pod:#}");
    cluster.kubectl("delete pod said --timeout=30s");
}

#[test]
fn a_flood_of_output_is_kept_within_its_bounds() {
    let cluster = Cluster::with_images(&["tool"]);
    cluster.apply(&tool("flood", "[flood]", "", "  terminationGracePeriodSeconds: 0"));
    cluster.wait_phase("flood", "Running");
    // 60,000 lines of 1,000 bytes are more than one container may keep.
    wharf_tests::eventually("the flood to pass its bound", || {
        let last = cluster.kubectl("logs flood --tail=1");
        (last.split(' ').next()?.parse::<u64>().ok()? > 60_000).then_some(())
    });
    let kept: u64 = walk(cluster.dir())
        .into_iter()
        .filter(|(path, _)| path.ends_with(".log") || path.contains(".log."))
        .map(|(_, size)| size)
        .sum();
    assert!(kept > 0 && kept < 64 << 20, "{kept} bytes of log are kept");
    // More may come while it is read.
    let tail = cluster.kubectl("logs flood --tail=3").lines().count();
    assert!((3..10_000).contains(&tail), "{tail} lines");
    cluster.kubectl("delete pod flood --timeout=30s");
}

fn walk(dir: &std::path::Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push((entry.path().display().to_string(), metadata.len()));
        }
    }
    found
}

#[test]
fn an_image_that_is_not_there_backs_off_and_says_why() {
    let cluster = Cluster::with_images(&["tool"]);
    cluster.kubectl("run missing --image=missing:1 --restart=Never");
    let pod = cluster
        .wait("pod missing", "ImagePullBackOff", |pod| state(pod)["waiting"]["reason"] == "ImagePullBackOff");
    let message = state(&pod)["waiting"]["message"].as_str().unwrap();
    assert!(message.starts_with("Back-off pulling image \"missing:1\""), "{message}");
    let described = cluster.kubectl("describe pod missing");
    assert!(described.contains("Failed to pull image \"missing:1\""), "{described}");
    assert!(described.contains("wharf image load"), "the event names the remedy: {described}");
    cluster.kubectl("run never --image=missing:2 --image-pull-policy=Never --restart=Never");
    cluster
        .wait("pod never", "ErrImageNeverPull", |pod| state(pod)["waiting"]["reason"] == "ErrImageNeverPull");
}

#[test]
fn logs_are_cut_as_asked() {
    let cluster = Cluster::with_images(&["tool"]);
    cluster.apply(&tool("talk", "[env]", "", ""));
    cluster.wait_phase("talk", "Succeeded");
    let whole = cluster.kubectl("logs talk");
    assert!(whole.lines().count() > 3, "{whole}");
    assert_eq!(cluster.kubectl("logs talk --tail=2").lines().count(), 2);
    let stamped = cluster.kubectl("logs talk --timestamps --tail=1");
    assert!(stamped.starts_with("20") && stamped.contains('T'), "{stamped}");
    assert_eq!(cluster.kubectl("logs talk --since=1h"), whole);
    assert_eq!(cluster.kubectl("logs talk --since-time=2100-01-01T00:00:00Z"), "");
    assert_eq!(cluster.kubectl("logs -l app=talk"), whole);
}
