//! From a file's bytes to compiled code: text is assembled, a core module becomes a component, a component is compiled.
//!
//! Compiling is outside wasmtime's promise of safety against hostile input, so it happens on a thread of its own, one
//! or few at a time, with a bound on the input's size and on the time one waits for it.

use std::{thread, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

use crate::{
    adapt::adapt,
    error::LoadError,
    imports::UnmetImport,
    shape::{Border, Shape, border_of, shape_of},
};

/// The largest file that is compiled. An interpreter with its library has been seen at 40 MB.
const MAX_BYTES: usize = 256 << 20;
/// How long one waits for a compilation.
const PATIENCE: Duration = Duration::from_secs(300);
/// For a compiler that recurses deeply.
const STACK_BYTES: usize = 16 << 20;

/// Compiled code, and what cannot be asked of it later.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) core_instances: u32,
    /// wasmtime's own form.
    pub(crate) serialized: Vec<u8>,
}

impl Code {
    /// For the cache.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [&self.core_instances.to_le_bytes(), &self.serialized[..]].concat()
    }

    /// From the cache.
    pub(crate) fn from_bytes(mut bytes: Vec<u8>) -> Option<Self> {
        let core_instances = u32::from_le_bytes(*bytes.first_chunk()?);
        Some(Self { core_instances, serialized: bytes.split_off(4) })
    }
}

/// Compiles in turn.
#[derive(Debug)]
pub(crate) struct Compiler {
    engine: wasmtime::Engine,
    turns: &'static Semaphore,
}

impl Compiler {
    pub(crate) fn new(engine: wasmtime::Engine) -> Self {
        // One at a time for the whole process: each already uses every core.
        static TURNS: Semaphore = Semaphore::const_new(1);
        Self { engine, turns: &TURNS }
    }

    /// Compiles `content` on a thread of its own. Gives up waiting after a while; the thread then still ends its work
    /// before the next begins.
    pub(crate) async fn compile(&self, content: Bytes) -> Result<Code, LoadError> {
        if content.len() > MAX_BYTES {
            return Err(LoadError::TooLarge { bytes: content.len(), limit: MAX_BYTES });
        }
        let work = async {
            let turn = self.turns.acquire().await.expect("this semaphore is never closed");
            let (done, result) = oneshot::channel();
            let engine = self.engine.clone();
            thread::Builder::new()
                .name("compile".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    let _turn = turn;
                    drop(done.send(compile(&engine, &content)));
                })
                .map_err(|error| LoadError::Compiler(format!("its thread cannot be started: {error}")))?;
            result
                .await
                .unwrap_or_else(|_panicked| Err(LoadError::Compiler("the compiler panicked".to_owned())))
        };
        timeout(PATIENCE, work).await.unwrap_or(Err(LoadError::Slow(PATIENCE)))
    }
}

fn compile(engine: &wasmtime::Engine, content: &[u8]) -> Result<Code, LoadError> {
    let component = component_of(content)?;
    let border = border_of(&component)?;
    refuse_wasi_03(&border)?;
    let serialized = engine.precompile_component(&component).map_err(|error| {
        let invalid = error.chain().any(|cause| cause.is::<wasmparser::BinaryReaderError>());
        let text = format!("{error:#}");
        if invalid { LoadError::Invalid(text) } else { LoadError::Compiler(text) }
    })?;
    Ok(Code { core_instances: border.core_instances, serialized })
}

/// The component that `content` is or can be made into.
fn component_of(content: &[u8]) -> Result<Vec<u8>, LoadError> {
    match shape_of(content)? {
        Shape::Component => Ok(content.to_vec()),
        Shape::Module => adapt(content),
        Shape::Text => {
            let binary =
                wat::parse_bytes(content).map_err(|error| LoadError::InvalidText(error.to_string()))?;
            match shape_of(&binary)? {
                Shape::Module => adapt(&binary),
                Shape::Component | Shape::Text => Ok(binary.into_owned()),
            }
        }
    }
}

/// Told before the compiler stumbles over the types of WASI 0.3.
fn refuse_wasi_03(border: &Border) -> Result<(), LoadError> {
    let is_03 = |name: &&String| name.starts_with("wasi:") && name.contains("@0.3.");
    let imports: Vec<_> = border
        .imports
        .iter()
        .map(|(name, _)| name)
        .filter(is_03)
        .map(|name| UnmetImport::of_component(name))
        .collect();
    if let Some(export) = border.exports.iter().find(is_03) {
        return Err(LoadError::NotRunnable(format!(
            "exports {export}: it was built for WASI 0.3; build it for WASI 0.2 (the target wasm32-wasip2)"
        )));
    }
    if imports.is_empty() { Ok(()) } else { Err(LoadError::UnmetImport(imports)) }
}
