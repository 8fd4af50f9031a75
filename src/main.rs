//! `wharf`: Kubernetes pods made of WebAssembly components, in one process.
//!
//! The binary reads its arguments, builds the parts and joins them; it decides nothing. `serve` is the whole system,
//! `run` one pod in the foreground, `image` the local images.

mod data_dir;
mod guests;
mod image;
mod logging;
mod run;
mod serve;

use clap::{CommandFactory, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// Kubernetes pods made of WebAssembly components, in one process.
#[derive(Debug, Parser)]
#[command(
    name = "wharf",
    version,
    after_help = "Examples:\n  wharf serve\n  wharf image load web.wasm -t web\n  \
                  KUBECONFIG=~/.wharf/kubeconfig kubectl apply -f web.yaml\n  wharf run hello.wasm world"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Where images, the store and certificates are kept [default: ~/.wharf]
    #[arg(long, global = true, env = "WHARF_HOME", value_name = "DIR", hide_env_values = true)]
    home: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a Kubernetes API and its node
    #[command(
        after_help = "Examples:\n  wharf serve\n  wharf serve --listen 127.0.0.1:7443 --data-dir /tmp/wharf\n  \
                            wharf serve --in-memory --log-format json\n\n\
                            SIGTERM and Ctrl-C end pods within their grace, and what ended for good is kept; a second signal ends at once."
    )]
    Serve(serve::ServeArgs),
    /// Run one pod in the foreground, without a server
    #[command(
        after_help = "Examples:\n  wharf run hello.wasm world\n  wharf run --env GREETING=hi --dir .:/work:ro hello.wasm\n  \
                            wharf run -p 8080:8080 function.wasm"
    )]
    Run(run::RunArgs),
    /// Manage local images
    #[command(
        subcommand,
        after_help = "Examples:\n  wharf image load web.wasm -t web:1.0\n  wharf image ls\n  wharf image rm web:1.0"
    )]
    Image(image::ImageCommand),
    /// Print a completion script
    #[command(
        after_help = "Examples:\n  wharf completion bash > ~/.local/share/bash-completion/completions/wharf"
    )]
    Completion {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
    /// Compile a component from standard input: how wharf calls itself
    #[command(hide = true)]
    CompileComponent,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::CompileComponent = arguments.command {
        return runtime_engine::compile_stdin();
    }
    // What is usual for a shell is little for a node. Where it cannot be raised, the network takes less.
    let _as_it_was = rlimit::increase_nofile_limit(u64::MAX);
    let result = data_dir::home(arguments.home).and_then(|home| match arguments.command {
        Command::Serve(args) => serve::serve(args, &home).map(|()| 0),
        Command::Run(args) => run::run(args, &home),
        Command::Image(command) => image::image(command, &home).map(|()| 0),
        Command::CompileComponent => unreachable!("it was answered above, without a home"),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "wharf", &mut std::io::stdout());
            Ok(0)
        }
    });
    match result {
        // What a shell sees of an exit code is its lowest byte.
        Ok(code) => ExitCode::from(u8::try_from(code & 0xff).expect("it was masked")),
        Err(error) => {
            // The chain in one line: what was tried, and every cause.
            logging::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
