//! What can go wrong, sorted by who can act on it.

use std::{io, path::PathBuf, time::Duration};

use crate::imports::UnmetImport;

/// The engine could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The machine refuses the address space or the mappings even of a small pool, or lacks a feature of the processor.
    #[error("setting up WebAssembly on this machine")]
    Setup(#[source] wasmtime::Error),
    /// A capability could not be added.
    #[error("adding the capability {name}")]
    Capability {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: wasmtime::Error,
    },
    /// The guests' threads could not be started.
    #[error("starting the guests' threads")]
    Threads(#[source] io::Error),
}

/// A file cannot become an image. The one who made the file can act.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Not WebAssembly at all.
    #[error("not a WebAssembly file: it {looks_like}; {remedy}")]
    NotWasm {
        /// "looks like an ELF program", ...
        looks_like: String,
        /// What to do.
        remedy: String,
    },
    /// WebAssembly, but damaged or with features that are not supported.
    #[error("not a valid WebAssembly file: {0}")]
    Invalid(String),
    /// A text file in WebAssembly's format with an error in it.
    #[error("not valid WebAssembly text: {0}")]
    InvalidText(String),
    /// Has nothing to run.
    #[error("{0}")]
    NotRunnable(String),
    /// Imports what is not offered here.
    #[error("{}", crate::imports::tell(.0))]
    UnmetImport(Vec<UnmetImport>),
    /// Larger than the bound on what is compiled.
    #[error("{bytes} bytes or more are above the {limit} that are compiled at most")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// Compiling took too long.
    #[error("compiling took longer than {0:?}")]
    Slow(Duration),
    /// Needs more memories, tables or instances than the pool has in all.
    #[error("{0}")]
    TooMuch(String),
    /// A fault of the compiler.
    #[error("compiling failed: {0}")]
    Compiler(String),
}

/// Names in one line. A file may hold a hundred thousand, each as long as it likes, and what is told of it becomes part
/// of a pod's status.
pub(crate) fn few(names: &[impl AsRef<str>]) -> String {
    const MOST: usize = 8;
    let shown: Vec<_> = names.iter().take(MOST).map(|name| shortened(name.as_ref(), 120)).collect();
    let rest = match names.len().saturating_sub(MOST) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    shown.join(", ") + &rest
}

/// The first `most` characters of a text.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    }
}

/// A guest could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// All the places for guests stayed taken.
    #[error(
        "no room for another guest: all {instances} places were still taken after {waited:?} (the kernel's vm.max_map_count bounds them)"
    )]
    NoRoom {
        /// How long this guest waited.
        waited: Duration,
        /// How many places there are.
        instances: u32,
    },
    /// A folder could not be opened.
    #[error("mounting {} at {guest}", host.display())]
    Mount {
        /// The folder on the host.
        host: PathBuf,
        /// The path in the guest.
        guest: String,
        /// Why.
        #[source]
        source: wasmtime::Error,
    },
    /// Arguments and environment are too large.
    #[error("arguments and environment are {bytes} bytes, more than {limit}")]
    TooLarge {
        /// Their size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// The image has no `wasi:cli/run`: it is served, not run.
    #[error("the component handles HTTP requests and has no program to run")]
    NotACommand,
    /// The engine is shutting down.
    #[error("the engine is shutting down")]
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_and_names_are_told_in_part() {
        assert_eq!(few(&["a", "b"]), "a, b");
        assert_eq!(few(&["a"; 10]), "a, a, a, a, a, a, a, a and 2 more");
        assert_eq!(few(&["\u{fc}".repeat(200)]), "\u{fc}".repeat(120) + "..");
    }
}
