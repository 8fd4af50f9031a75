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
