//! Objects as controllers see them: typed where a controller reads more than metadata.

use control_api::object::{Key, ResourceId};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Event, Namespace, Node, ObjectReference, Pod, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Deserialize;
use std::sync::{Arc, LazyLock};

/// Core group: pods.
pub const PODS: ResourceId = ResourceId::new("", "pods");
/// Core group: nodes.
pub const NODES: ResourceId = ResourceId::new("", "nodes");
/// Core group: services.
pub const SERVICES: ResourceId = ResourceId::new("", "services");
/// Core group: endpoints.
pub const ENDPOINTS: ResourceId = ResourceId::new("", "endpoints");
/// Core group: namespaces.
pub const NAMESPACES: ResourceId = ResourceId::new("", "namespaces");
/// Core group: service accounts.
pub const SERVICE_ACCOUNTS: ResourceId = ResourceId::new("", "serviceaccounts");
/// Core group: config maps.
pub const CONFIG_MAPS: ResourceId = ResourceId::new("", "configmaps");
/// Core group: events.
pub const EVENTS: ResourceId = ResourceId::new("", "events");
/// `apps`: deployments.
pub const DEPLOYMENTS: ResourceId = ResourceId::new("apps", "deployments");
/// `apps`: replica sets.
pub const REPLICA_SETS: ResourceId = ResourceId::new("apps", "replicasets");
/// `discovery.k8s.io`: endpoint slices.
pub const ENDPOINT_SLICES: ResourceId = ResourceId::new("discovery.k8s.io", "endpointslices");
/// `coordination.k8s.io`: leases.
pub const LEASES: ResourceId = ResourceId::new("coordination.k8s.io", "leases");

/// The name of the ConfigMap with the cluster's CA in every namespace.
pub const ROOT_CA: &str = "kube-root-ca.crt";

/// One object. Cloning shares it. Managed fields are left out: no controller reads them.
#[derive(Debug, Clone)]
pub enum Object {
    /// A pod.
    Pod(Arc<Pod>),
    /// A node.
    Node(Arc<Node>),
    /// A service.
    Service(Arc<Service>),
    /// A service's endpoints.
    Endpoints(Arc<Endpoints>),
    /// A slice of a service's endpoints.
    EndpointSlice(Arc<EndpointSlice>),
    /// A namespace.
    Namespace(Arc<Namespace>),
    /// The ConfigMap named [`ROOT_CA`]; others are [`Object::Other`].
    RootCa(Arc<ConfigMap>),
    /// A deployment.
    Deployment(Arc<Deployment>),
    /// A replica set.
    ReplicaSet(Arc<ReplicaSet>),
    /// A lease.
    Lease(Arc<Lease>),
    /// An event.
    Event(Arc<SeenEvent>),
    /// Any other kind: its metadata without annotations.
    Other(Arc<ObjectMeta>),
}

/// What matters of an event. There are several for every pod, so nothing else is kept.
#[derive(Debug, Clone)]
pub struct SeenEvent {
    /// Its UID.
    pub uid: Box<str>,
    /// Its revision.
    pub revision: u64,
    /// When it last occurred.
    pub last: Timestamp,
}

/// A change of one object.
#[derive(Debug, Clone)]
pub struct Change {
    /// Which object.
    pub key: Key,
    /// What it was; none when it was created.
    pub before: Option<Object>,
    /// What it is; none when it was deleted.
    pub after: Option<Object>,
}

impl Change {
    /// What it was and what it is.
    pub fn states(&self) -> impl Iterator<Item = &Object> {
        self.before.iter().chain(&self.after)
    }

    /// Its metadata, now or as it was last.
    pub fn meta(&self) -> Option<&ObjectMeta> {
        self.after.as_ref().or(self.before.as_ref()).map(Object::meta)
    }
}

/// The metadata of what has none.
static NOTHING: LazyLock<ObjectMeta> = LazyLock::new(ObjectMeta::default);

#[derive(Deserialize)]
struct OnlyMeta {
    #[serde(default)]
    metadata: ObjectMeta,
}

macro_rules! typed {
    ($json:expr, $variant:ident, $type:ty) => {{
        let mut object: $type = serde_json::from_slice($json)?;
        object.metadata.managed_fields = None;
        // Lists that were read have room to grow, a third of a pod's size; those of a copy have none.
        Ok(Object::$variant(Arc::new(object.clone())))
    }};
}

