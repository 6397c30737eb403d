//! One thing to tell about one alert, complete in itself: what changes later does not change it.

use std::collections::BTreeMap;

use model::{Labels, UnixMillis};
use serde::{Deserialize, Serialize};
use storage::alerting::Incident;

use crate::alert::Alert;
use crate::rule::Level;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Firing,
    /// Fires at a higher level than was told.
    Escalated,
    /// Still fires.
    Repeated,
    Resolved,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Escalated => "escalated",
            Self::Repeated => "repeated",
            Self::Resolved => "resolved",
        }
    }
}

/// Kept as JSON until it was told, and sent as such by the webhook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    pub kind: Kind,
    pub alert_id: String,
    pub incident_id: String,
    pub rule_id: String,
    pub rule_name: String,
    /// `warning` or `critical`.
    pub level: String,
    pub machine_id: String,
    pub host_name: String,
    pub machine_labels: BTreeMap<String, String>,
    /// Empty for rules about the machine itself.
    pub metric: String,
    pub labels: BTreeMap<String, String>,
    pub rule_labels: BTreeMap<String, String>,
    pub value: Option<f64>,
    pub peak: Option<f64>,
    pub threshold: Option<f64>,
    pub summary: String,
    pub runbook_url: String,
    pub started_unix_ms: i64,
    /// Set when resolved.
    pub resolved_unix_ms: Option<i64>,
}

impl Notice {
    pub fn of(
        kind: Kind,
        alert: &Alert,
        incident_id: &str,
        level: Level,
        started: UnixMillis,
        resolved: Option<UnixMillis>,
    ) -> Self {
        let number = |value: f64| (!value.is_nan()).then_some(value);
        let threshold = alert.rule.spec.limit().map(|limit| limit.threshold(level));
        Self {
            kind,
            alert_id: alert.id.to_string(),
            incident_id: incident_id.to_owned(),
            rule_id: alert.rule.id.to_string(),
            rule_name: alert.rule.spec.name.clone(),
            level: level.name().to_owned(),
            machine_id: alert.machine.to_string(),
            host_name: alert.identity.name(alert.machine),
            machine_labels: map(&alert.identity.labels),
            metric: alert.series.as_ref().map_or(String::new(), |s| s.metric.to_string()),
            labels: alert.series.as_ref().map_or_else(BTreeMap::new, |s| map(&s.labels)),
            rule_labels: map(&alert.rule.spec.labels),
            value: number(alert.value),
            peak: number(alert.peak),
            threshold,
            summary: alert.summary(level),
            runbook_url: alert.rule.spec.runbook_url.clone(),
            started_unix_ms: started.0,
            resolved_unix_ms: resolved.map(|time| time.0),
        }
    }
}

impl Notice {
    /// That an incident is over whose rule or machine is not there any more: what its record tells.
    pub fn over(incident: &Incident) -> Self {
        Self {
            kind: Kind::Resolved,
            alert_id: incident.alert.clone(),
            incident_id: incident.id.clone(),
            rule_id: incident.rule.clone(),
            rule_name: incident.rule_name.clone(),
            level: incident.level.clone(),
            machine_id: incident.machine.to_string(),
            host_name: match incident.host_name.is_empty() {
                true => incident.machine.to_string(),
                false => incident.host_name.clone(),
            },
            machine_labels: BTreeMap::new(),
            metric: incident.metric.clone(),
            labels: map(&incident.labels),
            rule_labels: BTreeMap::new(),
            value: None,
            peak: incident.peak,
            threshold: None,
            summary: incident.summary.clone(),
            runbook_url: String::new(),
            started_unix_ms: incident.started.0,
            resolved_unix_ms: incident.resolved.map(|time| time.0),
        }
    }
}

pub(crate) fn map(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}
