//! What can go wrong here, sorted by who can act on it.

use crate::stored::Stored;
use std::path::PathBuf;
use std::sync::Arc;

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file open.
    #[error("{} is in use by another process; stop that process, or choose another data directory", path.display())]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// The file cannot be read or written, or its content is damaged.
    #[error("{} cannot be opened as a store; check its permissions and the disk, restore a backup, or choose another data directory", path.display())]
    Unreadable {
        /// The store's file.
        path: PathBuf,
        /// What the file system or the database said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file is sound but was not written by this program.
    #[error("{} is not a store of this program: {found}; choose another data directory, or move the file away", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        found: String,
    },
    /// The file was written by a later version of this program.
    #[error("{} has format {found}, and this program knows formats up to {known}; use the version that wrote it", path.display())]
    TooNew {
        /// The store's file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The latest format known here.
        known: u64,
    },
}

/// A write was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// A create met an object of the same key.
    #[error("the object exists already")]
    Exists {
        /// The object that is there.
        current: Arc<Stored>,
    },
    /// An update or delete met no object.
    #[error("the object does not exist")]
    NotFound,
    /// An update or delete was decided on an older state.
    #[error("the object has changed since it was read: it is now at revision {}", current.revision)]
    Stale {
        /// The object as it is now.
        current: Arc<Stored>,
    },
    /// A create was decided on an older state of the object that allows it.
    #[error("what the object depends on has changed since it was read")]
    Outdated,
    /// The object to write is not one: no JSON object, or without `metadata`.
    #[error("the object cannot be stored: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The object to write is nested deeper than what can be read back.
    #[error("the object is nested too deep: limit is {max} levels")]
    TooDeep {
        /// Maps and lists within each other, at most.
        max: usize,
    },
    /// The object to write holds too much.
    #[error("the object is too large: limit is {max} bytes")]
    TooLarge {
        /// Bytes of its texts, keys and values, at most.
        max: usize,
    },
    /// The store was closed, or an earlier write met a disk error.
    #[error("the store takes no writes until it is opened again")]
    Closed,
    /// The disk refused; whether the write will be there after a restart is not known.
    #[error("writing to the store's file failed")]
    Io(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// The events asked for are no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {requested} ({oldest})")]
pub struct Gone {
    /// The revision the reader had seen.
    pub requested: u64,
    /// The oldest revision from which a watch can still begin.
    pub oldest: u64,
}
