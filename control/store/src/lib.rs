//! Objects, revisions and watch over redb.
//!
//! Principles:
//! - **Reads never touch the disk.** Every object is in memory, encoded once; a [`Snapshot`] is an immutable ordered
//!   map that is cloned in constant time, so a list, a controller and a watch all look at the same bytes.
//! - **What is acknowledged is on the disk.** One OS thread writes. It takes all writers that wait, checks each against
//!   the state its predecessors leave, puts the accepted ones into one redb transaction, waits for the fsync, and only
//!   then shows the result to readers, wakes watchers and answers the writers.
//! - **A disk that fails does not lie.** After a failed transaction nobody knows what is on the disk, so the batch is
//!   refused and so is every later write, until a restart has read the file again. Reads go on.
//! - **One revision counts all writes**, as etcd's does. It survives restarts, deletions included.
//! - **Watchers cost nothing while nothing happens to them.** Events sit in one bounded ring; a [`Watch`] is a cursor
//!   into the part of the ring that concerns its resource (and namespace) and is woken by that part alone. A watcher
//!   the ring has passed gets [`Gone`] and lists again: the protocol's own answer to a slow reader.
//!
//! Roads not taken: a transaction per write (an fsync each: 64 writers would wait in line for 64 disk turns);
//! a task and a queue per watcher (memory for every idle one, and a rule for full at each); keeping old snapshots alive
//! for paginated lists (the ring can undo its events, see [`Store::snapshot_at`]).
//!
//! This crate alone names redb. It knows keys, revisions and bytes; what an object means is the registry's business.

mod disk;
mod error;
mod key;
mod ring;
mod snapshot;
mod store;
mod stored;
mod watch;
mod writer;

#[cfg(test)]
mod crash_tests;

pub use error::{CommitError, Gone, StoreError};
pub use ring::{Event, EventKind, RingSize};
pub use snapshot::Snapshot;
pub use store::{Store, StoreOptions};
pub use stored::{Stored, Write};
pub use watch::Watch;
