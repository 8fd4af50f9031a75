//! Questions about one pod that several controllers ask.

use crate::object::Meta;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

/// `status.phase`; `Pending` when it is not set.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// `spec.nodeName`, when it has one.
pub fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Its init containers that run as long as the pod does.
pub fn sidecars(pod: &Pod) -> impl Iterator<Item = &Container> {
    let init_containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    init_containers.filter(|container| container.restart_policy.as_deref() == Some("Always"))
}

/// Its priority.
pub fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

/// `status.nominatedNodeName`, when it has one: where there will be room for it.
pub fn nominated(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.nominated_node_name.as_deref().filter(|name| !name.is_empty())
}

/// It ended and will not run again.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// It runs or will: neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !pod.metadata.is_deleting()
}

/// A condition of a type.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

/// The pod with a condition set. Its time of transition stays while its status does.
pub fn with_condition(
    pod: &Pod,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Pod {
    let status = crate::conditions::status(holds);
    let current = condition(pod, kind).filter(|current| current.status == status);
    let since = current.and_then(|current| current.last_transition_time.clone());
    let condition = PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(since.unwrap_or_else(|| time(now))),
        last_probe_time: None,
        observed_generation: pod.metadata.generation,
    };
    let mut new = Pod::clone(pod);
    let conditions = new.status.get_or_insert_default().conditions.get_or_insert_default();
    match conditions.iter_mut().find(|other| other.type_ == kind) {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
    new
}

/// Its Ready condition is True.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when it is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

/// Whether a pod has been ready long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Available {
    /// It has.
    Yes,
    /// It is ready, and will have been long enough after this.
    In(Duration),
    /// It is not ready.
    No,
}

/// Whether a pod has been ready for `min_ready_secs`.
pub fn available(pod: &Pod, min_ready_secs: i32, now: Timestamp) -> Available {
    let Some(since) = ready_since(pod) else {
        return Available::No;
    };
    if min_ready_secs <= 0 {
        return Available::Yes;
    }
    let at = since.saturating_add(SignedDuration::from_secs(min_ready_secs.into())).unwrap_or(Timestamp::MAX);
    until(at, now).map_or(Available::Yes, Available::In)
}

/// How long it is until `at`; none when it has come.
pub fn until(at: Timestamp, now: Timestamp) -> Option<Duration> {
    let rest = at.duration_since(now);
    if rest <= SignedDuration::ZERO { None } else { Some(rest.unsigned_abs()) }
}

/// A time as `metav1.Time` keeps it: whole seconds.
pub fn time(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// The most restarts of any of its containers, and of any of its sidecars.
pub fn max_restarts(pod: &Pod) -> (i32, i32) {
    let sidecars: Vec<&str> = sidecars(pod).map(|container| container.name.as_str()).collect();
    let most = |statuses: Option<&Vec<ContainerStatus>>, counts: &dyn Fn(&str) -> bool| {
        let counted = statuses.into_iter().flatten().filter(|status| counts(&status.name));
        counted.map(|status| status.restart_count).max().unwrap_or(0)
    };
    let status = pod.status.as_ref();
    (
        most(status.and_then(|status| status.container_statuses.as_ref()), &|_| true),
        most(status.and_then(|status| status.init_container_statuses.as_ref()), &|name| {
            sidecars.contains(&name)
        }),
    )
}
