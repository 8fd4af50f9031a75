//! What can go wrong with an image.

use std::{io, path::PathBuf};

use runtime_engine::{Digest, LoadError};

use crate::reference::InvalidReference;

/// An image could not be had, loaded or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The name is none.
    #[error(transparent)]
    InvalidReference(#[from] InvalidReference),
    /// It is to be added under a digest.
    #[error("{name:?} names a digest, which the content decides: give a name and a tag alone, as web:1.0")]
    NamedByDigest {
        /// As it was given.
        name: String,
    },
    /// It is not in the local store.
    #[error(
        "image {reference:?} is not in the local store; add it with: wharf image load FILE.wasm -t {} --home {}",
        name_of(reference),
        home.display()
    )]
    NotFound {
        /// The folder that holds the store.
        home: PathBuf,
        /// As it was asked for.
        reference: String,
    },
    /// It is there, and cannot run here.
    #[error("image {reference:?} cannot run")]
    Unusable {
        /// As it was asked for.
        reference: String,
        /// Why.
        #[source]
        source: LoadError,
    },
    /// A file cannot become an image.
    #[error("cannot load {}", path.display())]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: LoadError,
    },
    /// The content in the store is not what its digest says, or is gone.
    #[error(
        "the content {digest} of image {reference:?} is damaged or gone; load it again with: wharf image load FILE.wasm -t {reference}"
    )]
    Damaged {
        /// As it was asked for.
        reference: String,
        /// What it should be.
        digest: Digest,
    },
    /// The disk.
    #[error("{doing} {}", path.display())]
    Io {
        /// "reading", "writing", ...
        doing: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A reference without its digest, under which content can be added.
fn name_of(reference: &str) -> &str {
    reference.split('@').next().unwrap_or_default()
}
