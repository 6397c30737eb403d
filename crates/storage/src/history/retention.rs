//! How much of the past is kept.

use crate::config::HistoryConfig;

/// How long each kind of thing is kept, and how much of all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub raw_ms: i64,
    pub minute_ms: i64,
    pub hour_ms: i64,
    pub logs_ms: i64,
    pub processes_ms: i64,
    pub events_ms: i64,
    pub size_max: u64,
}

impl From<&HistoryConfig> for Retention {
    fn from(config: &HistoryConfig) -> Self {
        let ms = |span: daemon::config::Span| i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX);
        let kept = config.retention;
        Self {
            raw_ms: ms(kept.raw),
            minute_ms: ms(kept.minute),
            hour_ms: ms(kept.hour),
            logs_ms: ms(kept.logs),
            processes_ms: ms(kept.processes),
            events_ms: ms(kept.events),
            size_max: config.size_max.0,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self::from(&HistoryConfig::default())
    }
}
