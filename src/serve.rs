//! `wharf serve`: the control plane and one node, built and joined.
//!
//! Built from the bottom: folder, certificates, store, registry, engine, network, node, server. Ended from the top: new
//! work stops coming (controllers), pods end within their grace, what they report is written, the API closes, the
//! store is closed last.

mod first_objects;
mod kubeconfig;
mod names;
mod node_address;
mod objects;
mod parts;
mod sink;
mod source;

use crate::{
    data_dir::DataDir,
    guests,
    logging::{self, LogFormat},
};
use anyhow::{Context, Result, bail};
use clap::Args;
use control_api::Resources;
use control_driver::{Driver, DriverConfig};
use control_registry::{Config, Registry};
use control_server::{LogError, LogOpener, Pki, Server, ServerConfig};
use control_store::Store;
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use parts::{Parts, Watchdog};
use runtime_engine::PoolSizes;
use runtime_host_http::Trust;
use runtime_net::{Network, NetworkConfig};
use runtime_node::{LogsError, Node, NodeConfig, NodeHandle};
use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::timeout,
};

/// Events and reports that may wait between the control plane and the node.
const QUEUE: usize = 1024;
/// What writing the last statuses and closing the rest may take, once the pods have ended.
const CLOSING: Duration = Duration::from_secs(30);
/// What the other parts get to end in when one has ended by itself.
const DEAD_GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where everything is kept [default: the home folder, ~/.wharf]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the API listens
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// A further name or address by which the API is reached, for its certificate; may be given several times
    #[arg(long, value_name = "NAME")]
    tls_san: Vec<String>,
    /// Where to write the administrator's kubeconfig; a file that is there keeps its other clusters [default: kubeconfig
    /// in the data directory]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Keep objects in memory only
    #[arg(long)]
    in_memory: bool,
    /// Where NodePorts listen: the node's address, or 0.0.0.0 for all of this machine's
    #[arg(long, value_name = "ADDR", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    node_address: IpAddr,
    /// The Node object's name
    #[arg(long, value_name = "NAME", default_value = "wharf")]
    node_name: String,
    /// A folder of this machine that pods may mount by hostPath; may be given several times
    #[arg(long, value_name = "DIR")]
    host_path_root: Vec<PathBuf>,
    /// How long pods may take to end after SIGTERM, as 30s or 5m [default: each the whole of its grace]
    #[arg(long, value_name = "DURATION", value_parser = period)]
    shutdown_grace_period: Option<Duration>,
    /// The form of log lines
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Serves until SIGTERM or Ctrl-C.
pub(crate) fn serve(args: ServeArgs, home: &Path) -> Result<()> {
    logging::init_server(args.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("wharf").build()?;
    let served = runtime.block_on(run(args, home));
    // What still runs has been told to stop and did not; it must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn run(args: ServeArgs, home: &Path) -> Result<()> {
    names::check_node_name(&args.node_name)?;
    names::check_certificate_names(&args.tls_san)?;
    // Before anything that could be interrupted.
    let mut stop_signal = StopSignal::new()?;
    let data = DataDir::open(args.data_dir.as_deref().unwrap_or(home))?;
    let dir = data.path();

    // The kernel takes its time for the pool's address space, and the disk for the files below: both at once.
    let engine = {
        let dir = dir.to_owned();
        tokio::task::spawn_blocking(move || guests::engine(&dir, PoolSizes::from_machine()))
    };
    let names = names::certificate_names(args.listen.ip(), &args.tls_san);
    let pki = Pki::load_or_create(&dir.join("pki"), Timestamp::now(), &names)?;
    let store = match args.in_memory {
        true => Store::in_memory(),
        false => Store::open(&dir.join("store.redb"))?,
    };
    let resources = Arc::new(Resources::built_in());
    let registry = Registry::new(resources, store.clone(), Config::default());

    let engine = engine.await.context("setting up the engine")??;
    let network =
        Network::new(NetworkConfig { node_address: args.node_address, ..NetworkConfig::default() })?;
    let images = guests::images(dir, &engine)?;
    let config = NodeConfig {
        host_path_roots: args.host_path_root,
        address: node_address::of_node(args.node_address),
        trust: Arc::new(Trust::with_cluster_authority(pki.ca_pem())?),
        ..NodeConfig::new(&args.node_name, dir.join("node"))
    };
    let objects = Arc::new(objects::StoreObjects(registry.clone()));
    let node = Node::new(config, engine.clone(), network.clone(), images, objects)?;
    let handle = node.handle();

    let mut server_config = ServerConfig::new(args.listen, pki.clone());
    server_config.connections = server_config.connections.min(files_for_connections()?);
    let stopping = Arc::new(AtomicBool::new(false));
    let is_stopping = Arc::clone(&stopping);
    server_config.health.add("shutdown", move || match is_stopping.load(Ordering::Relaxed) {
        true => Err("process is shutting down".to_owned()),
        false => Ok(()),
    });
    let metrics = server_config.metrics.clone();
    let server = Server::bind(server_config, registry.clone(), log_opener(handle.clone())).await?;
    let address = server.local_addr();
    // Pods see the API at the network's gateway, which leads to where it really listens.
    let seen = SocketAddr::new(network.gateway(), address.port());
    network.host_endpoint(seen, reachable(address));
    registry.bootstrap(seen).await.map_err(|error| anyhow::anyhow!("the first objects: {error}"))?;
    let kubeconfig = kubeconfig::write(args.kubeconfig, dir, &pki.kubeconfig(reachable(address)))?;

    let driver = Driver::new(
        registry.clone(),
        DriverConfig { root_ca: pki.ca_pem().to_owned(), ..DriverConfig::default() },
    );
    metrics.register(|registry| {
        registry.register_collector(driver.collector());
        registry.register_collector(handle.collector());
    });
    let sink =
        sink::Sink { registry: registry.clone(), events: driver.events(), node: args.node_name.clone() };
    let pods = driver.pods();
    let (event_sender, event_receiver) = mpsc::channel(QUEUE);
    let (report_sender, report_receiver) = mpsc::channel(QUEUE);

    // In the order in which they end.
    let watchdog = Watchdog::new();
    let [controllers, nodes, reports, servers] = std::array::from_fn(|_| Parts::new(&watchdog));
    servers.spawn("API server", server.run(servers.stop.clone()));
    controllers.spawn("controllers", driver.run(controllers.stop.clone()));
    let kept = first_objects::keep(registry.clone(), seen, controllers.stop.clone());
    controllers.spawn("keeper of the first objects", kept);
    let source = source::run(registry, pods, args.node_name, event_sender, controllers.stop.clone());
    controllers.spawn("node's source", source);
    nodes.spawn("node", node.run(event_receiver, report_sender, nodes.stop.clone()));
    reports.spawn("node's sink", sink.run(report_receiver, reports.stop.clone()));
    announce(&kubeconfig, reachable(address));

    let (dead, grace) = tokio::select! {
        () = stop_signal.wait() => (None, args.shutdown_grace_period),
        name = watchdog.bark() => (Some(name), Some(Duration::ZERO)),
    };
    stopping.store(true, Ordering::Relaxed);
    let limit = grace.map(|grace| format!(", and all within {grace:?}")).unwrap_or_default();
    tracing::info!("stopping: pods end within their grace{limit}; a second signal ends at once");
    let ended = async {
        handle.shutdown(grace).await;
        let closed = async {
            for parts in [&controllers, &nodes, &reports, &servers] {
                parts.end().await;
            }
            store.close().await;
        };
        timeout(CLOSING, closed).await
    };
    tokio::select! {
        closed = ended => {
            closed.context("the pods have ended, but not all that they had to tell could be written")?;
            tracing::info!("stopped");
        }
        () = stop_signal.wait() => bail!("stopped by a second signal, before everything had ended"),
        // What a dead part held may be waited for in vain.
        () = tokio::time::sleep(DEAD_GRACE), if dead.is_some() => tracing::warn!("stopped in the middle"),
    }
    match dead {
        None => Ok(()),
        Some(name) => bail!(
            "the {name} ended by itself, and wharf with it: the log above has the reason; start it again"
        ),
    }
}

/// A quarter of the files that this process may open: clients of the API leave the rest to pods, images and the store.
fn files_for_connections() -> Result<usize> {
    let (files, _) = rlimit::Resource::NOFILE.get().context("cannot read the limit of open files")?;
    Ok(usize::try_from(files / 4).unwrap_or(usize::MAX).max(16))
}

/// A length of time as `30s` or `1m30s`.
fn period(text: &str) -> Result<Duration, String> {
    let period: SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    period.try_into().map_err(|_negative| "it cannot be negative".to_owned())
}

/// The one line that tells a person, or a script, that all is up.
fn announce(kubeconfig: &Path, address: SocketAddr) {
    let line = format!("wharf is ready at https://{address}: export KUBECONFIG={}", kubeconfig.display());
    // Where stdout is closed, nobody reads it; the server serves all the same.
    drop(writeln!(std::io::stdout(), "{line}"));
    drop(std::io::stdout().flush());
    tracing::info!(%address, kubeconfig = %kubeconfig.display(), "ready");
}

/// An address to connect to, for one to listen on.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), address.port())
        }
        _ => address,
    }
}

