//! Patches as kubectl sends them.

use super::*;
use crate::resource::Resources;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;
use std::sync::LazyLock;

static RESOURCES: LazyLock<Resources> = LazyLock::new(Resources::built_in);

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}, "finalizers": ["a", "b"]},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "template": {"spec": {
                "containers": [
                    {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}], "ports": [{"containerPort": 80, "protocol": "TCP"}], "args": ["1", "2"]},
                    {"name": "b", "image": "b:1"},
                ],
                "volumes": [{"name": "v", "emptyDir": {}}],
            }},
        },
    })
}

fn strategic(original: Value, patch: &Value) -> Result<Value, ApiError> {
    strategic_merge(RESOURCES.schemas(), "io.k8s.api.apps.v1.Deployment", original, patch)
}

/// What a patch makes of the part of the deployment at a pointer.
fn check(patch: Value, pointer: &str, expect: Expect) {
    let out = match strategic(deployment(), &patch) {
        Ok(patched) => patched.pointer(pointer).map_or("absent".to_owned(), ToString::to_string),
        Err(error) => format!("{}: {}", error.code, error.message),
    };
    expect.assert_eq(&out);
}

#[test]
fn set_image_changes_one_container() {
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "b:2"}]}}}});
    check(patch, "/spec/template/spec/containers/1", expect![[r#"{"image":"b:2","name":"b"}"#]]);
}

#[test]
fn scale_and_label_change_one_field() {
    check(json!({"spec": {"replicas": 3}}), "/spec/replicas", expect!["3"]);
    check(
        json!({"metadata": {"labels": {"tier": "front", "app": null}}}),
        "/metadata/labels",
        expect![[r#"{"tier":"front"}"#]],
    );
}

#[test]
fn apply_keeps_what_the_client_does_not_know() {
    let patch = json!({"spec": {"template": {"spec": {
        "$setElementOrder/containers": [{"name": "new"}, {"name": "a"}],
        "containers": [{"name": "new", "image": "n"}, {"name": "a", "$setElementOrder/env": [{"name": "Y"}], "env": [{"name": "Y", "value": "2"}, {"name": "X", "$patch": "delete"}]}],
    }}}});
    check(
        patch,
        "/spec/template/spec/containers",
        expect![[
            r#"[{"image":"n","name":"new"},{"args":["1","2"],"env":[{"name":"Y","value":"2"}],"image":"a:1","name":"a","ports":[{"containerPort":80,"protocol":"TCP"}]},{"image":"b:1","name":"b"}]"#
        ]],
    );
}

#[test]
fn deleted_elements_go_and_replaced_lists_are_replaced() {
    let containers = |list: Value| json!({"spec": {"template": {"spec": {"containers": list}}}});
    check(
        containers(json!([{"name": "a", "$patch": "delete"}])),
        "/spec/template/spec/containers",
        expect![[r#"[{"image":"b:1","name":"b"}]"#]],
    );
    check(
        containers(json!([{"name": "z", "image": "z"}, {"$patch": "replace"}])),
        "/spec/template/spec/containers",
        expect![[r#"[{"image":"z","name":"z"}]"#]],
    );
    check(
        containers(json!([{"name": "a", "args": ["3"]}])),
        "/spec/template/spec/containers/0/args",
        expect![[r#"["3"]"#]],
    );
    check(
        containers(json!([{"name": "a", "ports": [{"containerPort": 81}]}])),
        "/spec/template/spec/containers/0/ports",
        expect![[r#"[{"containerPort":81},{"containerPort":80,"protocol":"TCP"}]"#]],
    );
    check(containers(json!(null)), "/spec/template/spec/containers", expect!["absent"]);
}

#[test]
fn retained_keys_push_the_others_out() {
    let strategy = |patch: Value| json!({"spec": {"strategy": patch}});
    check(
        strategy(json!({"$retainKeys": ["type"], "type": "Recreate"})),
        "/spec/strategy",
        expect![[r#"{"type":"Recreate"}"#]],
    );
    check(
        strategy(json!({"$retainKeys": ["type"], "rollingUpdate": {}})),
        "/spec/strategy",
        expect!["400: invalid patch format of retainKeys"],
    );
    let volumes = json!({"spec": {"template": {"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}]}}}});
    check(volumes, "/spec/template/spec/volumes", expect![[r#"[{"configMap":{"name":"c"},"name":"v"}]"#]]);
}

#[test]
fn lists_of_scalars_are_merged_where_the_schema_says_so() {
    let metadata = |patch: Value| json!({"metadata": patch});
    check(metadata(json!({"finalizers": ["c"]})), "/metadata/finalizers", expect![[r#"["c","a","b"]"#]]);
    check(
        metadata(
            json!({"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"]}),
        ),
        "/metadata/finalizers",
        expect![[r#"["c","b"]"#]],
    );
}

#[test]
fn maps_are_replaced_or_emptied_by_directive() {
    check(
        json!({"metadata": {"labels": {"$patch": "replace", "x": "y"}}}),
        "/metadata/labels",
        expect![[r#"{"x":"y"}"#]],
    );
    check(json!({"metadata": {"labels": {"$patch": "delete"}}}), "/metadata/labels", expect!["{}"]);
    check(
        json!({"metadata": {"annotations": {"x": null, "y": "z"}}}),
        "/metadata/annotations",
        expect![[r#"{"y":"z"}"#]],
    );
}

#[test]
fn malformed_patches_are_refused_in_upstreams_words() {
    let containers = |list: Value| json!({"spec": {"template": {"spec": {"containers": list}}}});
    check(json!([]), "", expect!["400: invalid JSON document"]);
    check(
        containers(json!([{"image": "x"}])),
        "",
        expect!["400: map: map[image:x] does not contain declared merge key: name"],
    );
    check(
        containers(json!([{"name": "a", "$patch": "bend"}])),
        "",
        expect!["400: unknown patch type: bend in map: map[$patch:bend name:a]"],
    );
    check(
        containers(json!([{"name": "a", "$patch": "merge"}])),
        "",
        expect!["400: merging lists cannot yet be specified in the patch"],
    );
    check(
        json!({"spec": {"$patch": "bend"}}),
        "",
        expect!["400: unknown patch type: bend in map: map[$patch:bend]"],
    );
    check(
        json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}}}}),
        "",
        expect![[r#"
            400: The order in patch list:
            [map[name:a]]
             doesn't match $setElementOrder list:
            [map[name:b]]
        "#]],
    );
    check(
        json!({"metadata": {"$setElementOrder/finalizers": "x"}}),
        "",
        expect!["400: invalid patch format of setElementOrder list"],
    );
}

#[test]
fn a_json_patch_applies_whole_or_not_at_all() {
    let object = json!({"metadata": {"labels": {"a": "b"}}});
    let patched = json_patch(
        object.clone(),
        &json!([{"op": "test", "path": "/metadata/labels/a", "value": "b"}, {"op": "replace", "path": "/metadata/labels/a", "value": "c"}, {"op": "add", "path": "/x", "value": [1]}]),
    );
    assert_eq!(patched.unwrap(), json!({"metadata": {"labels": {"a": "c"}}, "x": [1]}));
    let error =
        json_patch(object.clone(), &json!([{"op": "test", "path": "/metadata/labels/a", "value": "x"}]))
            .unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (422, "the server rejected our request due to an error in our request")
    );
    let error = json_patch(object.clone(), &json!([{"op": "bend", "path": "/a"}])).unwrap_err();
    assert_eq!(error.code, 400);
    let many: Vec<Value> = (0..10_001).map(|_| json!({"op": "remove", "path": "/x"})).collect();
    assert_eq!(json_patch(object, &many.into()).unwrap_err().code, 413);
}

#[test]
fn a_json_patch_makes_no_more_of_an_object_than_may_be() {
    let refusal = |patch: Value| {
        let error = json_patch(json!({"l": ["x".repeat(1000)], "d": {}}), &patch).err();
        let error = error.expect("the patch makes too much");
        format!("{} {}", error.code, error.details.unwrap().causes[0].message)
    };
    let doublings = vec![json!({"op": "copy", "from": "/l", "path": "/l/-"}); 30];
    expect!["422 Unable to complete the copy, the accumulated size increase of JSON Patch copy is 4115463, exceeding the limit 3145728"].assert_eq(&refusal(doublings.into()));
    // One operation writes deep, or each writes one level deeper: what is there before is moved below a new list.
    let deep_path = "/d".repeat(120);
    let nested = (0..10).fold(json!(1), |inner, _| json!([inner]));
    let bury = [
        json!({"op": "add", "path": "/n", "value": []}),
        json!({"op": "move", "from": "/d", "path": "/n/-"}),
    ];
    let bury = bury.into_iter().chain([json!({"op": "move", "from": "/n", "path": "/d"})]);
    let burials: Vec<Value> = bury.cycle().take(3000).collect();
    for patch in [json!([{"op": "add", "path": deep_path, "value": nested}]), burials.into()] {
        expect!["422 exceeded max depth"].assert_eq(&refusal(patch));
    }
    // Moving to and fro is not getting deeper.
    let there = json!({"op": "move", "from": "/d", "path": "/e"});
    let back = json!({"op": "move", "from": "/e", "path": "/d"});
    let moves: Vec<Value> = [there, back].into_iter().cycle().take(1000).collect();
    assert_eq!(json_patch(json!({"d": [1]}), &moves.into()).unwrap(), json!({"d": [1]}));
}

#[test]
fn a_merge_patch_removes_by_null_and_replaces_lists() {
    let patched = merge_patch(
        json!({"a": {"b": 1, "c": 2}, "l": [1]}),
        &json!({"a": {"b": null, "d": {"e": null, "f": 1}}, "l": [2]}),
    );
    assert_eq!(patched.unwrap(), json!({"a": {"c": 2, "d": {"f": 1}}, "l": [2]}));
    assert_eq!(merge_patch(json!({}), &json!([1])).unwrap_err().code, 400);
}

fn any_containers() -> impl Strategy<Value = Value> {
    let container =
        ("[a-f]", "[x-z]{1,3}", proptest::option::of("[0-9]")).prop_map(|(name, image, value)| {
            let env: Vec<Value> =
                value.into_iter().map(|value| json!({"name": "E", "value": value})).collect();
            json!({"name": name, "image": image, "env": env})
        });
    proptest::collection::vec(container, 1..6).prop_map(|mut list| {
        let mut seen = std::collections::BTreeSet::new();
        list.retain(|container| seen.insert(container["name"].to_string()));
        json!({"spec": {"template": {"spec": {"containers": list}}}})
    })
}

proptest! {
    #[test]
    fn the_empty_patch_changes_nothing(object in any_containers()) {
        prop_assert_eq!(strategic(object.clone(), &json!({})).unwrap(), object.clone());
        prop_assert_eq!(merge_patch(object.clone(), &json!({})).unwrap(), object.clone());
        prop_assert_eq!(json_patch(object.clone(), &json!([])).unwrap(), object);
    }

    #[test]
    fn an_object_is_a_patch_of_itself(object in any_containers()) {
        prop_assert_eq!(strategic(object.clone(), &object).unwrap(), object);
    }

    #[test]
    fn a_patch_twice_is_a_patch_once(object in any_containers(), patch in any_containers()) {
        let once = strategic(object, &patch).unwrap();
        prop_assert_eq!(strategic(once.clone(), &patch).unwrap(), once);
    }

    #[test]
    fn every_element_of_both_is_there_once(object in any_containers(), patch in any_containers()) {
        let names = |object: &Value| -> std::collections::BTreeSet<String> {
            let list = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
            list.iter().map(|container| container["name"].to_string()).collect()
        };
        let merged = strategic(object.clone(), &patch).unwrap();
        let expected: std::collections::BTreeSet<_> = names(&object).union(&names(&patch)).cloned().collect();
        prop_assert_eq!(merged["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), expected.len());
        prop_assert_eq!(names(&merged), expected);
    }
}
