//! Compiling in a process of its own, which has bounds on memory and computing time and can be ended at any moment.
//!
//! The parent writes a component to the child's standard input and reads compiled code from its standard output. Exit
//! code 0 is success; [`INVALID`] says that the component is at fault; the reason stands on standard error.

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
    process::{ExitCode, ExitStatus, Stdio},
    thread,
};

use rlimit::Resource;
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{PATIENCE, STACK_BYTES};
use crate::{
    engine::compiler_config,
    error::{LoadError, shortened},
};

/// The argument by which the program knows what it is started for.
const ARGUMENT: &str = "compile-component";
/// The child's exit code for a component that is not valid.
const INVALID: u8 = 3;
/// Characters of the child's complaint that are told.
const MAX_COMPLAINT: usize = 2_000;
/// The child's address space.
const MEMORY_BYTES: u64 = 8 << 30;

/// Compiles a component by `program compile-component`. The child is killed when the caller stops waiting.
pub(super) async fn compile(program: &Path, component: &[u8]) -> Result<Vec<u8>, LoadError> {
    let failed = |what: &str, error: io::Error| LoadError::Compiler(format!("{what}: {error}"));
    let mut child = Command::new(program)
        .arg(ARGUMENT)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed("its process cannot be started", error))?;
    let mut stdin = child.stdin.take().expect("it is piped");
    // The child reads all of it before it writes anything. If it is gone, its status says why.
    drop(stdin.write_all(component).await);
    drop(stdin);
    let output = child.wait_with_output().await.map_err(|error| failed("its process is lost", error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = shortened(String::from_utf8_lossy(&output.stderr).trim(), MAX_COMPLAINT);
    Err(refused(output.status, said))
}

fn refused(status: ExitStatus, said: String) -> LoadError {
    match status.code() {
        Some(code) if code == i32::from(INVALID) => LoadError::Invalid(said),
        Some(_) => LoadError::Compiler(said),
        None => LoadError::Compiler(format!(
            "the compiler was ended ({status}): it may use {} GiB of memory and {} s of computing time for each core",
            MEMORY_BYTES >> 30,
            PATIENCE.as_secs()
        )),
    }
}

/// The child's side: what a program that is named in [`EngineConfig::compiler`](crate::EngineConfig::compiler) does
/// when its only argument is `compile-component`.
pub fn compile_stdin() -> ExitCode {
    // As large as the stack of the thread that compiles where there is no process for it.
    let work = thread::Builder::new().stack_size(STACK_BYTES).spawn(compile_bounded);
    let result = work.map_err(|error| LoadError::Compiler(error.to_string())).and_then(|work| {
        work.join().unwrap_or_else(|_told| Err(LoadError::Compiler("the compiler panicked".to_owned())))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(LoadError::Invalid(why)) => {
            complain(&why);
            ExitCode::from(INVALID)
        }
        Err(LoadError::Compiler(why)) => {
            complain(&why);
            ExitCode::FAILURE
        }
        Err(other) => {
            complain(&other.to_string());
            ExitCode::FAILURE
        }
    }
}

fn compile_bounded() -> Result<(), LoadError> {
    let failed = |error: io::Error| LoadError::Compiler(error.to_string());
    let cores = thread::available_parallelism().map_or(1, |cores| u64::try_from(cores.get()).unwrap_or(1));
    let seconds = PATIENCE.as_secs().saturating_mul(cores);
    for (resource, most) in [(Resource::AS, MEMORY_BYTES), (Resource::CPU, seconds), (Resource::CORE, 0)] {
        let (_, hard) = rlimit::getrlimit(resource).map_err(failed)?;
        let most = most.min(hard);
        rlimit::setrlimit(resource, most, most).map_err(failed)?;
    }
    let engine = wasmtime::Engine::new(&compiler_config())
        .map_err(|error| LoadError::Compiler(format!("{error:#}")))?;
    let mut component = Vec::new();
    io::stdin().lock().read_to_end(&mut component).map_err(failed)?;
    let code = super::compile(&engine, &component)?;
    io::stdout().lock().write_all(&code).map_err(failed)
}

/// To the parent. If it is gone, there is nobody to tell.
fn complain(why: &str) {
    drop(writeln!(io::stderr(), "{why}"));
}
