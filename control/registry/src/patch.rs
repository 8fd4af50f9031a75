//! Patch: read, change, write; again when another write came between.

use crate::options::WriteOptions;
use crate::registry::{Registry, Written};
use crate::update::{Target, shown};
use bytes::Bytes;
use control_api::decode::{self, FieldValidation, Origin};
use control_api::patch::{go_text, json_patch, merge_patch, strategic_merge};
use control_api::validate::FieldError;
use control_api::{ApiError, Resource, write};
use serde_json::Value;

/// How a patch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Merge, with lists merged by their keys.
    Strategic,
}

/// A patch as it came.
#[derive(Debug, Clone)]
pub struct PatchBody {
    /// How it is written.
    pub kind: PatchKind,
    /// Its text: JSON.
    pub bytes: Bytes,
}

impl PatchKind {
    /// From the request's `Content-Type`.
    pub fn from_content_type(content_type: &str) -> Result<Self, ApiError> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
                Err(ApiError::unsupported_media_type(
                    "server-side apply is not offered by this server yet; use client-side apply \
                 (kubectl apply without --server-side)",
                ))
            }
            _ => Err(ApiError::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
            )),
        }
    }

    fn origin(self) -> Origin {
        match self {
            Self::Json | Self::Merge => Origin::Json,
            Self::Strategic => Origin::Merge,
        }
    }
}

impl Registry {
    /// Changes an object by a patch. One that sets `metadata.resourceVersion` is for that state alone.
    #[expect(clippy::too_many_arguments, reason = "they are the parts of a request")]
    pub async fn patch(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        body: PatchBody,
        validation: FieldValidation,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let target = Target::parse(resource, subresource)?;
        let (patch, told) = decode::patch(&body.bytes)?;
        let context = self.context(namespace, &options.manager);
        let mut found = Vec::new();
        let decide = |old: &Value| {
            let new = self.patched(resource, target, body.kind, &patch, old)?;
            let (type_name, origin) = (type_name(resource, target), body.kind.origin());
            let conformed =
                decode::conform(self.resources(), type_name, new, origin, told.clone(), validation);
            let decoded = match conformed {
                Ok(decoded) => decoded,
                Err(cause) => {
                    let shown = match body.kind {
                        PatchKind::Strategic => go_text(&patch),
                        PatchKind::Json | PatchKind::Merge => {
                            self.patched(resource, target, body.kind, &patch, old)?.to_string()
                        }
                    };
                    let fault = FieldError::invalid("patch", shown, cause);
                    return Err(ApiError::invalid("", "", "", &[fault]));
                }
            };
            found = decoded.warnings;
            self.prepare(resource, target, decoded.object, old, &context)
        };
        let mut written = self.modify(resource, namespace, name, options, decide).await?;
        written.warnings.splice(0..0, found);
        Ok(shown(target, written))
    }

    fn patched(
        &self,
        resource: &Resource,
        target: Target,
        kind: PatchKind,
        patch: &Value,
        old: &Value,
    ) -> Result<Value, ApiError> {
        let object = match target {
            Target::Scale => write::scale_of(old),
            Target::Binding => {
                return Err(ApiError::method_not_supported(&resource.group, &resource.plural, "patch"));
            }
            Target::Main | Target::Status | Target::Finalize => old.clone(),
        };
        match kind {
            PatchKind::Json => json_patch(object, patch),
            PatchKind::Merge => merge_patch(object, patch),
            PatchKind::Strategic => {
                let type_name = type_name(resource, target);
                strategic_merge(self.resources().schemas(), type_name, object, patch)
            }
        }
    }
}

/// The definition of what a patch of a target is laid over.
fn type_name(resource: &Resource, target: Target) -> &str {
    match target {
        Target::Scale => decode::SCALE.2,
        Target::Main | Target::Status | Target::Binding | Target::Finalize => resource.schema.as_ref(),
    }
}
