//! What a pod may ask for and does not get here.

use super::unserved::{Row, row, tell, unless};
use crate::object;
use serde_json::Value;

/// Kinds of volumes that are mounted.
const VOLUMES: &[&str] = &["name", "emptyDir", "configMap", "secret", "downwardAPI", "projected", "hostPath"];

/// Of a field that changes nothing.
const NO_EFFECT: &str = "accepted, and has no effect on WebAssembly pods yet";
/// Of what the node cannot give.
const NO_START: &str = "not supported yet: the pod will not start";
/// Of a probe that cannot be asked: it never succeeds and never fails.
const NO_PROBE: &str = "not supported yet: use httpGet or tcpSocket";
/// Of a hook that cannot be run: it fails.
const NO_HOOK: &str = "not supported yet: use httpGet or sleep";
/// Of a request that cannot be made.
const NO_SCHEME: &str = "not supported yet: use HTTP";

const OF_POD: &[Row] = &[
    row("hostNetwork", NO_EFFECT),
    row("hostPID", NO_EFFECT),
    row("hostIPC", NO_EFFECT),
    row("hostUsers", NO_EFFECT),
    row("hostAliases", NO_EFFECT),
    row("hostnameOverride", NO_EFFECT),
    row("setHostnameAsFQDN", NO_EFFECT),
    row("shareProcessNamespace", NO_EFFECT),
    row("dnsConfig", NO_EFFECT),
    unless(&["ClusterFirst", "ClusterFirstWithHostNet"], "dnsPolicy", NO_EFFECT),
    row("affinity.podAffinity", NO_EFFECT),
    row("affinity.podAntiAffinity", NO_EFFECT),
    row("topologySpreadConstraints", NO_EFFECT),
    row("schedulingGroup", NO_EFFECT),
    row("automountServiceAccountToken", NO_EFFECT),
    row("imagePullSecrets", NO_EFFECT),
    row("runtimeClassName", NO_EFFECT),
    unless(&["linux"], "os.name", NO_EFFECT),
    row("resourceClaims", NO_EFFECT),
    row("resources.limits", NO_EFFECT),
    row("securityContext", NO_EFFECT),
    row("ephemeralContainers", NO_EFFECT),
];

const OF_CONTAINER: &[Row] = &[
    row("restartPolicyRules", NO_EFFECT),
    row("resizePolicy", NO_EFFECT),
    row("resources.claims", NO_EFFECT),
    row("resources.limits.ephemeral-storage", NO_EFFECT),
    row("securityContext", NO_EFFECT),
    row("stdin", NO_EFFECT),
    row("stdinOnce", NO_EFFECT),
    row("tty", NO_EFFECT),
    unless(&["/dev/termination-log"], "terminationMessagePath", NO_EFFECT),
    row("volumeDevices", NO_EFFECT),
    row("startupProbe.exec", NO_PROBE),
    row("startupProbe.grpc", NO_PROBE),
    unless(&["HTTP"], "startupProbe.httpGet.scheme", NO_SCHEME),
    row("livenessProbe.exec", NO_PROBE),
    row("livenessProbe.grpc", NO_PROBE),
    unless(&["HTTP"], "livenessProbe.httpGet.scheme", NO_SCHEME),
    row("readinessProbe.exec", NO_PROBE),
    row("readinessProbe.grpc", NO_PROBE),
    unless(&["HTTP"], "readinessProbe.httpGet.scheme", NO_SCHEME),
    row("lifecycle.postStart.exec", NO_HOOK),
    unless(&["HTTP"], "lifecycle.postStart.httpGet.scheme", NO_SCHEME),
    row("lifecycle.preStop.exec", NO_HOOK),
    unless(&["HTTP"], "lifecycle.preStop.httpGet.scheme", NO_SCHEME),
    row("lifecycle.stopSignal", NO_EFFECT),
];

/// Of the entries of a container's lists.
const OF_ENTRIES: &[(&str, Row)] = &[
    ("env", row("valueFrom.fileKeyRef", NO_START)),
    ("ports", row("hostPort", NO_EFFECT)),
    ("ports", unless(&["TCP", "UDP"], "protocol", NO_EFFECT)),
    ("volumeMounts", unless(&["None"], "mountPropagation", NO_EFFECT)),
    ("volumeMounts", unless(&["Disabled", "IfPossible"], "recursiveReadOnly", NO_EFFECT)),
];

/// Of the sources of a projected volume.
const OF_SOURCE: &[Row] = &[
    row("serviceAccountToken", NO_START),
    row("clusterTrustBundle", NO_START),
    row("podCertificate", NO_START),
];

/// Warnings for a spec at `path`.
pub(super) fn of_spec(spec: &Value, path: &str) -> Vec<String> {
    let mut told = Vec::new();
    OF_POD.iter().for_each(|row| tell(&mut told, spec, path, row));
    // Ephemeral containers do not run at all, which has been said.
    for list in ["containers", "initContainers"] {
        for (index, container) in object::list(spec, &[list]).iter().enumerate() {
            of_container(&mut told, container, &format!("{path}.{list}[{index}]"));
        }
    }
    for (index, volume) in object::list(spec, &["volumes"]).iter().enumerate() {
        of_volume(&mut told, volume, &format!("{path}.volumes[{index}]"));
    }
    told
}

