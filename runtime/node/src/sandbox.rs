//! What a pod has before and after its containers: volumes and a place on the network.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use runtime_net::AttachSpec;

use crate::{
    downward::Facts,
    error::chain,
    files::{self, Given},
    mounts::{self, Places},
    spec,
    state::{Ending, Step},
    worker::{Inner, PodEntry},
};

/// How often volumes with a limit are measured.
const MEASURE_EVERY: SignedDuration = SignedDuration::from_secs(10);

impl Inner {
    /// What the downward API tells of this node.
    pub(crate) fn facts(&self, pod_ip: &str) -> Facts {
        Facts {
            pod_ip: pod_ip.to_owned(),
            host_ip: self.config.address.to_string(),
            node_cpu_millis: self.config.machine.cpu_millis,
            node_memory: self.config.machine.memory_bytes,
        }
    }

    pub(crate) async fn mount_volumes(&self, entry: &PodEntry, pod: &Arc<Pod>) -> bool {
        let has_volumes =
            spec::spec(pod).and_then(|spec| spec.volumes.as_ref()).is_some_and(|volumes| !volumes.is_empty());
        if !has_volumes {
            entry.lock().state.volumes = Step::Done;
            return true;
        }
        // What changes from here on is for the next time.
        let (pod, changes, ip) = {
            let data = entry.lock();
            let ip = data.state.ip.clone().unwrap_or_default();
            (Arc::clone(&data.pod), data.state.volume_changes, ip)
        };
        let pod = &pod;
        let given = match self.given(pod).await {
            Ok(given) => given,
            Err(message) => return self.mount_failed(entry, pod, "", &message),
        };
        let (places, facts) = (Places::of(&self.config, pod), self.facts(&ip));
        let task = {
            let pod = Arc::clone(pod);
            self.tracker.spawn_blocking(move || mounts::set_up(&pod, &places, &given, &facts))
        };
        match task.await {
            Ok(Ok(())) => {
                let mut data = entry.lock();
                data.state.volumes_made(changes);
                if mounts::has_limits(pod) {
                    data.state.measure_at = Some(Timestamp::now() + MEASURE_EVERY);
                }
                true
            }
            Ok(Err(problem)) => self.mount_failed(entry, pod, &problem.volume, &problem.message),
            Err(error) => self.mount_failed(entry, pod, "", &chain(&error)),
        }
    }

    pub(crate) fn mount_failed(&self, entry: &PodEntry, pod: &Pod, volume: &str, message: &str) -> bool {
        let message = format!("MountVolume.SetUp failed for volume {volume:?} : {message}");
        self.event(pod, None, "Warning", "FailedMount", message);
        let mut data = entry.lock();
        data.state.volumes = data.state.volumes.failed(Timestamp::now());
        // A refresh that fails leaves the pod with what it has.
        matches!(data.state.volumes, Step::Stale(_))
    }

    /// Reads the objects that a pod's volumes are made from.
    pub(crate) async fn given(&self, pod: &Pod) -> Result<Given, String> {
        let (config_maps, secrets) = files::needed(pod);
        let namespace = spec::namespace(pod);
        let mut given = Given::default();
        for name in config_maps {
            let found = self.objects.config_map(namespace, name).await.map_err(|error| chain(&error))?;
            given.config_maps.extend(found.map(|map| (name.to_owned(), map)));
        }
        for name in secrets {
            let found = self.objects.secret(namespace, name).await.map_err(|error| chain(&error))?;
            given.secrets.extend(found.map(|secret| (name.to_owned(), secret)));
        }
        Ok(given)
    }

    pub(crate) fn create_sandbox(&self, entry: &PodEntry, pod: &Pod) -> bool {
        let before = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()?.parse().ok());
        let attached = self.network.attach(AttachSpec {
            namespace: spec::namespace(pod).to_owned(),
            hostname: spec::hostname(pod),
            want: before,
        });
        let mut data = entry.lock();
        match attached {
            Ok(attachment) => {
                data.state.ip = Some(attachment.ip().to_string());
                data.attachment = Some(attachment);
                data.state.sandbox = Step::Done;
                true
            }
            Err(error) => {
                data.state.sandbox = data.state.sandbox.failed(Timestamp::now());
                drop(data);
                let message = format!("Failed to create pod sandbox: {}", chain(&error));
                self.event(pod, None, "Warning", "FailedCreatePodSandBox", message);
                false
            }
        }
    }

    pub(crate) async fn measure_volumes(&self, entry: &PodEntry, pod: &Arc<Pod>) {
        let places = Places::of(&self.config, pod);
        let task = {
            let pod = Arc::clone(pod);
            self.tracker.spawn_blocking(move || mounts::over_limit(&pod, &places))
        };
        let over = task.await.ok().flatten();
        if let Some(message) = &over {
            self.event(pod, None, "Warning", "Evicted", message.clone());
        }
        let mut data = entry.lock();
        data.state.measure_at = Some(Timestamp::now() + MEASURE_EVERY);
        if let Some(message) = over {
            data.state.end(Ending::Evicted(message), Timestamp::now());
        }
    }

    pub(crate) async fn tear_down(&self, entry: &PodEntry, pod: &Pod) {
        let (attachment, keep) = {
            let mut data = entry.lock();
            data.http = None;
            let is_deleted = spec::deletion_timestamp(&data.pod).is_some();
            (data.attachment.take(), data.state.ending == Some(Ending::Shutdown) && !is_deleted)
        };
        if let Some(attachment) = attachment {
            attachment.detach();
        }
        let has_volumes =
            spec::spec(pod).and_then(|spec| spec.volumes.as_ref()).is_some_and(|volumes| !volumes.is_empty());
        if has_volumes && !keep {
            let places = Places::of(&self.config, pod);
            // What cannot be removed has been logged, and is tried again at the next start.
            let _ = self.tracker.spawn_blocking(move || places.remove_volumes()).await;
        }
        entry.lock().state.torn_down = true;
    }
}
