//! What an idle pod costs: the server's resident memory with many of them, less what it took without.

use crate::{Target, api::Api, pods, report::Report};
use anyhow::{Context, Result};
use std::{fs, path::Path};

/// Measures `count` idle pods.
pub(crate) async fn run(target: &Target, count: usize) -> Result<Report> {
    let lock = target.home.join("lock");
    let pid = fs::read_to_string(&lock).with_context(|| format!("reading {}", lock.display()))?;
    let pid: u32 = pid.trim().parse()?;
    let api = Api::connect(&target.home).await?;
    pods::prepare(&api).await?;
    let before = resident_kib(pid)?;
    pods::start(&api, &target.image, count, 64).await?;
    let after = resident_kib(pid)?;
    pods::clean(&api).await?;

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
    let text = fs::read_to_string(Path::new(&file)).with_context(|| format!("reading {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss in smaps_rollup")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
