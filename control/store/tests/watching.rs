//! Lists, watches and the ring through the store's front.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use control_api::object::{Key, ResourceId};
use control_store::{CommitError, EventKind, Gone, RingSize, Store, StoreOptions, Watch, Write};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

static PODS: ResourceId = ResourceId::new("", "pods");
static SECRETS: ResourceId = ResourceId::new("", "secrets");

fn key(resource: &ResourceId, namespace: &str, name: &str) -> Key {
    Key { resource: resource.clone(), namespace: Some(namespace.to_owned()), name: name.to_owned() }
}

fn object(name: &str, data: u8) -> Value {
    json!({"metadata": {"name": name}, "data": data})
}

async fn create(store: &Store, resource: &ResourceId, namespace: &str, name: &str) -> u64 {
    let key = key(resource, namespace, name);
    store.commit(Write::Create { key, object: object(name, 0), given: None }).await.unwrap().revision
}

fn small(events: usize, bytes: usize) -> Store {
    Store::in_memory_with(StoreOptions { ring: RingSize { events, bytes } })
}

fn drain(watch: &mut Watch) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(event) = watch.try_next().unwrap() {
        seen.push(format!("{:?} {} {}", event.kind, event.object.key.name, event.revision));
    }
    seen
}

#[tokio::test]
async fn a_create_may_rest_on_the_state_of_another_object() {
    let store = Store::in_memory();
    let (owner, child) = (key(&PODS, "default", "owner"), key(&PODS, "default", "child"));
    let given = |revision| Write::Create {
        key: child.clone(),
        object: object("child", 1),
        given: Some((owner.clone(), revision)),
    };
    assert!(matches!(store.commit(given(1)).await, Err(CommitError::Outdated)), "the owner is not there");
    let first = create(&store, &PODS, "default", "owner").await;
    let update = Write::Update { key: owner.clone(), expect: first, object: object("owner", 2) };
    let second = store.commit(update).await.unwrap().revision;
    assert!(matches!(store.commit(given(first)).await, Err(CommitError::Outdated)), "the owner has changed");
    store.commit(given(second)).await.unwrap();
}

#[tokio::test]
async fn events_of_everything_come_in_one_order() {
    let store = small(3, 1 << 20);
    let mut revisions = Vec::new();
    for (resource, name) in [(&PODS, "a"), (&SECRETS, "b"), (&PODS, "c"), (&SECRETS, "d")] {
        revisions.push(create(&store, resource, "default", name).await);
    }
    let after = |revision, limit| -> Vec<u64> {
        store.events_after(revision, limit).unwrap().iter().map(|event| event.revision).collect()
    };
    assert_eq!(after(revisions[0], 9), revisions[1..]);
    assert_eq!(after(revisions[0], 2), revisions[1..3]);
    assert!(after(revisions[3], 9).is_empty());
    assert!(store.events_after(revisions[0] - 1, 9).is_err(), "the ring has dropped the first");
}

#[tokio::test]
async fn writes_name_the_state_they_rest_on() {
    let store = Store::in_memory();
    let a = key(&PODS, "default", "a");
    let first =
        store.commit(Write::Create { key: a.clone(), object: object("a", 1), given: None }).await.unwrap();
    assert_eq!(first.value(), json!({"metadata": {"name": "a", "resourceVersion": "2"}, "data": 1}));

    let again = store.commit(Write::Create { key: a.clone(), object: object("a", 2), given: None }).await;
    assert!(matches!(again, Err(CommitError::Exists { current }) if current == first));
    let update = |expect| Write::Update { key: a.clone(), expect, object: object("a", 3) };
    let second = store.commit(update(first.revision)).await.unwrap();
    let stale = store.commit(update(first.revision)).await;
    assert!(matches!(stale, Err(CommitError::Stale { current }) if current == second));
    let delete = |expect| Write::Delete { key: a.clone(), expect, last: object("a", 3) };
    assert!(matches!(store.commit(delete(first.revision)).await, Err(CommitError::Stale { .. })));
    let last = store.commit(delete(second.revision)).await.unwrap();
    assert_eq!(last.value()["metadata"]["resourceVersion"], "4");
    assert!(matches!(store.commit(delete(4)).await, Err(CommitError::NotFound)));
    let malformed = Write::Create { key: a.clone(), object: json!({"kind": "Pod"}), given: None };
    assert!(matches!(store.commit(malformed).await, Err(CommitError::Malformed { .. })));
    assert_eq!(store.snapshot().revision(), 4, "refused writes count no revision");
    assert!(store.snapshot().is_empty());
}

