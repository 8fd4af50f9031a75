//! Get and list.

use super::Call;
use crate::respond::{self, Body};
use control_api::error::ApiError;
use control_registry::ListOptions;
use http::{Response, StatusCode};
use serde_json::{Value, json};

impl Call {
    /// One object.
    pub(super) fn get(&self) -> Result<Response<Body>, ApiError> {
        let output = self.output()?;
        let object = self.context.app.registry.get(&self.resource, self.namespace(), self.name())?;
        Ok(self.object(StatusCode::OK, &output, &object, &[]))
    }

    /// The Scale of an object.
    pub(super) fn get_scale(&self) -> Result<Response<Body>, ApiError> {
        let output = self.output()?;
        let scale = self.context.app.registry.get_scale(&self.resource, self.namespace(), self.name())?;
        let scale = output.value(&self.resource, scale, true, (self.context.app.now)());
        Ok(respond::json(StatusCode::OK, scale, self.context.encoding))
    }

    /// Many objects.
    pub(super) fn list(&self) -> Result<Response<Body>, ApiError> {
        let output = self.output()?;
        let options = self.list_options()?;
        let list = self.context.app.registry.list(&self.resource, self.namespace(), &options)?;
        let mut metadata = json!({ "resourceVersion": list.revision.to_string() });
        if let Some(token) = &list.continue_token {
            metadata["continue"] = Value::from(token.clone());
        }
        if let Some(remaining) = list.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        let now = (self.context.app.now)();
        let bytes = output.list(&self.resource, &list.items, metadata, now);
        Ok(respond::json(StatusCode::OK, bytes, self.context.encoding))
    }

    /// What a list's query says.
    pub(super) fn list_options(&self) -> Result<ListOptions, ApiError> {
        let query = &self.context.query;
        let text = |key: &str| query.text(key).unwrap_or_default().to_owned();
        Ok(ListOptions {
            label_selector: text("labelSelector"),
            field_selector: text("fieldSelector"),
            // A negative limit is none, as upstream has it.
            limit: query.integer("limit")?.and_then(|limit| u64::try_from(limit).ok()),
            continue_token: text("continue"),
            resource_version: text("resourceVersion"),
            resource_version_match: text("resourceVersionMatch"),
        })
    }
}
