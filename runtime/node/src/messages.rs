//! What comes to the node and what leaves it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{ConfigMap, NodeStatus, ObjectReference, Pod, PodStatus, Secret, Service},
    discovery::v1::EndpointSlice,
};

/// A change that the node hears of. All arrive on one bounded queue, which makes the sender wait when it is full:
/// nothing is lost, and the node takes events faster than anybody writes them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SourceEvent {
    /// A pod bound to this node is there, or has changed.
    Pod(Arc<Pod>),
    /// A pod is no longer in the API.
    PodGone {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID: a new pod of the same name is another one.
        uid: String,
    },
    /// A Service is there, or has changed.
    Service(Arc<Service>),
    /// A Service is gone.
    ServiceGone {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// An EndpointSlice is there, or has changed.
    EndpointSlice(Arc<EndpointSlice>),
    /// An EndpointSlice is gone.
    EndpointSliceGone {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A ConfigMap was created, changed or deleted.
    ConfigMapChanged {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A Secret was created, changed or deleted.
    SecretChanged {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// All that exists has been sent once: what the node still has on disk beyond it belongs to nobody.
    Synced,
}

/// What the node has to say.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NodeReport {
    /// A pod's status, sent only when it differs from the last one sent. Conditions of types that the node does not
    /// own are those of the pod as it was last seen.
    PodStatus {
        /// The pod's namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// The whole status.
        status: Box<PodStatus>,
    },
    /// A deleted pod has no containers any more: its object can be removed (deleted with a grace of 0).
    PodEnded {
        /// The pod's namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Something to be told to those who look at an object's events.
    Event(EventRecord),
    /// The node's own status.
    Node {
        /// The whole status.
        status: Box<NodeStatus>,
    },
    /// The node is alive.
    LeaseRenewed {
        /// When.
        at: Timestamp,
        /// For how many seconds that holds.
        duration_secs: i32,
    },
}

/// An event, before whoever stores it counts its repetitions.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRecord {
    /// What it is about; `fieldPath` names the container.
    pub regarding: ObjectReference,
    /// `Normal` or `Warning`.
    pub type_: &'static str,
    /// One word, upstream's where it has one.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// ConfigMaps and Secrets could not be read.
#[derive(Debug, thiserror::Error)]
#[error("reading {what}")]
pub struct ObjectsError {
    /// Which object, as in `configmap "x"`.
    pub what: String,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Where the node reads the objects that pods refer to: the control plane of this process, or one across the network.
#[async_trait::async_trait]
pub trait Objects: Send + Sync + 'static {
    /// The ConfigMap, or `None` if there is none of this name.
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, ObjectsError>;
    /// The Secret, or `None` if there is none of this name.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ObjectsError>;
}
