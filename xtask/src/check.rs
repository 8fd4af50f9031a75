//! `cargo xtask check` is exactly CI: a list of steps, run in order, stopped at the first that fails.

use crate::{
    kubectl, layers, samples,
    shell::{command, output, root, run, target_dir},
};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::time::Instant;

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

fn build() -> Result<()> {
    run(&mut command("cargo", "build --quiet --workspace --all-targets --locked"))
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

/// A crate that builds only beside others (by a feature somebody else turned on) is found here.
fn each_alone() -> Result<()> {
    let metadata: Value =
        serde_json::from_str(&output(&mut command("cargo", "metadata --format-version 1 --no-deps"))?)?;
    for package in metadata["packages"].as_array().context("cargo metadata has no packages")? {
        let name = package["name"].as_str().context("a package without a name")?;
        run(command("cargo", "check --quiet --locked -p").arg(name))?;
    }
    Ok(())
}

/// Crates that stand in the lock file twice, and whose fault that is. Anything else twice is an error.
const TWICE: &[(&str, &str)] = &[];

fn versions() -> Result<()> {
    let tree = output(&mut command(
        "cargo",
        "tree --workspace --duplicates --depth 0 --prefix none -e normal --locked",
    ))?;
    let mut names: Vec<&str> =
        tree.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    let unexplained: Vec<&&str> =
        names.iter().filter(|name| !TWICE.iter().any(|(twice, _)| twice == *name)).collect();
    if !unexplained.is_empty() {
        bail!(
            "in two versions, without a reason in {}: {unexplained:?}",
            root().join("xtask/src/check.rs").display()
        );
    }
    Ok(())
}
