//! All that decisions may look at: every object at one revision, with indexes.
//!
//! The driver feeds it changes in the store's order, and lets no decision be made before it has fed all that the store
//! had acknowledged: so a decision sees the writes of earlier ones, and no expectations need to be kept. What a
//! controller looks up goes through an index: no decision about one object walks over all pods.

mod node_history;
mod owners;
mod pod_index;

pub use node_history::Registration;

use crate::action::Plan;
use crate::object::{Change, Meta, NAMESPACES, NODES, Object, REPLICA_SETS};
use crate::pods;
use crate::scheduler;
use crate::scheduler::amounts::Amounts;
use crate::scheduler::place::NodeSpace;
use crate::scheduler::waiting::WaitingPods;
use crate::selector::Labels;
use control_api::object::{Key, ResourceId};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod, Service, Taint};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use node_history::NodeHistory;
use owners::Owners;
use pod_index::PodIndex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the world is told once, at the start.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The cluster's CA in PEM, for the ConfigMap in every namespace.
    pub root_ca: String,
    /// The kinds that are served: (group, kind) to their place and whether they live in namespaces.
    pub kinds: BTreeMap<(String, String), (ResourceId, bool)>,
}

/// Every object, with indexes.
#[derive(Debug, Default)]
pub struct World {
    settings: Settings,
    started: Timestamp,
    revision: u64,
    /// Indexes share these keys.
    objects: BTreeMap<Arc<Key>, Object>,
    owners: Owners,
    pods: PodIndex,
    waiting: WaitingPods,
    /// Nodes with what is free on them. Those without a node object are there while pods name them.
    spaces: BTreeMap<String, NodeSpace>,
    /// How many objects of each kind a namespace holds.
    content: BTreeMap<String, BTreeMap<ResourceId, usize>>,
    /// Events in the order they were last seen.
    events: BTreeSet<(Timestamp, Arc<Key>)>,
    nodes: NodeHistory,
    /// Why the last action of (controller, key) was refused.
    refusals: BTreeMap<(&'static str, Key), String>,
}

macro_rules! getters {
    ($($one:ident, $variant:ident, $type:ty, $group:literal, $plural:literal, $doc:literal;)*) => {
        $(
            #[doc = $doc]
            pub fn $one(&self, namespace: &str, name: &str) -> Option<&Arc<$type>> {
                let key = Key {
                    resource: ResourceId::new($group, $plural),
                    namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
                    name: name.to_owned(),
                };
                self.objects.get(&key).and_then(|object| match object {
                    Object::$variant(object) => Some(object),
                    _ => None,
                })
            }
        )*
    };
}

impl World {
    /// An empty one. `started` is when the control plane began to watch: before it, nobody could be heard.
    pub fn new(settings: Settings, started: Timestamp) -> Self {
        Self { settings, started, ..Self::default() }
    }

    /// What it was told at the start.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When the control plane began to watch.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// The revision of the latest change in it.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes in a change: what an object is from `revision` on, or that it is gone. `now` is when we heard of it.
    pub fn apply(&mut self, key: Key, revision: u64, after: Option<Object>, now: Timestamp) -> Change {
        self.revision = self.revision.max(revision);
        let after = after.map(|object| object.heard_of(now));
        if key.resource == NODES {
            self.nodes.note(&key.name, after.as_ref(), self.pods.is_used(&key.name), now);
        }
        // Its indexes share the key of an object.
        let known = self.objects.get_key_value(&key).map(|(known, _)| Arc::clone(known));
        let shared = known.unwrap_or_else(|| Arc::new(key.clone()));
        let before = match &after {
            Some(object) => self.objects.insert(Arc::clone(&shared), object.clone()),
            None => self.objects.remove(&shared),
        };
        if let Some(object) = &before {
            self.unindex(&shared, object);
        }
        if let Some(object) = &after {
            self.index(&shared, object);
        }
        self.count(&key, before.is_some(), after.is_some());
        let change = Change { key, before, after };
        if change.states().any(|object| object.pod().is_some()) {
            self.waiting.update(&shared, change.after.as_ref().and_then(Object::pod));
            self.forget_gone_node(&change);
        }
        if scheduler::leaves_room(&change) {
            self.waiting.room_came();
        }
        change
    }

