//! What a guest is started with.

use std::{
    fmt, fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use wasmtime_wasi::cli::{StdinStream, StdoutStream};

use crate::{capability::Extensions, error::StartError, meter::Meter};

/// Arguments and environment together may be this large, as `ARG_MAX` has it on Linux.
const MAX_ARGS_AND_ENV_BYTES: usize = 2 << 20;

/// Everything one guest gets: arguments, streams, folders, limits.
pub struct GuestSpec {
    /// `argv`, the program's name first.
    pub args: Vec<String>,
    /// Environment variables; of two with one name the later holds.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Box<dyn StdinStream + Sync>,
    /// Standard output.
    pub stdout: Box<dyn StdoutStream + Sync>,
    /// Standard error.
    pub stderr: Box<dyn StdoutStream + Sync>,
    /// Folders of the host, and where the guest sees them.
    pub mounts: Vec<Mount>,
    /// The guest's initial working directory; also told as `PWD`.
    pub working_dir: Option<String>,
    /// The guest is ended when its linear memories and tables want more than this.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core the guest may use on average.
    pub cpu_millis: Option<u32>,
    /// Limits and usage that this guest shares with others, as the instances of one container do. They hold beside the
    /// guest's own.
    pub shared: Option<Meter>,
    /// What capabilities keep for this guest.
    pub extensions: Extensions,
}

impl Default for GuestSpec {
    /// No arguments, no environment, closed streams, no folders and no limits.
    fn default() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            stdin: Box::new(tokio::io::empty()),
            stdout: Box::new(tokio::io::empty()),
            stderr: Box::new(tokio::io::empty()),
            mounts: Vec::new(),
            working_dir: None,
            memory_bytes: None,
            cpu_millis: None,
            shared: None,
            extensions: Extensions::new(),
        }
    }
}

impl fmt::Debug for GuestSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestSpec")
            .field("args", &self.args)
            .field("mounts", &self.mounts)
            .field("working_dir", &self.working_dir)
            .field("memory_bytes", &self.memory_bytes)
            .field("cpu_millis", &self.cpu_millis)
            .finish_non_exhaustive()
    }
}

impl GuestSpec {
    /// With this process's own standard streams.
    #[must_use]
    pub fn with_own_stdio(mut self) -> Self {
        self.stdin = Box::new(wasmtime_wasi::cli::stdin());
        self.stdout = Box::new(wasmtime_wasi::cli::stdout());
        self.stderr = Box::new(wasmtime_wasi::cli::stderr());
        self
    }

    /// Refuses what is too large to be handed to a guest.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let args = self.args.iter().map(|arg| arg.len() + 1).sum::<usize>();
        let env = self.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
        let bytes = args + env;
        if bytes > MAX_ARGS_AND_ENV_BYTES {
            return Err(StartError::TooLarge { bytes, limit: MAX_ARGS_AND_ENV_BYTES });
        }
        Ok(())
    }

    /// The environment with each name once, and `PWD` where a working directory is given.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let mut environment: Vec<(String, String)> = Vec::with_capacity(self.env.len() + 1);
        let mut place = std::collections::BTreeMap::new();
        let working_dir = self.working_dir.iter().map(|dir| ("PWD".to_owned(), dir.clone()));
        for (name, value) in self.env.iter().cloned().chain(working_dir) {
            match place.get(&name) {
                Some(&at) => environment[at] = (name, value),
                None => {
                    place.insert(name.clone(), environment.len());
                    environment.push((name, value));
                }
            }
        }
        environment
    }
}

/// A folder of the host that a guest sees.
#[derive(Debug, Clone)]
pub struct Mount {
    /// The folder on the host.
    pub host: Folder,
    /// Its absolute path in the guest.
    pub guest: String,
    /// Refuse every change to it.
    pub read_only: bool,
}

/// A folder of the host, held open by its clones together. Guests see this very folder, whatever is put in the place of
/// its name by the time they start: names in a folder that guests can write are theirs to change.
#[derive(Debug, Clone)]
pub struct Folder(Arc<OwnedFd>);

impl Folder {
    /// Opens the folder that a path leads to, through all links: for paths that no guest can change.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
    }

    /// Leads to it as long as it is held.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// A folder below it. No link leads out, whoever made it.
    pub(crate) fn beneath(&self, path: &Path) -> io::Result<Self> {
        if path.as_os_str().is_empty() {
            return Ok(self.clone());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve)?.into())
    }

    /// Its name now, for people to read.
    pub(crate) fn name(&self) -> PathBuf {
        let path = self.path();
        fs::read_link(&path).unwrap_or(path)
    }
}

impl From<OwnedFd> for Folder {
    fn from(fd: OwnedFd) -> Self {
        Self(Arc::new(fd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_variables_with_one_name_the_later_holds() {
        let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let spec = GuestSpec {
            env: pairs(&[("A", "1"), ("B", "2"), ("A", "3")]),
            working_dir: Some("/srv".to_owned()),
            ..GuestSpec::default()
        };
        assert_eq!(spec.environment(), pairs(&[("A", "3"), ("B", "2"), ("PWD", "/srv")]));
    }

    #[test]
    fn arguments_beyond_the_limit_are_refused() {
        let spec = GuestSpec { args: vec!["x".repeat(3 << 20)], ..GuestSpec::default() };
        assert!(matches!(spec.check(), Err(StartError::TooLarge { .. })));
        assert!(GuestSpec::default().check().is_ok());
    }
}
