//! Watch: where it begins, what it tells, how it ends.

use crate::world::{World, refusal};
use control_registry::{DeleteOptions, PatchKind, WatchOptions};
use expect_test::expect;
use serde_json::json;

fn from(version: &str) -> WatchOptions {
    WatchOptions { resource_version: version.to_owned(), ..WatchOptions::default() }
}

fn initial(send: bool) -> WatchOptions {
    WatchOptions {
        send_initial_events: Some(send),
        resource_version_match: "NotOlderThan".to_owned(),
        allow_bookmarks: true,
        ..WatchOptions::default()
    }
}

#[tokio::test]
async fn a_watch_begins_where_it_is_told() {
    let world = World::new().await;
    world.config_map("a").await;
    world.config_map("b").await;
    for (options, expect) in [
        (
            from(""),
            expect![[r#"
            ADDED a @3
            ADDED b @4"#]],
        ),
        (
            from("0"),
            expect![[r#"
            ADDED a @3
            ADDED b @4"#]],
        ),
        (from("3"), expect!["ADDED b @4"]),
        (initial(false), expect![[""]]),
        (
            initial(true),
            expect![[r#"
            ADDED a @3
            ADDED b @4
            BOOKMARK {"apiVersion":"v1","kind":"ConfigMap","metadata":{"annotations":{"k8s.io/initial-events-end":"true"},"creationTimestamp":null,"resourceVersion":"4"}}"#]],
        ),
        (WatchOptions { field_selector: "metadata.name=b".to_owned(), ..from("") }, expect!["ADDED b @4"]),
    ] {
        let mut watcher = world.watch("configmaps", &options).unwrap();
        expect.assert_eq(&watcher.ready().await);
    }
}

#[tokio::test]
async fn initial_events_are_asked_for_in_the_right_way() {
    let world = World::new().await;
    let check = |options: &WatchOptions| match world.watch("configmaps", options) {
        Ok(_) => "fine".to_owned(),
        Err(error) => refusal(Err::<(), _>(error)),
    };
    let without = WatchOptions { resource_version_match: String::new(), ..initial(true) };
    expect![[r#"422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"#]].assert_eq(&check(&without));
    expect![[r#"422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan""#]]
        .assert_eq(&check(&WatchOptions { resource_version_match: "Exact".to_owned(), ..initial(true) }));
    expect![[r#"422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"#]].assert_eq(&check(&WatchOptions { send_initial_events: None, ..initial(true) }));
    expect!["504 Timeout: Timeout: Too large resource version: 99, current: 2"]
        .assert_eq(&check(&WatchOptions { resource_version: "99".to_owned(), ..initial(true) }));
    expect!["504 Timeout: Timeout: Too large resource version: 99, current: 2"]
        .assert_eq(&check(&from("99")));
    expect![[r#"400 BadRequest: resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax"#]].assert_eq(&check(&from("x")));
}

#[tokio::test]
async fn entering_and_leaving_a_selection_is_coming_and_going() {
    let world = World::new().await;
    let labels = WatchOptions { label_selector: "app=web".to_owned(), ..from("2") };
    let mut watcher = world.watch("configmaps", &labels).unwrap();
    world.labelled("a", "db").await;
    for patch in [
        json!({"metadata": {"labels": {"app": "web"}}}),
        json!({"data": {"k": "v"}}),
        json!({"metadata": {"labels": {"app": "db"}}}),
        json!({"data": {"k": "w"}}),
        json!({"metadata": {"labels": {"app": "web"}}}),
    ] {
        world.patch("configmaps", "a", None, PatchKind::Merge, patch).await.unwrap();
    }
    world.delete("configmaps", "a", &DeleteOptions::default()).await.unwrap();
    expect![[r#"
        ADDED a @4 {"app":"web"}
        MODIFIED a @5 {"app":"web"}
        DELETED a @6 {"app":"web"}
        ADDED a @8 {"app":"web"}
        DELETED a @9 {"app":"web"}"#]]
    .assert_eq(&watcher.ready().await);
}

#[tokio::test]
async fn a_watch_of_a_forgotten_state_is_told_so() {
    let world = World::with_ring(2).await;
    let mut slow = world.watch("configmaps", &from("2")).unwrap();
    for name in ["a", "b", "c"] {
        world.config_map(name).await;
    }
    let mut late = world.watch("configmaps", &from("2")).unwrap();
    expect![[r#"
        ERROR {"apiVersion":"v1","code":410,"kind":"Status","message":"too old resource version: 2 (3)","metadata":{},"reason":"Expired","status":"Failure"}
        END"#]].assert_eq(&late.ready().await);
    expect![[r#"
        ERROR {"apiVersion":"v1","code":410,"kind":"Status","message":"too old resource version: 2 (3)","metadata":{},"reason":"Expired","status":"Failure"}
        END"#]].assert_eq(&slow.ready().await);
}

#[tokio::test]
async fn watches_of_one_namespace_see_no_other() {
    let world = World::new().await;
    world.create("namespaces", json!({"metadata": {"name": "other"}})).await.unwrap();
    let mut watcher = world.watch_from_now("configmaps");
    let resource = world.resource("configmaps");
    let object = json!({"metadata": {"name": "elsewhere"}});
    world.registry.create(&resource, Some("other"), object, &crate::world::by("test")).await.unwrap();
    world.config_map("here").await;
    assert_eq!(watcher.ready().await, "ADDED here @5");
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_every_minute_and_before_the_end() {
    let world = World::new().await;
    let options = WatchOptions { allow_bookmarks: true, timeout_seconds: Some(90), ..from("2") };
    let mut watcher = world.watch("configmaps", &options).unwrap();
    let begin = tokio::time::Instant::now();
    world.create("secrets", json!({"metadata": {"name": "not-watched"}})).await.unwrap();
    for (second, expect) in [
        (
            60,
            expect![[
                r#"BOOKMARK {"apiVersion":"v1","kind":"ConfigMap","metadata":{"creationTimestamp":null,"resourceVersion":"3"}}"#
            ]],
        ),
        (
            88,
            expect![[
                r#"BOOKMARK {"apiVersion":"v1","kind":"ConfigMap","metadata":{"creationTimestamp":null,"resourceVersion":"3"}}"#
            ]],
        ),
        (90, expect!["END"]),
    ] {
        expect.assert_eq(&watcher.next().await);
        assert_eq!(begin.elapsed().as_secs(), second);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_without_bookmarks_gets_none_and_ends_in_an_hour() {
    let world = World::new().await;
    let begin = tokio::time::Instant::now();
    assert_eq!(world.watch("configmaps", &from("2")).unwrap().next().await, "END");
    assert!((1800..3600).contains(&begin.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_watch_may_ask_for_more_time_than_there_is() {
    let world = World::new().await;
    for allow_bookmarks in [false, true] {
        let timeout_seconds = Some(u64::MAX);
        let options = WatchOptions { allow_bookmarks, timeout_seconds, ..from("2") };
        let mut watcher = world.watch("configmaps", &options).unwrap();
        assert_eq!(watcher.ready().await, "");
    }
}
