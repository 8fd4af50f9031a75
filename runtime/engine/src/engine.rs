//! The engine: wasmtime as it is set up here, the guests' threads, and images in memory once each.

use std::{
    collections::BTreeMap,
    fmt, hash,
    path::PathBuf,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime, task::JoinHandle};
use tokio_util::task::TaskTracker;
use wasmtime::{Config, InstanceAllocationStrategy, WasmBacktraceDetails, component::Linker};
use wasmtime_wasi::{
    cli::{WasiCli, WasiCliView as _},
    clocks::{WasiClocks, WasiClocksView as _},
    filesystem::{WasiFilesystem, WasiFilesystemView as _},
    p2::bindings::{cli, clocks, filesystem, random},
    random::{WasiRandom, WasiRandomView as _},
};

use crate::{
    adapt,
    cache::Cache,
    capability::Capability,
    compile::{Code, Compiler},
    digest::Digest,
    error::{EngineError, LoadError},
    image::Image,
    pool::{Pool, PoolSizes},
    pressure::{self, Pressure},
    state::GuestState,
    ticker::Clock,
};

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where compiled code is kept. Without it everything is compiled anew in each process.
    pub cache_dir: Option<PathBuf>,
    /// A program that calls [`compile_stdin`](crate::compile_stdin) when its only argument is `compile-component`:
    /// components are compiled by it, in a process of their own. Without it they are compiled on a thread of this one.
    pub compiler: Option<PathBuf>,
    /// How many guests there are places for.
    pub pool: PoolSizes,
    /// How long a guest waits for a place.
    pub patience: Duration,
    /// Resident bytes of the process above which the guest that holds most memory is ended; six sevenths of the machine's
    /// memory where not given.
    pub memory_budget: Option<u64>,
    /// Threads on which guests compute; as many as the machine has cores where not given.
    pub threads: Option<usize>,
}

impl Default for EngineConfig {
    /// As many guests as the machine allows, and no cache.
    fn default() -> Self {
        Self {
            cache_dir: None,
            compiler: None,
            pool: PoolSizes::from_machine(),
            patience: Duration::from_secs(30),
            memory_budget: None,
            threads: None,
        }
    }
}

/// Loads images and runs guests of them. Clones are the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    wasmtime: wasmtime::Engine,
    linker: Linker<GuestState>,
    compiler: Compiler,
    cache: Option<Cache>,
    pool: Pool,
    clock: Arc<Clock>,
    pressure: Arc<Pressure>,
    guests: TaskTracker,
    runtime: runtime::Handle,
    /// Taken when the engine goes.
    owned_runtime: Mutex<Option<runtime::Runtime>>,
    images: Mutex<BTreeMap<Digest, Arc<Slot>>>,
}

