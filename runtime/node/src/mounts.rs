//! A pod's volumes on this host, and where its containers see them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use runtime_engine::Mount;
use runtime_volumes::{HostPathType, SubPath};

use crate::{
    config::NodeConfig,
    downward::Facts,
    env,
    error::chain,
    files::{self, Given},
    quantity, spec,
};

/// Where a pod's files lie. Names beginning with a dot cannot be a container's, whose logs lie beside.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) pod: PathBuf,
    memory: Option<PathBuf>,
    host_roots: Vec<PathBuf>,
}

/// A volume cannot be had: its name, and the message.
#[derive(Debug)]
pub(crate) struct MountProblem {
    pub(crate) volume: String,
    pub(crate) message: String,
}

impl Places {
    pub(crate) fn of(config: &NodeConfig, pod: &Pod) -> Self {
        let folder = spec::folder(spec::namespace(pod), spec::name(pod), spec::uid(pod));
        Self {
            pod: config.root_dir.join("pods").join(&folder),
            memory: config.memory_root.as_ref().map(|root| root.join(&folder)),
            host_roots: config.host_path_roots.clone(),
        }
    }

    fn volume(&self, volume: &Volume) -> Result<PathBuf, String> {
        let in_memory = volume.empty_dir.as_ref().is_some_and(|dir| dir.medium.as_deref() == Some("Memory"));
        if let Some(source) = &volume.host_path {
            let kind = source.type_.as_deref().unwrap_or_default();
            let kind = HostPathType::parse(kind).ok_or_else(|| format!("unknown hostPath type {kind:?}"))?;
            return runtime_volumes::host_path(&self.host_roots, Path::new(&source.path), kind)
                .map_err(|error| chain(&error));
        }
        if in_memory {
            let root = self.memory.as_ref().ok_or("emptyDir of medium Memory needs a tmpfs, and this node has none (no /dev/shm); use the default medium")?;
            return Ok(root.join(&volume.name));
        }
        Ok(self.pod.join(".volumes").join(&volume.name))
    }

    pub(crate) fn log(&self, container: &str, restarts: i32) -> PathBuf {
        self.pod.join(container).join(format!("{restarts}.log"))
    }

    /// Removes the volumes; the logs stay until the pod goes.
    pub(crate) fn remove_volumes(&self) {
        let folders = [self.pod.join(".volumes"), self.pod.join(".subpaths")];
        for folder in folders.iter().chain(&self.memory) {
            if let Err(error) = runtime_volumes::remove(folder) {
                tracing::warn!(error = chain(&error), "a pod's volumes cannot be removed");
            }
        }
    }

    /// Removes all there is of the pod.
    pub(crate) fn remove_all(&self) {
        self.remove_volumes();
        if let Err(error) = runtime_volumes::remove(&self.pod) {
            tracing::warn!(error = chain(&error), "a pod's folder cannot be removed");
        }
    }
}

fn volumes(pod: &Pod) -> &[Volume] {
    spec::spec(pod).and_then(|spec| spec.volumes.as_deref()).unwrap_or_default()
}

/// Makes all volumes of a pod, or brings them up to date.
pub(crate) fn set_up(pod: &Pod, places: &Places, given: &Given, facts: &Facts) -> Result<(), MountProblem> {
    for volume in volumes(pod) {
        set_up_one(pod, volume, places, given, facts)
            .map_err(|message| MountProblem { volume: volume.name.clone(), message })?;
    }
    Ok(())
}

fn set_up_one(
    pod: &Pod,
    volume: &Volume,
    places: &Places,
    given: &Given,
    facts: &Facts,
) -> Result<(), String> {
    let told = |error| chain(&error);
    if let Some(tree) = files::tree(pod, volume, given, facts) {
        runtime_volumes::write_tree(&places.volume(volume)?, &tree?).map_err(told)?;
        return Ok(());
    }
    if let Some(source) = &volume.empty_dir {
        return match source.medium.as_deref() {
            None | Some("" | "Memory") => runtime_volumes::empty_dir(&places.volume(volume)?).map_err(told),
            Some(other) => {
                Err(format!("emptyDir medium {other:?} is not supported; use the default medium or Memory"))
            }
        };
    }
    if volume.host_path.is_some() {
        return places.volume(volume).map(drop);
    }
    let kind = serde_json::to_value(volume)
        .ok()
        .and_then(|value| value.as_object()?.keys().find(|key| *key != "name").cloned());
    let kind = kind.unwrap_or_else(|| "none".to_owned());
    Err(format!(
        "volumes of type {kind} are not supported; supported are emptyDir, configMap, secret, downwardAPI, projected and hostPath"
    ))
}