    /// Forgets since when a node is gone, once the last pod that named it is.
    fn forget_gone_node(&mut self, change: &Change) {
        let node = change.before.as_ref().and_then(Object::pod).and_then(|pod| pods::node(pod));
        if let Some(node) = node.filter(|node| !self.pods.is_used(node)) {
            self.nodes.forget_gone(node);
        }
    }

    getters! {
        pod, Pod, Pod, "", "pods", "A pod.";
        service, Service, Service, "", "services", "A service.";
        endpoints, Endpoints, Endpoints, "", "endpoints", "A service's endpoints.";
        endpoint_slice, EndpointSlice, EndpointSlice, "discovery.k8s.io", "endpointslices", "An endpoint slice.";
        deployment, Deployment, Deployment, "apps", "deployments", "A deployment.";
        replica_set, ReplicaSet, ReplicaSet, "apps", "replicasets", "A replica set.";
        lease, Lease, Lease, "coordination.k8s.io", "leases", "A lease.";
    }

    /// A node.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.spaces.get(name)?.node.as_ref()
    }

    /// A namespace.
    pub fn namespace(&self, name: &str) -> Option<&Arc<Namespace>> {
        match self.objects.get(&crate::object::cluster_key(NAMESPACES, name))? {
            Object::Namespace(namespace) => Some(namespace),
            _ => None,
        }
    }

