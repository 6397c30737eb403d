//! Logs: to standard error, readable by people or as one JSON object a line.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text, coloured on a terminal.
    #[default]
    Human,
    /// One JSON object a line, fields flattened, for log collectors.
    Json,
}

/// Starts logging for the whole process. `filter` is in the syntax of `tracing`'s `EnvFilter`: `"info"`,
/// `"info,aggregator=debug"`.
///
/// # Errors
/// When the filter cannot be read, or logging was started before.
pub fn init(format: Format, filter: &str) -> anyhow::Result<()> {
    let filter = read(filter)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_timer(SystemTime)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    match format {
        Format::Human => lines.with_target(false).try_init(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("logging was started before: {error}"))
}

/// Refuses a filter that [`init`] would refuse.
///
/// # Errors
/// When the filter cannot be read.
pub fn check(filter: &str) -> anyhow::Result<()> {
    read(filter).map(drop)
}

fn read(filter: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(filter).with_context(|| format!("log filter {filter:?}"))
}
