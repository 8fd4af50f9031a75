//! What every cluster has from its first moment: the system's namespaces, and the API itself as a Service.

use crate::options::WriteOptions;
use crate::registry::Registry;
use control_api::object::Key;
use control_api::{ApiError, Reason, Resource};
use futures::{future::try_join_all, try_join};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// The address of Service `default/kubernetes`: the first of the service range.
const SERVICE_IP: &str = "10.96.0.1";

/// Service `default/kubernetes` as others see it that choose an address, be it there or not: it must always be able to
/// come back.
pub(crate) fn reserved(key: &Key) -> Option<Value> {
    let is_itself = key.namespace.as_deref() == Some("default") && key.name == "kubernetes";
    (!is_itself).then(|| json!({ "spec": { "clusterIP": SERVICE_IP } }))
}

impl Registry {
    /// Makes what is missing, and points Service `default/kubernetes` to where pods find the API. Where nothing is missing,
    /// it writes nothing and takes no lock that a write could wait for.
    pub async fn bootstrap(&self, api_server: SocketAddr) -> Result<(), ApiError> {
        // What does not need each other is written together: it waits for the disk once.
        try_join_all(NAMESPACES.map(|name| {
            let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            self.ensure("", "v1", "namespaces", None, name, namespace)
        }))
        .await?;
        let (ip, port) = (api_server.ip().to_string(), api_server.port());
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": { "component": "apiserver", "provider": "kubernetes" },
            },
            "spec": {
                "type": "ClusterIP", "clusterIP": SERVICE_IP, "sessionAffinity": "None",
                "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": port }],
            },
        });
        let endpoints = json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
            },
            "subsets": [{
                "addresses": [{ "ip": ip }],
                "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
            }],
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": { "kubernetes.io/service-name": "kubernetes" },
            },
            "addressType": if api_server.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": [{ "addresses": [ip], "conditions": { "ready": true } }],
            "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        });
        try_join!(
            self.ensure("", "v1", "services", Some("default"), "kubernetes", service),
            self.ensure("", "v1", "endpoints", Some("default"), "kubernetes", endpoints),
            self.ensure("discovery.k8s.io", "v1", "endpointslices", Some("default"), "kubernetes", slice),
        )?;
        Ok(())
    }

    /// Creates an object, or brings one that is there to what it should be.
    async fn ensure(
        &self,
        group: &str,
        version: &str,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
        object: Value,
    ) -> Result<(), ApiError> {
        let resource: Arc<Resource> =
            self.resources().by_plural(group, version, plural).cloned().ok_or_else(ApiError::no_such_path)?;
        let options = WriteOptions { manager: "kube-apiserver".to_owned(), ..WriteOptions::default() };
        if self.get(&resource, namespace, name).is_err() {
            match self.create(&resource, namespace, object.clone(), &options).await {
                Err(error) if error.reason == Reason::AlreadyExists => {}
                outcome => return outcome.map(|_| ()),
            }
        }
        if plural == "namespaces" {
            return Ok(());
        }
        self.modify(&resource, namespace, name, &options, |old| {
            // Only what is said here: labels and the like that users have added stay.
            let new = control_api::patch::merge_patch(old.clone(), &object)?;
            let context = self.context(namespace, &options.manager);
            control_api::write::prepare_update(self.resources(), &resource, None, new, old, &context)
        })
        .await
        .map(|_| ())
    }
}
