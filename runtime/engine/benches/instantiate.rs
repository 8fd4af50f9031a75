//! How long a guest takes from its start to its end, and an image from the cache to being ready.

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use runtime_engine::{Engine, EngineConfig, Exit, GuestSpec, PoolSizes};

const NOTHING: &[u8] = br#"(module (memory (export "memory") 1) (func (export "_start")))"#;

fn engine(dir: &tempfile::TempDir) -> Engine {
    let config = EngineConfig {
        cache_dir: Some(dir.path().to_owned()),
        pool: PoolSizes::for_guests(1_000),
        ..EngineConfig::default()
    };
    Engine::new(config, &[]).expect("this machine can run guests")
}

fn instantiate(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let engine = engine(&dir);
    let image = runtime.block_on(engine.load(Bytes::from_static(NOTHING))).expect("the module is valid");
    let mut group = criterion.benchmark_group("engine");
    group.measurement_time(Duration::from_secs(5));
    group.bench_function("guest from start to end", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let guest = image.start(GuestSpec::default()).await.expect("there is room");
            assert_eq!(guest.wait().await, Exit::Code(0));
        });
    });
    group.bench_function("store and instance", |bencher| {
        bencher.to_async(engine.runtime()).iter(|| async {
            let (mut store, control) = image.store(GuestSpec::default()).await.expect("there is room");
            let instance =
                control.run(image.pre().instantiate_async(&mut store)).await.expect("nobody kills it");
            black_box(instance.expect("it has no start function"));
        });
    });
    drop(image);
    let digest = runtime_engine::Digest::of(NOTHING);
    group.bench_function("image from the cache", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            black_box(engine.load_compiled(digest).await.expect("it is in the cache"));
        });
    });
    group.bench_function("small engine", |bencher| {
        bencher.iter(|| {
            let config = EngineConfig { pool: PoolSizes::for_guests(16), ..EngineConfig::default() };
            black_box(Engine::new(config, &[]).expect("this machine can run guests"))
        });
    });
    group.finish();
}

criterion_group!(benches, instantiate);
criterion_main!(benches);
