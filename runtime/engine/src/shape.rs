//! What a file is, from its first bytes, and what a component or module asks for and offers. Nothing is compiled.

use wasmparser::{ComponentExternalKind, Encoding, ExternalKind, Parser, Payload};

use crate::error::LoadError;

/// The bytes of a binary's magic and version.
pub(crate) const HEADER: usize = 8;

/// What a WebAssembly file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A component.
    Component,
    /// A core module.
    Module,
    /// Either of them, as text.
    Text,
}

/// What `content` is, or why it cannot be an image.
pub fn shape_of(content: &[u8]) -> Result<Shape, LoadError> {
    match content {
        [0, b'a', b's', b'm', ..] if content.len() < HEADER => {
            Err(LoadError::Invalid(format!("it is cut off within its header, after {} bytes", content.len())))
        }
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(Shape::Component),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Ok(Shape::Module),
        [0, b'a', b's', b'm', rest @ ..] => {
            Err(LoadError::Invalid(format!("its header {:02x?} is of no known version", &rest[..4])))
        }
        _ if is_wat(content) => Ok(Shape::Text),
        _ => Err(not_wasm(content)),
    }
}

/// Text that begins, after white space and comments, with a module or component.
fn is_wat(content: &[u8]) -> bool {
    let Ok(mut text) = str::from_utf8(content) else { return false };
    loop {
        text = text.trim_start();
        if let Some(comment) = text.strip_prefix(";;") {
            text = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = text.strip_prefix("(;") {
            text = comment.split_once(";)").map_or("", |(_, after)| after);
        } else {
            let keyword = text.strip_prefix('(').map(str::trim_start).unwrap_or_default();
            return keyword.starts_with("module") || keyword.starts_with("component");
        }
    }
}

fn not_wasm(content: &[u8]) -> LoadError {
    const BUILD: &str = "build the program for wasm32-wasip2 (`cargo build --target wasm32-wasip2`)";
    let tar = content.get(257..262) == Some(b"ustar");
    let (looks_like, remedy) = match content {
        [] => ("is empty", BUILD),
        [0x7f, b'E', b'L', b'F', ..] => ("looks like an ELF program for this machine", BUILD),
        [b'M', b'Z', ..] => ("looks like a Windows program", BUILD),
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => {
            ("looks like a macOS program", BUILD)
        }
        [0x1f, 0x8b, ..] => (
            "looks like a gzip archive",
            "unpack it and give the .wasm file inside; container images do not run here",
        ),
        [b'P', b'K', 3, 4, ..] => ("looks like a zip archive", "unpack it and give the .wasm file inside"),
        _ if tar => (
            "looks like a tar archive",
            "unpack it and give the .wasm file inside; container images do not run here",
        ),
        [b'#', b'!', ..] => ("looks like a script", BUILD),
        _ if str::from_utf8(content).is_ok() => {
            ("looks like text", "give a .wasm file, or text that begins with (module or (component")
        }
        _ => ("begins with neither WebAssembly's \\0asm nor its text form", BUILD),
    };
    LoadError::NotWasm { looks_like: looks_like.to_owned(), remedy: remedy.to_owned() }
}

/// The names at the border of a component or module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Border {
    /// A component's imports; a module's as `(module, name)`.
    pub(crate) imports: Vec<(String, String)>,
    /// The exports: a component's functions and instances, a module's functions.
    pub(crate) exports: Vec<String>,
    /// The memories that a module exports.
    pub(crate) memories: Vec<String>,
}

/// Reads the border of a binary component or module.
pub(crate) fn border_of(binary: &[u8]) -> Result<Border, LoadError> {
    read_border(binary).map_err(|error| LoadError::Invalid(error.to_string()))
}

fn read_border(binary: &[u8]) -> wasmparser::Result<Border> {
    let mut border = Border::default();
    // The encodings of what we are inside of; imports and exports count at the outermost level only.
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(binary) {
        match payload? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ImportSection(section) if depth == 1 => {
                for import in section.into_imports() {
                    let import = import?;
                    border.imports.push((import.module.to_owned(), import.name.to_owned()));
                }
            }
            Payload::ExportSection(section) if depth == 1 => {
                for export in section {
                    let export = export?;
                    match export.kind {
                        ExternalKind::Func => border.exports.push(export.name.to_owned()),
                        ExternalKind::Memory => border.memories.push(export.name.to_owned()),
                        _ => {}
                    }
                }
            }
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    border.imports.push((import?.name.name.to_owned(), String::new()));
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    let export = export?;
                    if matches!(export.kind, ComponentExternalKind::Instance | ComponentExternalKind::Func) {
                        border.exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(border)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(content: &[u8], expect: Expect) {
        let told = match shape_of(content) {
            Ok(shape) => format!("{shape:?}"),
            Err(error) => error.to_string(),
        };
        expect.assert_eq(&told);
    }

    #[test]
    fn wasm_is_known_by_its_header() {
        check(b"\0asm\x0d\0\x01\0", expect!["Component"]);
        check(b"\0asm\x01\0\0\0", expect!["Module"]);
        check(
            b"\0asm\x09\0\0\0",
            expect!["not a valid WebAssembly file: its header [09, 00, 00, 00] is of no known version"],
        );
        check(
            b"\0asm\x01\0",
            expect!["not a valid WebAssembly file: it is cut off within its header, after 6 bytes"],
        );
    }

    #[test]
    fn text_is_known_behind_comments() {
        check(b" ;; hello\n(; more ;) ( module)", expect!["Text"]);
        check(b"(component)", expect!["Text"]);
    }

    #[test]
    fn what_is_not_wasm_is_told_by_what_it_looks_like() {
        check(
            b"",
            expect![
                "not a WebAssembly file: it is empty; build the program for wasm32-wasip2 (`cargo build --target wasm32-wasip2`)"
            ],
        );
        check(
            b"\x7fELF\x02",
            expect![
                "not a WebAssembly file: it looks like an ELF program for this machine; build the program for wasm32-wasip2 (`cargo build --target wasm32-wasip2`)"
            ],
        );
        check(
            b"\x1f\x8b\x08",
            expect![
                "not a WebAssembly file: it looks like a gzip archive; unpack it and give the .wasm file inside; container images do not run here"
            ],
        );
        check(
            b"hello",
            expect![
                "not a WebAssembly file: it looks like text; give a .wasm file, or text that begins with (module or (component"
            ],
        );
    }
}
