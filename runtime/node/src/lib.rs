//! The kubelet: takes pods, runs their containers as WebAssembly guests, and tells what became of them.
//!
//! The decision is `plan`: from a pod's spec, what runs of it and the time, to a list of actions, with no IO. The
//! `worker` reads, plans, acts and looks again; it is the same code whether a pod is new, a container has ended, a
//! timer has fired or the process was restarted. A pod with nothing to do has no task, only its state: the worker is
//! spawned by a kick and ends when the plan is empty.
//!
//! This crate never sees the store nor an API client: pods come as [`SourceEvent`]s, results leave as
//! [`NodeReport`]s, ConfigMaps and Secrets are read through [`Objects`].
//!
//! # Choices where a guest is not a Linux process
//! - A component has no entrypoint: `command` followed by `args` is its argv; without `command`, `argv[0]` is the
//!   last part of the image's name.
//! - SIGTERM is the notice of `wharf:pod/termination`. A guest that does not import it cannot react, so it is ended
//!   at once (exit code 143) instead of waiting for its grace to pass; one that does and overstays ends with 137.
//! - After a restart of the process, containers that ran are run again with the same restart count: it was the node
//!   that ended them, not they. What their restart policy does not run again has ended: in a shutdown as it did, in a
//!   crash as `ContainerStatusUnknown`, because to run a step twice is worse than to say that it did not finish.
//! - Init containers that have ended are not run again then, unless an `emptyDir` of medium `Memory` is lost with the
//!   machine's memory.
//! - An `emptyDir` of medium `Memory` lies on the host's tmpfs.
//! - A trap is exit code 134 with the trap's message; reaching the memory limit is OOMKilled with 137.

mod backoff;
mod conditions;
mod config;
mod downward;
mod env;
mod error;
mod files;
mod guest_http;
mod handle;
mod heartbeat;
mod hooks;
mod log_format;
mod log_reader;
mod log_sink;
mod messages;
mod mounts;
mod node;
mod node_status;
mod plan;
mod probe;
mod prober;
mod quantity;
mod restore;
mod run;
mod sandbox;
mod service_env;
mod services;
mod shutdown;
mod spec;
mod start;
mod state;
mod status;
mod timers;
mod usage;
mod worker;

#[cfg(test)]
mod fixtures;

pub use config::{Machine, NodeConfig};
pub use handle::NodeHandle;
pub use log_reader::{LogRequest, LogStream, LogsError};
pub use messages::{EventRecord, NodeReport, Objects, ObjectsError, SourceEvent};
pub use node::Node;