impl Object {
    /// Reads a stored object.
    pub fn parse(key: &Key, json: &[u8]) -> Result<Self, serde_json::Error> {
        let resource = &key.resource;
        match (&*resource.group, &*resource.plural) {
            ("", "pods") => typed!(json, Pod, Pod),
            ("", "nodes") => typed!(json, Node, Node),
            ("", "services") => typed!(json, Service, Service),
            ("", "endpoints") => typed!(json, Endpoints, Endpoints),
            ("", "namespaces") => typed!(json, Namespace, Namespace),
            ("", "configmaps") if key.name == ROOT_CA => typed!(json, RootCa, ConfigMap),
            ("apps", "deployments") => typed!(json, Deployment, Deployment),
            ("apps", "replicasets") => typed!(json, ReplicaSet, ReplicaSet),
            ("discovery.k8s.io", "endpointslices") => typed!(json, EndpointSlice, EndpointSlice),
            ("coordination.k8s.io", "leases") => typed!(json, Lease, Lease),
            ("", "events") => {
                let event: Event = serde_json::from_slice(json)?;
                Ok(Self::Event(Arc::new(SeenEvent {
                    uid: event.metadata.uid_str().into(),
                    revision: event.metadata.revision(),
                    last: last_seen(&event),
                })))
            }
            _ => {
                let mut object: OnlyMeta = serde_json::from_slice(json)?;
                object.metadata.managed_fields = None;
                object.metadata.annotations = None;
                Ok(Self::Other(Arc::new(object.metadata)))
            }
        }
    }

    /// Its metadata; that of an event is not kept.
    pub fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Pod(object) => &object.metadata,
            Self::Node(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::Endpoints(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::Namespace(object) => &object.metadata,
            Self::RootCa(object) => &object.metadata,
            Self::Deployment(object) => &object.metadata,
            Self::ReplicaSet(object) => &object.metadata,
            Self::Lease(object) => &object.metadata,
            Self::Event(_) => &NOTHING,
            Self::Other(object) => object,
        }
    }

    /// The object as it counts when it is heard of: no event was last seen later than that.
    pub(crate) fn heard_of(self, now: Timestamp) -> Self {
        match self {
            Self::Event(event) if event.last > now => {
                Self::Event(Arc::new(SeenEvent { last: now, ..SeenEvent::clone(&event) }))
            }
            other => other,
        }
    }

    /// The pod, if it is one.
    pub fn pod(&self) -> Option<&Arc<Pod>> {
        if let Self::Pod(pod) = self { Some(pod) } else { None }
    }
}

/// When an event last occurred: as upstream's retention counts, from its last write.
fn last_seen(event: &Event) -> Timestamp {
    let times = [
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0),
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        event.metadata.creation_timestamp.as_ref().map(|time| time.0),
    ];
    times.into_iter().flatten().max().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What every object's metadata answers.
pub trait Meta {
    /// `name`.
    fn name_str(&self) -> &str;
    /// `namespace`; empty for kinds of the cluster.
    fn namespace_str(&self) -> &str;
    /// `uid`.
    fn uid_str(&self) -> &str;
    /// `resourceVersion` as the store's revision.
    fn revision(&self) -> u64;
    /// It is on its way out.
    fn is_deleting(&self) -> bool;
    /// When it was created.
    fn created(&self) -> Timestamp;
    /// A label's value.
    fn label(&self, key: &str) -> Option<&str>;
    /// An annotation's value.
    fn annotation(&self, key: &str) -> Option<&str>;
    /// The owner that says `controller: true`.
    fn controller(&self) -> Option<&OwnerReference>;
    /// Whether a finalizer is set.
    fn has_finalizer(&self, name: &str) -> bool;
}

impl Meta for ObjectMeta {
    fn name_str(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn namespace_str(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    fn uid_str(&self) -> &str {
        self.uid.as_deref().unwrap_or_default()
    }

    fn revision(&self) -> u64 {
        self.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    fn created(&self) -> Timestamp {
        self.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
    }

    fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.as_ref().is_some_and(|all| all.iter().any(|finalizer| finalizer == name))
    }
}

/// The key of a namespaced object.
pub fn key(resource: ResourceId, namespace: &str, name: &str) -> Key {
    Key { resource, namespace: Some(namespace.to_owned()), name: name.to_owned() }
}

/// The key of an object of the cluster.
pub fn cluster_key(resource: ResourceId, name: &str) -> Key {
    Key { resource, namespace: None, name: name.to_owned() }
}

/// What an event refers to its object by.
pub fn reference<T: k8s_openapi::Resource>(meta: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(T::API_VERSION.to_owned()),
        kind: Some(T::KIND.to_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// The reference by which an object's controller owns it.
pub fn controlled_by<T: k8s_openapi::Resource>(meta: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: T::API_VERSION.to_owned(),
        kind: T::KIND.to_owned(),
        name: meta.name_str().to_owned(),
        uid: meta.uid_str().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
