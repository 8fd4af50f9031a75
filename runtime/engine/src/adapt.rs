//! Core modules of WASI preview 1 made into components.
//!
//! wit-component's adapter does it, with one change before: the adapter knows only success and failure for the end of
//! a program, so a module's `proc_exit` goes past it to a function of ours that takes the whole code.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wasm_encoder::{
    ImportSection, Module,
    reencode::{self, Reencode},
};
use wasmparser::{Imports, Parser};
use wasmtime::component::Linker;
use wasmtime_wasi::I32Exit;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::{
    error::LoadError,
    imports::UnmetImport,
    shape::{Border, border_of},
    state::GuestState,
};

const EXIT_INTERFACE: &str = "wharf:engine/exit@0.1.0";
const EXIT: &str = "exit-with-code";
const EXIT_WIT: &str = "package wharf:engine@0.1.0;
    interface exit { exit-with-code: func(code: u32); }
    world adapted { import exit; }";

/// A command of WASI preview 1 as a component.
pub(crate) fn adapt(module: &[u8]) -> Result<Vec<u8>, LoadError> {
    check(&border_of(module)?)?;
    let encode = || -> anyhow::Result<Vec<u8>> {
        let module = with_own_exit(module)?;
        ComponentEncoder::default()
            .module(&module)?
            .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?
            .encode()
    };
    encode().map_err(|error| LoadError::Invalid(format!("{error:#}")))
}

/// That it imports preview 1 alone, is a program, and lets WASI reach its memory.
fn check(border: &Border) -> Result<(), LoadError> {
    let offered = border_of(WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?.exports;
    let unmet: Vec<_> = border
        .imports
        .iter()
        .filter(|(from, name)| from != WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME || !offered.contains(name))
        .map(|(from, name)| UnmetImport::of_module(from, name))
        .collect();
    if !unmet.is_empty() {
        return Err(LoadError::UnmetImport(unmet));
    }
    let exports = |name: &str| border.exports.iter().any(|export| export == name);
    let why = if exports("_start") && border.memories.iter().any(|name| name == "memory") {
        return Ok(());
    } else if exports("_start") {
        "the core module has no exported memory named \"memory\", which WASI reads and writes; export it, as (memory (export \"memory\") 1) does in text"
    } else if exports("_initialize") {
        "the core module is a library (it exports _initialize and no _start), so there is nothing to run; build a program, or a component"
    } else {
        "the core module exports no _start, so there is nothing to run; build a program, or a component"
    };
    Err(LoadError::NotRunnable(why.to_owned()))
}

/// The module with `proc_exit` imported from our interface, and the interface's description for the encoder.
fn with_own_exit(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut changed = Module::new();
    OwnExit.parse_core_module(&mut changed, Parser::new(0), module)?;
    let mut changed = changed.finish();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("exit.wit", EXIT_WIT)?;
    let world = resolve.select_world(&[package], Some("adapted"))?;
    embed_component_metadata(&mut changed, &resolve, world, StringEncoding::UTF8)?;
    Ok(changed)
}

/// Copies a module, with one import renamed.
struct OwnExit;

impl Reencode for OwnExit {
    type Error = std::convert::Infallible;

    fn parse_imports(
        &mut self,
        section: &mut ImportSection,
        imports: Imports<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        let imports = match imports {
            Imports::Single(at, mut import)
                if import.module == WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME && import.name == "proc_exit" =>
            {
                import.module = EXIT_INTERFACE;
                import.name = EXIT;
                Imports::Single(at, import)
            }
            other => other,
        };
        reencode::utils::parse_imports(self, section, imports)
    }
}

/// Defines what [`adapt`] makes modules import.
pub(crate) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    linker.instance(EXIT_INTERFACE)?.func_wrap(EXIT, |_, (code,): (u32,)| -> wasmtime::Result<()> {
        Err(wasmtime::Error::new(I32Exit(code.cast_signed())))
    })
}
