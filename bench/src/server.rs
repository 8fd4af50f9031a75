//! A server of one's own, on an empty folder: memory that an earlier load gave back would make a later one look cheap.

use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// `wharf serve`, ended when this goes, and its folder with it.
pub(crate) struct Server {
    child: Child,
    home: PathBuf,
}

impl Server {
    /// An empty folder for a server to come.
    pub(crate) fn new_home() -> Result<PathBuf> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let home = std::env::temp_dir().join(format!("wharf-bench-{}-{number}", std::process::id()));
        fs::create_dir(&home).with_context(|| format!("making {}", home.display()))?;
        Ok(home)
    }

    /// Starts `wharf` on `home`, and waits until it is ready: then every request, `/readyz` among them, is answered.
    pub(crate) async fn start(wharf: &Path, home: PathBuf) -> Result<Self> {
        let mut child = Command::new(wharf)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&home)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", wharf.display()))?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        if !line.contains("ready") {
            bail!("the server did not start in {}", home.display());
        }
        Ok(Self { child, home })
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("the server has ended")
    }

    /// Kills it and removes its folder.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.child.kill().await?;
        fs::remove_dir_all(&self.home)?;
        Ok(())
    }
}
