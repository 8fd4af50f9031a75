//! Kinds as rows: schema, defaults, validation, patch, tables, discovery.
//!
//! This crate decides what an object of the API may be; it does no IO, knows no clock and keeps no state. Objects are
//! `serde_json::Value`; what is known of their shape is data ([`schema::Schemas`], [`resource::Resource`]), so that no
//! function outside [`kinds`] names a kind.

pub mod error;
pub mod object;
pub mod resource;
pub mod schema;

pub mod kinds;

pub mod decode;
pub mod defaults;
mod facts;
pub mod managed_fields;
pub mod validate;
pub mod write;

pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod selector;
pub mod yaml;

pub mod discovery;
pub mod openapi;
pub mod printers;
pub mod table;

pub use error::{ApiError, Reason};
pub use object::{Key, ResourceId};
pub use resource::{Resource, Resources, Scope, Strategy, Subresource};
pub use schema::Schemas;
