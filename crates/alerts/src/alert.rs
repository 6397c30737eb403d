//! One rule on one series of one machine.

use std::fmt;
use std::sync::Arc;

use model::{Labels, MachineId, Series, UnixMillis};
use sha2::{Digest as _, Sha256};

use crate::lifecycle::{Lifecycle, Phase};
use crate::rule::{Level, Rule, RuleId};
use crate::template::Scope;

/// Names an alert for ever: the first 16 bytes of the SHA-256 of its rule, machine, metric and labels.
/// Written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AlertId(pub u128);

impl AlertId {
    pub fn of(rule: &RuleId, machine: MachineId, series: Option<&Series>) -> Self {
        let mut hash = Sha256::new();
        let mut text = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        text(&rule.0);
        text(&machine.to_string());
        if let Some(series) = series {
            text(&series.metric);
            for (name, value) in series.labels.iter() {
                text(name);
                text(value);
            }
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(u128::from_be_bytes(id))
    }

    pub fn from_text(text: &str) -> Option<Self> {
        (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlertId({self})")
    }
}

/// What people call a machine, and what matchers see of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub host_name: String,
    pub labels: Labels,
}

impl Identity {
    /// The host name, or the id when there is none.
    pub fn name(&self, id: MachineId) -> String {
        if self.host_name.is_empty() { id.to_string() } else { self.host_name.clone() }
    }

    pub fn accepted_by(&self, id: MachineId, matchers: &[model::Matcher]) -> bool {
        matchers.iter().all(|m| match m.name.as_str() {
            "host.name" => m.accepts(&self.host_name),
            "machine.id" => m.accepts(&id.to_string()),
            name => m.accepts(self.labels.get(name)),
        })
    }
}

/// An alert at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub id: AlertId,
    pub rule: Arc<Rule>,
    pub machine: MachineId,
    pub identity: Arc<Identity>,
    /// Absent for rules about the machine itself.
    pub series: Option<Series>,
    pub life: Lifecycle,
    /// The latest value of the signal. NaN: there is none.
    pub value: f64,
    /// The worst value since the trouble began.
    pub peak: f64,
}

/// Why an alert took a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    Value,
    NoData,
    MachineStatus,
    /// The rule was changed, switched off or deleted.
    Rule,
    MachineRemoved,
}

impl Cause {
    pub fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::NoData => "no_data",
            Self::MachineStatus => "machine_status",
            Self::Rule => "rule_changed",
            Self::MachineRemoved => "machine_removed",
        }
    }
}

/// One step of one alert, with the alert as it is after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub at: UnixMillis,
    pub from: Phase,
    pub to: Phase,
    pub level: Option<Level>,
    pub cause: Cause,
    pub alert: Alert,
}

impl Alert {
    /// One line for people: the rule's summary, or a plain one.
    pub fn summary(&self, level: Level) -> String {
        let spec = &self.rule.spec;
        let name = self.identity.name(self.machine);
        let threshold = spec.limit().map_or(f64::NAN, |limit| limit.threshold(level));
        let empty = Labels::empty();
        if !spec.summary.is_empty() {
            return spec.summary.render(&Scope {
                machine_name: &name,
                machine_id: &self.machine.to_string(),
                machine_labels: &self.identity.labels,
                labels: self.series.as_ref().map_or(&empty, |s| &s.labels),
                metric: self.series.as_ref().map_or("", |s| &s.metric),
                value: self.value,
                threshold,
                level: level.name(),
                rule_name: &spec.name,
            });
        }
        if let (Some(log), Some(series)) = (spec.log(), &self.series) {
            let (count, service) = (self.value, series.labels.get("service.name"));
            return format!("{name}: {count} log events of {service} match {}", log.text);
        }
        match &self.series {
            None => format!("{name}: {}", spec.name),
            Some(series) if self.value.is_nan() => format!("{name}: {series} has no data"),
            Some(series) => {
                let value = crate::template::plain(self.value);
                format!(
                    "{name}: {series} is {value} (threshold {})",
                    crate::template::plain(threshold)
                )
            }
        }
    }
}
