//! The start of a server on an empty folder, and what it takes when nothing happens.

use crate::{density::resident_kib, report::Report, server::Server};
use anyhow::{Context, Result};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// How long idleness is looked at.
const IDLE: Duration = Duration::from_secs(5);

/// Starts `wharf` so many times.
pub(crate) async fn run(wharf: &Path, count: usize) -> Result<Report> {
    let mut starts = Vec::with_capacity(count);
    let mut report = Report::default();
    for number in 0..count {
        let home = Server::new_home()?;
        let started = Instant::now();
        let server = Server::start(wharf, home).await?;
        starts.push(started.elapsed());
        if number + 1 == count {
            let pid = server.pid()?;
            let before = cpu_ticks(pid)?;
            tokio::time::sleep(IDLE).await;
            let used = cpu_ticks(pid)? - before;
            report.add("idle resident", resident_kib(pid)? / 1024.0, "MiB");
            // A tick is a hundredth of a second wherever Linux runs.
            report.add("idle CPU", used / IDLE.as_secs_f64(), "% of a core");
        }
        server.end().await?;
    }
    report.add_durations("start -> ready", starts);
    Ok(report)
}

/// User and system time of a process, in clock ticks.
fn cpu_ticks(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_name, rest) = stat.rsplit_once(')').context("/proc/PID/stat has a name in parentheses")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |field: usize| -> Result<f64> { Ok(fields.get(field).context("too few fields")?.parse()?) };
    Ok(ticks(11)? + ticks(12)?)
}
