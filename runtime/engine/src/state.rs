//! What a guest's store holds, and the limits that WebAssembly's runtime asks about.

use std::{fmt, path::Path};

use wasmtime::{ResourceLimiter, component::ResourceTable};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_io::IoView;

use crate::{
    capability::Extensions,
    control::GuestControl,
    error::StartError,
    meter::{MemoryLimitReached, Meter},
    pool::Permit,
    pressure::Registered,
    spec::{GuestSpec, Mount},
};

/// Handles (files, sockets, streams, requests) that one guest may hold at once.
const MAX_RESOURCES: usize = 8_192;
/// Random bytes that a guest gets in one call.
const MAX_RANDOM_BYTES: u64 = 1 << 20;
/// What an element of a table takes on the host.
pub(crate) const TABLE_ELEMENT_BYTES: u64 = 8;

/// The data of a guest's store.
pub struct GuestState {
    /// What the guest has handles of.
    pub table: ResourceTable,
    /// Arguments, environment, standard streams, clocks, random numbers, folders.
    pub wasi: WasiCtx,
    /// Memory and tables, counted and bounded.
    pub limits: Limits,
    /// What capabilities keep for this guest.
    pub extensions: Extensions,
    _registered: Registered,
    /// Gives the guest's place in the pool back. Last, so that the rest is gone by then.
    _permit: Permit,
}

impl GuestState {
    pub(crate) fn new(
        spec: GuestSpec,
        control: &GuestControl,
        permit: Permit,
        registered: Registered,
    ) -> Result<Self, StartError> {
        let mut builder = WasiCtx::builder();
        builder.args(&spec.args).envs(&spec.environment()).max_random_size(MAX_RANDOM_BYTES);
        if let Some(dir) = &spec.working_dir {
            builder.initial_cwd(dir);
        }
        let working = spec.working_dir.as_deref().and_then(|dir| working_mount(dir, &spec.mounts));
        for mount in spec.mounts.iter().chain(&working) {
            let perms = if mount.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
            builder.preopened_dir(mount.host.path(), &mount.guest, perms).map_err(|source| {
                StartError::Mount { host: mount.host.name(), guest: mount.guest.clone(), source }
            })?;
        }
        builder.stdin(spec.stdin).stdout(spec.stdout).stderr(spec.stderr);
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let limits = Limits::new(control);
        Ok(Self {
            table,
            wasi: builder.build(),
            limits,
            extensions: spec.extensions,
            _registered: registered,
            _permit: permit,
        })
    }
}

/// The working directory as a mount of its own, if it lies in another.
///
/// Guests' libraries do not ask for `initial-cwd`: they look a relative path up among the names of the folders they were
/// given, where `.` stands for what no longer name leads to.
fn working_mount(dir: &str, mounts: &[Mount]) -> Option<Mount> {
    let below = |mount: &&Mount| Path::new(dir).strip_prefix(&mount.guest).is_ok();
    let mount = mounts.iter().filter(below).max_by_key(|mount| mount.guest.len())?;
    let rest = Path::new(dir).strip_prefix(&mount.guest).ok()?;
    // One that is not there, or is no folder, is the guest's to find out.
    let host = mount.host.beneath(rest).ok()?;
    Some(Mount { host, guest: ".".to_owned(), read_only: mount.read_only })
}

impl fmt::Debug for GuestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestState").field("extensions", &self.extensions).finish_non_exhaustive()
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl IoView for GuestState {
    fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

/// Counts the memories and tables of one store on its meters, and takes them off when the store goes.
#[derive(Debug)]
pub struct Limits {
    own: Meter,
    shared: Option<Meter>,
    /// What of the meters' counts is ours.
    counted: u64,
    /// The last growth that was allowed, should it fail after all.
    last: u64,
}

impl Limits {
    fn new(control: &GuestControl) -> Self {
        let (own, shared) = control.meters();
        Self { own, shared, counted: 0, last: 0 }
    }

    fn add(&mut self, bytes: u64) -> Result<(), MemoryLimitReached> {
        self.own.add_memory(bytes)?;
        if let Some(shared) = &self.shared {
            shared.add_memory(bytes).inspect_err(|_over| self.own.release_memory(bytes))?;
        }
        self.counted += bytes;
        self.last = bytes;
        Ok(())
    }

    fn release(&mut self, bytes: u64) {
        self.counted -= bytes;
        self.own.release_memory(bytes);
        if let Some(shared) = &self.shared {
            shared.release_memory(bytes);
        }
    }

    fn grow(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
        unit: u64,
    ) -> wasmtime::Result<bool> {
        self.last = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let more = u64::try_from(desired.saturating_sub(current)).unwrap_or(u64::MAX).saturating_mul(unit);
        // An error here is a trap: a guest over its limit is ended, as the kernel does it to a process.
        self.add(more)?;
        Ok(true)
    }

    fn undo(&mut self) {
        let last = std::mem::take(&mut self.last);
        self.release(last);
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(current, desired, maximum, 1)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(current, desired, maximum, TABLE_ELEMENT_BYTES)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        self.release(self.counted);
    }
}
