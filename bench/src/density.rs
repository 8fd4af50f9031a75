//! What an idle pod costs: a fresh server's resident memory with many of them, less what it took without.

use crate::{api::Api, pods, report::Report, server::Server};
use anyhow::{Context, Result, bail};
use std::{fs, path::Path, process::Stdio};
use tokio::process::Command;

/// The image's name on the server.
const IMAGE: &str = "idle";

/// Measures `count` idle pods of `wasm` on a server of its own.
pub(crate) async fn run(wharf: &Path, wasm: &Path, count: usize) -> Result<Report> {
    let home = Server::new_home()?;
    let mut load = Command::new(wharf);
    load.args(["image", "load", "-t", IMAGE]).arg(wasm).arg("--home").arg(&home).stdout(Stdio::null());
    let loaded = load.status().await.with_context(|| format!("starting {}", wharf.display()))?;
    if !loaded.success() {
        bail!("{} is no image: {loaded}", wasm.display());
    }
    let server = Server::start(wharf, home).await?;
    let api = Api::connect(server.home()).await?;
    pods::prepare(&api).await?;
    let before = resident_kib(server.pid()?)?;
    pods::start(&api, IMAGE, count, 64).await?;
    let after = resident_kib(server.pid()?)?;
    server.end().await?;

    let count = f64::from(u32::try_from(count)?);
    let mut report = Report::default();
    report.add("pods", count, "");
    report.add("resident before", before / 1024.0, "MiB");
    report.add("resident after", after / 1024.0, "MiB");
    report.add("each pod", (after - before) / count, "KiB");
    Ok(report)
}

/// Proportional set size: private pages, and the share of what is shared.
pub(crate) fn resident_kib(pid: u32) -> Result<f64> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss in smaps_rollup")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
