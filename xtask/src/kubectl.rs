//! A kubectl to try things with.

use crate::shell::{command, run, target_dir};
use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The kubectl on PATH; else the one of an earlier call; else Debian's, unpacked under the target folder.
pub(crate) fn find() -> Result<PathBuf> {
    let on_path =
        env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    if let Some(kubectl) = on_path.map(|dir| dir.join("kubectl")).find(|file| file.is_file()) {
        return Ok(kubectl);
    }
    let dir = target_dir().join("tools");
    let kubectl = dir.join("usr/bin/kubectl");
    if !kubectl.is_file() {
        unpack(&dir)
            .context("there is no kubectl on PATH, and Debian's could not be had: install kubectl")?;
    }
    Ok(kubectl)
}

/// Newer Debian calls the package `kubectl`, older ones `kubernetes-client`.
fn unpack(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    for package in ["kubectl", "kubernetes-client"] {
        println!("fetching Debian's {package}");
        if run(command("apt-get", "download -qq").arg(package).current_dir(dir)).is_err() {
            continue;
        }
        for entry in fs::read_dir(dir)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "deb") {
                run(command("dpkg-deb", "-x").arg(&file).arg(dir))?;
            }
        }
        return Ok(());
    }
    bail!("apt-get has neither kubectl nor kubernetes-client (try: apt-get update)")
}
