//! `wharf run`: one pod in the foreground, without a server.
//!
//! The pod has a virtual network to itself, with the node's rules for what it may reach; ports of the host are handed
//! on to it where they are published. The exit code is the guest's, or as `docker run` has it: 125 when we failed, 126
//! when the file cannot run, 127 when it is not there, 134 for a trap, 137 for a kill or memory, 130 and 143 for
//! Ctrl-C and SIGTERM.

mod http;
mod options;
mod publish;

use crate::{
    guests,
    logging::{self, LogFormat},
};
use anyhow::{Context as _, Result};
use clap::Args;
use options::{Dir, Published};
use runtime_engine::{
    Engine, Exit, Folder, Guest, GuestSpec, Image, ImageKind, LoadError, Meter, Mount, PoolSizes,
};
use runtime_host_http::{HttpClient, PodHttp};
use runtime_host_pod::{PodIdentity, TERMINATION_INTERFACE, Termination};
use runtime_host_sockets::PodNetwork;
use runtime_images::ImageError;
use runtime_net::{AttachSpec, Attachment, Network, NetworkConfig};
use rustix::fs::{Access, access};
use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    pin,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Places for guests: the pod, and the instances that handle its requests.
const PLACES: u32 = 256;
/// How long a guest that heard the notice of its end may take.
const GRACE: Duration = Duration::from_secs(10);
/// How long a guest that was killed is waited for.
const KILL: Duration = Duration::from_secs(1);

/// Where an HTTP handler is served when no port was named.
const DEFAULT_PORT: Published = Published { address: IpAddr::V4(Ipv4Addr::LOCALHOST), host: 8080, pod: 8080 };

const FAILED: i32 = 125;
const CANNOT_RUN: i32 = 126;
const NOT_FOUND: i32 = 127;
const KILLED: i32 = 137;

/// The options of `wharf run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Set an environment variable of the guest; without a value, to the one it has here
    #[arg(short, long = "env", value_name = "K=V", value_parser = options::env)]
    env: Vec<(String, String)>,
    /// Show the guest a folder
    #[arg(short = 'v', long = "dir", value_name = "HOST:GUEST[:ro]", value_parser = options::dir)]
    dirs: Vec<Dir>,
    /// Hand a port of this machine on to the pod
    #[arg(short = 'p', long = "publish", value_name = "HOST:POD", value_parser = options::published)]
    ports: Vec<Published>,
    /// The guest is ended when it wants more memory
    #[arg(short, long, value_name = "SIZE", value_parser = options::memory)]
    memory: Option<u64>,
    /// Cores the guest may use, as 0.5 or 500m
    #[arg(long, value_name = "CORES", value_parser = options::cpu)]
    cpu: Option<u32>,
    /// How our own warnings are written to stderr, beside what the guest writes there
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// The guest's working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// A local image, or a WebAssembly file
    #[arg(value_name = "IMAGE|FILE.wasm")]
    image: String,
    /// The guest's arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// A failure, and the code it ends with.
struct Failure {
    code: i32,
    error: anyhow::Error,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: FAILED, error }
    }
}

/// Runs it to its end, and gives the exit code. What went wrong has been told by then.
pub(crate) fn run(args: RunArgs, home: &Path) -> Result<i32> {
    logging::init_command(args.log_format);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = match runtime.block_on(run_pod(args, home)) {
        Ok(code) => code,
        Err(Failure { code, error }) => {
            logging::complain(&format!("{error:#}"));
            code
        }
    };
    // A guest's last call into the host, such as a read of stdin that nobody answers, is not waited for.
    runtime.shutdown_background();
    Ok(code)
}

async fn run_pod(args: RunArgs, home: &Path) -> Result<i32, Failure> {
    // Before anything that takes time, so that a signal is never lost.
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let engine = guests::engine(home, PoolSizes::for_guests(PLACES))?;
    let image = tokio::select! {
        image = load(&args.image, &engine, home) => image?,
        code = signals.next() => return Ok(code),
    };
    let network = Network::new(NetworkConfig::default()).context("cannot make the pod's network")?;
    let name = pod_name(&args.image);
    let attach = AttachSpec { namespace: "default".to_owned(), hostname: name.clone(), want: None };
    let attachment = network.attach(attach).context("cannot join the pod's network")?;
    let ports = match (image.kind(), &args.ports[..]) {
        // One that only handles requests would do nothing without a port.
        (ImageKind::HttpHandler, []) => vec![DEFAULT_PORT],
        (_, ports) => ports.to_vec(),
    };
    let pod = Pod::new(args, name, attachment)?;
    if image.kind() == ImageKind::HttpHandler {
        // What would keep each instance from being made is told now, and not with each request.
        drop(image.store(pod.spec()).await.context("cannot start the guest")?);
    }
    let mut forwarders = JoinSet::new();
    for published in &ports {
        let listener = publish::bind(*published).await?;
        forwarders.spawn(publish::forward(listener, network.clone(), pod.attachment.ip(), published.pod));
    }
    match image.kind() {
        ImageKind::Command => {
            let guest = image.start(pod.spec()).await.context("cannot start the guest")?;
            Ok(wait(guest, &image, &mut signals, &pod.termination).await)
        }
        ImageKind::HttpHandler => Ok(http::serve(image, pod, &ports, &mut signals).await?),
    }
}

