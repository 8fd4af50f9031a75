//! A component that is compiled, linked and ready to be started any number of times.

use std::{fmt, sync::Arc};

use wasmtime::{
    Store, UpdateDeadline,
    component::{Component, InstancePre},
};
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::{
    compile::Code,
    control::GuestControl,
    digest::Digest,
    engine::Engine,
    error::{LoadError, StartError, few},
    exit::Exit,
    guest::Guest,
    imports,
    meter::Meter,
    metered::Killed,
    pool::Need,
    spec::GuestSpec,
    state::{GuestState, TABLE_ELEMENT_BYTES},
};

/// A page of WebAssembly's linear memory.
const PAGE_BYTES: u64 = 64 << 10;
/// What one call of a guest may make the host copy.
const MAX_CALL_BYTES: usize = 16 << 20;

/// What can be done with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// Exports `wasi:cli/run`: it is run to its end.
    Command,
    /// Exports `wasi:http/incoming-handler`: it is instantiated for requests.
    HttpHandler,
}

impl ImageKind {
    /// Of a component with these exports.
    pub(crate) fn of(exports: &[String]) -> Result<Self, LoadError> {
        let offers = |interface: &str| exports.iter().any(|name| name.starts_with(interface));
        if offers("wasi:cli/run@0.2.") {
            return Ok(Self::Command);
        }
        if offers("wasi:http/incoming-handler@0.2.") {
            return Ok(Self::HttpHandler);
        }
        let why = if exports.is_empty() {
            "the component exports nothing, so there is nothing to run: it is no program, or the end of its file is cut off"
                .to_owned()
        } else {
            format!(
                "the component is a library (it exports {}, and neither wasi:cli/run@0.2 nor wasi:http/incoming-handler@0.2), so there is nothing to run; build a program, or compose it into one (`wac plug`)",
                few(exports)
            )
        };
        Err(LoadError::NotRunnable(why))
    }
}