#[tokio::test]
async fn lists_are_ordered_and_go_on_after_a_key() {
    let store = Store::in_memory();
    for (namespace, name) in [("b", "a"), ("a", "b"), ("a-b", "x"), ("a", "a"), ("b", "c")] {
        create(&store, &PODS, namespace, name).await;
    }
    create(&store, &SECRETS, "a", "s").await;
    let snapshot = store.snapshot();
    let show = |stored: &std::sync::Arc<control_store::Stored>| {
        format!("{}/{}", stored.key.namespace.as_deref().unwrap_or(""), stored.key.name)
    };
    let all: Vec<_> = snapshot.list(&PODS, None).map(show).collect();
    assert_eq!(all, ["a/a", "a/b", "a-b/x", "b/a", "b/c"]);
    let one: Vec<_> = snapshot.list(&PODS, Some("a")).map(show).collect();
    assert_eq!(one, ["a/a", "a/b"]);
    let after =
        |namespace: Option<&str>, key: Key| snapshot.list_after(&PODS, namespace, &key).map(show).collect();
    let rest: Vec<_> = after(None, key(&PODS, "a", "b"));
    assert_eq!(rest, ["a-b/x", "b/a", "b/c"]);
    let gone: Vec<_> = after(None, key(&PODS, "a", "aa"));
    assert_eq!(gone, ["a/b", "a-b/x", "b/a", "b/c"]);
    let outside: Vec<_> = after(Some("a"), key(&PODS, "b", "a"));
    assert_eq!(outside, Vec::<String>::new());
    let before: Vec<_> = after(Some("b"), key(&PODS, "a", "a"));
    assert_eq!(before, ["b/a", "b/c"]);
}

#[tokio::test]
async fn a_watch_sees_its_own_resource_and_namespace_alone() {
    let store = Store::in_memory();
    let start = create(&store, &PODS, "a", "old").await;
    let mut all = store.watch(&PODS, None, start).unwrap();
    let mut past = store.watch(&PODS, Some("a"), 1).unwrap();
    create(&store, &SECRETS, "a", "secret").await;
    create(&store, &PODS, "a", "one").await;
    create(&store, &PODS, "b", "two").await;
    assert_eq!(drain(&mut all), ["Added one 4", "Added two 5"]);
    assert_eq!(drain(&mut past), ["Added old 2", "Added one 4"]);
    assert_eq!(past.progress(), Ok(5));
}

#[tokio::test]
async fn a_watch_is_woken_by_a_write() {
    let store = Store::in_memory();
    let mut watch = store.watch(&PODS, Some("a"), 1).unwrap();
    let (event, _) = tokio::join!(watch.next(), create(&store, &PODS, "a", "one"));
    let event = event.unwrap();
    assert_eq!((event.kind, event.object.key.name.as_str()), (EventKind::Added, "one"));
}

#[tokio::test]
async fn a_watch_that_the_ring_has_passed_is_gone() {
    let store = small(3, usize::MAX);
    let mut slow = store.watch(&PODS, None, 1).unwrap();
    let mut elsewhere = store.watch(&SECRETS, None, 1).unwrap();
    for name in ["a", "b", "c", "d"] {
        create(&store, &PODS, "x", name).await;
    }
    assert_eq!(slow.try_next().unwrap_err(), Gone { requested: 1, oldest: 2 });
    assert_eq!(store.watch(&PODS, Some("x"), 1).unwrap_err(), Gone { requested: 1, oldest: 2 });
    assert_eq!(
        drain(&mut store.watch(&PODS, Some("x"), 2).unwrap()),
        ["Added b 3", "Added c 4", "Added d 5"]
    );
    // Nothing was dropped that this one had to see.
    assert_eq!(drain(&mut elsewhere), Vec::<String>::new());
    assert_eq!(elsewhere.progress(), Ok(5));
}

