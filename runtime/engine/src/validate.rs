//! Whether a binary is valid, found before anything works with it, so that what is wrong is told by its place in the
//! file as its author has it. The compiler would find it too, in a component that was made of the file.

use std::fmt;

use wasmparser::{
    BinaryReader, BinaryReaderError, FuncValidatorAllocations, KnownCustom, Name, Parser, Payload,
    ValidPayload, Validator, WasmFeatures,
};

use crate::{error::LoadError, shape::HEADER};

/// What the compiler takes as wasmtime is set up here: all that is on by default, without what its garbage collector
/// serves.
fn features() -> WasmFeatures {
    let with_gc = WasmFeatures::GC_TYPES | WasmFeatures::EXCEPTIONS;
    (WasmFeatures::WASM3 | WasmFeatures::COMPONENT_MODEL).difference(with_gc)
}

/// Refuses a binary whose sections are not all there. Where a cut falls between two sections, this cannot see it.
pub(crate) fn is_whole(binary: &[u8]) -> Result<(), LoadError> {
    let cut_off = |what: String| LoadError::Invalid(format!("it is cut off or damaged: {what}"));
    let mut reader = BinaryReader::new(binary.get(HEADER..).unwrap_or_default(), HEADER);
    while !reader.eof() {
        let at = reader.original_position();
        let size = reader.read_u8().and_then(|_id| reader.read_var_u32());
        let size =
            size.map_err(|error| cut_off(format!("the section at offset {at:#x}: {}", error.message())))?;
        let there = reader.bytes_remaining();
        let wanted = usize::try_from(size).unwrap_or(usize::MAX);
        if reader.read_bytes(wanted).is_err() {
            return Err(cut_off(format!(
                "the section at offset {at:#x} has {size} bytes, of which {there} are there"
            )));
        }
    }
    Ok(())
}

/// The first thing in a binary that is not valid.
#[derive(Debug)]
pub(crate) struct Fault {
    /// In one line.
    pub(crate) what: String,
    offset: usize,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at offset {:#x})", self.what, self.offset)
    }
}

impl From<BinaryReaderError> for Fault {
    fn from(error: BinaryReaderError) -> Self {
        let what = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { what, offset: error.offset() }
    }
}

/// Finds what is not valid in a binary component or module.
pub(crate) fn validate(binary: &[u8]) -> Result<(), Fault> {
    let mut validator = Validator::new_with_features(features());
    // A module's functions are checked once all of it is known.
    let mut functions = Vec::new();
    for payload in Parser::new(0).parse_all(binary) {
        if let ValidPayload::Func(function, body) = validator.payload(&payload?)? {
            functions.push((function, body));
        }
    }
    let mut allocations = FuncValidatorAllocations::default();
    for (function, body) in functions {
        let index = function.index;
        let mut validator = function.into_validator(allocations);
        if let Err(error) = validator.validate(&body) {
            let fault = Fault::from(error);
            let name = name_of(binary, index, body.range().start).map(|name| format!(" ({name})"));
            let what = format!("function {index}{}: {}", name.unwrap_or_default(), fault.what);
            return Err(Fault { what, ..fault });
        }
        allocations = validator.into_allocations();
    }
    Ok(())
}

/// What the names in a module say of its function `index`, whose body begins at `offset`.
fn name_of(binary: &[u8], index: u32, offset: usize) -> Option<String> {
    let mut is_its_module = false;
    for payload in Parser::new(0).parse_all(binary) {
        match payload.ok()? {
            Payload::CodeSectionEntry(body) => is_its_module |= body.range().start == offset,
            Payload::CustomSection(section) if is_its_module => {
                let KnownCustom::Name(names) = section.as_known() else { continue };
                for name in names {
                    let Name::Function(names) = name.ok()? else { continue };
                    let mut names = names.into_iter().filter_map(Result::ok);
                    return names.find(|naming| naming.index == index).map(|naming| naming.name.to_owned());
                }
            }
            Payload::End(_) if is_its_module => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::compiler_config;

    /// A wrong line here would refuse programs that run, or blame the compiler for those that do not.
    #[test]
    fn the_features_are_those_of_the_compiler() {
        let engine = wasmtime::Engine::new(&compiler_config()).unwrap();
        for (taken, text) in [
            (true, "(module (memory 1 1 shared) (func (drop (i32.atomic.load (i32.const 0)))))"),
            (true, "(module (memory i64 1))"),
            (true, "(module (memory 1) (memory 1))"),
            (true, "(module (func $f (return_call $f)))"),
            (true, "(module (func (param v128) (result v128) (i32x4.relaxed_trunc_f32x4_s (local.get 0))))"),
            (true, "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))"),
            (true, "(module (type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0))))"),
            (false, "(module (type (struct (field i32))) (func (drop (struct.new 0 (i32.const 1)))))"),
            (false, "(module (tag) (func (throw 0)))"),
            (
                false,
                "(module (func (param i64 i64) (result i64 i64) (i64.mul_wide_u (local.get 0) (local.get 1))))",
            ),
        ] {
            let binary = wat::parse_str(text).unwrap();
            let ours = validate(&binary);
            assert_eq!(ours.is_ok(), taken, "{text}: {ours:?}");
            let theirs = wasmtime::Module::validate(&engine, &binary);
            assert_eq!(theirs.is_ok(), taken, "{text}: {theirs:?}");
        }
    }
}
