//! The files of ConfigMap, Secret, downward API and projected volumes. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume};
use runtime_volumes::{File, Tree};

use crate::{
    downward::{self, Facts},
    spec,
};

const DEFAULT_MODE: i32 = 0o644;

/// The objects that volumes are made from; absent ones do not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    pub(crate) config_maps: BTreeMap<String, ConfigMap>,
    pub(crate) secrets: BTreeMap<String, Secret>,
}

/// The names of ConfigMaps and Secrets that a pod's volumes refer to.
pub(crate) fn needed(pod: &Pod) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let mut config_maps = BTreeSet::new();
    let mut secrets = BTreeSet::new();
    for volume in spec::spec(pod).and_then(|spec| spec.volumes.as_deref()).unwrap_or_default() {
        config_maps.extend(volume.config_map.as_ref().map(|source| source.name.as_str()));
        secrets.extend(volume.secret.as_ref().and_then(|source| source.secret_name.as_deref()));
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            config_maps.extend(source.config_map.as_ref().map(|source| source.name.as_str()));
            secrets.extend(source.secret.as_ref().map(|source| source.name.as_str()));
        }
    }
    (config_maps, secrets)
}

/// Whether a volume tells of the pod's own fields, of which labels and annotations may change.
pub(crate) fn tells_of_pod(pod: &Pod) -> bool {
    let volumes = spec::spec(pod).and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes.iter().any(|volume| {
        let mut sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        volume.downward_api.is_some() || sources.any(|source| source.downward_api.is_some())
    })
}

/// The files of a volume; `None` for a volume that is not made of given files. The error is for a FailedMount event.
pub(crate) fn tree(pod: &Pod, volume: &Volume, given: &Given, facts: &Facts) -> Option<Result<Tree, String>> {
    let mut tree = Tree::new();
    let result = if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let optional = source.optional.unwrap_or(false);
        config_map(&mut tree, given, &source.name, source.items.as_deref(), mode, optional)
    } else if let Some(source) = &volume.secret {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let name = source.secret_name.as_deref().unwrap_or_default();
        secret(&mut tree, given, name, source.items.as_deref(), mode, source.optional.unwrap_or(false))
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        own_fields(&mut tree, pod, source.items.as_deref(), mode, facts)
    } else if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        projected.sources.iter().flatten().try_for_each(|source| {
            if let Some(source) = &source.config_map {
                let optional = source.optional.unwrap_or(false);
                config_map(&mut tree, given, &source.name, source.items.as_deref(), mode, optional)
            } else if let Some(source) = &source.secret {
                let optional = source.optional.unwrap_or(false);
                secret(&mut tree, given, &source.name, source.items.as_deref(), mode, optional)
            } else if let Some(source) = &source.downward_api {
                own_fields(&mut tree, pod, source.items.as_deref(), mode, facts)
            } else {
                Err("projected volumes of serviceAccountToken, clusterTrustBundle and podCertificate are not supported yet; set automountServiceAccountToken: false or take the source out".to_owned())
            }
        })
    } else {
        return None;
    };
    Some(result.map(|()| tree))
}

