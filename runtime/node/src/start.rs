//! From a container's spec to a running guest.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use runtime_engine::{Extensions, Guest, GuestControl, GuestSpec, Image, ImageKind, Meter, Mount, Usage};
use runtime_host_http::{HttpClient, PodHttp, Served};
use runtime_host_pod::{PodIdentity, TERMINATION_INTERFACE, Termination};
use runtime_host_sockets::{AbortHandle, PodNetwork};
use runtime_images::ImageError;
use runtime_net::Attachment;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    downward::Facts,
    env::{self, Sources},
    error::chain,
    guest_http::{self, HttpService, Listening},
    log_format::Source,
    log_sink::LogSink,
    mounts::{self, Places},
    quantity, spec,
    worker::{Inner, PodEntry},
};

/// A look into the local store costs little, so a missing image is found soon after it is loaded.
const LOOK_FOR_IMAGE: SignedDuration = SignedDuration::from_secs(2);
/// How long a container waits whose configuration is wrong; a change of what it refers to wakes it earlier.
const RETRY_CONFIG: SignedDuration = SignedDuration::from_secs(10);
/// An image not ready by then is being compiled, and the pod is looked after meanwhile.
const AT_ONCE: Duration = Duration::from_millis(20);

/// What holds a running container.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) id: String,
    pub(crate) sink: Arc<LogSink>,
    pub(crate) runs: Runs,
    /// It was ended at once because it cannot hear the notice.
    pub(crate) ended_at_once: bool,
    /// Tells hooks and probes under way that there is nothing to ask any more.
    over: DropGuard,
}

impl Handle {
    pub(crate) fn new(id: String, sink: Arc<LogSink>, runs: Runs) -> Self {
        Self { id, sink, runs, ended_at_once: false, over: CancellationToken::new().drop_guard() }
    }

    /// Cancelled when the run is over.
    pub(crate) fn over(&self) -> CancellationToken {
        self.over.token().clone()
    }
}

/// How it runs.
#[derive(Debug)]
pub(crate) enum Runs {
    /// A program.
    Program { control: GuestControl, termination: Termination, listens: bool, abort: Option<AbortHandle> },
    /// Instances by request.
    Service(HttpService),
}

impl Runs {
    /// What it used so far.
    pub(crate) fn usage(&self) -> Usage {
        match self {
            Self::Program { control, .. } => control.usage(),
            Self::Service(service) => service.usage(),
        }
    }

    /// What it served, if it serves.
    pub(crate) fn served(&self) -> Option<Served> {
        match self {
            Self::Program { .. } => None,
            Self::Service(service) => Some(service.served()),
        }
    }
}

/// A started container, and what there is to wait for.
pub(crate) struct Started {
    pub(crate) handle: Handle,
    pub(crate) task: Task,
    pub(crate) image_id: String,
}

/// What ends when the container does.
pub(crate) enum Task {
    Guest(Guest),
    Serve(Box<Listening>),
}

/// All that a container's guests are made from; a program is one guest, a service one for each request.
pub(crate) struct GuestParts {
    args: Vec<String>,
    env: Vec<(String, String)>,
    mounts: Vec<Mount>,
    working_dir: Option<String>,
    memory_bytes: Option<u64>,
    cpu_millis: Option<u32>,
    /// What the guests of a service use together, and its limits.
    shared: Option<Meter>,
    sink: Arc<LogSink>,
    attachment: Attachment,
    http: HttpClient,
    identity: Arc<PodIdentity>,
    termination: Termination,
}

impl GuestParts {
    /// The container's memory limit.
    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        self.memory_bytes
    }

    /// What the engine needs for one guest. It is given what its image imports, and nothing else.
    pub(crate) fn spec(&self, image: &Image) -> (GuestSpec, Option<AbortHandle>) {
        let imports = |prefix: &str| image.imports().iter().any(|import| import.starts_with(prefix));
        let mut extensions = Extensions::new();
        let mut abort = None;
        if imports("wasi:sockets/") {
            let network = PodNetwork::new(self.attachment.clone());
            abort = Some(network.abort_handle());
            extensions.insert(network);
        }
        if imports("wasi:http/") {
            extensions.insert(PodHttp::new(self.http.clone()));
        }
        if imports("wharf:pod/") {
            extensions.insert(Arc::clone(&self.identity));
            extensions.insert(self.termination.clone());
        }
        let spec = GuestSpec {
            args: self.args.clone(),
            env: self.env.clone(),
            stdout: self.sink.stream(Source::Stdout),
            stderr: self.sink.stream(Source::Stderr),
            mounts: self.mounts.clone(),
            working_dir: self.working_dir.clone(),
            memory_bytes: self.memory_bytes,
            cpu_millis: self.cpu_millis,
            shared: self.shared.clone(),
            extensions,
            ..GuestSpec::default()
        };
        (spec, abort)
    }
}

