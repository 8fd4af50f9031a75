//! The rules of namespaces: what is in one depends on it, and some may not go.

use crate::registry::{Registry, key, not_found};
use control_api::error::{Cause, Details};
use control_api::object::{self, Key};
use control_api::{ApiError, Reason, Resource};
use control_store::Snapshot;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Whether a kind is Namespace itself.
pub(crate) fn is_namespace(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "namespaces"
}

/// Refuses the deletion of a namespace that the system needs.
pub(crate) fn check_deletable(resource: &Resource, name: &str) -> Result<(), ApiError> {
    if is_namespace(resource) && IMMORTAL.contains(&name) {
        return Err(ApiError::forbidden("", "namespaces", name, "this namespace may not be deleted"));
    }
    Ok(())
}

impl Registry {
    /// Refuses new objects in a namespace that is not there or on its way out. Gives the namespace and the revision at
    /// which it took them; none for kinds without.
    pub(crate) fn check_namespace(
        &self,
        snapshot: &Snapshot,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<(Key, u64)>, ApiError> {
        let Some(namespace) = namespace.filter(|_| resource.is_namespaced()) else { return Ok(None) };
        let Some(namespaces) = self.resources().by_plural("", "v1", "namespaces") else { return Ok(None) };
        let stored = snapshot
            .get(&key(namespaces, None, namespace))
            .ok_or_else(|| not_found(namespaces, namespace))?;
        let object = stored.value();
        if object::deletion_timestamp(&object).is_none()
            && object::text(&object, &["status", "phase"]) != "Terminating"
        {
            return Ok(Some((stored.key.clone(), stored.revision)));
        }
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let message = ApiError::forbidden(&resource.group, &resource.plural, name, &why).message;
        Err(ApiError::new(Reason::Forbidden, message).with_details(Details {
            name: name.to_owned(),
            group: resource.group.to_string(),
            kind: resource.plural.to_string(),
            causes: vec![Cause {
                reason: "NamespaceTerminating".to_owned(),
                message: format!("namespace {namespace} is being terminated"),
                field: "metadata.namespace".to_owned(),
            }],
            ..Details::default()
        }))
    }
}
