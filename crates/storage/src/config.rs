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
    pub alerts: AlertsKind,
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
    /// PostgreSQL with TimescaleDB, shared by several processes.
    Timescale(TimescaleConfig),
}

/// Where rules, alerts and what has to be told are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertsKind {
    /// The file of the embedded history.
    #[default]
    Sqlite,
    /// PostgreSQL with TimescaleDB, shared by several alert services.
    Timescale(TimescaleConfig),
}

/// Below it, a value that comes late would stand for a minute whose other values are gone.
const MINUTE_MIN: Span = Span::from_secs(8 * 24 * 3600);

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

/// A setting that would not do what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Unfit {
    problem: String,
    pub hint: &'static str,
}

impl Config {
    /// # Errors
    /// When values do not fit each other. The message names them.
    pub fn check(&self) -> Result<(), Unfit> {
        self.history.retention.check()
    }
}

impl RetentionConfig {
    fn check(&self) -> Result<(), Unfit> {
        let place = "storage.history.retention";
        if self.minute < MINUTE_MIN {
            let (least, found) = (in_days(MINUTE_MIN), in_days(self.minute));
            let problem =
                format!("{place}.minute: expected at least \"{least}\", found \"{found}\"");
            let hint = "a value may come 7 days late, and needs the rest of its minute then";
            return Err(Unfit { problem, hint });
        }
        let [raw, minute, hour] = [("raw", self.raw), ("minute", self.minute), ("hour", self.hour)];
        for ((finer, kept), (coarser, most)) in [(raw, minute), (minute, hour)] {
            if kept > most {
                let (kept, most) = (in_days(kept), in_days(most));
                let problem = format!(
                    "{place}.{finer}: expected at most {place}.{coarser}, which is \"{most}\", found \"{kept}\""
                );
                let hint = "what is coarser is small and answers for what is older: keep it at least as long";
                return Err(Unfit { problem, hint });
            }
        }
        Ok(())
    }
}

/// As people write how long something is kept.
fn in_days(span: Span) -> String {
    const DAY_S: u64 = 24 * 3600;
    match span.get().as_secs() {
        seconds if seconds > 0 && seconds % DAY_S == 0 => format!("{}d", seconds / DAY_S),
        _ => span.to_string(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_finer_is_not_kept_longer_than_what_is_coarser() {
        fn check(raw: &str, minute: &str, hour: &str, expected: Result<(), &str>) {
            let span = |text: &str| text.parse::<Span>().expect("a duration");
            let (raw, minute, hour) = (span(raw), span(minute), span(hour));
            let kept = RetentionConfig { raw, minute, hour, ..RetentionConfig::default() };
            let found = kept.check().map_err(|unfit| unfit.to_string());
            let place = "storage.history.retention.";
            assert_eq!(found, expected.map_err(|problem| format!("{place}{problem}")));
        }
        check("2d", "30d", "2y", Ok(()));
        check("30d", "30d", "30d", Ok(()));
        check(
            "31d",
            "30d",
            "2y",
            Err(
                "raw: expected at most storage.history.retention.minute, which is \"30d\", found \"31d\"",
            ),
        );
        check(
            "2d",
            "30d",
            "20d",
            Err(
                "minute: expected at most storage.history.retention.hour, which is \"20d\", found \"30d\"",
            ),
        );
        check("36h", "9d", "2y", Ok(()));
        check("2d", "7d", "2y", Err("minute: expected at least \"8d\", found \"7d\""));
    }
}
