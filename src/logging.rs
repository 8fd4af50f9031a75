//! Logs go to stderr, as text or as JSON lines.

use clap::ValueEnum;
use std::io::{IsTerminal as _, Write as _};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{
        self, FmtContext,
        format::{FormatEvent, FormatFields, Writer},
    },
    layer::Layered,
    prelude::*,
    registry::LookupSpan,
};

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One line of text an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// Sets logging up for a server, which tells what it does.
pub(crate) fn init_server(format: LogFormat) {
    let layer = fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    init(format, "info", layer);
}

/// Sets logging up for a command, whose standard error is first of all its guest's: warnings alone are told, each in a
/// line that begins as our other words to the user do.
pub(crate) fn init_command(format: LogFormat) {
    let layer = fmt::layer().event_format(Marked).with_ansi(false).with_writer(std::io::stderr);
    init(format, "warn", layer);
}

/// `RUST_LOG` chooses what is told, as usual with tracing; where it is not set, `level` does.
fn init(format: LogFormat, level: &str, text: impl Layer<Told> + Send + Sync) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new(level));
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => registry.with(text).init(),
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).init(),
    }
}

/// What is told, before it has a form.
type Told = Layered<EnvFilter, Registry>;

/// The form of a line beside a guest's own: `wharf: warning: runtime_engine: compiled code is not kept dir=..`
struct Marked;

impl<S, N> FormatEvent<S, N> for Marked
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        write!(writer, "wharf: {level}: {}: ", event.metadata().target())?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Tells the user why the program ends.
pub(crate) fn complain(text: &str) {
    // Where stderr is gone, there is nobody to tell.
    drop(writeln!(std::io::stderr(), "wharf: {text}"));
}