#[tokio::test]
async fn the_ring_is_bounded_in_bytes_too() {
    let store = small(1000, 120);
    for name in ["a", "b", "c"] {
        create(&store, &PODS, "x", name).await;
    }
    assert!(store.watch(&PODS, None, 1).is_err());
    assert_eq!(drain(&mut store.watch(&PODS, None, 2).unwrap()), ["Added b 3", "Added c 4"]);
}

#[tokio::test]
async fn a_restarted_store_knows_no_events_from_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path).unwrap();
    create(&store, &PODS, "x", "a").await;
    store.close().await;
    let store = Store::open(&path).unwrap();
    assert_eq!(store.watch(&PODS, None, 1).unwrap_err(), Gone { requested: 1, oldest: 2 });
    assert!(store.watch(&PODS, None, 2).is_ok());
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Put(&'static ResourceId, u8, u8),
    Remove(&'static ResourceId, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let resource = prop_oneof![Just(&PODS), Just(&SECRETS)];
    prop_oneof![
        3 => (resource.clone(), 0u8..6, any::<u8>()).prop_map(|(resource, name, data)| Step::Put(resource, name, data)),
        1 => (resource, 0u8..6).prop_map(|(resource, name)| Step::Remove(resource, name)),
    ]
}

async fn take(store: &Store, step: &Step) {
    let (Step::Put(resource, n, _) | Step::Remove(resource, n)) = step;
    let name = format!("n{}", n / 2);
    let key = key(resource, if n % 2 == 0 { "even" } else { "odd" }, &name);
    let current = store.snapshot().get(&key).cloned();
    let write = match (step, current) {
        (Step::Put(_, _, data), None) => Write::Create { key, object: object(&name, *data), given: None },
        (Step::Put(_, _, data), Some(current)) => {
            Write::Update { key, expect: current.revision, object: object(&name, *data) }
        }
        (Step::Remove(..), None) => return,
        (Step::Remove(..), Some(current)) => {
            Write::Delete { key, expect: current.revision, last: current.value() }
        }
    };
    store.commit(write).await.unwrap();
}

type Contents = BTreeMap<Key, Value>;

fn contents(snapshot: &control_store::Snapshot, namespace: Option<&str>) -> Contents {
    snapshot.list(&PODS, namespace).map(|stored| (stored.key.clone(), stored.value())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A list, and then the watch from its revision, is what a later list says; from any point of the past.
    #[test]
    fn list_and_watch_replay_to_the_present(
        before in prop::collection::vec(step(), 0..12),
        after in prop::collection::vec(step(), 0..24),
        namespace in prop_oneof![Just(None), Just(Some("even"))],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = Store::in_memory();
            for step in &before {
                take(&store, step).await;
            }
            let past = store.snapshot();
            let mut early = store.watch(&PODS, namespace, past.revision()).unwrap();
            let mut replayed = contents(&past, namespace);
            let mut history = vec![past.clone()];
            for step in &after {
                take(&store, step).await;
                history.push(store.snapshot());
            }
            let mut late = store.watch(&PODS, namespace, past.revision()).unwrap();
            let mut last = past.revision();
            while let Some(event) = early.try_next().unwrap() {
                assert!(event.revision > last);
                last = event.revision;
                let previous = match event.kind {
                    EventKind::Deleted => replayed.remove(&event.object.key),
                    EventKind::Added | EventKind::Modified => {
                        replayed.insert(event.object.key.clone(), event.object.value())
                    }
                };
                assert_eq!(previous, event.previous.as_ref().map(|stored| stored.value()));
                assert_eq!(late.try_next().unwrap().unwrap().revision, event.revision);
            }
            assert!(late.try_next().unwrap().is_none());
            assert_eq!(replayed, contents(&store.snapshot(), namespace));
            for then in history {
                let told = store.snapshot_at(then.revision()).unwrap();
                assert_eq!(contents(&told, None), contents(&then, None));
            }
        });
    }
}
