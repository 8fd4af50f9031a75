//! Pods created -> Ready, from the moment the request is sent to the moment a watch tells it.

use crate::{Target, api::Api, report::Report};
use anyhow::{Context, Result};
use http::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

/// The namespace of the load.
pub(crate) const NAMESPACE: &str = "wharf-bench";
/// How long everything together may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures `count` pods, `at_once` of them on their way at a time.
pub(crate) async fn run(target: &Target, count: usize, at_once: usize) -> Result<Report> {
    let api = Api::connect(&target.home).await?;
    prepare(&api).await?;
    let started = Instant::now();
    let durations = start(&api, &target.image, count, at_once).await?;
    let elapsed = started.elapsed();
    clean(&api).await?;

    let mut report = Report::default();
    report.add("pods", f64::from(u32::try_from(count)?), "");
    report.add("per second", f64::from(u32::try_from(count)?) / elapsed.as_secs_f64(), "1/s");
    report.add_durations("created -> Ready", durations);
    Ok(report)
}

/// Makes the namespace, and waits for its service account.
pub(crate) async fn prepare(api: &Api) -> Result<()> {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    api.call(Method::POST, "/api/v1/namespaces", Some(&namespace))
        .await
        .context("the namespace of an earlier run may still be there: delete it")?;
    Ok(())
}

/// Removes the namespace and waits until it is gone.
pub(crate) async fn clean(api: &Api) -> Result<()> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}");
    api.call(Method::DELETE, &path, None).await?;
    let gone = async {
        while api.call(Method::GET, &path, None).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, gone).await.context("the namespace does not go")
}

/// Creates the pods and waits until all are Ready; gives how long each took.
pub(crate) async fn start(api: &Api, image: &str, count: usize, at_once: usize) -> Result<Vec<Duration>> {
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let created: Arc<Mutex<BTreeMap<String, Instant>>> = Arc::default();
    let places = Arc::new(Semaphore::new(at_once));
    let revision = api.call(Method::GET, &pods, None).await?["metadata"]["resourceVersion"].clone();
    let watch_path =
        format!("{pods}?watch=true&resourceVersion={}", revision.as_str().context("a list has a version")?);
    let mut durations = Vec::with_capacity(count);

    let watching = api.watch(&watch_path, |event| {
        let object = &event["object"];
        if is_ready(object) {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let sent = created.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
            if let Some(sent) = sent {
                durations.push(sent.elapsed());
                places.add_permits(1);
            }
        }
        durations.len() == count
    });
    let creating = async {
        let mut tasks = JoinSet::new();
        for number in 0..count {
            // Given back by the watch, when the pod is Ready.
            places.acquire().await?.forget();
            let (api, pods, created) = (api.clone(), pods.clone(), created.clone());
            let name = format!("pod-{number}");
            let pod = pod(&name, image);
            tasks.spawn(async move {
                created.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Instant::now());
                api.call(Method::POST, &pods, Some(&pod)).await.map(drop)
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, async { tokio::try_join!(watching, creating) })
        .await
        .context("not all pods became Ready")??;
    Ok(durations)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn pod(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "main", "image": image }],
        },
    })
}
