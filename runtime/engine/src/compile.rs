//! From a file's bytes to compiled code: text is assembled, what is not valid or cannot run is refused, a core module
//! becomes a component, a component is compiled.
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
use wasmparser::Parser;

use crate::{
    adapt::adapt,
    error::LoadError,
    image::ImageKind,
    imports::{NEWER_WASI, UnmetImport, is_newer_wasi},
    instances,
    shape::{Border, Shape, border_of, shape_of},
    validate::{Fault, is_whole, validate},
};

/// The largest file that is compiled. An interpreter with its library has been seen at 40 MB.
const MAX_BYTES: usize = 256 << 20;
/// The largest text. Reading it takes many times its size of memory.
const MAX_TEXT_BYTES: usize = 16 << 20;
/// The most compiled code that one file may become.
const MAX_CODE_BYTES: usize = 1 << 30;
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
        check_size(content.len(), MAX_BYTES)?;
        let turn = Arc::new(self.turns.acquire().await.expect("this semaphore is never closed"));
        timeout(PATIENCE, self.compile_now(content, turn)).await.unwrap_or(Err(LoadError::Slow(PATIENCE)))
    }

    async fn compile_now(&self, content: Bytes, turn: Turn) -> Result<Code, LoadError> {
        let (component, core_instances) =
            on_thread(Arc::clone(&turn), move || component_to_compile(content)).await?;
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
fn component_to_compile(content: Bytes) -> Result<(Bytes, u32), LoadError> {
    let binary = binary_of(content)?;
    is_whole(&binary)?;
    let invalid = |fault: Fault| LoadError::Invalid(fault.to_string());
    if Parser::is_component(&binary) {
        check_border(&border_of(&binary)?)?;
        let instances = instances::count(&binary)?;
        validate(&binary).map_err(invalid)?;
        return Ok((binary, instances.core));
    }
    validate(&binary).map_err(invalid)?;
    let component = adapt(&binary)?;
    let instances = instances::count(&component)?;
    // Valid by itself, it may still differ from what WASI says of the functions at its border.
    validate(&component).map_err(|fault| {
        LoadError::NotRunnable(format!("the core module is no program of WASI preview 1: {}", fault.what))
    })?;
    Ok((Bytes::from(component), instances.core))
}

/// The component or core module that a file holds, be it as text.
fn binary_of(content: Bytes) -> Result<Bytes, LoadError> {
    if shape_of(&content)? != Shape::Text {
        return Ok(content);
    }
    check_size(content.len(), MAX_TEXT_BYTES)?;
    let binary = wat::parse_bytes(&content).map_err(|error| LoadError::InvalidText(error.to_string()))?;
    Ok(Bytes::from(binary.into_owned()))
}

fn check_size(bytes: usize, limit: usize) -> Result<(), LoadError> {
    if bytes > limit { Err(LoadError::TooLarge { bytes, limit }) } else { Ok(()) }
}

fn compile(engine: &wasmtime::Engine, component: &[u8]) -> Result<Vec<u8>, LoadError> {
    let code = engine.precompile_component(component).map_err(|error| {
        let invalid = error.chain().any(|cause| cause.is::<wasmparser::BinaryReaderError>());
        let text = format!("{error:#}");
        if invalid { LoadError::Invalid(text) } else { LoadError::Compiler(text) }
    })?;
    if code.len() > MAX_CODE_BYTES {
        return Err(LoadError::Compiler(format!(
            "its code would be {} bytes, more than {MAX_CODE_BYTES}",
            code.len()
        )));
    }
    Ok(code)
}

/// What can be told of a component before it takes time to compile it: that it was built for a newer WASI, whose types
/// the compiler would stumble over, or that it has nothing to run.
fn check_border(border: &Border) -> Result<(), LoadError> {
    let newer: Vec<_> = border
        .imports
        .iter()
        .map(|(name, _)| name)
        .filter(|name| is_newer_wasi(name))
        .map(|name| UnmetImport::of_component(name))
        .collect();
    if let Some(export) = border.exports.iter().find(|name| is_newer_wasi(name)) {
        return Err(LoadError::NotRunnable(format!("exports {export}: {NEWER_WASI}")));
    }
    if !newer.is_empty() {
        return Err(LoadError::UnmetImport(newer));
    }
    ImageKind::of(&border.exports).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// What is told of a file that cannot become an image.
    fn check(content: impl Into<Vec<u8>>, expect: Expect) {
        let content = Bytes::from(content.into());
        let told = match component_to_compile(content) {
            Ok((_, instances)) => format!("{instances} core instances"),
            Err(error) => error.to_string(),
        };
        expect.assert_eq(&told);
    }

    fn binary(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    const PROGRAM: &str = r#"(component
        (core module $m (func (export "run") (result i32) (i32.const 1)))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#;

    /// As [`PROGRAM`], with no names at its end.
    const NAMELESS: &str = r#"(component
        (core module (func (export "run") (result i32) (i32.const 1)))
        (core instance (instantiate 0))
        (alias core export 0 "run" (core func))
        (func (result (result)) (canon lift (core func 0)))
        (instance (export "wasi:cli/run@0.2.0") (export "run" (func 0))))"#;

    #[test]
    fn programs_are_taken() {
        check(PROGRAM, expect!["1 core instances"]);
        check(binary(PROGRAM), expect!["1 core instances"]);
    }

    #[test]
    fn what_is_no_wasm_is_told_as_such() {
        check(
            "",
            expect![
                "not a WebAssembly file: it is empty; build the program for wasm32-wasip2 (`cargo build --target wasm32-wasip2`)"
            ],
        );
        check(
            "hello\n",
            expect![
                "not a WebAssembly file: it looks like text; give a .wasm file, or text that begins with (module or (component"
            ],
        );
        check(
            [0xfe, 0xed, 0x07],
            expect![[
                r#"not a WebAssembly file: it begins with neither WebAssembly's \0asm nor its text form; build the program for wasm32-wasip2 (`cargo build --target wasm32-wasip2`)"#
            ]],
        );
        check(
            "(module (func",
            expect![[r#"
            not valid WebAssembly text: expected `)`
                 --> <anon>:1:14
                  |
                1 | (module (func
                  |              ^"#]],
        );
    }

    #[test]
    fn a_file_that_is_cut_off_is_told_as_such_and_where() {
        let program = binary(NAMELESS);
        check(
            &program[..6],
            expect!["not a valid WebAssembly file: it is cut off within its header, after 6 bytes"],
        );
        check(
            &program[..20],
            expect![
                "not a valid WebAssembly file: it is cut off or damaged: the section at offset 0x8 has 36 bytes, of which 10 are there"
            ],
        );
        check(
            &program[..program.len() - 1],
            expect![
                "not a valid WebAssembly file: it is cut off or damaged: the section at offset 0x5d has 24 bytes, of which 23 are there"
            ],
        );
        // Between two sections, nothing says that there was more.
        check(
            &program[..8],
            expect![
                "the component exports nothing, so there is nothing to run: it is no program, or the end of its file is cut off"
            ],
        );
        for length in 9..program.len() {
            let error = component_to_compile(Bytes::copy_from_slice(&program[..length])).unwrap_err();
            let told = error.to_string();
            assert!(told.contains("cut off") || told.contains("exports nothing"), "{length}: {told}");
        }
        let module = binary(r#"(module (memory (export "memory") 1) (func (export "_start") (nop)))"#);
        check(
            &module[..module.len() - 1],
            expect![
                "not a valid WebAssembly file: it is cut off or damaged: the section at offset 0x2c has 5 bytes, of which 4 are there"
            ],
        );
        check(
            &module[..module.len() - 5],
            expect![
                "not a valid WebAssembly file: it is cut off or damaged: the section at offset 0x2c has 5 bytes, of which 0 are there"
            ],
        );
    }

    #[test]
    fn what_is_not_valid_is_told_by_function_and_offset() {
        let garbage = (0..200_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8);
        check(
            b"\0asm\x01\0\0\0".iter().copied().chain(garbage).collect::<Vec<_>>(),
            expect![
                "not a valid WebAssembly file: it is cut off or damaged: the section at offset 0x8 has 7710 bytes, of which 197 are there"
            ],
        );
        check(
            r#"(module (memory (export "memory") 1) (func) (func $main (export "_start") (drop (i32.add (i64.const 1)))))"#,
            expect![
                "not a valid WebAssembly file: function 1 (main): type mismatch: expected i32, found i64 (at offset 0x37)"
            ],
        );
        check(
            r#"(module (memory (export "memory") 1) (func (export "_start") i32.add drop))"#,
            expect![
                "not a valid WebAssembly file: function 0: type mismatch: expected i32 but nothing on stack (at offset 0x31)"
            ],
        );
        check(
            r#"(module (memory (export "memory") 1) (func (export "_start") (param i32)))"#,
            expect![
                "the core module is no program of WASI preview 1: type mismatch for export `_start` of module instantiation argument `__main_module__` expected: (func) found: (func (param i32))"
            ],
        );
        check(
            r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i64)))
                (memory (export "memory") 1) (func (export "_start")))"#,
            expect![
                "not a valid WebAssembly file: failed to decode world from module: failed to validate the imports of the adapter module `wasi_snapshot_preview1`: type mismatch for function `fd_write`: expected `[I64] -> []` but found `[I32, I32, I32, I32] -> [I32]`"
            ],
        );
        check(
            r#"(component (core module (func $deep (result i32))) (instance (export "wasi:cli/run@0.2.0")))"#,
            expect![
                "not a valid WebAssembly file: function 0 (deep): type mismatch: expected i32 but nothing on stack (at offset 0x22)"
            ],
        );
        check(
            PROGRAM.replace("(i32.const 1)", "(i64.const 1)"),
            expect![
                "not a valid WebAssembly file: function 0: type mismatch: expected i32, found i64 (at offset 0x2d)"
            ],
        );
        check(
            r#"(module (memory (export "memory") 1) (tag) (func (export "_start") (throw 0)))"#,
            expect!["not a valid WebAssembly file: exceptions proposal not enabled (at offset 0x19)"],
        );
    }

    #[test]
    fn what_cannot_be_run_is_told_with_the_remedy() {
        check(
            r#"(module (func (export "_start")))"#,
            expect![[
                r#"the core module has no exported memory named "memory", which WASI reads and writes; export it, as (memory (export "memory") 1) does in text"#
            ]],
        );
        check(
            r#"(module (memory 1) (func (export "_start")))"#,
            expect![[
                r#"the core module has no exported memory named "memory", which WASI reads and writes; export it, as (memory (export "memory") 1) does in text"#
            ]],
        );
        check(
            r#"(module (import "env" "memory" (memory 1)) (func (export "_start")))"#,
            expect![
                "imports env.memory, which is not offered here: a program has a memory of its own; build it without --import-memory"
            ],
        );
        check(
            r#"(module (func (export "_initialize")))"#,
            expect![
                "the core module is a library (it exports _initialize and no _start), so there is nothing to run; build a program, or a component"
            ],
        );
        check(
            "(module)",
            expect![
                "the core module exports no _start, so there is nothing to run; build a program, or a component"
            ],
        );
        check(
            "(component)",
            expect![
                "the component exports nothing, so there is nothing to run: it is no program, or the end of its file is cut off"
            ],
        );
        check(
            r#"(component (instance (export "acme:shop/prices@1.0.0")) (instance (export "acme:shop/stock@1.0.0")))"#,
            expect![
                "the component is a library (it exports acme:shop/prices@1.0.0, acme:shop/stock@1.0.0, and neither wasi:cli/run@0.2 nor wasi:http/incoming-handler@0.2), so there is nothing to run; build a program, or compose it into one (`wac plug`)"
            ],
        );
    }

    #[test]
    fn a_newer_wasi_is_told_as_such() {
        check(
            r#"(component (import "wasi:cli/stdin@0.3.0" (instance)))"#,
            expect![
                "imports wasi:cli/stdin@0.3.0, which is not offered here: it was built for a WASI newer than 0.2; build it for WASI 0.2 (the target wasm32-wasip2)"
            ],
        );
        check(
            r#"(component (instance (export "wasi:cli/run@0.3.0")))"#,
            expect![
                "exports wasi:cli/run@0.3.0: it was built for a WASI newer than 0.2; build it for WASI 0.2 (the target wasm32-wasip2)"
            ],
        );
        check(
            r#"(component (instance (export "wasi:cli/run@1.0.0")))"#,
            expect![
                "exports wasi:cli/run@1.0.0: it was built for a WASI newer than 0.2; build it for WASI 0.2 (the target wasm32-wasip2)"
            ],
        );
    }
}
