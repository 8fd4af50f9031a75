//! What kubectl looks for in the documents.

use super::*;
use expect_test::{Expect, expect};

fn check(value: &Value, expect: Expect) {
    expect.assert_eq(&value.to_string());
}

fn apps() -> Value {
    v3_document(&Resources::built_in(), "apps", "v1").unwrap()
}

#[test]
fn the_index_names_every_version_by_its_hash() {
    let resources = Resources::built_in();
    let index = v3_index(&resources);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(url, format!("/openapi/v3/apis/apps/v1?hash={}", hash(&apps())));
    assert!(index["paths"]["api/v1"].is_object());
    assert!(v3_document(&resources, "apps", "v7").is_none());
}

#[test]
fn patch_takes_the_parameters_that_kubectl_looks_for() {
    let patch = &apps()["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let names: Vec<_> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    expect!["pretty dryRun fieldManager fieldValidation force"].assert_eq(&names.join(" "));
    check(
        &patch["x-kubernetes-group-version-kind"],
        expect![[r#"{"group":"apps","kind":"Deployment","version":"v1"}"#]],
    );
    check(&patch["x-kubernetes-action"], expect![[r#""patch""#]]);
}

#[test]
fn only_what_is_served_stands_at_a_path() {
    let core = v3_document(&Resources::built_in(), "", "v1").unwrap();
    let offers_delete = |path: &str| core["paths"][path].get("delete").is_some();
    assert!(offers_delete("/api/v1/nodes"));
    assert!(!offers_delete("/api/v1/namespaces"));
    assert!(offers_delete("/api/v1/namespaces/{name}"));
}

#[test]
fn schemas_say_their_kind_and_how_lists_are_merged() {
    let schemas = &apps()["components"]["schemas"];
    check(
        &schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"],
        expect![[r#"[{"group":"apps","kind":"Deployment","version":"v1"}]"#]],
    );
    let mut containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"].clone();
    containers.as_object_mut().unwrap().remove("description");
    check(
        &containers,
        expect![[
            r##"{"items":{"$ref":"#/components/schemas/io.k8s.api.core.v1.Container"},"type":"array","x-kubernetes-list-map-keys":["name"],"x-kubernetes-list-type":"map","x-kubernetes-patch-merge-key":"name","x-kubernetes-patch-strategy":"merge"}"##
        ]],
    );
}

#[test]
fn every_reference_leads_somewhere() {
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let resources = Resources::built_in();
    let mut documents = vec![v2_document(&resources)];
    documents.extend(
        group_versions(&resources)
            .iter()
            .filter_map(|(group, version)| v3_document(&resources, group, version)),
    );
    for document in documents {
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            let schema = document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"));
            let is_empty = schema == &json!({"type": "object"});
            assert!(!is_empty, "{reference} is not known to the schemas");
        }
    }
}

#[test]
fn the_protobuf_form_begins_with_the_version() {
    let bytes = v2_protobuf(&Resources::built_in());
    assert!(bytes.starts_with(b"\x0a\x032.0\x12"), "{:?}", &bytes[..8]);
    let needle = b"x-kubernetes-group-version-kind";
    assert!(bytes.windows(needle.len()).any(|window| window == needle));
}
