//! What can be chosen about an aggregator.

use std::collections::BTreeMap;
use std::time::Duration;

use daemon::config::{Bytes, Span};
use model::Level;
use serde::{Deserialize, Serialize};

use crate::settings::Settings;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Told to collectors in `Welcome`, for their logs.
    pub name: String,
    /// How collectors should work. What is absent here is theirs to choose.
    pub collectors: Settings,
    pub status: StatusConfig,
    pub writer: WriterConfig,
    pub query: QueryConfig,
    pub logs: LogsConfig,
}

/// When a machine counts as what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatusConfig {
    /// Silent for ten of its intervals, but at least this long: offline.
    pub offline_after: Span,
    /// After a start of the server nobody is declared offline before this has passed: collectors need
    /// some time to find their way back.
    pub grace_after_start: Span,
}

/// How items get into history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriterConfig {
    /// How long the first item of a commit waits for others.
    pub commit_window: Span,
    /// A commit takes at most about this much.
    pub commit_bytes_max: Bytes,
    /// What waits for its commit, of all collectors. When it is full, streams are slowed down.
    pub queue_bytes_max: Bytes,
    /// What waits for its commit, of one collector.
    pub stream_bytes_max: Bytes,
    /// How long an item waits for room in the queue, and its stream with it. After that the present goes on
    /// without the past: items are shown, and their collectors are asked to send them again later.
    pub patience: Span,
    /// At shutdown, how long to try to commit what was taken in. What cannot be is not acknowledged, so
    /// its collector keeps it.
    pub drain_timeout: Span,
}

/// How much questions may cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryConfig {
    /// Range queries worked on at once; others wait.
    pub concurrency_max: usize,
    /// A range query that takes longer is given up.
    pub timeout: Span,
}

/// Which log events are kept. All are counted, seen live, and watched by rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogsConfig {
    /// The lowest level that is kept; `trace` is everything. What does not tell its level is always kept.
    pub level_min: LevelMin,
    /// The same for single services, by name or glob. Where several fit, the longest counts.
    pub services: BTreeMap<String, LevelMin>,
}

/// A level of which events are kept, and of all above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LevelMin {
    #[default]
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl LevelMin {
    pub(crate) fn level(self) -> Level {
        match self {
            Self::Trace => Level::Trace,
            Self::Debug => Level::Debug,
            Self::Info => Level::Info,
            Self::Warn => Level::Warn,
            Self::Error => Level::Error,
            Self::Fatal => Level::Fatal,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "muster".to_owned(),
            collectors: Settings::default(),
            status: StatusConfig::default(),
            writer: WriterConfig::default(),
            query: QueryConfig::default(),
            logs: LogsConfig::default(),
        }
    }
}

impl Default for StatusConfig {
    fn default() -> Self {
        Self { offline_after: span(15_000), grace_after_start: span(60_000) }
    }
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            commit_window: span(100),
            commit_bytes_max: Bytes(8 << 20),
            queue_bytes_max: Bytes(64 << 20),
            stream_bytes_max: Bytes(4 << 20),
            patience: span(2_000),
            drain_timeout: span(6_000),
        }
    }
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self { concurrency_max: 4, timeout: span(30_000) }
    }
}

fn span(ms: u64) -> Span {
    Span(Duration::from_millis(ms))
}

impl Config {
    /// Refuses what cannot work, naming the key.
    ///
    /// # Errors
    /// When a value is out of bounds.
    pub fn check(&self) -> anyhow::Result<()> {
        self.collectors
            .check()
            .map_err(|problem| anyhow::anyhow!("aggregator.collectors.{problem}"))?;
        let positive = [
            ("status.offline_after", self.status.offline_after.0.is_zero()),
            ("writer.drain_timeout", self.writer.drain_timeout.0.is_zero()),
            ("writer.commit_bytes_max", self.writer.commit_bytes_max.0 == 0),
            ("writer.queue_bytes_max", self.writer.queue_bytes_max.0 == 0),
            ("writer.stream_bytes_max", self.writer.stream_bytes_max.0 == 0),
            ("query.concurrency_max", self.query.concurrency_max == 0),
            ("query.timeout", self.query.timeout.0.is_zero()),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, zero)| *zero) {
            anyhow::bail!("aggregator.{key}: expected more than 0");
        }
        Ok(())
    }
}