/// A component, ready to be started.
pub struct Image {
    engine: Engine,
    digest: Digest,
    kind: ImageKind,
    imports: Vec<String>,
    need: Need,
    initial_memory: u64,
    pre: InstancePre<GuestState>,
    /// For a [`ImageKind::Command`].
    command: Option<CommandPre<GuestState>>,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("digest", &self.digest)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Image {
    /// Links compiled code. `code` must come from this engine's compiler, be it by way of the cache.
    pub(crate) fn link(engine: &Engine, digest: Digest, code: &Code) -> Result<Self, LoadError> {
        let broken = |error: wasmtime::Error| LoadError::Compiler(format!("{error:#}"));
        #[expect(unsafe_code, reason = "compiled code is loaded as it is; nothing else could make it run")]
        // SAFETY: the bytes were made by `Engine::precompile_component` with the same settings: in this process just
        // now, or earlier and kept under a checksum that binds them to the settings and that held.
        let component =
            unsafe { Component::deserialize(engine.wasmtime(), &code.serialized) }.map_err(broken)?;
        let pre = match engine.linker().instantiate_pre(&component) {
            Ok(pre) => pre,
            Err(error) => {
                let unmet = imports::unmet(engine.linker(), &component);
                return Err(if unmet.is_empty() { broken(error) } else { LoadError::UnmetImport(unmet) });
            }
        };
        let ty = component.component_type();
        let exports: Vec<String> = ty.exports(engine.wasmtime()).map(|(name, _)| name.to_owned()).collect();
        let imports = ty.imports(engine.wasmtime()).map(|(name, _)| name.to_owned()).collect();
        let kind = ImageKind::of(&exports)?;
        let (need, initial_memory) = need(&component, code.core_instances)?;
        if let Some(why) = engine.pool().refuse(need) {
            return Err(LoadError::TooMuch(why));
        }
        let command = match kind {
            ImageKind::Command => Some(CommandPre::new(pre.clone()).map_err(broken)?),
            ImageKind::HttpHandler => None,
        };
        Ok(Self { engine: engine.clone(), digest, kind, imports, need, initial_memory, pre, command })
    }

    /// The digest of the file it was loaded from.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What can be done with it.
    pub fn kind(&self) -> ImageKind {
        self.kind
    }

    /// The interfaces it imports, with their versions, as `wasi:cli/stdout@0.2.6`.
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// Bytes that an instance counts on its [`Meter`] as soon as it is made, at most.
    pub fn initial_memory(&self) -> u64 {
        self.initial_memory
    }

    /// For callers of exports other than `wasi:cli/run`. Instantiate it in a store of [`Image::store`], within
    /// [`GuestControl::run`].
    pub fn pre(&self) -> &InstancePre<GuestState> {
        &self.pre
    }

    /// The engine it was loaded into.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// A store for one guest, with its limits, once there is room for it.
    pub async fn store(&self, spec: GuestSpec) -> Result<(Store<GuestState>, GuestControl), StartError> {
        spec.check()?;
        let permit = self.engine.pool().acquire(self.need).await?;
        let own = Meter::new(spec.memory_bytes, spec.cpu_millis);
        let control = GuestControl::new(own, spec.shared.clone(), self.engine.clock());
        let registered = self.engine.pressure().register(&control);
        let state = GuestState::new(spec, &control, permit, registered)?;
        let mut store = Store::new(self.engine.wasmtime(), state);
        store.limiter(|state| &mut state.limits);
        store.set_hostcall_fuel(MAX_CALL_BYTES);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback({
            let control = control.clone();
            move |_| turn(&control)
        });
        Ok((store, control))
    }

    /// Starts a guest that runs `wasi:cli/run` to its end, on the guests' runtime.
    pub async fn start(self: &Arc<Self>, spec: GuestSpec) -> Result<Guest, StartError> {
        let command = self.command.clone().ok_or(StartError::NotACommand)?;
        let (store, control) = self.store(spec).await?;
        let task = self.engine.spawn(run(command, store, control.clone()));
        Ok(Guest::new(control, task))
    }
}

/// What a guest does at a tick of the clock.
fn turn(control: &GuestControl) -> wasmtime::Result<UpdateDeadline> {
    if control.is_killed() {
        return Err(wasmtime::Error::new(Killed));
    }
    if !control.had_its_turn() {
        // The tick passed before it got onto the thread.
        return Ok(UpdateDeadline::Continue(1));
    }
    Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
}

async fn run(command: CommandPre<GuestState>, mut store: Store<GuestState>, control: GuestControl) -> Exit {
    let call = async move {
        let command = command.instantiate_async(&mut store).await?;
        command.wasi_cli_run().call_run(&mut store).await
    };
    match control.run(call).await {
        Ok(Ok(Ok(()))) => Exit::Code(0),
        Ok(Ok(Err(()))) => Exit::Code(1),
        Ok(Err(error)) => Exit::of_error(&error, &control),
        Err(Killed) => control.exit_of_kill(),
    }
}

/// What an instance needs of the pools, and the bytes with which it begins.
fn need(component: &Component, core_instances: u32) -> Result<(Need, u64), LoadError> {
    let required = component.resources_required().ok_or_else(|| {
        LoadError::NotRunnable(
            "the component imports core modules, which cannot be given to it here".to_owned(),
        )
    })?;
    let of = |count: u32, largest: Option<u64>, unit: u64| {
        u64::from(count).saturating_mul(largest.unwrap_or_default()).saturating_mul(unit)
    };
    let memories = of(required.num_memories, required.max_initial_memory_size, PAGE_BYTES);
    let tables = of(required.num_tables, required.max_initial_table_size, TABLE_ELEMENT_BYTES);
    let initial_memory = memories.saturating_add(tables);
    let need = Need { core_instances, memories: required.num_memories, tables: required.num_tables };
    Ok((need, initial_memory))
}
