//! What a component that runs in a wharf pod can ask of its node.
//!
//! Link this crate into a guest built for `wasm32-wasip2`:
//!
//! ```no_run
//! let pod = wharf_guest::pod();
//! println!("I am {} in {}, at {}", pod.name, pod.namespace, pod.ip);
//!
//! while wharf_guest::termination().is_none() {
//!     // One piece of work.
//! }
//! println!("told to end: bye");
//! ```
//!
//! The interfaces are `wharf:pod/identity` and `wharf:pod/termination`; their WIT stands in `wit/pod.wit`, for guests
//! in other languages. A component that imports `termination` (any call of [`termination`] or [`wait_for_termination`]
//! does it) gets the pod's `terminationGracePeriodSeconds` to end by itself; any other is ended at once.

use std::time::Duration;

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "guest", generate_all });
}

use bindings::wharf::pod as wit;

/// The pod that the calling container belongs to, as the API server knew it when the container started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.name`
    pub name: String,
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.uid`
    pub uid: String,
    /// `spec.hostname`, else the pod's name.
    pub hostname: String,
    /// The pod's address on the virtual network.
    pub ip: String,
    /// `spec.nodeName`
    pub node: String,
    /// `spec.serviceAccountName`
    pub service_account: String,
    /// The name of this container.
    pub container: String,
    /// `metadata.labels`, sorted by key.
    pub labels: Vec<(String, String)>,
    /// `metadata.annotations`, sorted by key.
    pub annotations: Vec<(String, String)>,
}

/// That this container is to end, and by when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What is left of the grace period; then the container is killed.
    pub remaining: Duration,
    /// Why, in a few words.
    pub reason: String,
}

/// Who this container is.
pub fn pod() -> Pod {
    let pod = wit::identity::get_pod();
    Pod {
        name: pod.name,
        namespace: pod.namespace,
        uid: pod.uid,
        hostname: pod.hostname,
        ip: pod.ip,
        node: pod.node,
        service_account: pod.service_account,
        container: pod.container,
        labels: pod.labels,
        annotations: pod.annotations,
    }
}

/// The notice of this container's end, if it has been given. Never waits.
pub fn termination() -> Option<Notice> {
    wit::termination::requested()
        .map(|notice| Notice { remaining: Duration::from_millis(notice.remaining_ms), reason: notice.reason })
}

/// Waits for the notice of this container's end.
///
/// ```no_run
/// let notice = wharf_guest::wait_for_termination();
/// println!("{}: {:?} left", notice.reason, notice.remaining);
/// ```
pub fn wait_for_termination() -> Notice {
    loop {
        if let Some(notice) = termination() {
            return notice;
        }
        wit::termination::subscribe().block();
    }
}
