//! The store's file on a real disk: reopening, refusals, `kill -9`.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use control_api::object::{Key, ResourceId};
use control_store::{Store, StoreError, Write};
use expect_test::expect;
use serde_json::json;
use std::error::Error;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

fn create(name: &str) -> Write {
    let key = Key {
        resource: ResourceId::new("", "pods"),
        namespace: Some("default".to_owned()),
        name: name.to_owned(),
    };
    Write::Create { key, object: json!({"metadata": {"name": name}}), given: None }
}

fn names(store: &Store) -> Vec<String> {
    let snapshot = store.snapshot();
    snapshot.list(&ResourceId::new("", "pods"), None).map(|stored| stored.key.name.clone()).collect()
}

fn refusal(path: &Path) -> String {
    let error = Store::open(path).unwrap_err();
    let folder = path.parent().unwrap().display().to_string();
    let cause = error.source().map(|cause| format!("\n  {cause}")).unwrap_or_default();
    format!("{error}{cause}").replace(&folder, "DIR")
}

#[tokio::test]
async fn objects_and_revision_are_there_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/store.redb");
    let store = Store::open(&path).unwrap();
    assert_eq!(store.snapshot().revision(), 1);
    store.commit(create("b")).await.unwrap();
    let before = store.commit(create("a")).await.unwrap();
    store.close().await;
    assert!(store.commit(create("c")).await.is_err());

    let store = Store::open(&path).unwrap();
    assert_eq!(names(&store), ["a", "b"]);
    assert_eq!(store.snapshot().revision(), 3);
    assert_eq!(store.snapshot().get(&before.key), Some(&before));
    // Only the store itself is left in the folder.
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    drop(Store::open(&path).unwrap());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_that_cannot_be_opened_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");

    let _store = Store::open(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::InUse { .. })));
    expect![
        "DIR/store.redb is in use by another process; stop that process, or choose another data directory"
    ]
    .assert_eq(&refusal(&path));
    let text = folder.path().join("text");
    std::fs::write(&text, "this is no database, but it is long enough to have a header").unwrap();
    expect!["DIR/text is not a store of this program: Not a redb database: magic number mismatch; choose another data directory, or move the file away"].assert_eq(&refusal(&text));

    let other = folder.path().join("other");
    let database = redb::Database::create(&other).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("accounts")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    expect!["DIR/other is not a store of this program: a redb database with the tables accounts; choose another data directory, or move the file away"].assert_eq(&refusal(&other));

    let directory = folder.path().join("directory");
    std::fs::create_dir(&directory).unwrap();
    expect![[r#"
        DIR/directory cannot be opened as a store; check its permissions and the disk, restore a backup, or choose another data directory
          I/O error: Is a directory (os error 21)"#]].assert_eq(&refusal(&directory));
}

/// Not a test by itself: the process that `kill_dash_nine_loses_nothing_acknowledged` starts and kills.
#[test]
#[ignore = "run as a child process by another test"]
fn child_that_writes_and_prints_what_was_acknowledged() {
    let Some(path) = std::env::var_os("STORE_UNDER_TEST") else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::open(Path::new(&path)).unwrap();
        let start = store.snapshot().revision();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let store = store.clone();
            writers.spawn(async move {
                for step in 0.. {
                    let stored = store.commit(create(&format!("w{start}-{writer}-{step}"))).await.unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "ack {} {}", stored.key.name, stored.revision).unwrap();
                    out.flush().unwrap();
                }
            });
        }
        writers.join_all().await;
    });
}

#[test]
fn kill_dash_nine_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mut acknowledged: Vec<(String, u64)> = Vec::new();
    for round in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "child_that_writes_and_prints_what_was_acknowledged",
                "--nocapture",
            ])
            .env("STORE_UNDER_TEST", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let acks = lines.by_ref().filter_map(|line| ack(&line)).take(60 + 17 * round).collect::<Vec<_>>();
        child.kill().unwrap();
        acknowledged.extend(acks);
        // What it printed between our last look and its death was acknowledged too; a line cut short was not.
        acknowledged.extend(lines.filter_map(|line| ack(&line)));
        child.wait().unwrap();

        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let store = Store::open(&path).unwrap();
            let snapshot = store.snapshot();
            let found: std::collections::BTreeMap<String, u64> = snapshot
                .list(&ResourceId::new("", "pods"), None)
                .map(|stored| (stored.key.name.clone(), stored.revision))
                .collect();
            for (name, revision) in &acknowledged {
                assert_eq!(found.get(name), Some(revision), "{name}, acknowledged before kill {round}");
            }
            assert!(snapshot.revision() >= acknowledged.iter().map(|(_, revision)| *revision).max().unwrap());
            store.close().await;
        });
    }
}

/// `ack NAME REVISION`, complete.
fn ack(line: &str) -> Option<(String, u64)> {
    let mut words = line.strip_prefix("ack ")?.split(' ');
    let (name, revision) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
    Some((name, revision))
}

#[tokio::test]
async fn handles_are_shared() {
    let store = Store::in_memory();
    let other = store.clone();
    other.commit(create("a")).await.unwrap();
    assert_eq!(names(&store), ["a"]);
    assert!(Arc::ptr_eq(
        store.snapshot().list(&ResourceId::new("", "pods"), None).next().unwrap(),
        other.snapshot().list(&ResourceId::new("", "pods"), None).next().unwrap()
    ));
}
