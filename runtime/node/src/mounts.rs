//! A pod's volumes on this host, and where its containers see them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeMount};
use runtime_engine::{Folder, Mount};
use runtime_volumes::{Held, HostPathType};

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

    /// Where a volume lies that the node makes itself.
    fn folder(&self, volume: &Volume) -> Result<PathBuf, String> {
        if !is_in_memory(volume) {
            return Ok(self.pod.join(".volumes").join(&volume.name));
        }
        let root = self.memory.as_ref().ok_or("emptyDir of medium Memory needs a tmpfs, and this node has none (no /dev/shm); use the default medium")?;
        Ok(root.join(&volume.name))
    }

    /// Finds a volume, and holds it.
    fn open(&self, volume: &Volume) -> Result<Held, String> {
        let Some(source) = &volume.host_path else {
            return Held::folder(&self.folder(volume)?).map_err(|error| chain(&error));
        };
        let kind = source.type_.as_deref().unwrap_or_default();
        let kind = HostPathType::parse(kind).ok_or_else(|| format!("unknown hostPath type {kind:?}"))?;
        runtime_volumes::host_path(&self.host_roots, Path::new(&source.path), kind)
            .map_err(|error| chain(&error))
    }

    pub(crate) fn log(&self, container: &str, restarts: i32) -> PathBuf {
        self.pod.join(container).join(format!("{restarts}.log"))
    }

    /// Removes the logs of a container's runs before the last two: of those that have ended one is kept, as upstream does.
    pub(crate) fn prune_logs(&self, container: &str, restarts: i32) {
        let Ok(entries) = fs::read_dir(self.pod.join(container)) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let run = name.to_str().and_then(|name| name.split_once(".log")?.0.parse::<i32>().ok());
            if run.is_some_and(|run| run < restarts - 1)
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(%error, path = %entry.path().display(), "an old log cannot be removed");
            }
        }
    }

    /// Whether a volume in memory is not there: not made yet, or lost with the machine's memory.
    pub(crate) fn lacks_memory(&self, pod: &Pod) -> bool {
        let mut folders = volumes(pod).iter().filter(|volume| is_in_memory(volume));
        folders.any(|volume| self.folder(volume).is_ok_and(|folder| !folder.is_dir()))
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

/// Whether a volume is gone after the machine has started anew.
fn is_in_memory(volume: &Volume) -> bool {
    volume.empty_dir.as_ref().is_some_and(|dir| dir.medium.as_deref() == Some("Memory"))
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
        runtime_volumes::write_tree(&places.folder(volume)?, &tree?).map_err(told)?;
        return Ok(());
    }
    if let Some(source) = &volume.empty_dir {
        return match source.medium.as_deref() {
            None | Some("" | "Memory") => runtime_volumes::empty_dir(&places.folder(volume)?).map_err(told),
            Some(other) => {
                Err(format!("emptyDir medium {other:?} is not supported; use the default medium or Memory"))
            }
        };
    }
    if volume.host_path.is_some() {
        return places.open(volume).map(drop);
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
        let used = runtime_volumes::usage(&places.folder(volume).ok()?);
        let name = &volume.name;
        (used > bytes).then(|| format!("Usage of EmptyDir volume {name:?} exceeds the limit {text:?}. "))
    })
}

/// What a container sees of its pod's volumes, held open from now on: its guests and those of other pods cannot give
/// these names another meaning. The error is the message of a `CreateContainerConfigError`.
pub(crate) fn of_container(
    pod: &Pod,
    container: &Container,
    places: &Places,
    environment: &[(String, String)],
) -> Result<Vec<Mount>, String> {
    let values: BTreeMap<String, String> = environment.iter().cloned().collect();
    let mut mounts = Vec::new();
    let mut files = BTreeMap::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume = volumes(pod).iter().find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| format!("volume {:?} not found", mount.name))?;
        let read_only = mount.read_only.unwrap_or(false) || is_given(volume);
        let held = part(mount, places.open(volume)?, read_only, &values)?;
        if held.is_folder() {
            let host = Folder::from(held.into_fd());
            mounts.push(Mount { host, guest: mount.mount_path.clone(), read_only });
        } else {
            files.insert(mount.mount_path.as_str(), (held, read_only));
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
    root: Held,
    read_only: bool,
    values: &BTreeMap<String, String>,
) -> Result<Held, String> {
    let expanded = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty());
    let sub_path = match (expanded, mount.sub_path.as_deref().unwrap_or_default()) {
        (Some(expression), _) => env::expand(expression, values),
        (None, path) => path.to_owned(),
    };
    if sub_path.is_empty() {
        return Ok(root);
    }
    runtime_volumes::sub_path(&root, &sub_path, !read_only).map_err(|error| {
        format!("failed to prepare subPath for volumeMount {:?}: {}", mount.name, chain(&error))
    })
}

