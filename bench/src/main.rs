//! `wharf-bench`: load against a real `wharf serve`, as clients see it. Prints a table and JSON.
//!
//! Figures are honest only from a release build on a machine that does nothing else. See `bench/README.md`.
#![expect(clippy::print_stdout, reason = "a tool for people: its result goes to stdout")]
#![expect(clippy::disallowed_methods, reason = "measures real time, on tasks of its own")]

mod api;
mod density;
mod http_load;
mod pods;
mod report;
mod server;
mod start;

use clap::{Parser, Subcommand};
use report::Report;
use std::path::PathBuf;

/// Load against a running server.
#[derive(Debug, Parser)]
#[command(name = "wharf-bench")]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Print JSON only.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Pods created -> Ready, as a watch of the API sees it.
    Pods {
        #[command(flatten)]
        target: Target,
        /// How many.
        #[arg(long, default_value_t = 100)]
        count: usize,
        /// Pods that are on their way at once.
        #[arg(long, default_value_t = 1)]
        at_once: usize,
    },
    /// Resident memory of a server of its own for each of many idle pods.
    Density {
        /// The binary.
        #[arg(long, default_value = "target/release/wharf")]
        wharf: PathBuf,
        /// A guest that waits for ever, as samples/web does.
        #[arg(long, value_name = "FILE.wasm")]
        guest: PathBuf,
        /// How many.
        #[arg(long, default_value_t = 1000)]
        count: usize,
    },
    /// Requests a second against addresses in turn, for example the NodePort of samples/function and `wasmtime serve`.
    Http {
        /// Where to connect, and how to call it. The first is what the others are compared with.
        #[arg(value_name = "[NAME=]ADDR:PORT", value_parser = http_load::server, required = true)]
        servers: Vec<http_load::Named>,
        /// How often each has its turn.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Connections at once.
        #[arg(long, default_value_t = 32)]
        connections: usize,
        /// Seconds to measure in each turn, after one of warming up.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// The start of a server on an empty folder -> /readyz, and what it takes when idle.
    Start {
        /// The binary.
        #[arg(long, default_value = "target/release/wharf")]
        wharf: PathBuf,
        /// How often.
        #[arg(long, default_value_t = 10)]
        count: usize,
    },
}

/// A server, and an image whose guest waits for ever.
#[derive(Debug, clap::Args)]
struct Target {
    /// The server's data directory, for its kubeconfig.
    #[arg(long, env = "WHARF_HOME")]
    home: PathBuf,
    /// The image to run, loaded before.
    #[arg(long, default_value = "web")]
    image: String,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report: Report = runtime.block_on(async {
        match arguments.what {
            What::Pods { target, count, at_once } => pods::run(&target, count, at_once).await,
            What::Density { wharf, guest, count } => density::run(&wharf, &guest, count).await,
            What::Http { servers, rounds, connections, seconds } => {
                http_load::run(&servers, rounds, connections, seconds).await
            }
            What::Start { wharf, count } => start::run(&wharf, count).await,
        }
    })?;
    println!("{}", if arguments.json { report.json() } else { report.table() });
    Ok(())
}