/// Whether any volume's size is to be watched.
pub(crate) fn has_limits(pod: &Pod) -> bool {
    limits(pod).next().is_some()
}

fn limits(pod: &Pod) -> impl Iterator<Item = (&Volume, &str, u64)> {
    volumes(pod).iter().filter_map(|volume| {
        let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
        let bytes = quantity::units(limit).filter(|bytes| *bytes > 0)?;
        Some((volume, limit.0.as_str(), bytes))
    })
}

/// The message of an eviction, if an `emptyDir` holds more than its `sizeLimit`.
pub(crate) fn over_limit(pod: &Pod, places: &Places) -> Option<String> {
    limits(pod).find_map(|(volume, text, bytes)| {
        let used = runtime_volumes::usage(&places.volume(volume).ok()?);
        let name = &volume.name;
        (used > bytes).then(|| format!("Usage of EmptyDir volume {name:?} exceeds the limit {text:?}. "))
    })
}

/// What a container sees of its pod's volumes. The error is the message of a `CreateContainerConfigError`.
pub(crate) fn of_container(
    pod: &Pod,
    container: &Container,
    places: &Places,
    environment: &[(String, String)],
) -> Result<Vec<Mount>, String> {
    let values: BTreeMap<String, String> = environment.iter().cloned().collect();
    let mut mounts = Vec::new();
    let mut files: BTreeMap<String, Vec<(PathBuf, bool)>> = BTreeMap::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes(pod).iter().find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| format!("volume {:?} not found", mount.name))?;
        let read_only = mount.read_only.unwrap_or(false) || is_given(volume);
        let root = places.volume(volume)?;
        match part(mount, &root, read_only, &values)? {
            SubPath::Folder(host) => {
                mounts.push(Mount { host, guest: mount.mount_path.clone(), read_only });
            }
            SubPath::File(host) => files.entry(mount.mount_path.clone()).or_default().push((host, read_only)),
        }
    }
    mount_files(container, places, files, &mut mounts)?;
    Ok(mounts)
}

/// Whether a volume's files come from the API: pods cannot write them.
fn is_given(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

fn part(
    mount: &VolumeMount,
    root: &Path,
    read_only: bool,
    values: &BTreeMap<String, String>,
) -> Result<SubPath, String> {
    let expanded = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty());
    let sub_path = match (expanded, mount.sub_path.as_deref().unwrap_or_default()) {
        (Some(expression), _) => env::expand(expression, values),
        (None, path) => path.to_owned(),
    };
    if sub_path.is_empty() {
        let root = root.canonicalize().map_err(|error| format!("{}: {error}", root.display()))?;
        return Ok(if root.is_dir() { SubPath::Folder(root) } else { SubPath::File(root) });
    }
    runtime_volumes::sub_path(root, &sub_path, !read_only).map_err(|error| {
        format!("failed to prepare subPath for volumeMount {:?}: {}", mount.name, chain(&error))
    })
}

