//! From a file's bytes to compiled code: text is assembled, a core module becomes a component, a component is compiled.
//!
//! Compiling is outside wasmtime's promise of safety against hostile input, so it happens one at a time, with bounds on
//! the input's size, on the instances it may ask for and on the time, and in a process of its own where the embedder
//! names a program for it ([`isolated`]).

mod isolated;

pub use isolated::compile_stdin;

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, SemaphorePermit, oneshot},
    time::timeout,
};

use crate::{
    adapt::adapt,
    error::LoadError,
    imports::UnmetImport,
    instances,
    shape::{Border, Shape, border_of, shape_of},
};

/// The largest file that is compiled. An interpreter with its library has been seen at 40 MB.
const MAX_BYTES: usize = 256 << 20;
/// How long a compilation may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// For a compiler that recurses deeply.
const STACK_BYTES: usize = 16 << 20;

/// Reads a file that is to be an image. Of one that is too large to be compiled, or has no end, only so much that
/// [`Engine::load`](crate::Engine::load) sees it.
pub fn read_content(path: &Path) -> io::Result<Bytes> {
    let mut content = Vec::new();
    let most = u64::try_from(MAX_BYTES).expect("it fits into 64 bits") + 1;
    File::open(path)?.take(most).read_to_end(&mut content)?;
    Ok(Bytes::from(content))
}

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
    /// What compiles in a process of its own.
    program: Option<PathBuf>,
    turns: &'static Semaphore,
}

/// Held by whatever computes for a compilation, also once nobody waits for it any more.
type Turn = Arc<SemaphorePermit<'static>>;

impl Compiler {
    pub(crate) fn new(engine: wasmtime::Engine, program: Option<PathBuf>) -> Self {
        // One at a time for the whole process: each already uses every core.
        static TURNS: Semaphore = Semaphore::const_new(1);
        Self { engine, program, turns: &TURNS }
    }

    /// Compiles `content` once those before it are done. What is still not done after its time is ended where it has a
    /// process of its own; without one its thread ends its work before the next begins.
    pub(crate) async fn compile(&self, content: Bytes) -> Result<Code, LoadError> {
        if content.len() > MAX_BYTES {
            return Err(LoadError::TooLarge { bytes: content.len(), limit: MAX_BYTES });
        }
        let turn = Arc::new(self.turns.acquire().await.expect("this semaphore is never closed"));
        timeout(PATIENCE, self.compile_now(content, turn)).await.unwrap_or(Err(LoadError::Slow(PATIENCE)))
    }

    async fn compile_now(&self, content: Bytes, turn: Turn) -> Result<Code, LoadError> {
        let (component, core_instances) =
            on_thread(Arc::clone(&turn), move || component_to_compile(&content)).await?;
        let serialized = match &self.program {
            Some(program) => isolated::compile(program, &component).await?,
            None => {
                let engine = self.engine.clone();
                on_thread(turn, move || compile(&engine, &component)).await?
            }
        };
        Ok(Code { core_instances, serialized })
    }
}

/// Works on a thread of its own, with a large stack.
async fn on_thread<R: Send + 'static>(
    turn: Turn,
    work: impl FnOnce() -> Result<R, LoadError> + Send + 'static,
) -> Result<R, LoadError> {
    let (done, result) = oneshot::channel();
    thread::Builder::new()
        .name("compile".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let _turn = turn;
            drop(done.send(work()));
        })
        .map_err(|error| LoadError::Compiler(format!("its thread cannot be started: {error}")))?;
    result.await.unwrap_or_else(|_panicked| Err(LoadError::Compiler("the compiler panicked".to_owned())))
}

/// The component that a file holds or becomes, fit to be compiled, and how many core instances it makes.
fn component_to_compile(content: &[u8]) -> Result<(Vec<u8>, u32), LoadError> {
    let component = component_of(content)?;
    refuse_wasi_03(&border_of(&component)?)?;
    let instances = instances::count(&component)?;
    Ok((component, instances.core))
}

fn compile(engine: &wasmtime::Engine, component: &[u8]) -> Result<Vec<u8>, LoadError> {
    engine.precompile_component(component).map_err(|error| {
        let invalid = error.chain().any(|cause| cause.is::<wasmparser::BinaryReaderError>());
        let text = format!("{error:#}");
        if invalid { LoadError::Invalid(text) } else { LoadError::Compiler(text) }
    })
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
