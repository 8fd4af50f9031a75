//! `cargo xtask check` is exactly CI: a list of steps, run in order, stopped at the first that fails.

use crate::{
    kubectl, layers, samples,
    shell::{command, output, run, target_dir},
};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// A step: its name, and what it does.
struct Step {
    name: &'static str,
    run: fn() -> Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "format", run: format },
    Step { name: "layers", run: layers::check },
    Step { name: "one version of each crate", run: versions },
    Step { name: "lints", run: lints },
    Step { name: "build", run: build },
    Step { name: "guests", run: guests },
    Step { name: "tests", run: tests },
    Step { name: "samples", run: run_samples },
    Step { name: "documents", run: documents },
    Step { name: "each crate alone", run: each_alone },
];

/// Runs the steps whose name contains `only`, or all.
#[expect(clippy::disallowed_methods, reason = "how long a step took is told to the person who waits")]
pub(crate) fn run_steps(only: Option<&str>) -> Result<()> {
    let steps: Vec<&Step> =
        STEPS.iter().filter(|step| only.is_none_or(|only| step.name.contains(only))).collect();
    if steps.is_empty() {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        bail!("no step is named so; there are: {}", names.join(", "));
    }
    for step in &steps {
        println!("== {}", step.name);
        let started = Instant::now();
        (step.run)().with_context(|| format!("step `{}` failed", step.name))?;
        println!("== {}: ok, {:.0?}", step.name, started.elapsed());
    }
    println!("all {} steps passed", steps.len());
    Ok(())
}

fn format() -> Result<()> {
    run(&mut command("cargo", "fmt --all --check"))?;
    run(&mut command("cargo", "fmt --all --check --manifest-path samples/Cargo.toml"))?;
    run(&mut command("cargo", "fmt --all --check --manifest-path tests/guests/Cargo.toml"))
}

fn lints() -> Result<()> {
    run(&mut command("cargo", "clippy --quiet --workspace --all-targets --locked -- -D warnings"))
}

/// Also what the tests need beside themselves: the binary. That benches compile, the lints have shown.
fn build() -> Result<()> {
    run(&mut command("cargo", "build --quiet --workspace --locked"))
}

fn guests() -> Result<()> {
    samples::build()?;
    samples::build_test_guests()
}

fn tests() -> Result<()> {
    let guests = target_dir().join("guests/wasm32-wasip2/release");
    run(command("cargo", "test --workspace --locked --no-fail-fast")
        .env("WHARF_GUESTS", guests)
        .env("WHARF_KUBECTL", kubectl::find()?))
}

fn documents() -> Result<()> {
    run(command("cargo", "doc --quiet --workspace --no-deps --locked").env("RUSTDOCFLAGS", "-D warnings"))
}

/// Each sample by `wharf run`, as far as it needs no other pod.
fn run_samples() -> Result<()> {
    let wharf = target_dir().join("debug/wharf");
    for guest in samples::build()? {
        let expected = match guest.name {
            "hello" => "hello, world\n",
            "preview1" => "hello from preview 1\n",
            _ => continue, // Servers and their client: the tests have them.
        };
        let said = output(command(&wharf.to_string_lossy(), "run").arg(&guest.file))?;
        if said != expected {
            bail!("sample {} said {said:?} instead of {expected:?}", guest.name);
        }
        println!("sample {}: {}", guest.name, said.trim_end());
    }
    Ok(())
}

