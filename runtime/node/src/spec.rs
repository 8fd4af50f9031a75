//! Questions about a pod's spec that many files ask.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, PodSpec};

/// What part a container has in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to its end before the next one begins.
    Init,
    /// An init container that keeps running beside the others (`restartPolicy: Always`).
    Sidecar,
    /// One of the pod's containers proper.
    Main,
}

/// When a container is run again after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("OnFailure") => Self::OnFailure,
            Some("Never") => Self::Never,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended with this code runs again.
    pub(crate) fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

pub(crate) fn spec(pod: &Pod) -> Option<&PodSpec> {
    pod.spec.as_ref()
}

pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The name by which upstream's messages tell a pod: `name_namespace(uid)`.
pub(crate) fn full_name(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// The pod's folder under `pods`.
pub(crate) fn folder(namespace: &str, name: &str, uid: &str) -> String {
    format!("{namespace}_{name}_{uid}")
}

/// All containers in the order of their start: init containers, then the pod's own.
pub(crate) fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let main = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    init.iter().chain(main)
}

pub(crate) fn container(pod: &Pod, index: usize) -> Option<&Container> {
    containers(pod).nth(index)
}

pub(crate) fn n_init(pod: &Pod) -> usize {
    spec(pod).and_then(|spec| spec.init_containers.as_ref()).map_or(0, Vec::len)
}

pub(crate) fn role(pod: &Pod, index: usize) -> Role {
    if index >= n_init(pod) {
        return Role::Main;
    }
    match container(pod, index).and_then(|container| container.restart_policy.as_deref()) {
        Some("Always") => Role::Sidecar,
        _ => Role::Init,
    }
}

/// The restart policy that holds for a container: its own, else the pod's; an init container's `Always` means until
/// it succeeds.
pub(crate) fn restart_policy(pod: &Pod, index: usize) -> RestartPolicy {
    let own = container(pod, index).and_then(|container| container.restart_policy.as_deref());
    let pods = spec(pod).and_then(|spec| spec.restart_policy.as_deref());
    match (role(pod, index), RestartPolicy::parse(own.or(pods))) {
        (Role::Sidecar, _) => RestartPolicy::Always,
        (Role::Init, RestartPolicy::Always) => RestartPolicy::OnFailure,
        (_, policy) => policy,
    }
}

/// How long the pod's containers may take to end.
pub(crate) fn grace(pod: &Pod) -> Duration {
    let deletion = pod.metadata.deletion_grace_period_seconds;
    grace_of(deletion.or_else(|| spec(pod)?.termination_grace_period_seconds).unwrap_or(30))
}

/// A grace as an object says it, which may be any number. What is longer than a lifetime is added to no clock.
pub(crate) fn grace_of(secs: i64) -> Duration {
    Duration::from_secs(secs.clamp(0, i64::from(u32::MAX)).unsigned_abs())
}

pub(crate) fn deletion_timestamp(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.deletion_timestamp.as_ref().map(|time| time.0)
}

/// The phase in its object, where that is one that a pod does not leave.
pub(crate) fn ended_phase(pod: &Pod) -> Option<&'static str> {
    match pod.status.as_ref()?.phase.as_deref()? {
        "Succeeded" => Some("Succeeded"),
        "Failed" => Some("Failed"),
        _ => None,
    }
}

/// When the pod has had its `activeDeadlineSeconds`.
pub(crate) fn deadline(pod: &Pod, started: Option<Timestamp>) -> Option<Timestamp> {
    let secs = spec(pod)?.active_deadline_seconds?;
    started?.checked_add(SignedDuration::from_secs(secs)).ok()
}

/// The host's name as the pod's containers see it.
pub(crate) fn hostname(pod: &Pod) -> String {
    let hostname = spec(pod).and_then(|spec| spec.hostname.clone()).filter(|hostname| !hostname.is_empty());
    let mut hostname = hostname.unwrap_or_else(|| name(pod).to_owned());
    hostname.truncate(63);
    hostname.trim_end_matches(['-', '.']).to_owned()
}

/// The object an event about a pod, or about one of its containers, refers to.
pub(crate) fn reference(pod: &Pod, container_index: Option<usize>) -> ObjectReference {
    let field_path = container_index.and_then(|index| {
        let list = if index < n_init(pod) { "initContainers" } else { "containers" };
        Some(format!("spec.{list}{{{}}}", container(pod, index)?.name))
    });
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}

/// An image reference's pull policy: the one given, else by its tag.
pub(crate) fn pull_policy(container: &Container) -> &str {
    let image = container.image.as_deref().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let latest = !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
    container.image_pull_policy.as_deref().unwrap_or(if latest { "Always" } else { "IfNotPresent" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_has_bounds() {
        assert_eq!(grace_of(-1), Duration::ZERO);
        assert_eq!(grace_of(30), Duration::from_secs(30));
        assert_eq!(grace_of(i64::MAX), Duration::from_secs(u64::from(u32::MAX)));
    }
}