/// Why a container does not run yet.
pub(crate) enum NotStarted {
    /// For a reason to be told, and when to try again.
    For { reason: &'static str, message: String, retry_at: Timestamp },
    /// Its image is not ready yet: whoever waits for that keeps what comes of it in [`crate::worker::PodData`].
    Preparing(Preparing),
}

impl NotStarted {
    fn new(reason: &'static str, message: impl Into<String>, retry_at: Timestamp) -> Self {
        Self::For { reason, message: message.into(), retry_at }
    }
}

/// An image being made ready.
pub(crate) type Preparing = BoxFuture<'static, Prepared>;

/// What came of it.
pub(crate) struct Prepared {
    reference: String,
    took: Duration,
    image: Result<Arc<Image>, ImageError>,
}

fn prepare(inner: &Inner, reference: &str) -> Preparing {
    let (images, reference) = (inner.images.clone(), reference.to_owned());
    async move {
        let began = Instant::now();
        let image = images.get(&reference).await;
        Prepared { reference, took: began.elapsed(), image }
    }
    .boxed()
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("reference", &self.reference).finish_non_exhaustive()
    }
}

/// Runs a container of a pod that has its volumes and its address.
pub(crate) async fn start(
    inner: &Arc<Inner>,
    entry: &Arc<PodEntry>,
    pod: &Arc<Pod>,
    index: usize,
    attachment: Attachment,
) -> Result<Started, NotStarted> {
    let container = spec::container(pod, index).expect("plans name containers of the spec");
    let image = image(inner, entry, pod, index, container).await?;
    let now = Timestamp::now();
    let config_error =
        |message: String| NotStarted::new("CreateContainerConfigError", message, now + RETRY_CONFIG);
    let facts = inner.facts(&attachment.ip().to_string());
    let env = environment(inner, pod, container, &facts).await.map_err(|message| {
        inner.event(pod, Some(index), "Warning", "Failed", format!("Error: {message}"));
        config_error(message)
    })?;
    let places = Places::of(&inner.config, pod);
    let mounts = mounts(inner, pod, container, &places, &env).await.map_err(|message| {
        inner.event(pod, Some(index), "Warning", "Failed", format!("Error: {message}"));
        config_error(message)
    })?;
    let restarts = entry.lock().state.containers[index].restarts;
    let sink = inner.logs.sink(places.log(&container.name, restarts));
    if restarts > 1 {
        let name = container.name.clone();
        inner.tracker.spawn_blocking(move || places.prune_logs(&name, restarts));
    }
    let cpu = |quantity: &Quantity| quantity::millis(quantity).and_then(|millis| u32::try_from(millis).ok());
    let memory_bytes = quantity::limit(container, "memory").and_then(quantity::units);
    let cpu_millis = quantity::limit(container, "cpu").and_then(cpu);
    let termination = Termination::new();
    let parts = GuestParts {
        args: env::argv(container, &env),
        env,
        mounts,
        working_dir: container.working_dir.clone().filter(|dir| !dir.is_empty()),
        memory_bytes,
        cpu_millis,
        shared: None,
        sink: Arc::clone(&sink),
        attachment: attachment.clone(),
        http: entry.http(&attachment, &inner.config.trust),
        identity: Arc::new(identity(pod, container, &attachment)),
        termination: termination.clone(),
    };
    let failed = |message: String| {
        inner.event(pod, Some(index), "Warning", "Failed", format!("Error: {message}"));
        NotStarted::new("RunContainerError", message, now + RETRY_CONFIG)
    };
    inner.event(pod, Some(index), "Normal", "Created", "Container created".to_owned());
    let (runs, task) = match image.kind() {
        ImageKind::Command => {
            let (guest_spec, abort) = parts.spec(&image);
            let guest = image.start(guest_spec).await.map_err(|error| failed(chain(&error)))?;
            let listens = image.imports().iter().any(|import| import.starts_with(TERMINATION_INTERFACE));
            (Runs::Program { control: guest.control(), termination, listens, abort }, Task::Guest(guest))
        }
        ImageKind::HttpHandler => {
            let ports = http_ports(container, inner.config.default_http_port);
            let meter = Meter::new(memory_bytes, cpu_millis);
            let parts = GuestParts { shared: Some(meter.clone()), ..parts };
            let (listening, service) =
                guest_http::listen(Arc::clone(&image), parts, meter, &attachment, &ports).map_err(failed)?;
            (Runs::Service(service), Task::Serve(Box::new(listening)))
        }
    };
    inner.event(pod, Some(index), "Normal", "Started", "Container started".to_owned());
    let id = format!("wasm://{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
    Ok(Started {
        handle: Handle::new(id, sink, runs),
        task,
        image_id: format!("sha256:{}", image.digest().hex()),
    })
}

/// Finds the container's image as its pull policy says.
async fn image(
    inner: &Arc<Inner>,
    entry: &Arc<PodEntry>,
    pod: &Pod,
    index: usize,
    container: &Container,
) -> Result<Arc<Image>, NotStarted> {
    let reference = container.image.as_deref().unwrap_or_default();
    let failed = |reason| inner.event(pod, Some(index), "Warning", "Failed", format!("Error: {reason}"));
    let prepared = entry.lock().prepared[index].take().filter(|prepared| prepared.reference == reference);
    let prepared = match prepared {
        Some(prepared) => prepared,
        None => {
            let mut preparing = prepare(inner, reference);
            match tokio::time::timeout(AT_ONCE, &mut preparing).await {
                Ok(prepared) => prepared,
                Err(_elapsed) => return Err(NotStarted::Preparing(preparing)),
            }
        }
    };
    let now = Timestamp::now();
    match prepared.image {
        Ok(image) => {
            entry.lock().state.containers[index].image_backoff = crate::backoff::BackOff::default();
            tell_pulled(inner, pod, index, container, prepared.took);
            Ok(image)
        }
        Err(ImageError::InvalidReference(why)) => {
            let message = format!("Failed to apply default image tag {reference:?}: {}", chain(&why));
            inner.event(pod, Some(index), "Warning", "InspectFailed", message.clone());
            failed("InvalidImageName");
            Err(NotStarted::new("InvalidImageName", message, now + RETRY_CONFIG))
        }
        Err(ImageError::NotFound { .. }) if spec::pull_policy(container) == "Never" => {
            let message = format!("Container image {reference:?} is not present with pull policy of Never");
            if !is_known(entry, index, "ErrImageNeverPull") {
                inner.event(pod, Some(index), "Warning", "ErrImageNeverPull", message.clone());
                failed("ErrImageNeverPull");
            }
            Err(NotStarted::new("ErrImageNeverPull", message, now + LOOK_FOR_IMAGE))
        }
        Err(error @ ImageError::NotFound { .. }) => {
            Err(pull(inner, entry, pod, index, reference, &chain(&error), now))
        }
        Err(error) => {
            let message = chain(&error);
            inner.event(pod, Some(index), "Warning", "Failed", format!("Error: {message}"));
            Err(NotStarted::new("CreateContainerError", message, now + RETRY_CONFIG))
        }
    }
}

/// Says where the image came from. All images are local; the policy to pull always is the wish to have the newest, which
/// was looked for.
fn tell_pulled(inner: &Inner, pod: &Pod, index: usize, container: &Container, took: Duration) {
    let reference = container.image.as_deref().unwrap_or_default();
    let tell = |reason, message| inner.event(pod, Some(index), "Normal", reason, message);
    if spec::pull_policy(container) != "Always" {
        let message = format!(
            "Container image {reference:?} already present on machine and can be accessed by the pod"
        );
        tell("Pulled", message);
        return;
    }
    tell("Pulling", format!("Pulling image {reference:?}"));
    let took = quantity::duration(took);
    let size = inner.images.resolve(reference).ok().flatten().map_or(0, |record| record.size);
    let message = format!(
        "Successfully pulled image {reference:?} in {took} ({took} including waiting). Image size: {size} bytes."
    );
    tell("Pulled", message);
}

fn is_known(entry: &PodEntry, index: usize, reason: &str) -> bool {
    let data = entry.lock();
    matches!(&data.state.containers[index].run, crate::state::Run::Waiting { reason: known, .. } if *known == reason)
}

/// Pulling is not possible yet: it fails, and backs off as it would with a registry that has no such image.
fn pull(
    inner: &Arc<Inner>,
    entry: &Arc<PodEntry>,
    pod: &Pod,
    index: usize,
    reference: &str,
    why: &str,
    now: Timestamp,
) -> NotStarted {
    let look = now + LOOK_FOR_IMAGE;
    let known = is_known(entry, index, "ImagePullBackOff");
    let mut data = entry.lock();
    let container = &mut data.state.containers[index];
    let pulled = container.backing_off.unwrap_or(Timestamp::MIN);
    if pulled > now {
        let message = format!("Back-off pulling image {reference:?}: ErrImagePull: {why}");
        drop(data);
        if !known {
            inner.event(
                pod,
                Some(index),
                "Normal",
                "BackOff",
                format!("Back-off pulling image {reference:?}"),
            );
            inner.event(pod, Some(index), "Warning", "Failed", "Error: ImagePullBackOff".to_owned());
        }
        return NotStarted::new("ImagePullBackOff", message, look);
    }
    container.image_backoff.raise(now, now);
    container.backing_off = container.image_backoff.until(now, now);
    drop(data);
    inner.event(pod, Some(index), "Normal", "Pulling", format!("Pulling image {reference:?}"));
    inner.event(pod, Some(index), "Warning", "Failed", format!("Failed to pull image {reference:?}: {why}"));
    inner.event(pod, Some(index), "Warning", "Failed", "Error: ErrImagePull".to_owned());
    NotStarted::new("ErrImagePull", why, look)
}

/// The container's variables; reads the objects they come from.
async fn environment(
    inner: &Inner,
    pod: &Pod,
    container: &Container,
    facts: &Facts,
) -> Result<Vec<(String, String)>, String> {
    let namespace = spec::namespace(pod);
    let (config_map_names, secret_names) = env::needed(container);
    let mut config_maps = BTreeMap::new();
    for name in config_map_names {
        let found = inner.objects.config_map(namespace, name).await.map_err(|error| chain(&error))?;
        config_maps.extend(found.map(|map| (name.to_owned(), map)));
    }
    let mut secrets = BTreeMap::new();
    for name in secret_names {
        let found = inner.objects.secret(namespace, name).await.map_err(|error| chain(&error))?;
        secrets.extend(found.map(|secret| (name.to_owned(), secret)));
    }
    let links = spec::spec(pod).and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let services = inner.services.variables(namespace, links);
    env::environment(
        container,
        Sources { pod, facts, config_maps: &config_maps, secrets: &secrets, services },
    )
}

/// What the container sees of its pod's volumes; opens and copies files.
async fn mounts(
    inner: &Inner,
    pod: &Arc<Pod>,
    container: &Container,
    places: &Places,
    env: &[(String, String)],
) -> Result<Vec<Mount>, String> {
    if container.volume_mounts.iter().flatten().next().is_none() {
        return Ok(Vec::new());
    }
    let (pod, container, places, env) = (Arc::clone(pod), container.clone(), places.clone(), env.to_vec());
    let make = move || mounts::of_container(&pod, &container, &places, &env);
    inner.tracker.spawn_blocking(make).await.unwrap_or_else(|error| Err(chain(&error)))
}

fn identity(pod: &Pod, container: &Container, attachment: &Attachment) -> PodIdentity {
    let pairs = |map: &Option<BTreeMap<String, String>>| {
        map.iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let pod_spec = spec::spec(pod);
    PodIdentity {
        name: spec::name(pod).to_owned(),
        namespace: spec::namespace(pod).to_owned(),
        uid: spec::uid(pod).to_owned(),
        hostname: spec::hostname(pod),
        ip: attachment.ip().to_string(),
        node: pod_spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        service_account: pod_spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        container: container.name.clone(),
        labels: pairs(&pod.metadata.labels),
        annotations: pairs(&pod.metadata.annotations),
    }
}

/// The ports an HTTP handler is served on.
fn http_ports(container: &Container, default: u16) -> Vec<u16> {
    let declared =
        container.ports.iter().flatten().filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let ports: BTreeSet<u16> = declared.filter_map(|port| u16::try_from(port.container_port).ok()).collect();
    if ports.is_empty() { vec![default] } else { ports.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_declared_twice_is_served_once() {
        let check = |ports: &[(i32, &str)], expect: &[u16]| {
            let ports: Vec<_> = ports
                .iter()
                .map(|(port, protocol)| serde_json::json!({"containerPort": port, "protocol": protocol}))
                .collect();
            let container = serde_json::json!({"name": "a", "ports": ports});
            assert_eq!(http_ports(&serde_json::from_value(container).unwrap(), 8080), expect);
        };
        check(&[], &[8080]);
        check(&[(81, "TCP"), (80, "TCP"), (81, "TCP")], &[80, 81]);
        check(&[(53, "UDP")], &[8080]);
    }
}
