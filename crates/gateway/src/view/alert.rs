//! An alert as scripts get it, asked for or pushed.

use proto::v1;
use serde::Serialize;

use super::millis;
use crate::format;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct AlertJson {
    pub(crate) id: String,
    machine: String,
    host_name: String,
    rule: String,
    phase: &'static str,
    level: &'static str,
    /// Holds the latest value, so it moves as that does.
    summary: String,
    since: Option<String>,
    acknowledged_by: String,
    silenced: bool,
}

/// Empty where there is none yet.
pub(crate) fn level_name(level: v1::AlertLevel) -> &'static str {
    match level {
        v1::AlertLevel::Critical => "critical",
        v1::AlertLevel::Warning => "warning",
        v1::AlertLevel::Unspecified => "",
    }
}

impl AlertJson {
    /// Whether nothing but the words, and the value in them, is different.
    pub(crate) fn is_but_for_its_summary(&self, other: &Self) -> bool {
        Self { summary: other.summary.clone(), ..self.clone() } == *other
    }
}

impl From<v1::ActiveAlert> for AlertJson {
    fn from(alert: v1::ActiveAlert) -> Self {
        Self {
            phase: match alert.phase() {
                v1::AlertPhase::Pending => "pending",
                v1::AlertPhase::Firing => "firing",
                v1::AlertPhase::Unknown => "unknown",
                v1::AlertPhase::Resolved | v1::AlertPhase::Unspecified => "resolved",
            },
            level: level_name(alert.level()),
            since: millis(alert.since.as_ref()).map(format::rfc3339),
            acknowledged_by: alert.acknowledged.map_or(String::new(), |a| a.author),
            silenced: !alert.silenced_by.is_empty(),
            id: alert.id,
            machine: alert.machine_id,
            host_name: alert.host_name,
            rule: alert.rule_name,
            summary: alert.summary,
        }
    }
}