/// A crate that builds only beside others (by a feature of a dependency that somebody else turned on) is found here.
///
/// A crate whose direct dependencies have the same features alone as beside all others sees the same code, so that the
/// steps before have shown that it builds. The others are checked alone. To check every one would compile wasmtime
/// anew for each: far below, in what no crate of ours names, there is always some feature that differs.
fn each_alone() -> Result<()> {
    let metadata: Value =
        serde_json::from_str(&output(&mut command("cargo", "metadata --format-version 1 --no-deps"))?)?;
    let tree =
        |words: &str| output(&mut command("cargo", &format!("tree -q --locked --prefix none {words}")));
    let together = tree(&format!("--workspace -e normal,build,dev,no-proc-macro {FEATURES}"))?;
    let mut same = 0_u32;
    for package in metadata["packages"].as_array().context("cargo metadata has no packages")? {
        let name = package["name"].as_str().context("a package without a name")?;
        let alone = tree(&format!("-p {name} --depth 1 -e normal,build,no-proc-macro {FEATURES}"))?;
        let differing = differing(&alone, &together);
        if differing.is_empty() {
            same += 1;
            continue;
        }
        println!("{name} alone has other features of {}", differing.join(", "));
        run(command("cargo", "check --quiet --locked -p").arg(name))?;
    }
    println!("{same} crates have the same features of their dependencies alone as together");
    Ok(())
}

/// Makes `cargo tree` print `name version|features` for each crate.
const FEATURES: &str = "-f {p}|{f}";

/// The crates of the tree `alone` that are not in the tree `together` with the same features.
fn differing<'a>(alone: &'a str, together: &str) -> Vec<&'a str> {
    // What is shown further up already has a mark, and nothing below it.
    let unmarked = |line: &str| line.trim_end_matches(" (*)").to_owned();
    let together: BTreeSet<String> = together.lines().map(unmarked).collect();
    alone
        .lines()
        .filter(|line| !together.contains(&unmarked(line)))
        .map(|line| line.split(' ').next().unwrap_or(line))
        .collect()
}

/// Crates of which we hold two versions, and whose doing that is. Any other is an error.
const TWICE: &[(&str, &str)] = &[
    ("base64", "pem (of rcgen) is ahead of the rest"),
    ("cpufeatures", "sha2 0.10 is also wasmtime's; chacha20 of rand is ahead"),
    ("getrandom", "ring stays on 0.2"),
    ("hashbrown", "gimli (of wasmtime) stays on 0.16"),
    ("io-lifetimes", "fs-set-times (of wasmtime-wasi) stays on 2"),
    ("rand_core", "proptest stays on 0.9"),
    ("syn", "some derive macros have moved to 3, some have not"),
    ("synstructure", "as syn"),
    ("wasm-encoder", "wit-bindgen (guests) and wat are ahead of wasmtime"),
    ("wasm-metadata", "wit-bindgen (guests) is ahead of wasmtime"),
    ("wasmparser", "wit-bindgen (guests) is ahead of wasmtime"),
    ("wit-component", "wit-bindgen (guests) is ahead of wasmtime"),
    ("wit-parser", "wit-bindgen (guests) is ahead of wasmtime"),
];

fn versions() -> Result<()> {
    let tree = output(&mut command(
        "cargo",
        "tree --workspace --duplicates --depth 0 --prefix none -e normal --locked",
    ))?;
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in tree.lines() {
        // The same version with other features (for a build script, say) is listed too, and is no second one.
        if let [name, version, ..] = line.split(' ').collect::<Vec<_>>()[..] {
            versions.entry(name).or_default().insert(version);
        }
    }
    versions.retain(|_, versions| versions.len() > 1);
    let unexplained: Vec<_> =
        versions.keys().filter(|name| TWICE.iter().all(|(known, _reason)| known != *name)).collect();
    let gone: Vec<_> =
        TWICE.iter().map(|(known, _reason)| known).filter(|known| !versions.contains_key(**known)).collect();
    if !unexplained.is_empty() || !gone.is_empty() {
        bail!(
            "TWICE in xtask/src/check.rs: without a line there: {unexplained:?}; no longer twice: {gone:?}"
        );
    }
    println!("{} crates stand in two versions, each for a known reason", versions.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_with_other_features_is_found() {
        let together = "a v1.0.0 (/src/a)|\nb v1.2.0|std\nc v2.0.0|fs,net,std\nc v2.0.0|fs,net,std (*)\n";
        assert_eq!(differing("a v1.0.0 (/src/a)|\nb v1.2.0|std\n", together), [""; 0]);
        assert_eq!(differing("a v1.0.0 (/src/a)|\nb v1.2.0|std (*)\nc v2.0.0|fs,std\n", together), ["c"]);
    }
}