/// The image or file that `name` means: a path if it looks like one, else a local image, else a file of that name.
async fn load(name: &str, engine: &Engine, home: &Path) -> Result<Arc<Image>, Failure> {
    let path = Path::new(name);
    let is_path = name.starts_with(['/', '.'])
        || path.extension().is_some_and(|extension| extension == "wasm" || extension == "wat");
    if !is_path {
        match guests::images(home, engine)?.get(name).await {
            Ok(image) => return Ok(image),
            Err(ImageError::NotFound { .. } | ImageError::InvalidReference(_)) if path.is_file() => {}
            Err(error) => {
                let code = match &error {
                    ImageError::NotFound { .. } | ImageError::InvalidReference(_) => NOT_FOUND,
                    ImageError::Unusable { .. } => CANNOT_RUN,
                    _ => FAILED,
                };
                return Err(Failure { code, error: error.into() });
            }
        }
    }
    let content = runtime_engine::read_content(path).map_err(|error| Failure {
        code: if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN },
        error: anyhow::Error::new(error).context(format!("cannot read {name}")),
    })?;
    engine.load(content).await.map_err(|error: LoadError| Failure {
        code: CANNOT_RUN,
        error: anyhow::Error::new(error).context(format!("cannot run {name}")),
    })
}

/// What the pod's guests have in common: one for a command, one a request for an HTTP handler.
struct Pod {
    args: RunArgs,
    identity: Arc<PodIdentity>,
    attachment: Attachment,
    client: HttpClient,
    termination: Termination,
    /// The pod's memory and computing time, whatever the number of guests.
    meter: Meter,
    /// Opened once, for all guests.
    mounts: Vec<Mount>,
}

impl Pod {
    fn new(args: RunArgs, name: String, attachment: Attachment) -> Result<Self> {
        let identity = PodIdentity {
            namespace: "default".to_owned(),
            hostname: name.clone(),
            ip: attachment.ip().to_string(),
            container: name.clone(),
            name,
            ..PodIdentity::default()
        };
        Ok(Self {
            mounts: args.dirs.iter().map(mount).collect::<Result<_>>()?,
            identity: Arc::new(identity),
            client: HttpClient::new(attachment.clone(), Arc::default()),
            attachment,
            termination: Termination::new(),
            meter: Meter::new(args.memory, args.cpu),
            args,
        })
    }

    /// The limit of all its guests together.
    fn memory(&self) -> Option<u64> {
        self.args.memory
    }

    /// For one guest.
    fn spec(&self) -> GuestSpec {
        let args = &self.args;
        let mut spec = GuestSpec {
            args: [&args.image].into_iter().chain(&args.args).cloned().collect(),
            env: args.env.clone(),
            mounts: self.mounts.clone(),
            working_dir: args.workdir.clone(),
            shared: Some(self.meter.clone()),
            ..GuestSpec::default()
        }
        .with_own_stdio();
        spec.extensions.insert(PodNetwork::new(self.attachment.clone()));
        spec.extensions.insert(PodHttp::new(self.client.clone()));
        spec.extensions.insert(self.termination.clone());
        spec.extensions.insert(Arc::clone(&self.identity));
        spec
    }
}

fn mount(dir: &Dir) -> Result<Mount> {
    let open = || {
        // A folder can be opened that nothing can be reached in.
        access(&dir.host, Access::EXEC_OK)?;
        Folder::open(&dir.host)
    };
    let host = open().with_context(|| {
        format!("cannot start the guest: mounting {} at {}", dir.host.display(), dir.guest)
    })?;
    Ok(Mount { host, guest: dir.guest.clone(), read_only: dir.read_only })
}

/// A name that a pod could have: the file's or image's, in lower case.
fn pod_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    let stem = last.split(['.', ':', '@']).next().unwrap_or_default().to_ascii_lowercase();
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "pod".to_owned() } else { name.to_owned() }
}

/// Waits for the guest's end, or ends it on a signal: at once, unless it listens for the notice of its end; then by
/// the second signal or when its grace is over.
async fn wait(guest: Guest, image: &Image, signals: &mut Signals, termination: &Termination) -> i32 {
    let control = guest.control();
    let end = guest.wait();
    pin!(end);
    let signal = tokio::select! {
        exit = &mut end => return told(&exit),
        signal = signals.next() => signal,
    };
    let listens = image.imports().iter().any(|import| import.starts_with(TERMINATION_INTERFACE));
    let mut code = signal;
    if listens {
        termination.notify(GRACE, "the user asked for it");
        tokio::select! {
            exit = &mut end => return told(&exit),
            _second = signals.next() => code = KILLED,
            () = sleep(GRACE) => code = KILLED,
        }
    }
    control.kill();
    // A write to a pipe that nobody reads holds the guest's thread, and is not waited for.
    match timeout(KILL, end).await {
        // It was faster.
        Ok(Exit::Code(own)) => own,
        _ => code,
    }
}

/// Says on stderr what the code alone would not, and gives the code.
fn told(exit: &Exit) -> i32 {
    match exit {
        Exit::Code(_) => {}
        Exit::Trapped { message, backtrace } if backtrace.is_empty() => logging::complain(message),
        Exit::Trapped { message, backtrace } => logging::complain(&format!("{message}\n{backtrace}")),
        Exit::OutOfMemory { limit } => {
            logging::complain(&format!(
                "the guest wanted more memory than its limit of {limit} bytes, and was ended"
            ));
        }
        Exit::Killed => logging::complain("the guest was killed"),
    }
    exit.code()
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next one, as the code of a process that it ended.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_named_for_its_image() {
        let names = ["hello.wasm", "/tmp/My App.wasm", "ghcr.io/acme/web:v1", "..."].map(pod_name);
        assert_eq!(names, ["hello", "my-app", "web", "pod"]);
    }
}
