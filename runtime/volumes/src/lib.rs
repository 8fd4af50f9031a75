//! What a pod can mount.
//!
//! Plain folders on the host, prepared for the guests' preopened directories: trees of files that are replaced in one
//! step ([`write_tree`]: ConfigMaps, Secrets, downward API), scratch folders ([`empty_dir`]), folders of the host under
//! roots that the operator named ([`host_path`]), and parts of each ([`sub_path`]). What is mounted is [`Held`]: found
//! once, and the same from then on. This crate has not heard of pods or of the API: the node says which files with which
//! bytes.

mod empty_dir;
mod error;
mod held;
mod host_path;
mod sub_path;
mod tree;

pub use empty_dir::{empty_dir, remove, usage};
pub use error::VolumeError;
pub use held::Held;
pub use host_path::{HostPathType, host_path};
pub use sub_path::{check_relative, sub_path};
pub use tree::{File, Tree, write_tree};