/// Guests see folders only, so a single file is put, as a second name of itself, into a folder made for the purpose;
/// files mounted beside each other share it.
fn mount_files(
    container: &Container,
    places: &Places,
    files: BTreeMap<String, Vec<(PathBuf, bool)>>,
    mounts: &mut Vec<Mount>,
) -> Result<(), String> {
    let mut folders: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (guest, sources) in files {
        let (parent, name) = guest.rsplit_once('/').unwrap_or(("/", &guest));
        let parent = if parent.is_empty() { "/" } else { parent };
        if mounts.iter().any(|mount| mount.guest.trim_end_matches('/') == parent)
            && !folders.contains_key(parent)
        {
            return Err(format!(
                "the file {guest} cannot be mounted into {parent}, where a folder is mounted; mount it elsewhere"
            ));
        }
        let tag = parent.replace('/', "_");
        let folder = places.pod.join(".subpaths").join(&container.name).join(tag);
        let failed = |error: std::io::Error| format!("mounting the file {guest}: {error}");
        if !folders.contains_key(parent) {
            runtime_volumes::remove(&folder).map_err(|error| chain(&error))?;
            fs::create_dir_all(&folder).map_err(failed)?;
            let read_only = sources.iter().all(|(_, read_only)| *read_only);
            mounts.push(Mount { host: folder.clone(), guest: parent.to_owned(), read_only });
            folders.insert(parent.to_owned(), folder.clone());
        }
        for (source, read_only) in sources {
            // A read-only file beside writable ones is a copy: writing to it changes nobody else's.
            let target = folder.join(name);
            if read_only || fs::hard_link(&source, &target).is_err() {
                if !read_only {
                    return Err(format!(
                        "the file {guest} lies on another file system and cannot be mounted writable; mount its folder"
                    ));
                }
                fs::copy(&source, &target).map_err(failed)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts { pod_ip: String::new(), host_ip: String::new(), node_cpu_millis: 0, node_memory: 0 }
    }

    fn pod(volumes: serde_json::Value, mounts: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"volumes": volumes, "containers": [{"name": "a", "volumeMounts": mounts}]},
        }))
        .unwrap()
    }

    fn check(root: &Path, pod: &Pod, given: &Given) -> Result<Vec<String>, String> {
        let mut config = NodeConfig::new("node", root);
        config.memory_root = None;
        let places = Places::of(&config, pod);
        set_up(pod, &places, given, &facts())
            .map_err(|problem| format!("{}: {}", problem.volume, problem.message))?;
        let mounts = of_container(
            pod,
            &pod.spec.as_ref().unwrap().containers[0],
            &places,
            &[("X".to_owned(), "sub".to_owned())],
        )?;
        let base = places.pod.canonicalize().unwrap();
        let show = |mount: &Mount| {
            let host = mount.host.canonicalize().unwrap();
            let host = host.strip_prefix(&base).map(|path| path.display().to_string()).unwrap_or_default();
            format!("{} -> {host}{}", mount.guest, if mount.read_only { " ro" } else { "" })
        };
        Ok(mounts.iter().map(show).collect())
    }

    #[test]
    fn volumes_are_mounted_where_containers_want_them() {
        let dir = tempfile::tempdir().unwrap();
        let config: k8s_openapi::api::core::v1::ConfigMap =
            serde_json::from_value(serde_json::json!({"data": {"app.conf": "x"}})).unwrap();
        let given = Given { config_maps: BTreeMap::from([("cfg".to_owned(), config)]), ..Given::default() };
        let pod = pod(
            serde_json::json!([{"name": "data", "emptyDir": {}}, {"name": "cfg", "configMap": {"name": "cfg"}}]),
            serde_json::json!([
                {"name": "data", "mountPath": "/data"},
                {"name": "data", "mountPath": "/part", "subPathExpr": "$(X)/deep", "readOnly": false},
                {"name": "cfg", "mountPath": "/cfg"},
                {"name": "cfg", "mountPath": "/etc/app/app.conf", "subPath": "app.conf"},
            ]),
        );
        assert_eq!(
            check(dir.path(), &pod, &given).unwrap(),
            [
                "/data -> .volumes/data",
                "/part -> .volumes/data/sub/deep",
                "/cfg -> .volumes/cfg ro",
                "/etc/app -> .subpaths/a/_etc_app ro"
            ]
        );
        let file = dir.path().join("pods/n_p_u/.subpaths/a/_etc_app/app.conf");
        assert_eq!(fs::read_to_string(file).unwrap(), "x");
    }

    #[test]
    fn what_cannot_be_mounted_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let check = |volume: serde_json::Value, expect: &str| {
            let pod = pod(serde_json::json!([volume]), serde_json::json!([]));
            let error = check(dir.path(), &pod, &Given::default()).unwrap_err();
            assert!(error.starts_with(expect), "{error}");
        };
        check(serde_json::json!({"name": "v", "configMap": {"name": "x"}}), "v: configmap \"x\" not found");
        check(
            serde_json::json!({"name": "v", "nfs": {"server": "s", "path": "/"}}),
            "v: volumes of type nfs are not supported",
        );
        check(
            serde_json::json!({"name": "v", "hostPath": {"path": "/etc"}}),
            "v: hostPath /etc is not under a folder that the operator allows",
        );
        check(
            serde_json::json!({"name": "v", "emptyDir": {"medium": "Memory"}}),
            "v: emptyDir of medium Memory needs a tmpfs",
        );
    }

    #[test]
    fn a_volume_over_its_limit_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let pod =
            pod(serde_json::json!([{"name": "v", "emptyDir": {"sizeLimit": "64Ki"}}]), serde_json::json!([]));
        let places = Places::of(&NodeConfig::new("node", dir.path()), &pod);
        assert!(has_limits(&pod));
        set_up(&pod, &places, &Given::default(), &facts()).unwrap();
        assert_eq!(over_limit(&pod, &places), None);
        fs::write(places.pod.join(".volumes/v/big"), vec![1; 100_000]).unwrap();
        assert_eq!(
            over_limit(&pod, &places).unwrap(),
            "Usage of EmptyDir volume \"v\" exceeds the limit \"64Ki\". "
        );
    }
}