fn of_container(told: &mut Vec<String>, container: &Value, path: &str) {
    for row in OF_CONTAINER {
        tell(told, container, path, row);
    }
    for (list, row) in OF_ENTRIES {
        for (index, entry) in object::list(container, &[list]).iter().enumerate() {
            tell(told, entry, &format!("{path}.{list}[{index}]"), row);
        }
    }
}

fn of_volume(told: &mut Vec<String>, volume: &Value, path: &str) {
    for (kind, source) in volume.as_object().into_iter().flatten() {
        if !source.is_null() && !VOLUMES.contains(&kind.as_str()) {
            told.push(format!("{path}.{kind}: {NO_START}"));
        }
    }
    for (index, source) in object::list(volume, &["projected", "sources"]).iter().enumerate() {
        for row in OF_SOURCE {
            tell(told, source, &format!("{path}.projected.sources[{index}]"), row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(spec: &Value, expect: Expect) {
        expect.assert_eq(&of_spec(spec, "spec").join("\n"));
    }

    #[test]
    fn what_has_no_effect_is_said() {
        check(
            &json!({
                "hostNetwork": true, "hostPID": false, "securityContext": {},
                "dnsPolicy": "None", "os": { "name": "windows" },
                "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{}] } },
                "tolerations": [{ "tolerationSeconds": 5 }],
                "containers": [{
                    "name": "c", "securityContext": { "runAsUser": 1 }, "terminationMessagePath": "/tmp/end",
                    "ports": [{ "containerPort": 80 }, { "containerPort": 81, "hostPort": 8081 }],
                }],
            }),
            expect![[r#"
                spec.hostNetwork: accepted, and has no effect on WebAssembly pods yet
                spec.dnsPolicy: accepted, and has no effect on WebAssembly pods yet
                spec.affinity.podAntiAffinity: accepted, and has no effect on WebAssembly pods yet
                spec.os.name: accepted, and has no effect on WebAssembly pods yet
                spec.containers[0].securityContext: accepted, and has no effect on WebAssembly pods yet
                spec.containers[0].terminationMessagePath: accepted, and has no effect on WebAssembly pods yet
                spec.containers[0].ports[1].hostPort: accepted, and has no effect on WebAssembly pods yet"#]],
        );
    }

    #[test]
    fn what_cannot_be_done_is_said_with_what_can() {
        check(
            &json!({
                "volumes": [
                    { "name": "a", "nfs": { "server": "s" } },
                    {
                        "name": "b",
                        "projected": { "sources": [{ "secret": {} }, { "serviceAccountToken": { "path": "t" } }] },
                    },
                ],
                "initContainers": [{ "name": "i", "lifecycle": { "preStop": { "exec": { "command": ["x"] } } } }],
                "containers": [{
                    "name": "c",
                    "livenessProbe": { "exec": { "command": ["x"] } },
                    "readinessProbe": { "httpGet": { "port": 443, "scheme": "HTTPS" } },
                }],
            }),
            expect![[r#"
                spec.containers[0].livenessProbe.exec: not supported yet: use httpGet or tcpSocket
                spec.containers[0].readinessProbe.httpGet.scheme: not supported yet: use HTTP
                spec.initContainers[0].lifecycle.preStop.exec: not supported yet: use httpGet or sleep
                spec.volumes[0].nfs: not supported yet: the pod will not start
                spec.volumes[1].projected.sources[1].serviceAccountToken: not supported yet: the pod will not start"#]],
        );
    }

    #[test]
    fn what_works_is_not_mentioned() {
        check(
            &json!({
                "dnsPolicy": "ClusterFirst", "os": { "name": "linux" }, "overhead": { "cpu": "1m" },
                "automountServiceAccountToken": false, "readinessGates": [{ "conditionType": "x" }],
                "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{}] } },
                "resources": { "requests": { "cpu": "1m" } },
                "volumes": [{ "name": "a", "emptyDir": {} }, { "name": "b", "downwardAPI": { "items": [] } }],
                "containers": [{
                    "name": "c", "terminationMessagePath": "/dev/termination-log",
                    "startupProbe": { "httpGet": { "port": 80, "scheme": "HTTP" } },
                    "livenessProbe": { "tcpSocket": { "port": 80 } },
                    "lifecycle": { "preStop": { "sleep": { "seconds": 1 } } },
                    "resources": { "limits": { "memory": "1Mi" } },
                    "volumeMounts": [{ "name": "a", "mountPath": "/a", "mountPropagation": "None" }],
                    "ports": [{ "containerPort": 80, "hostPort": 0 }],
                }],
            }),
            expect![[""]],
        );
    }
}
