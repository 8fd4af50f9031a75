//! Create, update, patch.

use crate::world::{World, by, deployment, dry_run, pod, refusal};
use control_registry::{DeleteOptions, ListOptions, PatchKind, WriteOptions};
use expect_test::expect;
use serde_json::{Value, json};

fn meta(object: &Value) -> Value {
    let mut meta = object["metadata"].clone();
    meta.as_object_mut().unwrap().remove("managedFields");
    meta
}

#[tokio::test]
async fn a_new_object_gets_its_metadata() {
    let world = World::new().await;
    let written = world.config_map("a").await;
    expect![[r#"{"creationTimestamp":"2026-01-01T00:00:00Z","name":"a","namespace":"default","resourceVersion":"3","uid":"uid-2"}"#]]
        .assert_eq(&meta(&written.object.value()).to_string());
    assert_eq!(world.get("configmaps", "a").unwrap(), written.object.value());
    let labelled = world.labelled("b", "web").await.object.value();
    assert_eq!(labelled["metadata"]["managedFields"][0]["manager"], "test");
}

#[tokio::test]
async fn a_name_is_given_once() {
    let world = World::new().await;
    world.config_map("a").await;
    let again = world.create("configmaps", json!({"metadata": {"name": "a"}})).await;
    expect![[r#"409 AlreadyExists: configmaps "a" already exists"#]].assert_eq(&refusal(again));
    let dry = world
        .registry
        .create(
            &world.resource("configmaps"),
            Some("default"),
            json!({"metadata": {"name": "a"}}),
            &dry_run(),
        )
        .await;
    expect![[r#"409 AlreadyExists: configmaps "a" already exists"#]].assert_eq(&refusal(dry));
    world.create("deployments", deployment("web")).await.unwrap();
    expect![[r#"409 AlreadyExists: deployments.apps "web" already exists"#]]
        .assert_eq(&refusal(world.create("deployments", deployment("web")).await));
}

#[tokio::test]
async fn an_object_with_a_resource_version_is_not_created() {
    let world = World::new().await;
    let object = json!({"metadata": {"name": "a", "resourceVersion": "5"}});
    expect!["500 InternalError: resourceVersion should not be set on objects to be created"]
        .assert_eq(&refusal(world.create("configmaps", object).await));
}

#[tokio::test]
async fn generated_names_differ() {
    let world = World::new().await;
    let object = json!({"metadata": {"generateName": "a-"}});
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let written = world.create("configmaps", object.clone()).await.unwrap();
        assert!(written.object.key.name.starts_with("a-") && written.object.key.name.len() == 7);
        names.insert(written.object.key.name.clone());
    }
    assert_eq!(names.len(), 20);
}

#[tokio::test]
async fn a_generated_name_that_is_taken_is_drawn_again() {
    let world = World::new().await;
    let object = json!({"metadata": {"generateName": "a-"}});
    let first = world.create("configmaps", object.clone()).await.unwrap().object;
    // A second registry over the same store draws the same names from the start.
    let twin = world.twin();
    let secrets = twin.resource("secrets");
    let other = json!({"metadata": {"name": "as-many-draws-as-for-the-namespace"}});
    twin.registry.create(&secrets, Some("default"), other, &by("test")).await.unwrap();
    let second = twin.create("configmaps", object).await.unwrap().object;
    assert_ne!(first.key.name, second.key.name);
    // The third uid of the twin: one went to the secret, one to the name that was taken.
    assert_eq!(second.value()["metadata"]["uid"], "uid-3");
    let drawn: Vec<_> = world.list("configmaps", &ListOptions::default()).unwrap().items;
    assert_eq!(drawn.len(), 2);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let world = World::new().await;
    let object = || json!({"metadata": {"name": "a"}});
    expect![[r#"404 NotFound: configmaps "a" not found"#]].assert_eq(&refusal(world.get("configmaps", "a")));
    expect![[r#"404 NotFound: configmaps "a" not found"#]]
        .assert_eq(&refusal(world.update("configmaps", None, object()).await));
    let patch = world.patch("deployments", "a", None, PatchKind::Merge, object()).await;
    expect![[r#"404 NotFound: deployments.apps "a" not found"#]].assert_eq(&refusal(patch));
    let path = world.update("configmaps", Some("status"), object()).await;
    expect!["404 NotFound: the server could not find the requested resource"].assert_eq(&refusal(path));
}

#[tokio::test]
async fn a_stale_update_is_a_conflict_and_one_without_a_version_is_not() {
    let world = World::new().await;
    let stale = world.config_map("a").await.object.value();
    world.edit("configmaps", "a", |object| object["data"] = json!({"k": "1"})).await.unwrap();
    let mut object = stale.clone();
    object["data"] = json!({"k": "2"});
    expect![[r#"409 Conflict: Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again"#]].assert_eq(&refusal(world.update("configmaps", None, object.clone()).await));
    object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let written = world.update("configmaps", None, object.clone()).await.unwrap();
    assert_eq!(written.object.value()["data"]["k"], "2");
    object["metadata"]["uid"] = "other".into();
    expect![[r#"409 Conflict: Operation cannot be fulfilled on configmaps "a": Precondition failed: UID in precondition: other, UID in object meta: uid-2"#]].assert_eq(&refusal(world.update("configmaps", None, object).await));
}

#[tokio::test]
async fn an_update_that_changes_nothing_is_no_event() {
    let world = World::new().await;
    let before = world.config_map("a").await.object;
    let mut watcher = world.watch_from_now("configmaps");
    let after = world.update("configmaps", None, before.value()).await.unwrap().object;
    assert_eq!(before, after);
    let patch =
        world.patch("configmaps", "a", None, PatchKind::Merge, json!({"metadata": {"labels": null}})).await;
    assert_eq!(patch.unwrap().object, before);
    assert_eq!(watcher.ready().await, "");
}

#[tokio::test]
async fn a_dry_run_shows_what_would_be_and_leaves_no_trace() {
    let world = World::new().await;
    let configmaps = world.resource("configmaps");
    let create = |name: &'static str, options: WriteOptions| {
        let (world, configmaps) = (&world, &configmaps);
        async move {
            let object = json!({"metadata": {"name": name}, "data": {"k": "v"}});
            world.registry.create(configmaps, Some("default"), object, &options).await.unwrap().object
        }
    };
    let before = world.revision();
    let shown = create("a", dry_run()).await.value();
    assert_eq!(shown["metadata"]["uid"], "uid-2");
    assert_eq!(shown["metadata"].get("resourceVersion"), None);
    assert!(world.get("configmaps", "a").is_err());

    let stored = create("a", by("test")).await;
    let mut object = stored.value();
    object["data"]["k"] = "w".into();
    let shown =
        world.registry.update(&configmaps, Some("default"), "a", None, object, &dry_run()).await.unwrap();
    assert_eq!(shown.object.value()["data"]["k"], "w");
    assert_eq!(world.get("configmaps", "a").unwrap(), stored.value());
    assert_eq!(world.revision(), before + 1);
}

#[tokio::test]
async fn status_and_the_rest_are_written_apart() {
    let world = World::new().await;
    world.create("deployments", deployment("web")).await.unwrap();
    let mut object = world.get("deployments", "web").unwrap();
    object["spec"]["replicas"] = 5.into();
    object["status"] = json!({"replicas": 1});
    let status = world.update("deployments", Some("status"), object.clone()).await.unwrap().object.value();
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(2), &json!(1)));
    assert_eq!(status["metadata"]["generation"], 1);
    object["metadata"]["resourceVersion"] = status["metadata"]["resourceVersion"].clone();
    object["status"] = json!({"replicas": 9});
    let main = world.update("deployments", None, object).await.unwrap().object.value();
    assert_eq!((&main["spec"]["replicas"], &main["status"]["replicas"]), (&json!(5), &json!(1)));
    assert_eq!(main["metadata"]["generation"], 2);
    let patch = json!({"status": {"replicas": 4}, "spec": {"replicas": 8}});
    let patched = world.patch("deployments", "web", Some("status"), PatchKind::Merge, patch).await.unwrap();
    let patched = patched.object.value();
    assert_eq!((&patched["spec"]["replicas"], &patched["status"]["replicas"]), (&json!(5), &json!(4)));
}

#[tokio::test]
async fn patches_of_every_kind_change_an_object() {
    let world = World::new().await;
    world.create("deployments", deployment("web")).await.unwrap();
    let merge = json!({"metadata": {"labels": {"a": "1"}}});
    world.patch("deployments", "web", None, PatchKind::Merge, merge).await.unwrap();
    let strategic =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "other"}]}}}});
    world.patch("deployments", "web", None, PatchKind::Strategic, strategic).await.unwrap();
    let json = json!([{"op": "replace", "path": "/spec/replicas", "value": 7}]);
    let written = world.patch("deployments", "web", None, PatchKind::Json, json).await.unwrap();
    let object = written.object.value();
    assert_eq!(object["metadata"]["labels"]["a"], "1");
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["image"], "other");
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["name"], "main");
    assert_eq!(object["spec"]["replicas"], 7);
}

#[tokio::test]
async fn a_patched_scale_is_held_against_its_type() {
    let world = World::new().await;
    world.create("deployments", deployment("web")).await.unwrap();
    for replicas in [json!("5"), json!(2.5), json!(3_000_000_000_i64)] {
        let patch = json!({"spec": {"replicas": replicas}});
        let refused = world.patch("deployments", "web", Some("scale"), PatchKind::Merge, patch).await;
        assert_eq!(refused.unwrap_err().code, 422);
    }
    assert_eq!(world.get("deployments", "web").unwrap()["spec"]["replicas"], 2);
    let patch = json!({"spec": {"replicas": 5, "more": 1}});
    let written = world.patch("deployments", "web", Some("scale"), PatchKind::Merge, patch).await.unwrap();
    assert_eq!(written.warnings, [r#"unknown field "spec.more""#]);
    assert_eq!(world.get("deployments", "web").unwrap()["spec"]["replicas"], 5);
}

#[tokio::test]
async fn a_patch_that_names_a_version_is_for_that_version() {
    let world = World::new().await;
    let first = world.config_map("a").await.object.revision;
    let patch = |version: u64, value: &str| json!({"metadata": {"resourceVersion": version.to_string()}, "data": {"k": value}});
    world.patch("configmaps", "a", None, PatchKind::Merge, patch(first, "1")).await.unwrap();
    let stale = world.patch("configmaps", "a", None, PatchKind::Merge, patch(first, "2")).await;
    expect![[r#"409 Conflict: Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again"#]].assert_eq(&refusal(stale));
}

#[tokio::test]
async fn patches_at_once_all_arrive() {
    let world = World::new().await;
    world.config_map("a").await;
    let patches = (0..50).map(|n| {
        let patch = json!({"data": {format!("k{n}"): "v"}});
        world.patch("configmaps", "a", None, PatchKind::Merge, patch)
    });
    for outcome in futures::future::join_all(patches).await {
        outcome.unwrap();
    }
    assert_eq!(world.get("configmaps", "a").unwrap()["data"].as_object().unwrap().len(), 50);
}

#[tokio::test]
async fn a_delete_and_a_create_arrive_however_often_others_write() {
    let world = World::new().await;
    let finalizers = json!(["example.com/wait"]);
    world.create("configmaps", json!({"metadata": {"name": "a", "finalizers": finalizers}})).await.unwrap();
    let patches = (0..30).flat_map(|n| {
        let patch = json!({"metadata": {"labels": {format!("k{n}"): "v"}}});
        let of = |plural, name| world.patch(plural, name, None, PatchKind::Merge, patch.clone());
        [of("namespaces", "default"), of("configmaps", "a")]
    });
    let options = DeleteOptions::default();
    let (patched, deleted, created) = tokio::join!(
        futures::future::join_all(patches),
        world.delete("configmaps", "a", &options),
        world.create("configmaps", json!({"metadata": {"name": "b"}})),
    );
    patched.into_iter().for_each(|outcome| drop(outcome.unwrap()));
    assert!(!deleted.unwrap().gone);
    created.unwrap();
}

#[tokio::test]
async fn an_object_that_could_not_be_read_back_is_not_stored() {
    let world = World::new().await;
    let before = world.labelled("a", "web").await.object;
    let fields = (0..220).fold(json!({}), |inner, _| json!({"f:a": inner}));
    let mut object = before.value();
    object["data"] = json!({"k": "v"});
    object["metadata"]["managedFields"][0]["fieldsV1"]["f:x"] = fields;
    let resource = world.resource("configmaps");
    for options in [by("test"), dry_run()] {
        let new = object.clone();
        let updated = world.registry.update(&resource, Some("default"), "a", None, new, &options).await;
        expect!["400 BadRequest: the object is nested too deep: limit is 127 levels"]
            .assert_eq(&refusal(updated));
    }
    assert_eq!(world.get("configmaps", "a").unwrap(), before.value());
}

#[tokio::test]
async fn an_object_that_is_too_large_is_not_stored() {
    let world = World::with_account().await;
    let with_args = |bytes: usize| {
        let mut pod = pod("a");
        pod["spec"]["containers"][0]["args"] = json!(["x".repeat(bytes)]);
        pod
    };
    let pods = world.resource("pods");
    for options in [by("test"), dry_run()] {
        let created = world.registry.create(&pods, Some("default"), with_args(2 << 20), &options).await;
        expect!["413 RequestEntityTooLarge: Request entity too large: limit is 1572864"]
            .assert_eq(&refusal(created));
    }
    // Piece by piece comes to the same.
    let before = world.create("pods", with_args(1 << 20)).await.unwrap().object;
    let grow = json!({"status": {"message": "x".repeat(1 << 20)}});
    expect!["413 RequestEntityTooLarge: Request entity too large: limit is 1572864"]
        .assert_eq(&refusal(world.patch("pods", "a", Some("status"), PatchKind::Merge, grow).await));
    assert_eq!(world.get("pods", "a").unwrap(), before.value());
}

#[tokio::test]
async fn an_update_does_not_bring_back_what_was_deleted() {
    let world = World::new().await;
    for (plural, object) in [
        ("endpoints", json!({"metadata": {"name": "a"}})),
        ("leases", json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}})),
        ("configmaps", json!({"metadata": {"name": "a"}})),
    ] {
        let dead = world.create(plural, object.clone()).await.unwrap().object.value();
        world.delete(plural, "a", &DeleteOptions::default()).await.unwrap();
        let told = refusal(world.update(plural, None, dead.clone()).await);
        let uid = dead["metadata"]["uid"].as_str().unwrap();
        assert!(
            told.starts_with("409 Conflict:")
                && told.ends_with(&format!(
                    ": Precondition failed: UID in precondition: {uid}, UID in object meta: "
                )),
            "{told}"
        );
        assert_eq!(world.get(plural, "a").unwrap_err().code, 404);
    }
}

#[tokio::test]
async fn a_binding_is_for_the_pod_of_its_path() {
    let world = World::with_account().await;
    world.create("pods", pod("a")).await.unwrap();
    let pods = world.resource("pods");
    let bind = |name: &str, namespace: &str| {
        let binding = json!({"metadata": {"name": name, "namespace": namespace}, "target": {"kind": "Node", "name": "n"}});
        let (world, pods) = (&world, &pods);
        async move {
            world.registry.update(pods, Some("default"), "a", Some("binding"), binding, &by("test")).await
        }
    };
    for (name, namespace, expect) in [
        ("b", "default", expect!["400 BadRequest: name in URL does not match name in Binding object"]),
        ("", "default", expect!["400 BadRequest: name in URL does not match name in Binding object"]),
        (
            "a",
            "other",
            expect![
                "400 BadRequest: the namespace of the provided object does not match the namespace sent on the request"
            ],
        ),
    ] {
        expect.assert_eq(&refusal(bind(name, namespace).await));
    }
    bind("a", "").await.unwrap();
}

#[test]
fn a_patch_of_an_unknown_kind_is_not_read() {
    let check = |content_type: &str| refusal(PatchKind::from_content_type(content_type));
    expect!["415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json"].assert_eq(&check("application/json"));
    expect!["415 UnsupportedMediaType: server-side apply is not offered by this server yet; use client-side apply (kubectl apply without --server-side)"].assert_eq(&check("application/apply-patch+yaml"));
    assert_eq!(
        PatchKind::from_content_type("application/merge-patch+json; charset=utf-8"),
        Ok(PatchKind::Merge)
    );
}

#[tokio::test]
async fn a_scale_changes_replicas_alone() {
    let world = World::new().await;
    world.create("deployments", deployment("web")).await.unwrap();
    let deployments = world.resource("deployments");
    let mut scale = world.registry.get_scale(&deployments, Some("default"), "web").unwrap();
    expect![[r#"{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"creationTimestamp":"2026-01-01T00:00:00Z","name":"web","namespace":"default","resourceVersion":"3","uid":"uid-2"},"spec":{"replicas":2},"status":{"replicas":0,"selector":"app=web"}}"#]].assert_eq(&scale.to_string());
    scale["spec"]["replicas"] = 3.into();
    let put = world.update("deployments", Some("scale"), scale.clone()).await.unwrap().object.value();
    assert_eq!((&put["kind"], &put["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    assert_eq!(world.get("deployments", "web").unwrap()["spec"]["replicas"], 3);
    expect![[r#"409 Conflict: Operation cannot be fulfilled on deployments.apps "web": the object has been modified; please apply your changes to the latest version and try again"#]].assert_eq(&refusal(world.update("deployments", Some("scale"), scale).await));
    for (kind, patch, replicas) in [
        (PatchKind::Merge, json!({"spec": {"replicas": 4}}), 4),
        (PatchKind::Strategic, json!({"spec": {"replicas": 5}}), 5),
        (PatchKind::Json, json!([{"op": "replace", "path": "/spec/replicas", "value": 6}]), 6),
    ] {
        let patched = world.patch("deployments", "web", Some("scale"), kind, patch).await.unwrap();
        assert_eq!(patched.object.value()["spec"]["replicas"], replicas);
    }
    let object = world.get("deployments", "web").unwrap();
    assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(6), &json!(5)));
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let world = World::with_account().await;
    let uid = world.create("pods", pod("a")).await.unwrap().object.value()["metadata"]["uid"].clone();
    let bind = |uid: String, node: &'static str| {
        let registry = world.registry.clone();
        async move { registry.bind("default", "a", &uid, node, &by("kube-scheduler")).await }
    };
    expect![[r#"409 Conflict: Operation cannot be fulfilled on pods/binding "a": Precondition failed: UID in precondition: other, UID in object meta: uid-3"#]].assert_eq(&refusal(bind("other".to_owned(), "n1").await));
    let bound = bind(uid.as_str().unwrap().to_owned(), "n1").await.unwrap().object.value();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    expect![[r#"409 Conflict: Operation cannot be fulfilled on pods/binding "a": pod a is already assigned to node "n1""#]].assert_eq(&refusal(bind(String::new(), "n2").await));
}

#[tokio::test]
async fn unique_values_are_given_out_once_even_at_once() {
    let world = World::new().await;
    let service = |name: String| json!({"metadata": {"name": name}, "spec": {"selector": {"app": "a"}, "type": "NodePort", "ports": [{"port": 80}]}});
    let services = (0..8).map(|n| world.create("services", service(format!("s{n}"))));
    let written = futures::future::join_all(services).await;
    let value = |path: &str| -> std::collections::BTreeSet<String> {
        written
            .iter()
            .map(|one| one.as_ref().unwrap().object.value().pointer(path).unwrap().to_string())
            .collect()
    };
    assert_eq!(value("/spec/clusterIP").len(), 8);
    assert_eq!(value("/spec/ports/0/nodePort").len(), 8);
    let taken = written[0].as_ref().unwrap().object.value()["spec"]["clusterIP"].clone();
    let mut greedy = service("greedy".to_owned());
    greedy["spec"]["clusterIP"] = taken;
    let outcome = world.create("services", greedy).await;
    assert_eq!(outcome.unwrap_err().code, 422);
}

#[tokio::test]
async fn a_value_is_taken_though_nobody_waits_for_the_write() {
    let world = World::new().await;
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"selector": {"app": "a"}, "type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}});
    {
        let mut given_up = std::pin::pin!(world.create("services", service("first")));
        assert!(futures::poll!(given_up.as_mut()).is_pending());
    }
    assert_eq!(world.create("services", service("second")).await.unwrap_err().code, 422);
    assert!(world.get("services", "first").is_ok());
}

#[tokio::test]
async fn some_kinds_are_created_by_an_update_and_some_insist_on_a_version() {
    let world = World::new().await;
    let lease = json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}});
    expect![[r#"422 Invalid: leases.coordination.k8s.io "a" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"#]].assert_eq(&refusal(world.update("leases", None, lease.clone()).await));
    let versioned =
        json!({"metadata": {"name": "a", "resourceVersion": "1"}, "spec": {"holderIdentity": "me"}});
    assert!(world.update("leases", None, versioned).await.unwrap().created);
    assert_eq!(world.get("leases", "a").unwrap()["spec"]["holderIdentity"], "me");
    expect![[r#"422 Invalid: leases.coordination.k8s.io "a" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"#]].assert_eq(&refusal(world.update("leases", None, lease).await));
    let edited = world.edit("leases", "a", |lease| lease["spec"]["holderIdentity"] = "you".into()).await;
    assert!(!edited.unwrap().created);
}

#[tokio::test]
async fn a_pod_waits_a_while_for_the_account_of_a_new_namespace() {
    let world = World::new().await;
    let (pod, ()) = tokio::join!(world.create("pods", pod("a")), world.create_account());
    assert_eq!(pod.unwrap().object.value()["spec"]["serviceAccountName"], "default");
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_account_does_not_come_is_forbidden() {
    let world = World::new().await;
    let began = tokio::time::Instant::now();
    let mut other =
        json!({"metadata": {"generateName": "a-"}, "spec": {"containers": [{"name": "c", "image": "c"}]}});
    let default = other.clone();
    other["spec"]["serviceAccountName"] = "other".into();
    expect![[r#"403 Forbidden: pods "a-" is forbidden: error looking up service account default/other: serviceaccount "other" not found"#]]
        .assert_eq(&refusal(world.create("pods", other).await));
    assert_eq!(began, tokio::time::Instant::now());
    expect![[r#"403 Forbidden: pods "a-" is forbidden: error looking up service account default/default: serviceaccount "default" not found"#]]
        .assert_eq(&refusal(world.create("pods", default).await));
    assert!(began < tokio::time::Instant::now());
    // Nothing comes by itself where there is no namespace.
    let pods = world.resource("pods");
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": []}});
    let began = tokio::time::Instant::now();
    let nowhere = world.registry.create(&pods, Some("nowhere"), pod, &by("test")).await;
    expect![[r#"404 NotFound: namespaces "nowhere" not found"#]].assert_eq(&refusal(nowhere));
    assert_eq!(began, tokio::time::Instant::now());
}

#[tokio::test]
async fn a_patch_with_a_value_of_a_wrong_type_is_invalid() {
    let world = World::new().await;
    world.config_map("a").await;
    let wrong = json!({"data": {"a": 5}});
    for (kind, patch, expect) in [
        (
            PatchKind::Strategic,
            wrong.clone(),
            expect![[
                r#"422 Invalid:  "" is invalid: patch: Invalid value: "map[data:map[a:5]]": cannot convert int64 to string"#
            ]],
        ),
        (
            PatchKind::Merge,
            wrong.clone(),
            expect![[
                r#"422 Invalid:  "" is invalid: patch: Invalid value: "{\"apiVersion\":\"v1\",\"data\":{\"a\":5},\"kind\":\"ConfigMap\",\"metadata\":{\"creationTimestamp\":\"2026-01-01T00:00:00Z\",\"name\":\"a\",\"namespace\":\"default\",\"resourceVersion\":\"3\",\"uid\":\"uid-2\"}}": json: cannot unmarshal number into Go struct field ConfigMap.data of type string"#
            ]],
        ),
        (
            PatchKind::Json,
            json!([{"op": "add", "path": "/data", "value": "a"}]),
            expect![[
                r#"422 Invalid:  "" is invalid: patch: Invalid value: "{\"apiVersion\":\"v1\",\"data\":\"a\",\"kind\":\"ConfigMap\",\"metadata\":{\"creationTimestamp\":\"2026-01-01T00:00:00Z\",\"name\":\"a\",\"namespace\":\"default\",\"resourceVersion\":\"3\",\"uid\":\"uid-2\"}}": json: cannot unmarshal string into Go struct field ConfigMap.data of type map[string]string"#
            ]],
        ),
    ] {
        expect.assert_eq(&refusal(world.patch("configmaps", "a", None, kind, patch).await));
    }
}
