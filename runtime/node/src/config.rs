//! What the operator decides about a node.

use runtime_host_http::Trust;
use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};

/// What the operator decides about a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The Node object's name.
    pub name: String,
    /// Where logs and volumes lie.
    pub root_dir: PathBuf,
    /// Folders of the host that pods may mount by `hostPath`; none by default.
    pub host_path_roots: Vec<PathBuf>,
    /// Where `emptyDir` volumes of medium `Memory` lie: a tmpfs. Without one such pods do not start, and say why.
    pub memory_root: Option<PathBuf>,
    /// The node's address, in its status and as pods' `hostIP`.
    pub address: IpAddr,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// Whom guests' outgoing HTTPS trusts; by default the host's root certificates alone.
    pub trust: Arc<Trust>,
    /// Labels for the Node object are its registrar's; these facts of the machine are reported in `nodeInfo`.
    pub machine: Machine,
    /// A log file is put aside when it is larger, in bytes.
    pub log_max_bytes: u64,
    /// How many files a container's log has at most, the current one included.
    pub log_max_files: u32,
    /// How many pods this node takes at most; the engine's own limit holds as well.
    pub max_pods: u32,
    /// The port that HTTP handlers are served on if their container declares none.
    pub default_http_port: u16,
    /// What the node keeps of its images in its status, at most.
    pub max_status_images: usize,
}

/// Facts about the machine, read once by whoever starts the node.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Cores that guests may use, in thousandths.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// `kernelVersion`, as `uname -r` says it.
    pub kernel: String,
    /// `osImage`.
    pub os_image: String,
    /// `machineID`.
    pub machine_id: String,
    /// `bootID`.
    pub boot_id: String,
    /// More entries for `capacity`.
    pub extended: BTreeMap<String, String>,
}

impl Machine {
    /// Reads them from this machine; what cannot be read stays empty.
    pub fn read() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let memory_kib = read("/proc/meminfo")
            .lines()
            .find_map(|line| {
                line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
            })
            .unwrap_or(0);
        let os_release = read("/etc/os-release");
        let os_image = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            cpu_millis: u64::try_from(cores).unwrap_or(1) * 1000,
            memory_bytes: memory_kib * 1024,
            kernel: read("/proc/sys/kernel/osrelease"),
            os_image: os_image.unwrap_or("unknown").trim_matches('"').to_owned(),
            machine_id: read("/etc/machine-id"),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            extended: BTreeMap::new(),
        }
    }
}

impl NodeConfig {
    /// The defaults for a node of this name, with its files under `root_dir`.
    pub fn new(name: impl Into<String>, root_dir: impl Into<PathBuf>) -> Self {
        let root_dir = root_dir.into();
        let shm = PathBuf::from("/dev/shm");
        // One folder a data directory, so that two processes never clean up after each other.
        let tag = root_dir.to_string_lossy().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self {
            name: name.into(),
            memory_root: shm.is_dir().then(|| shm.join(format!("wharf-{tag:016x}"))),
            root_dir,
            host_path_roots: Vec::new(),
            address: IpAddr::from([127, 0, 0, 1]),
            cluster_domain: "cluster.local".to_owned(),
            trust: Arc::default(),
            machine: Machine::read(),
            log_max_bytes: 10 << 20,
            log_max_files: 5,
            max_pods: 10_000,
            default_http_port: 8080,
            max_status_images: 50,
        }
    }
}
