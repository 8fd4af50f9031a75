//! One WebAssembly component: compile, limits, deadline, trap.
//!
//! [`Engine`] is made once with the [`Capability`]s that guests may import; [`Engine::load`] turns a file's bytes into
//! an [`Image`]; [`Image::start`] runs one [`Guest`] of it, [`Image::store`] gives a store to those who call exports
//! of their own (HTTP). Guests run on threads of their own, so that the host's timers do not depend on them.
//!
//! This crate knows `wasi:cli` and what belongs to it. It has not heard of sockets, HTTP or Kubernetes.

mod adapt;
mod cache;
mod capability;
mod compile;
mod control;
mod digest;
mod engine;
mod error;
mod exit;
mod guest;
mod image;
mod imports;
mod instances;
mod meter;
mod metered;
mod pool;
mod pressure;
mod quota;
mod shape;
mod spec;
mod state;
mod ticker;
mod validate;

pub use capability::{Capability, Extensions};
pub use compile::{compile_stdin, read_content};
pub use control::GuestControl;
pub use digest::{Digest, NotADigest};
pub use engine::{Engine, EngineConfig};
pub use error::{EngineError, LoadError, StartError};
pub use exit::Exit;
pub use guest::Guest;
pub use image::{Image, ImageKind};
pub use imports::UnmetImport;
pub use meter::{MemoryLimitReached, Meter, Usage};
pub use metered::{Killed, Metered};
pub use pool::PoolSizes;
pub use shape::{Shape, shape_of};
pub use spec::{Folder, GuestSpec, Mount};
pub use state::{GuestState, Limits};
