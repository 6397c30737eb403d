//! Which adapter serves each port, and how much the history keeps.

use std::path::PathBuf;

use daemon::config::{Bytes, Span};
use serde::Deserialize;

use crate::postgres::TimescaleConfig;
use crate::redis::RedisConfig;

/// Configuration of all stores. `Default` needs nothing else installed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub live: LiveKind,
    pub events: EventsKind,
    pub history: HistoryConfig,
}

/// Where the present is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LiveKind {
    /// In this process.
    #[default]
    Memory,
    /// Shared by several processes.
    Redis(RedisConfig),
}

/// What carries events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventsKind {
    /// This process alone.
    #[default]
    Local,
    /// Between several processes.
    Redis(RedisConfig),
}

/// Where the past and the register of machines are kept.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryConfig {
    pub kind: HistoryKind,
    /// File of the embedded history; `muster.db` in the data directory when absent. A relative path
    /// starts at the data directory.
    pub path: Option<PathBuf>,
    pub retention: RetentionConfig,
    /// Above this the oldest is dropped: first raw values, processes and logs, then roll-ups.
    pub size_max: Bytes,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HistoryKind {
    /// One file, embedded.
    #[default]
    Sqlite,
    /// PostgreSQL with TimescaleDB, shared by several processes. What alerts remember stays in the file.
    Timescale(TimescaleConfig),
}

/// How long each kind of thing is kept.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Values as they came.
    pub raw: Span,
    /// Roll-ups of one minute. At least 8 days: a value may come 7 days late and joins its minute.
    pub minute: Span,
    /// Roll-ups of one hour.
    pub hour: Span,
    pub logs: Span,
    pub processes: Span,
    pub events: Span,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self {
            kind: HistoryKind::default(),
            path: None,
            retention: RetentionConfig::default(),
            size_max: Bytes(10 << 30),
        }
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        let days = |days: u64| Span::from_secs(days * 24 * 3600);
        Self {
            raw: days(2),
            minute: days(30),
            hour: days(730),
            logs: days(7),
            processes: days(7),
            events: days(90),
        }
    }
}
