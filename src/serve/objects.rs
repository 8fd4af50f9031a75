//! ConfigMaps and Secrets for the node, read from the store of the same process.

use async_trait::async_trait;
use control_api::object::{Key, ResourceId};
use control_registry::Registry;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use runtime_node::{Objects, ObjectsError};
use serde_core::de::DeserializeOwned;

/// Reads snapshots; never waits.
#[derive(Debug)]
pub(crate) struct StoreObjects(pub(crate) Registry);

impl StoreObjects {
    fn read<T: DeserializeOwned>(
        &self,
        plural: &'static str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<T>, ObjectsError> {
        let resource = ResourceId::new("", plural);
        let key = Key { resource, namespace: Some(namespace.to_owned()), name: name.to_owned() };
        let Some(stored) = self.0.store().snapshot().get(&key).cloned() else { return Ok(None) };
        serde_json::from_slice(&stored.json)
            .map(Some)
            .map_err(|source| ObjectsError { what: key.to_string(), source: Box::new(source) })
    }
}

#[async_trait]
impl Objects for StoreObjects {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, ObjectsError> {
        self.read("configmaps", namespace, name)
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ObjectsError> {
        self.read("secrets", namespace, name)
    }
}
