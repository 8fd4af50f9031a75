//! Logs go to stderr, as text or as JSON lines.

use clap::ValueEnum;
use std::io::{IsTerminal as _, Write as _};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line of text an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// Sets logging up. `RUST_LOG` chooses what is told, as usual with tracing.
pub(crate) fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => registry
            .with(fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr))
            .init(),
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).init(),
    }
}

/// Tells the user why the program ends.
pub(crate) fn complain(text: &str) {
    // Where stderr is gone, there is nobody to tell.
    drop(writeln!(std::io::stderr(), "wharf: {text}"));
}