/// SIGTERM and SIGINT, as often as they come.
struct StopSignal {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignal {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What a panic said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The server's questions for output, as the node understands them.
fn log_opener(node: NodeHandle) -> LogOpener {
    Arc::new(move |request| {
        let node = node.clone();
        Box::pin(async move {
            let request = runtime_node::LogRequest {
                namespace: request.namespace,
                pod: request.pod,
                uid: request.uid,
                container: request.container,
                follow: request.follow,
                previous: request.previous,
                tail_lines: request.tail_lines,
                since_seconds: request.since_seconds,
                since_time: request.since_time,
                timestamps: request.timestamps,
                limit_bytes: request.limit_bytes,
            };
            match node.logs(&request) {
                Ok(stream) => Ok(stream.boxed()),
                Err(error) => Err(match error {
                    LogsError::NotFound(_) => LogError::NotFound(error.to_string()),
                    LogsError::BadRequest(text) => LogError::BadRequest(text),
                    LogsError::Io(source) => LogError::Internal(source),
                }),
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_written_with_units() {
        let secs = |text| period(text).ok().map(|period| period.as_secs());
        assert_eq!(
            ["30s", "5m", "1m30s", "1h 5m", "0s", "-5s", "30", "soon"].map(secs),
            [Some(30), Some(300), Some(90), Some(3900), Some(0), None, None, None]
        );
    }
}
