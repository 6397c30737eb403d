//! The configuration file: one section per concern, each read where it is used.

use std::path::{Path, PathBuf};

use daemon::config::ConfigError;
use daemon::hint::WithHint as _;
use daemon::logging::Format;
use serde::Deserialize;

/// Everything that the file may hold. Every role reads the same file and uses its sections of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) log: Log,
    pub(crate) tls: daemon::tls::ListenerConfig,
    pub(crate) access: ::access::Config,
    pub(crate) storage: storage::Config,
    pub(crate) aggregator: ::aggregator::Config,
    pub(crate) alerts: ::alerts::Config,
    pub(crate) gateway: ::gateway::Config,
    pub(crate) collector: ::collector::Config,
    pub(crate) probe: crate::probe::Config,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) format: Format,
    /// In the syntax of `tracing`'s `EnvFilter`.
    pub(crate) filter: String,
}

impl Config {
    /// Whether the settings of the stores fit each other.
    pub(crate) fn check_stores(&self) -> anyhow::Result<()> {
        match self.storage.check() {
            Ok(()) => Ok(()),
            Err(unfit) => {
                let hint = unfit.hint;
                Err(unfit).hint(hint)
            }
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::Human, filter: "info".to_owned() }
    }
}

/// Flags that every serving role has.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Settings file (TOML); `muster.example.toml` shows every setting
    #[arg(long, value_name = "FILE", env = "MUSTER_CONFIG")]
    config: Option<PathBuf>,
    /// How logs are written
    #[arg(long, value_name = "human|json", env = "MUSTER_LOG_FORMAT", value_parser = log_format)]
    log_format: Option<Format>,
    /// What is logged: "warn", "info", "info,aggregator=debug"
    #[arg(long, value_name = "FILTER", env = "MUSTER_LOG")]
    log: Option<String>,
}

fn log_format(text: &str) -> Result<Format, String> {
    match text {
        "human" => Ok(Format::Human),
        "json" => Ok(Format::Json),
        _ => Err("expected human or json".to_owned()),
    }
}

impl Flags {
    /// Reads the configuration and starts logging as it says.
    pub(crate) fn load(&self) -> anyhow::Result<Config> {
        let config = read(self.config.as_deref())?;
        let filter = self.log.as_deref().unwrap_or(&config.log.filter);
        // What is chosen stands behind, so that it wins.
        let filter = format!("{},{filter}", storage::redis::QUIET);
        daemon::logging::init(self.log_format.unwrap_or(config.log.format), &filter)?;
        Ok(config)
    }

    /// The settings file, when one was named.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.config.clone()
    }
}

pub(crate) fn read(file: Option<&Path>) -> Result<Config, ConfigError> {
    daemon::config::load(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../muster.example.toml");

    fn parsed(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        daemon::config::load_with(Some(file.path()), []).expect("is accepted")
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let example = std::fs::read_to_string(EXAMPLE).expect("an example");
        // Every part says all that it holds when it is printed for a programmer.
        assert_eq!(format!("{:#?}", parsed(&example)), format!("{:#?}", Config::default()));
    }

    #[test]
    fn what_the_example_leaves_commented_out_is_accepted_too() {
        let example = std::fs::read_to_string(EXAMPLE).expect("an example");
        let mut uncommented = 0;
        let lines = example.lines().map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.split_once(" = ").is_some_and(|(key, _)| is_key(key)) => {
                uncommented += 1;
                setting
            }
            _ => line,
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        parsed(&text);
        assert!(uncommented >= 5, "only {uncommented} settings were commented out");
    }

    fn is_key(text: &str) -> bool {
        text.bytes().all(|c| c.is_ascii_lowercase() || c == b'_')
    }
}
