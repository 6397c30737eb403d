//! How the service works. The default needs nothing.

use std::path::PathBuf;

use daemon::config::Span;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Rules from a file (TOML), read again whenever it changes. They cannot be changed elsewhere.
    pub rules_file: Option<PathBuf>,
    /// Rules of this many series at most; further ones are left out and counted.
    pub series_per_rule_max: usize,
    pub notify: Notify,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// A message waits this long for others of its rule to join it, but no longer than a quarter of the
    /// rule's `for`: a rule that does not wait is told at once.
    pub group_wait: Span,
    /// Least time between two messages about one rule through one channel.
    pub group_interval: Span,
    /// What still fires and nobody acknowledged is told again after this long.
    pub repeat_interval: Span,
    /// One attempt may take this long.
    pub timeout: Span,
    /// What could not be told for this long goes to the dead notices.
    pub give_up_after: Span,
    /// Notices that may wait for one channel; above it the oldest go to the dead notices.
    pub queue_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { rules_file: None, series_per_rule_max: 20_000, notify: Notify::default() }
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            group_wait: Span::from_secs(10),
            group_interval: Span::from_secs(10),
            repeat_interval: Span::from_secs(4 * 3600),
            timeout: Span::from_secs(10),
            give_up_after: Span::from_secs(24 * 3600),
            queue_max: 10_000,
        }
    }
}

impl Config {
    pub fn check(&self) -> anyhow::Result<()> {
        let notify = &self.notify;
        anyhow::ensure!(
            notify.repeat_interval >= Span::from_secs(60),
            "alerts.notify.repeat_interval: expected at least \"1m\", found {:?}",
            notify.repeat_interval.to_string()
        );
        anyhow::ensure!(
            notify.timeout > Span::from_secs(0),
            "alerts.notify.timeout: expected more than \"0s\""
        );
        anyhow::ensure!(
            notify.queue_max > 0,
            "alerts.notify.queue_max: expected at least 1, found 0"
        );
        Ok(())
    }
}

pub(crate) fn millis(span: Span) -> i64 {
    i64::try_from(span.get().as_millis()).unwrap_or(i64::MAX)
}
