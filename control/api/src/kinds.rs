//! The kinds that are always there, one file and one line each.
//!
//! A kind's file holds its row, and whatever is special about it as pure functions that the row's
//! [`Strategy`](crate::resource::Strategy) names. To add a kind: a file with a `ROW`, a line in [`BUILT_IN`], and its
//! type in `schema/build.rs`.

mod config_map;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod event;
mod lease;
mod namespace;
mod node;
mod pod;
mod replica_set;
mod secret;
mod service;
mod service_account;

use crate::resource::Resource;

/// Every kind, in the order of discovery.
pub(crate) static BUILT_IN: &[&Resource] = &[
    &namespace::ROW,
    &pod::ROW,
    &node::ROW,
    &config_map::ROW,
    &secret::ROW,
    &service::ROW,
    &endpoints::ROW,
    &endpoint_slice::ROW,
    &service_account::ROW,
    &event::ROW,
    &deployment::ROW,
    &replica_set::ROW,
    &lease::ROW,
];
