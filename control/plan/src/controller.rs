//! Controllers as rows.

use crate::action::Plan;
use crate::object::Change;
use crate::world::World;
use crate::{
    deployment, endpoints, event_expiry, garbage, namespace, namespace_defaults, node_lifecycle, pod_gc,
    replica_set, scheduler, taint_eviction,
};
use control_api::object::{Key, ResourceId};
use jiff::Timestamp;

/// One controller.
#[derive(Debug)]
pub struct Controller {
    /// Its name in logs, metrics and events' `source`.
    pub name: &'static str,
    /// What wakes it.
    pub wakes: &'static [Wake],
    /// What to do about one key. It looks at the world alone, never at what woke it.
    pub reconcile: fn(&World, &Key, Timestamp) -> Plan,
}

/// A kind whose changes wake a controller.
#[derive(Debug)]
pub struct Wake {
    /// The kind; `None` for all of them.
    pub resource: Option<ResourceId>,
    /// Which keys a change concerns. The world is the one after the change.
    pub keys: fn(&World, &Change) -> Vec<Key>,
}

impl Wake {
    /// On changes of a kind.
    pub const fn on(
        group: &'static str,
        plural: &'static str,
        keys: fn(&World, &Change) -> Vec<Key>,
    ) -> Self {
        Self { resource: Some(ResourceId::new(group, plural)), keys }
    }

    /// On changes of every kind.
    pub const fn on_all(keys: fn(&World, &Change) -> Vec<Key>) -> Self {
        Self { resource: None, keys }
    }
}

/// The changed object's own key: what most rows want of their own kind.
pub(crate) fn itself(_: &World, change: &Change) -> Vec<Key> {
    vec![change.key.clone()]
}

/// Every controller, in no order that matters.
pub static CONTROLLERS: &[&Controller] = &[
    &scheduler::ROW,
    &replica_set::ROW,
    &deployment::ROW,
    &endpoints::SLICES,
    &endpoints::ENDPOINTS,
    &endpoints::MIRROR,
    &namespace::ROW,
    &namespace_defaults::SERVICE_ACCOUNT,
    &namespace_defaults::ROOT_CA,
    &garbage::ROW,
    &node_lifecycle::ROW,
    &taint_eviction::ROW,
    &pod_gc::ROW,
    &event_expiry::ROW,
];
