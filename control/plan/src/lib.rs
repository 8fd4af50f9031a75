//! Controllers and scheduler: a snapshot in, a plan out.
//!
//! Nothing here waits, reads a clock or knows a server. The driver feeds a [`World`] from the store, asks a row of
//! [`CONTROLLERS`] for the [`Plan`] of one key, and carries it out. To add a controller: write a file with its `ROW`,
//! and name it in the list.

pub mod action;
pub mod controller;
pub mod names;
pub mod object;
pub mod pods;
pub mod selector;
pub mod world;

mod conditions;
mod deployment;
mod endpoints;
mod event_expiry;
mod garbage;
mod namespace;
mod namespace_defaults;
mod node_lifecycle;
mod pod_gc;
mod replica_set;
mod scheduler;
mod taint_eviction;

#[cfg(test)]
mod testing;

pub use action::{Action, EventRecord, Plan, Propagation};
pub use controller::{CONTROLLERS, Controller, Wake};
pub use object::{Change, Object};
pub use scheduler::amounts::Amounts;
pub use scheduler::place::{Cluster, HostPort, NodeName, NodeSpace, Unfit, place};
pub use scheduler::waiting::{Unplaced, WaitingPod, WaitingPods};
pub use world::{Registration, Settings, World};
