//! Imports that nothing satisfies: found when an image is loaded, all at once, each with what to do about it.

use wasmtime::component::{
    Component, Linker, ResourceType,
    types::{ComponentInstance, ComponentItem},
};

use crate::{
    error::{few, shortened},
    state::GuestState,
};

/// What to do about a component of [`is_newer_wasi`].
pub(crate) const NEWER_WASI: &str =
    "it was built for a WASI newer than 0.2; build it for WASI 0.2 (the target wasm32-wasip2)";
/// Unmet imports that are looked for; the search starts anew for each.
const MOST_UNMET: usize = 64;

/// Something a component imports that is not offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmetImport {
    /// The interface, as `wasi:keyvalue/store@0.2.0`, or a core module's import, as `env.abort`.
    pub name: String,
    /// What its author can do.
    pub remedy: String,
}

impl UnmetImport {
    pub(crate) fn of_component(name: &str) -> Self {
        Self { name: name.to_owned(), remedy: remedy(name).to_owned() }
    }

    pub(crate) fn of_module(module: &str, name: &str) -> Self {
        Self { name: format!("{module}.{name}"), remedy: module_remedy(module, name).to_owned() }
    }
}

/// All of them in one line.
pub(crate) fn tell(imports: &[UnmetImport]) -> String {
    match imports {
        [one] => format!("imports {}, which is not offered here: {}", shortened(&one.name, 200), one.remedy),
        many => {
            let mut remedies: Vec<(&str, Vec<&str>)> = Vec::new();
            for import in many {
                match remedies.iter_mut().find(|(remedy, _)| *remedy == import.remedy) {
                    Some((_, names)) => names.push(&import.name),
                    None => remedies.push((&import.remedy, vec![&import.name])),
                }
            }
            let told: Vec<String> =
                remedies.iter().map(|(remedy, names)| format!("{}: {remedy}", few(names))).collect();
            format!("imports {} that are not offered here: {}", many.len(), told.join("; "))
        }
    }
}

/// What to do about a component's import.
fn remedy(name: &str) -> &'static str {
    const COMPOSE: &str = "compose the component with one that exports it (`wac plug`), or leave it out";
    let version = name.split_once('@').map_or("", |(_, version)| version);
    if is_newer_wasi(name) {
        return NEWER_WASI;
    }
    if name.starts_with("wasi:") && version.contains("-rc") {
        return "it was built for a preview of WASI 0.2; build it with a current toolchain";
    }
    if name.starts_with("wasi:http/") {
        return "HTTP is not part of this engine; run it where the capability http is";
    }
    if name.starts_with("wasi:sockets/") {
        return "sockets are not part of this engine; run it where the capability sockets is";
    }
    if ["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:filesystem/", "wasi:random/"]
        .iter()
        .any(|known| name.starts_with(known))
    {
        return if version.starts_with("0.2.") {
            "it is not in the WASI 0.2 that is offered here; build it with a toolchain for an earlier release of WASI 0.2, or use a newer wharf"
        } else {
            "it was built for a version of WASI that is not 0.2; build it for wasm32-wasip2 with a current toolchain"
        };
    }
    COMPOSE
}

/// Whether an interface is of a release of WASI after 0.2.
pub(crate) fn is_newer_wasi(name: &str) -> bool {
    let version = name.strip_prefix("wasi:").and_then(|name| name.split_once('@'));
    let mut numbers = version.map_or("", |(_, version)| version).split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) > (0, 2),
        _ => false,
    }
}

/// What to do about a core module's import.
fn module_remedy(module: &str, name: &str) -> &'static str {
    match module {
        "env" if name == "memory" => "a program has a memory of its own; build it without --import-memory",
        "wasi_snapshot_preview1" => {
            "this function is not part of WASI preview 1; build without the extension that brings it"
        }
        "wasi_unstable" => {
            "it was built for a WASI older than preview 1; build it for wasm32-wasip1 or wasm32-wasip2"
        }
        "wbg" | "__wbindgen_placeholder__" | "__wbindgen_externref_xform__" => {
            "it was built for a browser by wasm-bindgen; build it for wasm32-wasip2"
        }
        "env" | "a" => {
            "it was built for a JavaScript host, or has undefined symbols; build it for wasm32-wasip2"
        }
        _ => "core modules may import wasi_snapshot_preview1 only; make a component for anything else",
    }
}

/// What of `component`'s imports `linker` lacks, as far as it is worth telling. To be asked when linking has failed.
///
/// The linker tells one missing import at a time, so each is stubbed in a copy until it has no more to tell.
pub(crate) fn unmet(linker: &Linker<GuestState>, component: &Component) -> Vec<UnmetImport> {
    let engine = linker.engine();
    let ty = component.component_type();
    let mut linker = linker.clone();
    linker.allow_shadowing(true);
    let mut unmet: Vec<UnmetImport> = Vec::new();
    while unmet.len() < MOST_UNMET
        && let Err(error) = linker.instantiate_pre(component)
    {
        let text = error.to_string();
        let name = text.split('`').nth(1).unwrap_or(&text);
        if unmet.iter().any(|known| known.name == name) {
            break;
        }
        unmet.push(UnmetImport::of_component(name));
        let item = ty.imports(engine).find(|(import, _)| *import == name).map(|(_, item)| item.ty);
        let stubbed = match item {
            Some(ComponentItem::ComponentInstance(instance)) => stub_instance(&mut linker, name, &instance),
            Some(ComponentItem::ComponentFunc(_)) => linker.root().func_new(name, |_, _, _, _| stubbed()),
            _ => break,
        };
        if stubbed.is_err() {
            break;
        }
    }
    unmet
}

fn stub_instance(
    linker: &mut Linker<GuestState>,
    name: &str,
    instance: &ComponentInstance,
) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    let mut stub = linker.instance(name)?;
    for (name, export) in instance.exports(&engine) {
        match export.ty {
            ComponentItem::ComponentFunc(_) => stub.func_new(name, |_, _, _, _| stubbed())?,
            ComponentItem::Resource(_) => {
                stub.resource(name, ResourceType::host::<UnmetImport>(), |_, _| Ok(()))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn stubbed() -> wasmtime::Result<()> {
    Err(wasmtime::Error::msg("a stub that is never called"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn imports_with_one_remedy_are_told_together() {
        let unmet: Vec<_> = ["wasi:keyvalue/store@0.2.0-draft", "acme:db/query", "wasi:cli/run@0.3.0"]
            .map(UnmetImport::of_component)
            .into();
        expect!["imports wasi:keyvalue/store@0.2.0-draft, which is not offered here: compose the component with one that exports it (`wac plug`), or leave it out"]
            .assert_eq(&tell(&unmet[..1]));
        expect!["imports 3 that are not offered here: wasi:keyvalue/store@0.2.0-draft, acme:db/query: compose the component with one that exports it (`wac plug`), or leave it out; wasi:cli/run@0.3.0: it was built for a WASI newer than 0.2; build it for WASI 0.2 (the target wasm32-wasip2)"]
            .assert_eq(&tell(&unmet));
    }

    #[test]
    fn releases_of_wasi_after_02_are_known() {
        let newer = ["wasi:cli/run@0.3.0", "wasi:http/handler@0.3.0-rc-2025", "wasi:cli/run@1.0.0"];
        assert!(newer.into_iter().all(is_newer_wasi));
        let others =
            ["wasi:cli/run@0.2.99", "wasi:nn/tensor@0.2.0-rc", "wasi:cli/run", "acme:db/query@0.3.0"];
        assert!(!others.into_iter().any(is_newer_wasi));
    }
}