fn config_map(
    tree: &mut Tree,
    given: &Given,
    name: &str,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<(), String> {
    let Some(map) = given.config_maps.get(name) else {
        return if optional { Ok(()) } else { Err(format!("configmap {name:?} not found")) };
    };
    let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    select(tree, text.chain(binary).collect(), items, mode, optional)
        .map_err(|key| format!("configmap references non-existent config key: {key}"))
}

fn secret(
    tree: &mut Tree,
    given: &Given,
    name: &str,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<(), String> {
    let Some(secret) = given.secrets.get(name) else {
        return if optional { Ok(()) } else { Err(format!("secret {name:?} not found")) };
    };
    let data = secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    select(tree, data.collect(), items, mode, optional)
        .map_err(|key| format!("references non-existent secret key: {key}"))
}

/// Takes all keys, or those of `items` under their paths. The error is the key that is missing.
fn select(
    tree: &mut Tree,
    data: BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<(), String> {
    let file =
        |bytes: &[u8], mode: i32| File { data: bytes.to_vec(), mode: u32::try_from(mode).unwrap_or(0o644) };
    match items {
        None | Some([]) => {
            tree.extend(data.into_iter().map(|(key, bytes)| (key.to_owned(), file(bytes, mode))));
        }
        Some(items) => {
            for item in items {
                match data.get(item.key.as_str()) {
                    Some(bytes) => {
                        tree.insert(item.path.clone(), file(bytes, item.mode.unwrap_or(mode)));
                    }
                    None if optional => {}
                    None => return Err(item.key.clone()),
                }
            }
        }
    }
    Ok(())
}

fn own_fields(
    tree: &mut Tree,
    pod: &Pod,
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: i32,
    facts: &Facts,
) -> Result<(), String> {
    for item in items.unwrap_or_default() {
        let text = if let Some(field) = &item.field_ref {
            downward::field(pod, facts, &field.field_path)?
        } else if let Some(selector) = &item.resource_field_ref {
            let name = selector.container_name.as_deref().unwrap_or_default();
            let container = spec::containers(pod).find(|container| container.name == name);
            downward::resource(
                container.ok_or_else(|| format!("container {name} not found"))?,
                facts,
                selector,
            )?
        } else {
            continue;
        };
        let mode = u32::try_from(item.mode.unwrap_or(mode)).unwrap_or(0o644);
        tree.insert(item.path.clone(), File { data: text.into_bytes(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(volume: serde_json::Value, expect: Expect) {
        let volume: Volume = serde_json::from_value(volume).unwrap();
        let config = serde_json::json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "Mw=="}});
        let given = Given {
            config_maps: BTreeMap::from([("cfg".to_owned(), serde_json::from_value(config).unwrap())]),
            secrets: BTreeMap::from([(
                "sec".to_owned(),
                serde_json::from_value(serde_json::json!({"data": {"p": "c2VjcmV0"}})).unwrap(),
            )]),
        };
        let facts = Facts {
            pod_ip: "10.244.0.5".to_owned(),
            host_ip: "127.0.0.1".to_owned(),
            node_cpu_millis: 2000,
            node_memory: 1 << 30,
        };
        let pod = crate::fixtures::pod("Always a");
        let got = match tree(&pod, &volume, &given, &facts) {
            None => "not made of files".to_owned(),
            Some(Err(error)) => error,
            Some(Ok(tree)) => tree
                .iter()
                .map(|(path, file)| {
                    format!("{path} {:o} {}\n", file.mode, String::from_utf8_lossy(&file.data))
                })
                .collect(),
        };
        expect.assert_eq(&got);
    }

    #[test]
    fn volumes_are_made_from_the_objects_they_name() {
        check(
            serde_json::json!({"name": "v", "configMap": {"name": "cfg"}}),
            expect![[r#"
                a 644 1
                b 644 2
                c 644 3
            "#]],
        );
        check(
            serde_json::json!({"name": "v", "configMap": {"name": "cfg", "defaultMode": 256,
                "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 511}]}}),
            expect![[r#"
                x/y 400 1
                z 777 2
            "#]],
        );
        check(
            serde_json::json!({"name": "v", "projected": {"sources": [
                {"secret": {"name": "sec"}},
                {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}}),
            expect![[r#"
                name 644 web
                p 644 secret
            "#]],
        );
        check(
            serde_json::json!({"name": "v", "secret": {"secretName": "no"}}),
            expect![[r#"secret "no" not found"#]],
        );
        check(
            serde_json::json!({"name": "v", "secret": {"secretName": "no", "optional": true}}),
            expect![""],
        );
        check(
            serde_json::json!({"name": "v", "configMap": {"name": "cfg", "items": [{"key": "q", "path": "q"}]}}),
            expect!["configmap references non-existent config key: q"],
        );
        check(serde_json::json!({"name": "v", "emptyDir": {}}), expect!["not made of files"]);
    }
}
