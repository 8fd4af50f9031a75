//! Disks that lose what was not synced, and disks that fail.

use crate::{CommitError, Store, Write};
use control_api::object::{Key, ResourceId};
use redb::StorageBackend;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

/// A disk with a volatile cache: `live` is what the process sees, `durable` what a power cut leaves.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync, in order: any of them may or may not have reached the disk.
    cached: Vec<(usize, Vec<u8>)>,
    /// Writes and syncs that still succeed.
    budget: Option<usize>,
}

impl Disk {
    fn holding(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { live: image.clone(), durable: image, ..State::default() })))
    }

    /// What is on the disk after a power cut in which only some cached writes, chosen by `random`, got through.
    fn cut_power(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let state = self.0.lock().unwrap();
        let mut image = state.durable.clone();
        for (offset, data) in &state.cached {
            if random.bool() && offset + data.len() <= image.len() {
                image[*offset..offset + data.len()].copy_from_slice(data);
            }
        }
        image
    }

    fn fail_after(&self, operations: usize) {
        self.0.lock().unwrap().budget = Some(operations);
    }
}

impl State {
    fn spend(&mut self) -> io::Result<()> {
        match &mut self.budget {
            Some(0) => Err(io::Error::other("no space left on device")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let offset = usize::try_from(offset).unwrap();
        out.copy_from_slice(state.live.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.spend()?;
        state.live.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.spend()?;
        state.durable = state.live.clone();
        state.cached.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.spend()?;
        let offset = usize::try_from(offset).unwrap();
        let end = offset + data.len();
        if state.live.len() < end {
            state.live.resize(end, 0);
        }
        state.live[offset..end].copy_from_slice(data);
        state.cached.push((offset, data.to_vec()));
        Ok(())
    }
}

fn key(name: &str) -> Key {
    Key {
        resource: ResourceId::new("", "configmaps"),
        namespace: Some("default".to_owned()),
        name: name.to_owned(),
    }
}

fn create(name: &str, data: &str) -> Write {
    Write::Create { key: key(name), object: json!({"metadata": {"name": name}, "data": data}), given: None }
}

fn contents(store: &Store) -> BTreeMap<String, u64> {
    let list = |stored: &Arc<crate::Stored>| (stored.key.name.clone(), stored.revision);
    store.snapshot().list(&ResourceId::new("", "configmaps"), None).map(list).collect()
}

#[tokio::test]
async fn a_power_cut_loses_nothing_acknowledged() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20 {
        let mut image = Vec::new();
        let mut acknowledged = BTreeMap::new();
        // Three lives of one disk, each ended by a power cut right after some acknowledged write.
        for life in 0..3 {
            let disk = Disk::holding(std::mem::take(&mut image));
            let store = Store::with_backend(disk.clone()).unwrap();
            assert_eq!(contents(&store), acknowledged, "after {life} power cuts");
            for step in 0..random.usize(1..8) {
                let name = format!("{life}-{step}");
                let stored = store.commit(create(&name, &"x".repeat(random.usize(0..20_000)))).await.unwrap();
                acknowledged.insert(name, stored.revision);
                if random.u8(..) < 60 {
                    let (name, expect) = acknowledged.pop_first().unwrap();
                    let delete = Write::Delete { key: key(&name), expect, last: json!({"metadata": {}}) };
                    store.commit(delete).await.unwrap();
                }
            }
            image = disk.cut_power(&mut random);
        }
    }
}

#[tokio::test]
async fn the_revision_survives_the_deletion_of_all_it_counted() {
    let disk = Disk::default();
    let store = Store::with_backend(disk.clone()).unwrap();
    let expect = store.commit(create("a", "")).await.unwrap().revision;
    let delete = Write::Delete { key: key("a"), expect, last: json!({"metadata": {"name": "a"}}) };
    let deleted = store.commit(delete).await.unwrap().revision;
    assert_eq!(deleted, expect + 1);

    let image = disk.cut_power(&mut fastrand::Rng::with_seed(1));
    let store = Store::with_backend(Disk::holding(image)).unwrap();
    assert_eq!(store.snapshot().revision(), deleted);
    assert_eq!(store.commit(create("a", "")).await.unwrap().revision, deleted + 1);
}

#[tokio::test]
async fn after_a_disk_error_no_write_is_taken_and_nothing_is_shown_that_was_refused() {
    for operations in 0..12 {
        let disk = Disk::default();
        let store = Store::with_backend(disk.clone()).unwrap();
        store.commit(create("before", "")).await.unwrap();
        let before = contents(&store);

        disk.fail_after(operations);
        let mut acknowledged = before.clone();
        let refusal = loop {
            let name = format!("n{}", acknowledged.len());
            match store.commit(create(&name, &"x".repeat(3000))).await {
                Ok(stored) => acknowledged.insert(name, stored.revision),
                Err(refusal) => break refusal,
            };
        };
        assert!(matches!(refusal, CommitError::Io(_)), "{refusal}");
        assert_eq!(contents(&store), acknowledged);
        let later = store.commit(create("later", "")).await.unwrap_err();
        assert!(matches!(later, CommitError::Closed), "{later}");

        // What a restart finds: all that was acknowledged; the refused write may be there or not.
        let image = disk.cut_power(&mut fastrand::Rng::with_seed(operations as u64));
        let after = contents(&Store::with_backend(Disk::holding(image)).unwrap());
        assert!(acknowledged.iter().all(|(name, revision)| after.get(name) == Some(revision)), "{after:?}");
    }
}
