//! Objects in the shape a client asked for: as they are, as rows of a Table, or their metadata alone.

use super::Call;
use crate::negotiate::{self, Shape};
use crate::query::Query;
use crate::respond::{self, Body};
use bytes::{BufMut, Bytes, BytesMut};
use control_api::error::ApiError;
use control_api::resource::Resource;
use control_api::table::{self, IncludeObject, TableOptions, TableVersion};
use control_api::validate::FieldError;
use control_store::Stored;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

/// How to write objects for one request.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) shape: Shape,
    include: IncludeObject,
}

impl Output {
    /// Reads what the client asks for.
    pub(super) fn of(accept: Option<&str>, query: &Query) -> Result<Self, ApiError> {
        let shape = negotiate::shape(accept)?;
        let text =
            query.get("includeObject").filter(|_| matches!(shape, Shape::Table(_))).unwrap_or_default();
        let include = IncludeObject::parse(text).ok_or_else(|| {
            let why = "must be 'Metadata', 'Object', 'None', or empty";
            ApiError::invalid(
                "meta.k8s.io",
                "TableOptions",
                "",
                &[FieldError::invalid("includeObject", text, why)],
            )
        })?;
        Ok(Self { shape, include })
    }

    /// One object.
    pub(super) fn object(&self, resource: &Resource, object: &Stored, now: Timestamp) -> Bytes {
        match self.shape {
            Shape::Plain => object.json.clone(),
            Shape::Partial(version) | Shape::PartialList(version) => {
                encode(&table::partial_metadata(&object.value(), version))
            }
            Shape::Table(version) => self.table(resource, &[object.value()], version, false, json!({}), now),
        }
    }

    /// One object as a watch sends it: after the first one, rows come without heads.
    pub(super) fn event(&self, resource: &Resource, object: &Stored, first: bool, now: Timestamp) -> Bytes {
        match self.shape {
            Shape::Table(version) => self.table(resource, &[object.value()], version, !first, json!({}), now),
            _ => self.object(resource, object, now),
        }
    }

    /// A value that is not stored: a bookmark, a Scale.
    pub(super) fn value(&self, resource: &Resource, value: Value, first: bool, now: Timestamp) -> Bytes {
        match self.shape {
            Shape::Plain => encode(&value),
            Shape::Partial(version) | Shape::PartialList(version) => {
                encode(&table::partial_metadata(&value, version))
            }
            Shape::Table(version) => self.table(resource, &[value], version, !first, json!({}), now),
        }
    }

    /// Many objects.
    pub(super) fn list(
        &self,
        resource: &Resource,
        objects: &[Arc<Stored>],
        metadata: Value,
        now: Timestamp,
    ) -> Bytes {
        match self.shape {
            Shape::Plain => plain_list(resource, objects, &metadata),
            Shape::Partial(version) | Shape::PartialList(version) => encode(&json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": version.api_version(),
                "metadata": metadata,
                "items": objects.iter().map(|object| table::partial_metadata(&object.value(), version)).collect::<Vec<_>>(),
            })),
            Shape::Table(version) => {
                let values: Vec<Value> = objects.iter().map(|object| object.value()).collect();
                self.table(resource, &values, version, false, metadata, now)
            }
        }
    }

    fn table(
        &self,
        resource: &Resource,
        objects: &[Value],
        version: TableVersion,
        no_headers: bool,
        metadata: Value,
        now: Timestamp,
    ) -> Bytes {
        let options = TableOptions { include_object: self.include, no_headers, version };
        let objects: Vec<&Value> = objects.iter().collect();
        encode(&table::render(resource, &objects, &options, metadata, now))
    }
}

/// The stored bytes of all objects, one after the other: nothing is encoded again.
fn plain_list(resource: &Resource, objects: &[Arc<Stored>], metadata: &Value) -> Bytes {
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        resource.list_kind(),
        resource.api_version()
    );
    let size = objects.iter().map(|object| object.json.len() + 1).sum::<usize>();
    let mut out = BytesMut::with_capacity(head.len() + size + 2);
    out.put_slice(head.as_bytes());
    for (nth, object) in objects.iter().enumerate() {
        if nth > 0 {
            out.put_u8(b',');
        }
        out.put_slice(&object.json);
    }
    out.put_slice(b"]}");
    out.freeze()
}

fn encode(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

impl Call {
    /// How this request wants its objects.
    pub(super) fn output(&self) -> Result<Output, ApiError> {
        Output::of(self.context.accept(), &self.context.query)
    }

    /// The answer with one object.
    pub(super) fn object(
        &self,
        code: StatusCode,
        output: &Output,
        object: &Stored,
        warnings: &[String],
    ) -> Response<Body> {
        let now = (self.context.app.now)();
        let mut response =
            respond::json(code, output.object(&self.resource, object, now), self.context.encoding);
        respond::warn(&mut response, warnings);
        response
    }
}
