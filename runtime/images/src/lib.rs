//! Local images: names, contents by digest, and each in memory once.
//!
//! [`ImageStore`] is what is on disk; [`Images`] joins it with an engine that makes them ready to run. Pulling from
//! registries is not here.

mod error;
mod images;
mod reference;
mod store;

pub use error::ImageError;
pub use images::Images;
pub use reference::{InvalidReference, Reference};
pub use store::{ImageRecord, ImageStore};
