//! How many durable writes a second: one writer, and sixty-four at once.

use control_api::object::{Key, ResourceId};
use control_store::{Store, Write};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};
use std::hint::black_box;
use tokio::task::JoinSet;

fn object(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
        "data": {"payload": "x".repeat(1024)}})
}

fn key(name: String) -> Key {
    Key { resource: ResourceId::new("", "configmaps"), namespace: Some("default".to_owned()), name }
}

async fn put(store: &Store, name: String) {
    let object = object(&name);
    let key = key(name);
    let write = match store.snapshot().get(&key) {
        Some(stored) => Write::Update { expect: stored.revision, key, object },
        None => Write::Create { key, object, given: None },
    };
    black_box(store.commit(write).await.expect("the benchmark's disk works"));
}

fn commit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("the machine can start threads");
    let folder = tempfile::tempdir().expect("the machine has a temporary folder");
    let mut group = criterion.benchmark_group("commit");
    for writers in [1u64, 64] {
        let store = Store::open(&folder.path().join(format!("{writers}.redb"))).expect("the folder is new");
        group.throughput(Throughput::Elements(writers));
        group.bench_function(format!("{writers} writers"), |bencher| {
            bencher.to_async(&runtime).iter(|| {
                let store = store.clone();
                async move {
                    let mut tasks = JoinSet::new();
                    for writer in 0..writers {
                        let store = store.clone();
                        tasks.spawn(async move { put(&store, format!("w{writer}")).await });
                    }
                    tasks.join_all().await;
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, commit);
criterion_main!(benches);