/// One image's place in memory. Whoever loads it holds the lock, so that others wait instead of compiling it too.
type Slot = tokio::sync::Mutex<Weak<Image>>;

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("pool", &self.0.pool.sizes()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Sets the engine up. Where the machine refuses the address space for the pool, a smaller one is made.
    pub fn new(config: EngineConfig, capabilities: &[Capability]) -> Result<Self, EngineError> {
        let mut sizes = config.pool;
        let wasmtime = loop {
            match wasmtime::Engine::new(&wasmtime_config(sizes)) {
                Ok(engine) => break engine,
                Err(error) => match sizes.halved() {
                    Some(smaller) => {
                        tracing::warn!(
                            guests = sizes.guests,
                            error = format!("{error:#}"),
                            "pool refused; halving it"
                        );
                        sizes = smaller;
                    }
                    None => return Err(EngineError::Setup(error)),
                },
            }
        };
        let linker = link(&wasmtime, capabilities)?;
        let cache = config.cache_dir.and_then(|dir| {
            Cache::open(&dir, fingerprint(&wasmtime))
                .inspect_err(
                    |error| tracing::warn!(dir = %dir.display(), %error, "compiled code is not kept"),
                )
                .ok()
        });
        let mut builder = runtime::Builder::new_multi_thread();
        builder.thread_name("guest").enable_all().max_blocking_threads(128);
        if let Some(threads) = config.threads {
            builder.worker_threads(threads);
        }
        let runtime = builder.build().map_err(EngineError::Threads)?;
        let clock = Arc::new(Clock::default());
        let pressure = Pressure::new(config.memory_budget.or_else(pressure::budget_of_machine));
        let pressure = Arc::new(pressure);
        let weak = wasmtime.weak();
        let watched = Arc::clone(&pressure);
        clock
            .start(move || {
                if let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                }
                watched.tick();
            })
            .map_err(EngineError::Threads)?;
        Ok(Self(Arc::new(Inner {
            compiler: Compiler::new(wasmtime.clone(), config.compiler),
            wasmtime,
            linker,
            cache,
            pool: Pool::new(sizes, config.patience),
            clock,
            pressure,
            guests: TaskTracker::new(),
            runtime: runtime.handle().clone(),
            owned_runtime: Mutex::new(Some(runtime)),
            images: Mutex::default(),
        })))
    }

    /// Makes an image of a file's bytes: a component, a core module of WASI preview 1, or either as text.
    ///
    /// The same content is compiled once, also when it is asked for by many at once; code compiled before, by this
    /// process or another, is taken from the cache.
    pub async fn load(&self, content: Bytes) -> Result<Arc<Image>, LoadError> {
        let hashed = content.clone();
        let digest = self.blocking(move || Digest::of(&hashed)).await;
        let slot = self.slot(digest);
        let mut held = slot.lock().await;
        if let Some(image) = held.upgrade() {
            return Ok(image);
        }
        let image = match self.cached(digest).await {
            Some(image) => image?,
            None => {
                let code = self.0.compiler.compile(content).await?;
                let engine = self.clone();
                let link = move || {
                    let image = Image::link(&engine, digest, &code)?;
                    engine.keep(&digest, &code);
                    Ok(Arc::new(image))
                };
                self.blocking(link).await?
            }
        };
        *held = Arc::downgrade(&image);
        Ok(image)
    }

    /// The image of content with this digest, if it is in memory or its compiled code is kept; the content itself is
    /// not needed then.
    pub async fn load_compiled(&self, digest: Digest) -> Option<Arc<Image>> {
        let slot = self.slot(digest);
        let mut held = slot.lock().await;
        if let Some(image) = held.upgrade() {
            return Some(image);
        }
        let image = self.cached(digest).await?.ok()?;
        *held = Arc::downgrade(&image);
        Some(image)
    }

    /// The runtime whose threads are the guests'. Calls into stores belong here and nowhere else.
    pub fn runtime(&self) -> &runtime::Handle {
        &self.0.runtime
    }

    /// How much there is room for.
    pub fn limits(&self) -> PoolSizes {
        self.0.pool.sizes()
    }

    /// Runs `task` on the guests' runtime.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.0.guests.spawn_on(task, &self.0.runtime)
    }

    /// Lets no more guests start, and waits until those that run have ended. Who wants them to end kills them.
    pub async fn close(&self) {
        self.0.pool.close();
        self.0.guests.close();
        self.0.guests.wait().await;
    }

    fn slot(&self, digest: Digest) -> Arc<Slot> {
        let mut images = self.0.images.lock().expect("nothing panics while this is held");
        // What nobody uses, loads or waits for any more.
        images.retain(|_, slot| {
            Arc::strong_count(slot) > 1 || slot.try_lock().is_ok_and(|image| image.strong_count() > 0)
        });
        Arc::clone(images.entry(digest).or_default())
    }

    /// `None` where there is no compiled code; an error where there is and it cannot be an image here.
    async fn cached(&self, digest: Digest) -> Option<Result<Arc<Image>, LoadError>> {
        self.0.cache.as_ref()?;
        let engine = self.clone();
        let read = move || {
            let code = Code::from_bytes(engine.0.cache.as_ref()?.get(&digest)?)?;
            Some(Image::link(&engine, digest, &code).map(Arc::new))
        };
        self.blocking(read).await
    }

    /// Reads files and works through megabytes off the caller's thread.
    async fn blocking<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> R {
        match self.0.runtime.spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => {
                    unreachable!("the runtime lives as long as the engine, and nobody aborts this")
                }
            },
        }
    }

    fn keep(&self, digest: &Digest, code: &Code) {
        if let Some(cache) = &self.0.cache
            && let Err(error) = cache.put(digest, &code.to_bytes())
        {
            tracing::warn!(%digest, %error, "compiled code could not be kept");
        }
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.wasmtime
    }

    pub(crate) fn linker(&self) -> &Linker<GuestState> {
        &self.0.linker
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    pub(crate) fn pressure(&self) -> &Arc<Pressure> {
        &self.0.pressure
    }

    pub(crate) fn clock(&self) -> Arc<Clock> {
        Arc::clone(&self.0.clock)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.clock.stop();
        let runtime = self.owned_runtime.get_mut().ok().and_then(Option::take);
        if let Some(runtime) = runtime {
            // Does not wait, so that it may happen on a thread of another runtime, or of this one.
            runtime.shutdown_background();
        }
    }
}

fn wasmtime_config(sizes: PoolSizes) -> Config {
    let mut config = compiler_config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(sizes.config()));
    config
}

/// All that compiled code depends on, without the pool: enough to compile, and little address space.
pub(crate) fn compiler_config() -> Config {
    let mut config = Config::new();
    config
        .memory_reservation(4 << 30)
        .memory_init_cow(true)
        .epoch_interruption(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        // Registering it is slow where many modules are loaded, and traps are traced without it.
        .native_unwind_info(false);
    config
}

/// What compiled code depends on: the compiler, its settings, the processor, and us.
fn fingerprint(engine: &wasmtime::Engine) -> u64 {
    use hash::{Hash as _, Hasher as _};
    // Without a seed, so that the next process computes the same.
    #[expect(deprecated, reason = "its successor does not promise the same result in another process")]
    let mut hasher = hash::SipHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    // What is done to a module before it is compiled.
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    hasher.finish()
}

/// `wasi:cli` and what belongs to it, then the capabilities.
fn link(engine: &wasmtime::Engine, capabilities: &[Capability]) -> Result<Linker<GuestState>, EngineError> {
    let mut linker = Linker::new(engine);
    link_cli(&mut linker).map_err(|source| EngineError::Capability { name: "cli", source })?;
    for capability in capabilities {
        (capability.add_to_linker)(&mut linker)
            .map_err(|source| EngineError::Capability { name: capability.name, source })?;
    }
    Ok(linker)
}

fn link_cli(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    type State = GuestState;
    let l = linker;
    wasmtime_wasi_io::add_to_linker_async(l)?;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(l, State::clocks)?;
    random::random::add_to_linker::<State, WasiRandom>(l, State::random)?;
    random::insecure::add_to_linker::<State, WasiRandom>(l, State::random)?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(l, State::random)?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
    filesystem::types::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
    cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    adapt::add_to_linker(l)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_compiled_without_a_pool_fits_an_engine_with_one() {
        let bare = wasmtime::Engine::new(&compiler_config()).unwrap();
        let pooled = wasmtime::Engine::new(&wasmtime_config(PoolSizes::for_guests(16))).unwrap();
        assert_eq!(fingerprint(&bare), fingerprint(&pooled));
    }
}
