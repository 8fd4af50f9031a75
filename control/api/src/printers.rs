//! The columns of each kind's Table: what `kubectl get` shows.
//!
//! Names, order, priorities and cell texts are upstream's; a cell is a pure function of the object and the time.

mod cells;
mod config;
mod event;
mod network;
mod node;
mod pod;
mod workload;

pub use cells::human_duration;
pub use config::{CONFIG_MAP, LEASE, NAMESPACE, SECRET, SERVICE_ACCOUNT};
pub use event::EVENT;
pub use network::{ENDPOINT_SLICE, ENDPOINTS, SERVICE};
pub use node::NODE;
pub use pod::POD;
pub use workload::{DEPLOYMENT, REPLICA_SET};

use crate::resource::{Column, Resource};
use cells::{AGE, NAME};
use serde_json::Value;

/// Columns of a kind that has none of its own.
pub const DEFAULT: &[Column] = &[NAME, CREATED_AT];

/// The age column of kinds without columns of their own: a date, which clients turn into an age.
const CREATED_AT: Column = Column {
    name: "Created At",
    kind: "date",
    cell: |object, _| {
        crate::object::at(object, &["metadata", "creationTimestamp"]).cloned().unwrap_or_default()
    },
    ..AGE
};

/// `TableRow.conditions` of an object: pods that have run to their end are marked.
pub(crate) fn row_conditions(resource: &Resource, object: &Value) -> Option<Value> {
    (resource.group.is_empty() && resource.plural == "pods").then(|| pod::row_conditions(object)).flatten()
}

#[cfg(test)]
mod tests;
