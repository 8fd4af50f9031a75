//! The guests of `samples/` and `tests/guests/`: built for wasm32-wasip2, each group in a workspace of its own.

use crate::shell::{command, root, run, target_dir};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// A guest, ready to be loaded as an image.
#[derive(Debug)]
pub(crate) struct Guest {
    /// The image's name.
    pub(crate) name: &'static str,
    /// The component, or a core module in text.
    pub(crate) file: PathBuf,
}

/// Every sample that has a guest.
const SAMPLES: &[&str] = &["hello", "web", "function", "client"];

/// Makes the target there; does nothing when it is.
pub(crate) fn guest_target() -> Result<()> {
    run(&mut command("bash", "xtask/guest-target.sh"))
}

/// Builds all samples.
pub(crate) fn build() -> Result<Vec<Guest>> {
    guest_target()?;
    let built = build_workspace(&root().join("samples"))?;
    let mut guests: Vec<Guest> =
        SAMPLES.iter().map(|&name| Guest { name, file: built.join(name).with_extension("wasm") }).collect();
    guests.push(Guest { name: "preview1", file: root().join("samples/preview1/preview1.wat") });
    Ok(guests)
}

/// Builds the guests that only tests use, into the same folder.
pub(crate) fn build_test_guests() -> Result<()> {
    guest_target()?;
    build_workspace(&root().join("tests/guests")).map(drop)
}

/// Builds the workspace of guests in `dir`; gives the folder of the components.
fn build_workspace(dir: &Path) -> Result<PathBuf> {
    let target = target_dir().join("guests");
    run(command("cargo", "build --quiet --release --target wasm32-wasip2 --locked --manifest-path")
        .arg(dir.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join("wasm32-wasip2/release"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

    /// A program's folder for `PATH`, with stand-ins for the toolchain.
    fn programs(dir: &Path, stand_ins: &[(&str, &str)]) {
        for (name, script) in stand_ins {
            let file = dir.join(name);
            fs::write(&file, format!("#!/bin/bash\n{script}\n")).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for name in ["bash", "cut", "dirname", "ls", "mktemp", "rm", "tail"] {
            let found = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(name));
            let found = found.iter().find(|file| file.exists()).unwrap();
            std::os::unix::fs::symlink(found, dir.join(name)).unwrap();
        }
    }

    #[test]
    fn what_the_script_could_not_do_is_told_with_the_log_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let sysroot = dir.path().join("sysroot");
        let libraries = sysroot.join("lib/rustlib/wasm32-wasip2/lib");
        fs::create_dir_all(&libraries).unwrap();
        fs::write(libraries.join("libstd-0.rlib"), "").unwrap();
        let rustc = format!(
            "case $1 in --print) echo {};; --version) echo rustc 1.0.0;; *) echo the linker is broken >&2; exit 1;; esac",
            sysroot.display()
        );
        programs(dir.path(), &[("rustc", &rustc)]);
        let script = root().join("xtask/guest-target.sh");
        let output = Command::new("/bin/bash").arg(script).env("PATH", dir.path()).output().unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("the linker is broken\nguest target: neither rustup nor apt-get"), "{said}");
    }
}
