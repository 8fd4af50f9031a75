//! The one write path: what the API promises, over the store.
//!
//! Principles:
//! - **Server and controllers write alike.** Both call [`Registry`]; defaults, validation, optimistic concurrency,
//!   finalizers and events happen here once, for every kind, from its row. Namespaces alone have rules of their own
//!   (what is in one depends on it), and these are in `namespace.rs`.
//! - **Read, decide, commit, and again if it was stale.** A write reads one snapshot, computes the whole new object
//!   with the pure functions of `control-api`, and commits it for the revision it has read. Whoever names a revision is
//!   told of a conflict; whoever names none is retried on the newest state.
//! - **A dry run is the same way without the last step.**
//! - **What is given out once in the cluster** (cluster IPs, node ports) is chosen from a snapshot under one lock that is
//!   held until the write is in it: no separate table of allocations can disagree with the objects.
//! - **Time and ids come in** through [`Config`], so that a scenario can be repeated.

mod config;
mod options;
mod registry;
mod select;

mod bootstrap;
mod continue_token;
mod create;
mod delete;
mod list;
mod namespace;
mod patch;
mod update;
mod watch;

pub use config::Config;
pub use delete::Deleted;
pub use list::List;
pub use options::{DeleteOptions, ListOptions, Preconditions, Propagation, WatchOptions, WriteOptions};
pub use patch::{PatchBody, PatchKind};
pub use registry::{Registry, Written};
pub use watch::WatchEvent;
