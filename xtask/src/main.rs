//! The project's own tool: `cargo xtask check`, `cargo xtask demo`, and the steps they are made of.
//!
//! Each step prints what it runs, so that it can be run by hand.
#![expect(clippy::print_stdout, reason = "a tool for people: it talks on stdout")]

mod check;
mod demo;
mod interrupt;
mod kubectl;
mod layers;
mod samples;
mod shell;

use clap::{Parser, Subcommand};

/// Checks, samples and the demo of wharf.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Everything CI runs: format, lints, documents, tests, layers, samples.
    Check {
        /// Only the steps whose name contains this.
        #[arg(long)]
        only: Option<String>,
    },
    /// Builds wharf and the samples, starts a server, applies samples/web and calls it.
    Demo {
        /// End after the call, instead of running until Ctrl-C.
        #[arg(long)]
        once: bool,
    },
    /// Builds the samples' guests.
    Samples,
    /// Makes `--target wasm32-wasip2` work with this toolchain.
    GuestTarget,
    /// Prints the path of a kubectl: the one on PATH, else one unpacked from Debian's package.
    Kubectl,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Check { only } => check::run_steps(only.as_deref()),
        Task::Demo { once } => interrupt::until_interrupted(|| demo::run_demo(once)),
        Task::Samples => {
            for guest in samples::build()? {
                println!("{}", guest.file.display());
            }
            Ok(())
        }
        Task::GuestTarget => samples::guest_target(),
        Task::Kubectl => {
            println!("{}", kubectl::find()?.display());
            Ok(())
        }
    }
}
