//! OpenAPI: the schemas and paths of the API, for `kubectl apply`, `explain` and every generator of clients.
//!
//! Version 3 is served a document per group and version, with an index of their hashes; version 2 is one document, as
//! JSON and in gnostic's protobuf (which kubectl up to 1.28 asks for). All are made from the rows and the schemas; both
//! versions are made by the same functions, told apart by `Dialect`. A document takes milliseconds to make: whoever
//! serves it keeps it.

mod gnostic;
mod paths;
mod schemas;

use crate::resource::Resources;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};
use std::collections::BTreeSet;

/// The version of Kubernetes whose API this is.
pub const KUBERNETES_VERSION: &str = "v1.36.0";

/// A version of OpenAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// A reference to a named schema.
    fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

/// `/openapi/v3`: where the document of each group and version is, with the hash of its content.
pub fn v3_index(resources: &Resources) -> Value {
    let mut paths = Map::new();
    for (group, version) in group_versions(resources) {
        if let Some(document) = v3_document(resources, &group, &version) {
            let root = root_path(&group, &version);
            let hash = hash(&document);
            paths.insert(
                root.clone(),
                json!({"serverRelativeURL": format!("/openapi/v3/{root}?hash={hash}")}),
            );
        }
    }
    json!({ "paths": paths })
}

/// The hash by which the index names a document.
pub fn hash(document: &Value) -> String {
    let digest = Sha512::digest(document.to_string().as_bytes());
    digest.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// `/openapi/v3/api/v1` and `/openapi/v3/apis/<group>/<version>`; none for a version that is not there.
pub fn v3_document(resources: &Resources, group: &str, version: &str) -> Option<Value> {
    let rows: Vec<_> =
        resources.iter().filter(|resource| resource.group == group && resource.version == version).collect();
    if rows.is_empty() {
        return None;
    }
    let mut paths = Map::new();
    let mut wanted = BTreeSet::new();
    for resource in &rows {
        paths::add(&mut paths, &mut wanted, resource, Dialect::V3);
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": paths,
        "components": {"schemas": schemas::closure(resources, wanted, Dialect::V3)},
    }))
}

/// `/openapi/v2` as JSON.
pub fn v2_document(resources: &Resources) -> Value {
    let mut paths = Map::new();
    let mut wanted = BTreeSet::new();
    for resource in resources.iter() {
        paths::add(&mut paths, &mut wanted, resource, Dialect::V2);
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": paths,
        "definitions": schemas::closure(resources, wanted, Dialect::V2),
    })
}

/// `/openapi/v2` as `application/com.github.proto-openapi.spec.v2@v1.0+protobuf`.
pub fn v2_protobuf(resources: &Resources) -> Vec<u8> {
    gnostic::document(&v2_document(resources))
}

fn group_versions(resources: &Resources) -> BTreeSet<(String, String)> {
    resources.iter().map(|resource| (resource.group.to_string(), resource.version.to_string())).collect()
}

/// `api/v1`, `apis/apps/v1`.
fn root_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

#[cfg(test)]
mod tests;
