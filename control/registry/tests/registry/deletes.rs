//! Delete: at once, with finalizers, with a grace.

use crate::world::{World, by, pod, refusal};
use control_registry::{DeleteOptions, ListOptions, PatchKind, Preconditions, Propagation};
use expect_test::expect;
use serde_json::{Value, json};

fn grace(seconds: i64) -> DeleteOptions {
    DeleteOptions { grace_period_seconds: Some(seconds), ..DeleteOptions::default() }
}

fn policy(policy: Propagation) -> DeleteOptions {
    DeleteOptions { propagation_policy: Some(policy), ..DeleteOptions::default() }
}

fn leaving(object: &Value) -> String {
    let meta = &object["metadata"];
    format!("{} {} {}", meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"], meta["finalizers"])
}

#[tokio::test]
async fn a_plain_object_is_gone_at_once() {
    let world = World::new().await;
    world.config_map("a").await;
    let mut watcher = world.watch_from_now("configmaps");
    let deleted = world.delete("configmaps", "a", &DeleteOptions::default()).await.unwrap();
    assert!(deleted.gone);
    assert_eq!(leaving(&deleted.object.value()), "null null null");
    assert_eq!(watcher.ready().await, "DELETED a @4");
    expect![[r#"404 NotFound: configmaps "a" not found"#]]
        .assert_eq(&refusal(world.delete("configmaps", "a", &DeleteOptions::default()).await));
}

#[tokio::test]
async fn a_finalizer_keeps_an_object_until_it_is_taken_away() {
    let world = World::new().await;
    let object = json!({"metadata": {"name": "a", "finalizers": ["example.com/wait"]}});
    world.create("configmaps", object).await.unwrap();
    let mut watcher = world.watch_from_now("configmaps");
    let deleted = world.delete("configmaps", "a", &DeleteOptions::default()).await.unwrap();
    assert!(!deleted.gone);
    expect![[r#""2026-01-01T00:00:00Z" 0 ["example.com/wait"]"#]]
        .assert_eq(&leaving(&deleted.object.value()));
    // Once more changes nothing.
    let again = world.delete("configmaps", "a", &DeleteOptions::default()).await.unwrap();
    assert_eq!(again.object, deleted.object);
    world.edit("configmaps", "a", |object| object["data"] = json!({"still": "there"})).await.unwrap();
    world
        .patch("configmaps", "a", None, PatchKind::Merge, json!({"metadata": {"finalizers": null}}))
        .await
        .unwrap();
    assert!(world.get("configmaps", "a").is_err());
    assert_eq!(watcher.ready().await, "MODIFIED a @4\nMODIFIED a @5\nDELETED a @6");
}

#[tokio::test]
async fn preconditions_are_held() {
    let world = World::new().await;
    world.config_map("a").await;
    let delete = |uid: Option<&str>, version: Option<&str>| {
        let preconditions =
            Preconditions { uid: uid.map(str::to_owned), resource_version: version.map(str::to_owned) };
        DeleteOptions { preconditions, ..DeleteOptions::default() }
    };
    expect![[r#"409 Conflict: Operation cannot be fulfilled on ConfigMap "a": the UID in the precondition (other) does not match the UID in record (uid-2). The object might have been deleted and then recreated"#]].assert_eq(&refusal(world.delete("configmaps", "a", &delete(Some("other"), None)).await));
    expect![[r#"409 Conflict: Operation cannot be fulfilled on ConfigMap "a": the ResourceVersion in the precondition (1) does not match the ResourceVersion in record (3). The object might have been modified"#]].assert_eq(&refusal(world.delete("configmaps", "a", &delete(None, Some("1"))).await));
    assert!(world.delete("configmaps", "a", &delete(Some("uid-2"), Some("3"))).await.unwrap().gone);
}

#[tokio::test]
async fn the_policy_tells_the_garbage_collector() {
    for (options, expect) in [
        (
            policy(Propagation::Foreground),
            expect![[r#""2026-01-01T00:00:00Z" 0 ["x.io/y","foregroundDeletion"]"#]],
        ),
        (policy(Propagation::Orphan), expect![[r#""2026-01-01T00:00:00Z" 0 ["x.io/y","orphan"]"#]]),
        (policy(Propagation::Background), expect![[r#""2026-01-01T00:00:00Z" 0 ["x.io/y"]"#]]),
        (DeleteOptions::default(), expect![[r#""2026-01-01T00:00:00Z" 0 ["x.io/y","foregroundDeletion"]"#]]),
    ] {
        let world = World::new().await;
        let object = json!({"metadata": {"name": "a", "finalizers": ["x.io/y", "foregroundDeletion"]}});
        world.create("configmaps", object).await.unwrap();
        let deleted = world.delete("configmaps", "a", &options).await.unwrap();
        expect.assert_eq(&leaving(&deleted.object.value()));
    }
}

#[tokio::test]
async fn foreground_of_a_plain_object_waits_for_the_collector() {
    let world = World::with_account().await;
    world.config_map("a").await;
    let deleted = world.delete("configmaps", "a", &policy(Propagation::Foreground)).await.unwrap();
    assert!(!deleted.gone);
    expect![[r#""2026-01-01T00:00:00Z" 0 ["foregroundDeletion"]"#]]
        .assert_eq(&leaving(&deleted.object.value()));
    world.edit("configmaps", "a", |object| object["metadata"]["finalizers"] = json!([])).await.unwrap();
    assert!(world.get("configmaps", "a").is_err());
}

async fn bound_pod(world: &World) {
    world.create("pods", pod("a")).await.unwrap();
    world.registry.bind("default", "a", "", "node", &by("kube-scheduler")).await.unwrap();
}

#[tokio::test]
async fn a_pod_has_its_grace_which_may_only_shrink() {
    let world = World::with_account().await;
    bound_pod(&world).await;
    let deleted = world.delete("pods", "a", &DeleteOptions::default()).await.unwrap();
    assert!(!deleted.gone);
    expect![[r#""2026-01-01T00:00:30Z" 30 null"#]].assert_eq(&leaving(&deleted.object.value()));
    world.pass(5);
    let longer = world.delete("pods", "a", &grace(60)).await.unwrap();
    assert_eq!(longer.object, deleted.object);
    let shorter = world.delete("pods", "a", &grace(10)).await.unwrap();
    expect![[r#""2026-01-01T00:00:10Z" 10 null"#]].assert_eq(&leaving(&shorter.object.value()));
    // A status write of the node does not remove it.
    let patch = json!({"status": {"phase": "Running"}});
    world.patch("pods", "a", Some("status"), PatchKind::Merge, patch).await.unwrap();
    let last = world.delete("pods", "a", &grace(0)).await.unwrap();
    assert!(last.gone);
    expect![[r#""2026-01-01T00:00:00Z" 0 null"#]].assert_eq(&leaving(&last.object.value()));
    assert!(world.get("pods", "a").is_err());
}

#[tokio::test]
async fn a_pod_that_no_node_has_is_gone_at_once() {
    let world = World::with_account().await;
    world.create("pods", pod("a")).await.unwrap();
    assert!(world.delete("pods", "a", &DeleteOptions::default()).await.unwrap().gone);
}

#[tokio::test]
async fn a_pod_with_a_finalizer_outlives_its_grace() {
    let world = World::with_account().await;
    let mut object = pod("a");
    object["metadata"]["finalizers"] = json!(["x.io/y"]);
    world.create("pods", object).await.unwrap();
    world.registry.bind("default", "a", "", "node", &by("kube-scheduler")).await.unwrap();
    world.delete("pods", "a", &DeleteOptions::default()).await.unwrap();
    let ended = world.delete("pods", "a", &grace(0)).await.unwrap();
    assert!(!ended.gone);
    expect![[r#""2026-01-01T00:00:00Z" 0 ["x.io/y"]"#]].assert_eq(&leaving(&ended.object.value()));
    world
        .patch("pods", "a", None, PatchKind::Merge, json!({"metadata": {"finalizers": null}}))
        .await
        .unwrap();
    assert!(world.get("pods", "a").is_err());
}

#[tokio::test]
async fn finalizers_taken_away_do_not_cut_the_grace() {
    let world = World::with_account().await;
    let mut object = pod("a");
    object["metadata"]["finalizers"] = json!(["x.io/y"]);
    world.create("pods", object).await.unwrap();
    world.registry.bind("default", "a", "", "node", &by("kube-scheduler")).await.unwrap();
    world.delete("pods", "a", &DeleteOptions::default()).await.unwrap();
    world
        .patch("pods", "a", None, PatchKind::Merge, json!({"metadata": {"finalizers": null}}))
        .await
        .unwrap();
    assert!(world.get("pods", "a").is_ok());
    assert!(world.delete("pods", "a", &grace(0)).await.unwrap().gone);
}

#[tokio::test]
async fn a_dry_run_deletes_nothing() {
    let world = World::new().await;
    world.config_map("a").await;
    let before = world.revision();
    let options = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    assert!(world.delete("configmaps", "a", &options).await.unwrap().gone);
    assert!(world.get("configmaps", "a").is_ok());
    assert_eq!(world.revision(), before);
}

#[tokio::test]
async fn a_collection_is_deleted_by_its_selectors() {
    let world = World::new().await;
    for (name, app) in [("a", "web"), ("b", "db"), ("c", "web")] {
        world.labelled(name, app).await;
    }
    let which = ListOptions { label_selector: "app=web".to_owned(), ..ListOptions::default() };
    let resource = world.resource("configmaps");
    let deleted = world
        .registry
        .delete_collection(&resource, Some("default"), &which, &DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(crate::world::names(&deleted.items), "a c");
    assert_eq!(crate::world::names(&world.list("configmaps", &ListOptions::default()).unwrap().items), "b");
}

#[tokio::test]
async fn a_large_collection_goes_whole_and_is_told_in_order() {
    let world = World::new().await;
    let expect: Vec<String> = (0..200).map(|n| format!("a{n:03}")).collect();
    for name in &expect {
        world.config_map(name).await;
    }
    let resource = world.resource("configmaps");
    let (which, how) = (ListOptions::default(), DeleteOptions::default());
    let deleted = world.registry.delete_collection(&resource, Some("default"), &which, &how).await.unwrap();
    assert_eq!(crate::world::names(&deleted.items), expect.join(" "));
    assert!(world.list("configmaps", &which).unwrap().items.is_empty());
}

#[test]
fn options_come_as_an_object() {
    let check = |value: Value| match DeleteOptions::from_value(&value) {
        Ok(options) => format!("{options:?}"),
        Err(error) => error.message,
    };
    expect![[r#"DeleteOptions { dry_run: true, grace_period_seconds: Some(5), propagation_policy: Some(Foreground), preconditions: Preconditions { uid: Some("u"), resource_version: None } }"#]].assert_eq(&check(json!({
        "gracePeriodSeconds": 5, "propagationPolicy": "Foreground", "dryRun": ["All"], "preconditions": {"uid": "u"}
    })));
    expect!["DeleteOptions { dry_run: false, grace_period_seconds: None, propagation_policy: Some(Orphan), preconditions: Preconditions { uid: None, resource_version: None } }"].assert_eq(&check(json!({"orphanDependents": true})));
    expect![[r#"DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Never": supported values: "Foreground", "Background", "Orphan", "nil""#]].assert_eq(&check(json!({"propagationPolicy": "Never"})));
    expect![[r#"DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Invalid value: "Orphan": orphanDependents and deletionPropagation cannot be both set"#]].assert_eq(&check(json!({"propagationPolicy": "Orphan", "orphanDependents": true})));
}
