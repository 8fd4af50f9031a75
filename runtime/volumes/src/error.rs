//! Why a volume cannot be had, in words for the pod's FailedMount event.

use std::{io, path::PathBuf};

/// Why a volume cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// A file or folder could not be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done, as in `create folder`.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A path of the host is outside of the roots that the operator named.
    #[error(
        "hostPath {} is not under a folder that the operator allows ({allowed}); start the node with --host-path-root naming a parent folder of it, or use emptyDir",
        path.display()
    )]
    NotAllowed {
        /// The path asked for.
        path: PathBuf,
        /// The roots there are, as text.
        allowed: String,
    },
    /// The `type` of a hostPath does not hold.
    #[error("hostPath type check failed: {} is not a {expected}", path.display())]
    WrongType {
        /// The path asked for.
        path: PathBuf,
        /// What it should have been.
        expected: &'static str,
    },
    /// A relative path that is absolute, empty or climbs out.
    #[error("{path:?} must be a relative path and not contain the '..' element")]
    BadPath {
        /// The path as given.
        path: String,
    },
    /// A path inside of a volume leads out of it by a symbolic link.
    #[error("subPath {path:?} leads out of the volume")]
    Escapes {
        /// The path as given.
        path: String,
    },
}

impl VolumeError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