/// Guests see folders only, so a single file is put, as a second name of itself, into a folder made for the purpose;
/// files mounted beside each other share it.
fn mount_files(
    container: &Container,
    places: &Places,
    files: BTreeMap<&str, (Held, bool)>,
    mounts: &mut Vec<Mount>,
) -> Result<(), String> {
    let all = places.pod.join(".subpaths").join(&container.name);
    runtime_volumes::remove(&all).map_err(|error| chain(&error))?;
    let mut by_parent: BTreeMap<&str, Vec<(&str, &str, Held, bool)>> = BTreeMap::new();
    for (guest, (file, read_only)) in files {
        let (parent, name) = guest.rsplit_once('/').unwrap_or(("", guest));
        let parent = if parent.is_empty() { "/" } else { parent };
        by_parent.entry(parent).or_default().push((guest, name, file, read_only));
    }
    for (n, (parent, files)) in by_parent.into_iter().enumerate() {
        let is_taken =
            mounts.iter().any(|mount| mount.guest.trim_end_matches('/') == parent.trim_end_matches('/'));
        if let (true, Some((guest, ..))) = (is_taken, files.first()) {
            return Err(format!(
                "the file {guest} cannot be mounted into {parent}, where a folder is mounted; mount it elsewhere"
            ));
        }
        // By a number: no two parents have the same.
        let folder = all.join(n.to_string());
        let failed = |error: io::Error| format!("mounting into {parent}: {error}");
        fs::create_dir_all(&folder).map_err(failed)?;
        let all_read_only = files.iter().all(|(.., read_only)| *read_only);
        for (guest, name, file, read_only) in files {
            let failed = |error: io::Error| format!("mounting the file {guest}: {error}");
            let target = folder.join(name);
            // A read-only file beside writable ones is a copy: writing to it changes nobody else's.
            if read_only {
                file.copy(&target).map_err(failed)?;
                continue;
            }
            match file.link(&target) {
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                    return Err(format!(
                        "the file {guest} lies on another file system and cannot be mounted writable; mount its folder"
                    ));
                }
                linked => linked.map_err(failed)?,
            }
        }
        let host = Folder::open(&folder).map_err(failed)?;
        mounts.push(Mount { host, guest: parent.to_owned(), read_only: all_read_only });
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

    fn mounts(root: &Path, pod: &Pod, given: &Given) -> Result<Vec<Mount>, String> {
        let mut config = NodeConfig::new("node", root);
        config.memory_root = None;
        let places = Places::of(&config, pod);
        set_up(pod, &places, given, &facts())
            .map_err(|problem| format!("{}: {}", problem.volume, problem.message))?;
        let container = &pod.spec.as_ref().unwrap().containers[0];
        of_container(pod, container, &places, &[("X".to_owned(), "sub".to_owned())])
    }

    fn check(root: &Path, pod: &Pod, given: &Given) -> Result<Vec<String>, String> {
        let mounts = mounts(root, pod, given)?;
        let base = root.join("pods/n_p_u").canonicalize().unwrap();
        let show = |mount: &Mount| {
            let host = mount.host.path().canonicalize().unwrap();
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
                "/etc/app -> .subpaths/a/0 ro"
            ]
        );
        let file = dir.path().join("pods/n_p_u/.subpaths/a/0/app.conf");
        assert_eq!(fs::read_to_string(file).unwrap(), "x");
    }

    #[test]
    fn a_part_of_a_volume_stays_what_it_was_when_a_guest_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod(
            serde_json::json!([{"name": "data", "emptyDir": {}}]),
            serde_json::json!([
                {"name": "data", "mountPath": "/data"},
                {"name": "data", "mountPath": "/s", "subPath": "s"},
            ]),
        );
        let mounts = mounts(dir.path(), &pod, &Given::default()).unwrap();
        let [data, s] = &mounts[..] else { panic!("{mounts:?}") };
        fs::rename(data.host.path().join("s"), data.host.path().join("t")).unwrap();
        std::os::unix::fs::symlink("../../../../../../../../..", data.host.path().join("s")).unwrap();
        assert!(!s.host.path().join("proc").exists(), "the mount follows the link");
        assert!(s.host.path().canonicalize().unwrap().ends_with("data/t"));
        let error = check(dir.path(), &pod, &Given::default()).unwrap_err();
        assert!(error.ends_with("subPath \"s\" leads out of the volume"), "{error}");
    }

    #[test]
    fn files_beside_each_other_share_a_folder_and_no_others_do() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("pods/n_p_u/.volumes/data");
        fs::create_dir_all(&host).unwrap();
        fs::write(host.join("file"), "x").unwrap();
        let mount = |path: &str, read_only: bool| serde_json::json!({"name": "data", "mountPath": path, "subPath": "file", "readOnly": read_only});
        let mounts =
            [mount("/a/b/x", true), mount("/a/b/y", false), mount("/a_b/x", true), mount("/z", false)];
        let pod = pod(serde_json::json!([{"name": "data", "emptyDir": {}}]), mounts.to_vec().into());
        for _again in 0..2 {
            assert_eq!(
                check(dir.path(), &pod, &Given::default()).unwrap(),
                ["/ -> .subpaths/a/0", "/a/b -> .subpaths/a/1", "/a_b -> .subpaths/a/2 ro"]
            );
        }
        let folders = dir.path().join("pods/n_p_u/.subpaths/a");
        fs::write(folders.join("1/x"), "changed").unwrap();
        assert_eq!(fs::read_to_string(host.join("file")).unwrap(), "x");
        fs::write(folders.join("1/y"), "changed").unwrap();
        assert_eq!(fs::read_to_string(host.join("file")).unwrap(), "changed");
        assert_eq!(fs::read_to_string(folders.join("2/x")).unwrap(), "x");
    }

    #[test]
    fn the_logs_of_the_last_two_runs_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let pod = pod(serde_json::json!([]), serde_json::json!([]));
        let places = Places::of(&NodeConfig::new("node", dir.path()), &pod);
        let logs = places.pod.join("a");
        fs::create_dir_all(&logs).unwrap();
        for name in
            ["0.log", "8.log.1", "9.log", "9.log.1", "9.log.2", "10.log", "10.log.1", "11.log", "other"]
        {
            fs::write(logs.join(name), "").unwrap();
        }
        places.prune_logs("a", 11);
        let left =
            fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: std::collections::BTreeSet<String> = left.collect();
        assert_eq!(Vec::from_iter(left), ["10.log", "10.log.1", "11.log", "other"]);
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
