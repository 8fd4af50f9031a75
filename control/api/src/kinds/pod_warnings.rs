//! What a pod may ask for and does not get here: said in a warning, so that no field is ignored in silence.

use super::pod_spec::CONTAINER_LISTS;
use crate::object;
use serde_json::Value;

/// Kinds of volumes that are mounted.
const VOLUMES: &[&str] = &["name", "emptyDir", "configMap", "secret", "hostPath"];

/// Fields of a pod's spec that change nothing.
const OF_POD: &[&str] = &[
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostUsers",
    "hostAliases",
    "shareProcessNamespace",
    "dnsConfig",
    "affinity",
    "topologySpreadConstraints",
    "runtimeClassName",
    "overhead",
    "resourceClaims",
    "resources",
    "setHostnameAsFQDN",
    "securityContext",
];

/// Fields of a container that change nothing.
const OF_CONTAINER: &[&str] = &[
    "volumeDevices",
    "resizePolicy",
    "securityContext",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "tty",
];

/// Warnings for a spec at `path`.
pub(super) fn of_spec(spec: &Value, path: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut told = |value: &Value, path: &str, fields: &[&str]| {
        for field in fields.iter().filter(|field| is_set(value.get(**field))) {
            warnings.push(format!("{path}.{field}: accepted, and has no effect on WebAssembly pods yet"));
        }
    };
    told(spec, path, OF_POD);
    for list in CONTAINER_LISTS {
        for (index, container) in object::list(spec, &[list]).iter().enumerate() {
            told(container, &format!("{path}.{list}[{index}]"), OF_CONTAINER);
        }
    }
    for (index, volume) in object::list(spec, &["volumes"]).iter().enumerate() {
        let foreign: Vec<&str> = volume
            .as_object()
            .into_iter()
            .flat_map(serde_json::Map::keys)
            .map(String::as_str)
            .filter(|kind| !VOLUMES.contains(kind))
            .collect();
        told(volume, &format!("{path}.volumes[{index}]"), &foreign);
    }
    warnings
}

/// Whether a field says something: not absent, false or empty.
fn is_set(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Bool(true) | Value::Number(_)) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn what_has_no_effect_is_said() {
        let spec = json!({
            "hostNetwork": true, "hostPID": false, "securityContext": {},
            "volumes": [{ "name": "a", "emptyDir": {} }, { "name": "b", "nfs": { "server": "s" } }],
            "containers": [{ "name": "c", "securityContext": { "runAsUser": 1 } }],
        });
        expect![[r#"
            spec.hostNetwork: accepted, and has no effect on WebAssembly pods yet
            spec.containers[0].securityContext: accepted, and has no effect on WebAssembly pods yet
            spec.volumes[1].nfs: accepted, and has no effect on WebAssembly pods yet"#]]
        .assert_eq(&of_spec(&spec, "spec").join("\n"));
    }
}
