//! Create, update, patch and delete: bodies are decoded here, what happens to objects is the registry's.

use super::options::{self, WriteQuery};
use super::{Call, body};
use crate::respond::{self, Body};
use crate::route::Part;
use control_api::decode::{self, Decoded, FieldValidation};
use control_api::error::ApiError;
use control_api::object;
use control_registry::{DeleteOptions, PatchBody, PatchKind};
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

impl Call {
    /// A new object.
    pub(super) async fn create(&self, body: Incoming) -> Result<Response<Body>, ApiError> {
        let output = self.output()?;
        let query = self.write_query("CreateOptions")?;
        let bytes = body::read(body).await?;
        let decoded = self.decode(&bytes, query.field_validation)?;
        let registry = &self.context.app.registry;
        let options = query.options();
        let written = registry.create(&self.resource, self.namespace(), decoded.object, &options).await?;
        let warnings = [decoded.warnings, written.warnings].concat();
        Ok(self.object(StatusCode::CREATED, &output, &written.object, &warnings))
    }

    /// A Pod to its node.
    pub(super) async fn bind(&self, body: Incoming) -> Result<Response<Body>, ApiError> {
        let query = self.write_query("CreateOptions")?;
        let bytes = body::read(body).await?;
        let decoded = self.decode_as(decode::BINDING, &bytes, query.field_validation)?;
        let options = query.options();
        let registry = &self.context.app.registry;
        let written = registry
            .update(&self.resource, self.namespace(), self.name(), Some("binding"), decoded.object, &options)
            .await?;
        let done =
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
        let mut response = respond::value(StatusCode::CREATED, &done, self.context.encoding);
        respond::warn(&mut response, &[decoded.warnings, written.warnings].concat());
        Ok(response)
    }

    /// A whole object, or a part of one.
    pub(super) async fn update(
        &self,
        part: Option<Part>,
        body: Incoming,
    ) -> Result<Response<Body>, ApiError> {
        let output = self.output()?;
        let query = self.write_query("UpdateOptions")?;
        let bytes = body::read(body).await?;
        let decoded = match part {
            Some(Part::Scale) => self.decode_as(decode::SCALE, &bytes, query.field_validation)?,
            Some(Part::Status | Part::Finalize) | None => self.decode(&bytes, query.field_validation)?,
        };
        let options = query.options();
        let registry = &self.context.app.registry;
        let written = registry
            .update(
                &self.resource,
                self.namespace(),
                self.name(),
                part.map(Part::path),
                decoded.object,
                &options,
            )
            .await?;
        let warnings = [decoded.warnings, written.warnings].concat();
        let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(self.object(code, &output, &written.object, &warnings))
    }

    /// Some fields of an object, or of a part of one.
    pub(super) async fn patch(&self, part: Option<Part>, body: Incoming) -> Result<Response<Body>, ApiError> {
        let output = self.output()?;
        let query = self.write_query("PatchOptions")?;
        let content_type = self.content_type();
        let kind = PatchKind::from_content_type(content_type)?;
        let bytes = body::read(body).await?;
        let patch = PatchBody { kind, bytes };
        let registry = &self.context.app.registry;
        let written = registry
            .patch(
                &self.resource,
                self.namespace(),
                self.name(),
                part.map(Part::path),
                patch,
                query.field_validation,
                &query.options(),
            )
            .await?;
        Ok(self.object(StatusCode::OK, &output, &written.object, &written.warnings))
    }

    /// One object.
    pub(super) async fn delete(&self, body: Incoming) -> Result<Response<Body>, ApiError> {
        let output = self.output()?;
        let options = self.delete_options(body).await?;
        let registry = &self.context.app.registry;
        let deleted = registry.delete(&self.resource, self.namespace(), self.name(), &options).await?;
        if !deleted.gone || self.resource.strategy.return_deleted {
            return Ok(self.object(StatusCode::OK, &output, &deleted.object, &[]));
        }
        let uid = object::uid(&deleted.object.value()).to_owned();
        let mut details = json!({ "name": self.name(), "kind": self.resource.plural, "uid": uid });
        if !self.resource.group.is_empty() {
            details["group"] = self.resource.group.as_ref().into();
        }
        let done = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
        });
        Ok(respond::value(StatusCode::OK, &done, self.context.encoding))
    }

    /// Every object that is selected.
    pub(super) async fn delete_collection(&self, body: Incoming) -> Result<Response<Body>, ApiError> {
        let output = self.output()?;
        let list = self.list_options()?;
        let options = self.delete_options(body).await?;
        let registry = &self.context.app.registry;
        let deleted = registry.delete_collection(&self.resource, self.namespace(), &list, &options).await?;
        let metadata = json!({ "resourceVersion": deleted.revision.to_string() });
        let now = (self.context.app.now)();
        let bytes = output.list(&self.resource, &deleted.items, metadata, now);
        Ok(respond::json(StatusCode::OK, bytes, self.context.encoding))
    }

    /// How to delete: from the body, or where there is none, from the query.
    async fn delete_options(&self, body: Incoming) -> Result<DeleteOptions, ApiError> {
        let bytes = body::read(body).await?;
        let query = &self.context.query;
        let given = match bytes.is_empty() {
            false => self.decode_as(decode::DELETE_OPTIONS, &bytes, FieldValidation::Ignore)?.object,
            true => {
                let mut given = json!({});
                if let Some(seconds) = query.integer("gracePeriodSeconds")? {
                    given["gracePeriodSeconds"] = seconds.into();
                }
                if let Some(policy) = query.text("propagationPolicy") {
                    given["propagationPolicy"] = policy.into();
                }
                if let Some(orphan) = query.flag_option("orphanDependents") {
                    given["orphanDependents"] = orphan.into();
                }
                let dry_run: Vec<&str> = query.all("dryRun").filter(|value| !value.is_empty()).collect();
                given["dryRun"] = dry_run.into();
                given
            }
        };
        DeleteOptions::from_value(&given)
    }

    fn write_query(&self, kind: &str) -> Result<WriteQuery, ApiError> {
        options::write_query(kind, &self.context.query, &self.context.headers)
    }

    fn content_type(&self) -> &str {
        let header = self.context.headers.get(CONTENT_TYPE);
        header.and_then(|header| header.to_str().ok()).unwrap_or("application/json")
    }

    fn decode(&self, bytes: &[u8], validation: FieldValidation) -> Result<Decoded, ApiError> {
        let resources = self.context.app.registry.resources();
        decode::decode(resources, &self.resource, self.content_type(), bytes, validation)
    }

    fn decode_as(
        &self,
        what: (&str, &str, &str),
        bytes: &[u8],
        validation: FieldValidation,
    ) -> Result<Decoded, ApiError> {
        let resources = self.context.app.registry.resources();
        decode::decode_as(resources, what, self.content_type(), bytes, validation)
    }
}
