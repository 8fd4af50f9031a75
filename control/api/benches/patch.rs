//! A strategic merge patch on a Deployment, as `kubectl set image` sends it.

use control_api::Resources;
use control_api::patch::strategic_merge;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};

fn deployment(n_containers: usize) -> Value {
    let containers: Vec<Value> = (0..n_containers)
        .map(|n| {
            json!({"name": format!("c{n}"), "image": "web:1", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "env": (0..20).map(|e| json!({"name": format!("E{e}"), "value": "1"})).collect::<Vec<_>>()})
        })
        .collect();
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}}}})
}

fn strategic(criterion: &mut Criterion) {
    let resources = Resources::built_in();
    let schemas = resources.schemas();
    let mut group = criterion.benchmark_group("patch/strategic merge on a Deployment");
    for n_containers in [1, 10, 100] {
        let object = deployment(n_containers);
        let patched = format!("c{}", n_containers - 1);
        let patch = json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": patched}],
            "containers": [{"name": patched, "image": "web:2", "env": [{"name": "E3", "value": "2"}]}]}}}});
        group.bench_function(format!("{n_containers} containers"), |bencher| {
            bencher.iter_batched(
                || object.clone(),
                |object| strategic_merge(schemas, "io.k8s.api.apps.v1.Deployment", object, &patch),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, strategic);
criterion_main!(benches);
