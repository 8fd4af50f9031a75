//! How a guest ended.

use wasmtime_wasi::I32Exit;

use crate::{control::GuestControl, meter::MemoryLimitReached};

/// How a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It returned, or called `exit`.
    Code(i32),
    /// It did what WebAssembly forbids, or could not be instantiated.
    Trapped {
        /// What happened, in one line.
        message: String,
        /// The guest's functions that were running, innermost first; empty where none was.
        backtrace: String,
    },
    /// It wanted more memory than it may have.
    OutOfMemory {
        /// The limit in bytes.
        limit: u64,
    },
    /// It was killed.
    Killed,
}

impl Exit {
    /// The code that a shell would show: 137 for a kill or memory, 134 for a trap.
    pub fn code(&self) -> i32 {
        match self {
            Self::Code(code) => *code,
            Self::Trapped { .. } => 134,
            Self::OutOfMemory { .. } | Self::Killed => 137,
        }
    }

    /// What an error out of a guest's call means. For those who drive a store themselves.
    pub fn of_error(error: &wasmtime::Error, control: &GuestControl) -> Self {
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return Self::Code(exit.0);
        }
        if let Some(reached) = error.downcast_ref::<MemoryLimitReached>() {
            return Self::OutOfMemory { limit: reached.limit };
        }
        if control.is_killed() {
            return control.exit_of_kill();
        }
        Self::Trapped { message: message(error), backtrace: backtrace(error) }
    }
}

/// The trap's own words, or else the chain of causes.
fn message(error: &wasmtime::Error) -> String {
    if let Some(trap) = error.downcast_ref::<wasmtime::Trap>() {
        return trap.to_string();
    }
    let causes = error.chain().map(|cause| cause.to_string());
    let causes: Vec<String> = causes.filter(|cause| !cause.contains("wasm backtrace")).collect();
    causes.join(": ")
}

fn backtrace(error: &wasmtime::Error) -> String {
    let trace = error.downcast_ref::<wasmtime::WasmBacktrace>().map(ToString::to_string).unwrap_or_default();
    let lines = trace.lines().filter(|line| !line.contains("error while executing"));
    // Components name no modules, so this stands before each function and says nothing.
    lines.collect::<Vec<_>>().join("\n").replace("<unknown>!", "").trim_end().to_owned()
}
