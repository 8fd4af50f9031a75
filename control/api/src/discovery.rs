//! Discovery: what the API serves, told to clients.
//!
//! Both forms are made from the rows: the legacy lists (`/api`, `/apis`, `/apis/<group>`, `/apis/<group>/<version>`)
//! and the aggregated one (`APIGroupDiscoveryList`), which tells everything in two answers.

use crate::resource::{Resource, Resources, Subresource};
use serde_json::{Value, json};
use std::sync::Arc;

/// What can be done with a kind.
const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// `/api`: versions of the core group; `server_address` is where the API listens, as `host:port`.
pub fn api_versions(resources: &Resources, server_address: &str) -> Value {
    let versions: Vec<String> = groups(resources)
        .into_iter()
        .filter(|group| group.name.is_empty())
        .flat_map(|group| group.versions)
        .map(|version| version.name)
        .collect();
    json!({
        "kind": "APIVersions",
        "versions": versions,
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

/// `/apis`: every named group.
pub fn group_list(resources: &Resources) -> Value {
    let groups = groups(resources);
    let groups: Vec<Value> =
        groups.iter().filter(|group| !group.name.is_empty()).map(Group::to_value).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`; none for a group that is not there.
pub fn group(resources: &Resources, name: &str) -> Option<Value> {
    let groups = groups(resources);
    let mut value = groups.iter().find(|group| group.name == name && !name.is_empty())?.to_value();
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

/// `/api/v1` and `/apis/<group>/<version>`; none for a version that is not there.
pub fn resource_list(resources: &Resources, group: &str, version: &str) -> Option<Value> {
    let mut entries = Vec::new();
    for resource in resources.iter().filter(|resource| resource.group == group && resource.version == version)
    {
        entries.push(entry(resource));
        for subresource in resource.subresources {
            entries.push(subresource_entry(resource, *subresource));
        }
    }
    if entries.is_empty() {
        return None;
    }
    entries.sort_by(|left, right| left["name"].as_str().cmp(&right["name"].as_str()));
    let mut list = json!({"kind": "APIResourceList", "groupVersion": group_version(group, version), "resources": entries});
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

/// `/api` in the aggregated form; `version` is that of `apidiscovery.k8s.io`: `v2` or `v2beta1`.
pub fn aggregated_api(resources: &Resources, version: &str) -> Value {
    aggregated(resources, version, |group| group.is_empty())
}

/// `/apis` in the aggregated form.
pub fn aggregated_apis(resources: &Resources, version: &str) -> Value {
    aggregated(resources, version, |group| !group.is_empty())
}

fn aggregated(resources: &Resources, discovery_version: &str, wanted: fn(&str) -> bool) -> Value {
    let items: Vec<Value> = groups(resources)
        .iter()
        .filter(|group| wanted(&group.name))
        .map(|group| {
            let versions = group.versions.iter().map(|version| {
                let resources: Vec<Value> =
                    version.resources.iter().map(|resource| aggregated_entry(resource)).collect();
                json!({"version": version.name, "resources": resources, "freshness": "Current"})
            });
            let mut metadata = json!({"creationTimestamp": null});
            if !group.name.is_empty() {
                metadata["name"] = group.name.as_str().into();
            }
            json!({"metadata": metadata, "versions": versions.collect::<Vec<_>>()})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{discovery_version}"),
        "metadata": {},
        "items": items,
    })
}

/// Rows, by group and version, in the order in which they were met.
#[derive(Debug)]
struct Group {
    name: String,
    versions: Vec<Version>,
}

#[derive(Debug)]
struct Version {
    name: String,
    resources: Vec<Arc<Resource>>,
}

fn groups(resources: &Resources) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for resource in resources.iter() {
        let place = groups.iter().position(|group| group.name == resource.group).unwrap_or_else(|| {
            groups.push(Group { name: resource.group.to_string(), versions: Vec::new() });
            groups.len() - 1
        });
        let versions = &mut groups[place].versions;
        let place =
            versions.iter().position(|version| version.name == resource.version).unwrap_or_else(|| {
                versions.push(Version { name: resource.version.to_string(), resources: Vec::new() });
                versions.len() - 1
            });
        versions[place].resources.push(Arc::clone(resource));
    }
    groups
}

impl Group {
    fn to_value(&self) -> Value {
        let version = |version: &Version| json!({"groupVersion": group_version(&self.name, &version.name), "version": version.name});
        let versions: Vec<Value> = self.versions.iter().map(version).collect();
        json!({"name": self.name, "versions": versions, "preferredVersion": versions.first()})
    }
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn entry(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.is_namespaced(),
        "kind": resource.kind,
        "verbs": kind_verbs(resource),
    });
    add_names(&mut entry, resource);
    entry
}

fn subresource_entry(resource: &Resource, subresource: Subresource) -> Value {
    let (group, version, kind) = response_kind(resource, subresource);
    let mut entry = json!({
        "name": format!("{}/{}", resource.plural, subresource.as_str()),
        "singularName": "",
        "namespaced": resource.is_namespaced(),
        "kind": kind,
        "verbs": verbs(subresource),
    });
    if (group, version) != (resource.group.as_ref(), resource.version.as_ref()) {
        entry["group"] = group.into();
        entry["version"] = version.into();
    }
    entry
}

fn aggregated_entry(resource: &Resource) -> Value {
    let kind = |(group, version, kind): (&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": kind((&resource.group, &resource.version, &resource.kind)),
        "scope": if resource.is_namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": kind_verbs(resource),
    });
    add_names(&mut entry, resource);
    if !resource.subresources.is_empty() {
        let mut subresources = resource.subresources.to_vec();
        subresources.sort_by_key(|subresource| subresource.as_str());
        entry["subresources"] = subresources
            .into_iter()
            .map(|subresource| {
                json!({
                    "subresource": subresource.as_str(),
                    "responseKind": kind(response_kind(resource, subresource)),
                    "verbs": verbs(subresource),
                })
            })
            .collect();
    }
    entry
}

fn kind_verbs(resource: &Resource) -> Vec<&'static str> {
    let offered = |verb: &&str| *verb != "deletecollection" || resource.strategy.delete_collection;
    VERBS.into_iter().filter(offered).collect()
}

fn add_names(entry: &mut Value, resource: &Resource) {
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
}

/// Group, version and kind of what a subresource holds.
pub(crate) fn response_kind(resource: &Resource, subresource: Subresource) -> (&str, &str, &str) {
    match subresource {
        Subresource::Scale => ("autoscaling", "v1", "Scale"),
        Subresource::Binding => (&resource.group, &resource.version, "Binding"),
        Subresource::Status | Subresource::Log => (&resource.group, &resource.version, &resource.kind),
    }
}

/// What can be done with a subresource.
pub(crate) fn verbs(subresource: Subresource) -> &'static [&'static str] {
    match subresource {
        Subresource::Status | Subresource::Scale => &["get", "patch", "update"],
        Subresource::Log => &["get"],
        Subresource::Binding => &["create"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(value: &Value, expect: Expect) {
        expect.assert_eq(&serde_json::to_string(value).unwrap());
    }

    #[test]
    fn legacy_discovery_names_groups_and_versions() {
        let resources = Resources::built_in();
        check(
            &api_versions(&resources, "127.0.0.1:6443"),
            expect![[
                r#"{"kind":"APIVersions","serverAddressByClientCIDRs":[{"clientCIDR":"0.0.0.0/0","serverAddress":"127.0.0.1:6443"}],"versions":["v1"]}"#
            ]],
        );
        check(
            &group(&resources, "apps").unwrap(),
            expect![[
                r#"{"apiVersion":"v1","kind":"APIGroup","name":"apps","preferredVersion":{"groupVersion":"apps/v1","version":"v1"},"versions":[{"groupVersion":"apps/v1","version":"v1"}]}"#
            ]],
        );
        let list = group_list(&resources);
        let names: Vec<_> =
            list["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
        assert!(
            names.contains(&"apps") && names.contains(&"coordination.k8s.io") && !names.contains(&""),
            "{names:?}"
        );
        assert!(group(&resources, "").is_none());
    }

    #[test]
    fn resource_lists_name_kinds_verbs_and_subresources() {
        let resources = Resources::built_in();
        check(
            &resource_list(&resources, "apps", "v1").unwrap()["resources"][0],
            expect![[
                r#"{"categories":["all"],"kind":"Deployment","name":"deployments","namespaced":true,"shortNames":["deploy"],"singularName":"deployment","verbs":["create","delete","deletecollection","get","list","patch","update","watch"]}"#
            ]],
        );
        check(
            &resource_list(&resources, "apps", "v1").unwrap()["resources"][1],
            expect![[
                r#"{"group":"autoscaling","kind":"Scale","name":"deployments/scale","namespaced":true,"singularName":"","verbs":["get","patch","update"],"version":"v1"}"#
            ]],
        );
        assert!(resource_list(&resources, "apps", "v2").is_none());
        let core = resource_list(&resources, "", "v1").unwrap();
        let entries = core["resources"].as_array().unwrap();
        check(
            &entries.iter().find(|entry| entry["name"] == "namespaces").unwrap()["verbs"],
            expect![[r#"["create","delete","get","list","patch","update","watch"]"#]],
        );
    }

    #[test]
    fn aggregated_discovery_holds_every_row_once() {
        let resources = Resources::built_in();
        for version in ["v2", "v2beta1"] {
            let mut n_rows = 0;
            for list in [aggregated_api(&resources, version), aggregated_apis(&resources, version)] {
                for version in list["items"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .flat_map(|item| item["versions"].as_array().unwrap())
                {
                    n_rows += version["resources"].as_array().unwrap().len();
                }
            }
            assert_eq!(n_rows, resources.iter().count());
        }
        check(
            &aggregated_apis(&resources, "v2")["items"]
                .as_array()
                .unwrap()
                .iter()
                .find(|item| item["metadata"]["name"] == "apps")
                .unwrap()["versions"][0]["resources"][0]["subresources"],
            expect![[
                r#"[{"responseKind":{"group":"autoscaling","kind":"Scale","version":"v1"},"subresource":"scale","verbs":["get","patch","update"]},{"responseKind":{"group":"apps","kind":"Deployment","version":"v1"},"subresource":"status","verbs":["get","patch","update"]}]"#
            ]],
        );
    }
}