    /// Any object.
    pub fn get(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    /// All objects of a kind in a namespace, by name.
    pub fn in_namespace<'a>(
        &'a self,
        resource: &ResourceId,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a Object)> + use<'a> {
        let first = Key {
            resource: resource.clone(),
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            name: String::new(),
        };
        let end = first.clone();
        self.objects
            .range::<Key, _>(first..)
            .map(|(key, object)| (&**key, object))
            .take_while(move |(key, _)| key.resource == end.resource && key.namespace == end.namespace)
    }

    /// All objects of a kind.
    pub fn all<'a>(&'a self, resource: &ResourceId) -> impl Iterator<Item = (&'a Key, &'a Object)> + use<'a> {
        let resource = resource.clone();
        let first = Key { resource: resource.clone(), namespace: None, name: String::new() };
        let all = self.objects.range::<Key, _>(first..).map(|(key, object)| (&**key, object));
        all.take_while(move |(key, _)| key.resource == resource)
    }

    /// Every object there is.
    pub fn everything(&self) -> impl Iterator<Item = (&Key, &Object)> {
        self.objects.iter().map(|(key, object)| (&**key, object))
    }

    /// What names this UID as an owner.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Key> {
        self.owners.dependents(uid).map(|key| &**key)
    }

    /// Pods whose controller has this UID.
    pub fn pods_of(&self, uid: &str) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.controlled(uid)
    }

    /// Replica sets whose controller has this UID.
    pub fn replica_sets_of<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a Arc<ReplicaSet>> {
        self.dependents(uid)
            .filter(|key| key.resource == REPLICA_SETS)
            .filter_map(|key| match self.objects.get(key)? {
                Object::ReplicaSet(replica_set) => Some(replica_set),
                _ => None,
            })
            .filter(move |set| set.metadata.controller().is_some_and(|owner| owner.uid == uid))
    }

    /// Objects of a kind in a namespace that nobody controls.
    pub fn orphans<'a>(
        &'a self,
        resource: &ResourceId,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a Object)> + use<'a> {
        let keys = self.owners.orphans(resource, namespace);
        keys.filter_map(|key| Some((&**key, self.objects.get(key)?)))
    }

    /// Pods of a namespace that have all these labels; none when no label is asked for.
    pub fn pods_labelled<'a>(
        &'a self,
        namespace: &str,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a Arc<Pod>> {
        self.pods.labelled(namespace, labels)
    }

    /// Pods bound to a node, whether the node exists or not.
    pub fn pods_on<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Arc<Pod>> + use<'a> {
        self.pods.on_node(node)
    }

    /// Pods that wait for a node.
    pub fn waiting_pods(&self) -> &WaitingPods {
        &self.waiting
    }

    /// Remembers what no object says of a plan that is being carried out: which pods it set aside until room comes, and
    /// what it told of a node's registration.
    pub fn remember(&mut self, plan: &Plan) {
        for pod in &plan.unplaced {
            self.waiting.set_aside(pod);
        }
        if let Some(registration) = &plan.registration {
            self.nodes.register(registration);
        }
    }

    /// Forgets that pods were found to fit nowhere.
    pub fn forget_set_aside(&mut self) {
        self.waiting.room_came();
    }

    /// How many pods ended and are not being deleted.
    pub fn count_ended_pods(&self) -> usize {
        self.pods.ended().len()
    }

    /// Pods that ended and are not being deleted, in the order in which they are given up.
    pub fn ended_pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.ended().filter_map(|key| self.objects.get(key)?.pod())
    }

    /// The nodes that exist, with what their pods use.
    pub fn node_spaces(&self) -> impl Iterator<Item = &NodeSpace> {
        self.spaces.values().filter(|space| space.node.is_some())
    }

    /// How many objects of each kind a namespace holds; kinds without any are left out.
    pub fn content(&self, namespace: &str) -> impl Iterator<Item = (&ResourceId, usize)> {
        let content = self.content.get(namespace);
        content.into_iter().flatten().map(|(resource, count)| (resource, *count))
    }

    /// Since when a node that pods name is gone, if it went while the control plane watched.
    pub fn gone_since(&self, node: &str) -> Option<Timestamp> {
        self.nodes.gone_since(node)
    }

    /// The UID of a node whose registration was told, and whose removal was not.
    pub fn registered_node(&self, name: &str) -> Option<&str> {
        self.nodes.registered(name)
    }

    /// Since when a node has a taint.
    pub fn tainted_since(&self, node: &str, taint: &Taint) -> Timestamp {
        let seen = || self.nodes.tainted_since(node, taint);
        taint.time_added.as_ref().map(|time| time.0).or_else(seen).unwrap_or(self.started)
    }

    /// Events, the longest unseen first.
    pub fn events(&self) -> impl Iterator<Item = (Timestamp, &Key)> {
        self.events.iter().map(|(seen, key)| (*seen, &**key))
    }

    /// How many events there are.
    pub fn count_events(&self) -> usize {
        self.events.len()
    }

    /// Why the last action of a controller on a key was refused.
    pub fn refusal(&self, controller: &'static str, key: &Key) -> Option<&str> {
        self.refusals.get(&(controller, key.clone())).map(String::as_str)
    }

    /// Notes how the last plan of a controller for a key ended.
    pub fn set_refusal(&mut self, controller: &'static str, key: Key, refusal: Option<String>) {
        match refusal {
            Some(message) => self.refusals.insert((controller, key), message),
            None => self.refusals.remove(&(controller, key)),
        };
    }

    /// The key of an owner as a dependent in `namespace` names it. None when the kind is not served here.
    pub fn owner_key(&self, owner: &OwnerReference, namespace: &str) -> Option<Key> {
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let (resource, namespaced) = self.settings.kinds.get(&(group.to_owned(), owner.kind.clone()))?;
        Some(Key {
            resource: resource.clone(),
            namespace: namespaced.then(|| namespace.to_owned()),
            name: owner.name.clone(),
        })
    }

    fn index(&mut self, key: &Arc<Key>, object: &Object) {
        self.owners.insert(key, object);
        match object {
            Object::Pod(pod) => self.index_pod(key, pod),
            Object::Node(node) => {
                let space = self.space(&key.name);
                space.allocatable = Amounts::allocatable(node);
                space.node = Some(Arc::clone(node));
            }
            Object::Event(event) => {
                self.events.insert((event.last, Arc::clone(key)));
            }
            _ => {}
        }
    }

    fn unindex(&mut self, key: &Arc<Key>, object: &Object) {
        self.owners.remove(key, object);
        match object {
            Object::Pod(pod) => self.unindex_pod(key, pod),
            Object::Node(_) => {
                self.space(&key.name).node = None;
                self.forget_unused_space(&key.name);
            }
            Object::Event(event) => {
                self.events.remove(&(event.last, Arc::clone(key)));
            }
            _ => {}
        }
    }

    fn index_pod(&mut self, key: &Arc<Key>, pod: &Arc<Pod>) {
        self.pods.insert(key, pod);
        if let Some(node) = pods::node(pod).filter(|_| !pods::is_terminal(pod)) {
            self.space(node).take(pod);
        }
    }

    fn unindex_pod(&mut self, key: &Arc<Key>, pod: &Pod) {
        self.pods.remove(key, pod);
        if let Some(node) = pods::node(pod) {
            if !pods::is_terminal(pod) {
                self.space(node).give_back(pod);
            }
            self.forget_unused_space(node);
        }
    }

    fn space(&mut self, name: &str) -> &mut NodeSpace {
        if !self.spaces.contains_key(name) {
            self.spaces.insert(name.to_owned(), NodeSpace::default());
        }
        self.spaces.get_mut(name).expect("it was inserted when it was missing")
    }

    fn forget_unused_space(&mut self, name: &str) {
        let unused = self.spaces.get(name).is_some_and(|space| space.node.is_none());
        if unused && !self.pods.is_used(name) {
            self.spaces.remove(name);
        }
    }

    fn count(&mut self, key: &Key, was: bool, is: bool) {
        let Some(namespace) = key.namespace.as_ref().filter(|_| was != is) else {
            return;
        };
        let kinds = self.content.entry(namespace.clone()).or_default();
        let count = kinds.entry(key.resource.clone()).or_default();
        *count = if is { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            kinds.remove(&key.resource);
        }
        if kinds.is_empty() {
            self.content.remove(namespace);
        }
    }

    /// Names of all nodes that exist.
    pub fn node_names(&self) -> impl Iterator<Item = &str> {
        self.all(&NODES).map(|(key, _)| key.name.as_str())
    }

    /// Names of all nodes that pods are bound to.
    pub fn bound_nodes(&self) -> impl Iterator<Item = &str> {
        self.pods.nodes()
    }
}

