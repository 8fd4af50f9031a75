//! The engine with every capability there is, and the images under the home folder: the same for each command.

use anyhow::{Context as _, Result};
use runtime_engine::{Capability, Engine, EngineConfig, PoolSizes};
use runtime_images::Images;
use std::path::{Path, PathBuf};

/// What guests may import beside `wasi:cli` and its kin.
pub(crate) fn capabilities() -> [Capability; 3] {
    [runtime_host_sockets::capability(), runtime_host_http::capability(), runtime_host_pod::capability()]
}

/// Where images are kept.
pub(crate) fn images_dir(home: &Path) -> PathBuf {
    home.join("images")
}

/// An engine with places for as many guests as `pool` says, that keeps compiled code under the home folder and compiles
/// in processes of its own.
pub(crate) fn engine(home: &Path, pool: PoolSizes) -> Result<Engine> {
    let config = EngineConfig {
        cache_dir: Some(home.join("code")),
        compiler: Some(own_program()),
        pool,
        ..EngineConfig::default()
    };
    Engine::new(config, &capabilities()).context("cannot set up the engine")
}

/// This program, also after its file was replaced by a newer one.
fn own_program() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { running } else { std::env::current_exe().unwrap_or(running) }
}

/// The local images, for an engine.
pub(crate) fn images(home: &Path, engine: &Engine) -> Result<Images> {
    Images::open(&images_dir(home), engine.clone()).context("cannot open the local images")
}
