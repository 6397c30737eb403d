//! An alert that goes on, as the store keeps it.

use std::collections::BTreeMap;

use model::{Kind, Labels, MachineId, Series, UnixMillis};
use serde::{Deserialize, Serialize};

use super::{Acknowledgement, Alert, AlertId, Open};
use crate::engine::Kept;
use crate::lifecycle::{Firing, Held, Lifecycle, Pending};
use crate::notice::map;
use crate::rule::{Level, RuleId};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    rule: String,
    rule_name: String,
    machine: String,
    host_name: String,
    #[serde(default)]
    metric: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    counter: bool,
    #[serde(default)]
    unit: String,
    /// `pending`, `firing`, or what it was when the machine went away.
    phase: String,
    away: bool,
    since: i64,
    /// Missing where there is none: JSON has no NaN.
    value: Option<f64>,
    peak: Option<f64>,
    incident: Option<Incident>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Incident {
    id: String,
    started: i64,
    level: String,
    told: Vec<(String, i64)>,
    acknowledged: Option<(i64, String, String)>,
}

/// What the desk needs of an open alert that the engine does not know.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    pub incident: String,
    pub started: UnixMillis,
    pub level: Level,
    pub told: Vec<(String, UnixMillis)>,
    pub acknowledged: Option<Acknowledgement>,
}

impl Remembered {
    pub fn open(self, alert: Alert) -> Open {
        let Self { incident, started, level, told, acknowledged } = self;
        Open { incident, started, level, told, acknowledged, alert }
    }
}

pub(super) fn write(alert: &Alert, open: Option<&Open>) -> String {
    let (phase, away, since) = match alert.life {
        Lifecycle::Pending(pending) => ("pending", false, pending.since),
        Lifecycle::Firing(firing) => ("firing", false, firing.since),
        Lifecycle::Unknown(Held::Pending(pending)) => ("pending", true, pending.since),
        Lifecycle::Unknown(Held::Firing(firing)) => ("firing", true, firing.since),
        Lifecycle::Inactive | Lifecycle::Resolved => ("inactive", false, UnixMillis(0)),
    };
    let series = alert.series.as_ref();
    let number = |value: f64| value.is_finite().then_some(value);
    let document = Document {
        rule: alert.rule.id.to_string(),
        rule_name: alert.rule.spec.name.clone(),
        machine: alert.machine.to_string(),
        host_name: alert.identity.host_name.clone(),
        metric: series.map_or(String::new(), |s| s.metric.to_string()),
        labels: series.map_or_else(BTreeMap::new, |s| map(&s.labels)),
        counter: series.is_some_and(|s| s.kind == Kind::Counter),
        unit: series.map_or(String::new(), |s| s.unit.to_string()),
        phase: phase.to_owned(),
        away,
        since: since.0,
        value: number(alert.value),
        peak: number(alert.peak),
        incident: open.map(|open| Incident {
            id: open.incident.clone(),
            started: open.started.0,
            level: open.level.name().to_owned(),
            told: open.told.iter().map(|(channel, again)| (channel.clone(), again.0)).collect(),
            acknowledged: open
                .acknowledged
                .as_ref()
                .map(|a| (a.time.0, a.author.clone(), a.comment.clone())),
        }),
    };
    serde_json::to_string(&document).expect("texts and numbers are always JSON")
}

/// What the engine and the desk need to go on. `None` when it is not what this version writes.
pub fn read(json: &str) -> Option<(Kept, Option<Remembered>)> {
    let document: Document = serde_json::from_str(json).ok()?;
    let machine: MachineId = document.machine.parse().ok()?;
    let since = UnixMillis(document.since);
    let remembered = document.incident.and_then(remembered);
    let level = remembered.as_ref().map(|r| r.level);
    let pending = Pending { since, critical_since: None };
    let firing = |level| Firing { since, level, critical_since: None, fine_since: None };
    let life = match (document.phase.as_str(), document.away, level) {
        ("pending", false, _) => Lifecycle::Pending(pending),
        ("pending", true, _) => Lifecycle::Unknown(Held::Pending(pending)),
        ("firing", false, Some(level)) => Lifecycle::Firing(firing(level)),
        ("firing", true, Some(level)) => Lifecycle::Unknown(Held::Firing(firing(level))),
        _ => return None,
    };
    let series = match document.metric.is_empty() {
        true => None,
        false => Some(Series {
            metric: document.metric.into(),
            labels: Labels::new(document.labels).ok()?,
            kind: if document.counter { Kind::Counter } else { Kind::Gauge },
            unit: document.unit.into(),
        }),
    };
    let kept = Kept {
        rule: RuleId(document.rule.into()),
        machine,
        series,
        life,
        value: document.value.unwrap_or(f64::NAN),
        peak: document.peak.unwrap_or(f64::NAN),
    };
    Some((kept, remembered))
}

fn remembered(incident: Incident) -> Option<Remembered> {
    Some(Remembered {
        level: Level::from_name(&incident.level)?,
        incident: incident.id,
        started: UnixMillis(incident.started),
        told: incident.told.into_iter().map(|(c, again)| (c, UnixMillis(again))).collect(),
        acknowledged: incident.acknowledged.map(|(time, author, comment)| Acknowledgement {
            time: UnixMillis(time),
            author,
            comment,
        }),
    })
}

#[derive(Serialize, Deserialize)]
struct Acknowledged {
    alert: String,
    time: i64,
    author: String,
    comment: String,
}

impl Acknowledgement {
    /// For the service that watches the alert.
    pub fn write(&self, alert: AlertId) -> String {
        let acknowledged = Acknowledged {
            alert: alert.to_string(),
            time: self.time.0,
            author: self.author.clone(),
            comment: self.comment.clone(),
        };
        serde_json::to_string(&acknowledged).expect("texts and numbers are always JSON")
    }

    /// `None` when it is not what this version writes.
    pub fn read(json: &str) -> Option<(AlertId, Self)> {
        let Acknowledged { alert, time, author, comment } = serde_json::from_str(json).ok()?;
        Some((AlertId::from_text(&alert)?, Self { time: UnixMillis(time), author, comment }))
    }
}