#[cfg(test)]
mod tests {
    use crate::object::{NODES, PODS, cluster_key};
    use crate::testing::{add_node, now, pod, world};

    #[test]
    fn indexes_follow_every_change() {
        let mut world = world(&[]);
        let key = crate::object::key(PODS, "default", "a");
        world.apply(key.clone(), 1, Some(pod("a:pending app=web cpu=100m")), now());
        assert_eq!(world.waiting_pods().len(), 1);
        world.apply(key.clone(), 2, Some(pod("a:running app=db node=n1 cpu=100m")), now());
        assert_eq!(world.waiting_pods().len(), 0);
        assert_eq!(world.pods_on("n1").count(), 1);
        assert_eq!(world.pods_labelled("default", &[("app".into(), "web".into())].into()).count(), 0);
        assert_eq!(world.pods_labelled("default", &[("app".into(), "db".into())].into()).count(), 1);
        assert_eq!(world.content("default").count(), 1);
        assert_eq!(world.spaces.get("n1").map(|space| space.used.cpu_milli), Some(100));
        world.apply(key.clone(), 3, None, now());
        assert_eq!(world.content("default").count(), 0);
        let left = (&world.pods, &world.owners, &world.spaces, &world.objects);
        let none = "PodIndex { labelled: {}, controlled: {}, bound: {}, ended: {} }, Owners { dependents: {}, orphans: {} }";
        assert_eq!(format!("{left:?}"), format!("({none}, {{}}, {{}})"));
        assert_eq!(world.revision(), 3);
    }

    #[test]
    fn when_a_node_went_is_known_as_long_as_a_pod_names_it() {
        let mut world = world(&[]);
        let (pod_key, node) = (crate::object::key(PODS, "default", "a"), cluster_key(NODES, "n1"));
        add_node(&mut world, "n1");
        world.apply(node.clone(), 2, None, now());
        assert_eq!(world.gone_since("n1"), None);
        add_node(&mut world, "n1");
        world.apply(pod_key.clone(), 3, Some(pod("a:running node=n1")), now());
        world.apply(node, 4, None, now());
        assert_eq!(world.gone_since("n1"), Some(now()));
        world.apply(pod_key.clone(), 5, Some(pod("a:running node=n1 deleting")), now());
        assert_eq!(world.gone_since("n1"), Some(now()));
        world.apply(pod_key, 6, None, now());
        assert!(world.nodes.is_empty() && world.spaces.is_empty());
    }
}
