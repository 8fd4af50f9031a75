//! Which objects a list or a watch is about, decided with as little decoding as possible.

use control_api::selector::{FieldSelector, LabelSelector};
use control_api::{ApiError, Resource};
use control_store::Stored;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The two selectors of a request.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    /// `metadata.name=x`, which the key answers.
    name: Option<String>,
    /// `metadata.namespace=x`.
    namespace: Option<String>,
}

/// The part of an object that label selectors look at.
#[derive(Debug, Default, Deserialize)]
struct Head {
    #[serde(default)]
    metadata: HeadMeta,
}

#[derive(Debug, Default, Deserialize)]
struct HeadMeta {
    #[serde(default)]
    labels: Option<Map<String, Value>>,
}

impl Selection {
    pub(crate) fn parse(resource: &Resource, labels: &str, fields: &str) -> Result<Self, ApiError> {
        let fields = FieldSelector::parse(resource, fields)?;
        Ok(Self {
            labels: LabelSelector::parse(labels)?,
            name: fields.exact("metadata.name").map(str::to_owned),
            namespace: fields.exact("metadata.namespace").map(str::to_owned),
            fields,
        })
    }

    /// Whether every object is meant.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// The only name that can match, if the fields say so.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The only namespace that can match, if the fields say so.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Whether an object is meant.
    pub(crate) fn matches(&self, stored: &Stored) -> bool {
        if self.name.as_ref().is_some_and(|name| *name != stored.key.name) {
            return false;
        }
        if self.fields.is_everything() {
            return self.labels.is_everything()
                || self.labels.matches_labels(head(stored).metadata.labels.as_ref());
        }
        let value = stored.value();
        self.labels.matches(&value) && self.fields.matches(&value)
    }
}

fn head(stored: &Stored) -> Head {
    serde_json::from_slice(&stored.json).unwrap_or_default()
}
