//! What people ask to be told about.

use std::fmt;
use std::sync::Arc;

use model::{Labels, Matcher};

use crate::template::Template;

mod check;
mod defaults;
mod document;
mod log;

pub use check::check;
pub(crate) use check::matchers as check_matchers;
pub use defaults::defaults;
pub use document::{Document, File, matcher_from_text, matcher_to_text};
pub use log::LogCount;

/// Names a rule for ever, also after it was renamed: `disk-nearly-full`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub Arc<str>);

impl RuleId {
    /// Lower-case letters and digits of a name, joined by single dashes; "rule" when it has none.
    pub fn from_name(name: &str) -> Self {
        let mut slug = String::new();
        for c in name.chars() {
            if c.is_ascii_alphanumeric() {
                slug.push(c.to_ascii_lowercase());
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        let slug: String = slug.chars().take(48).collect();
        let slug = slug.trim_end_matches('-');
        Self(if slug.is_empty() { "rule" } else { slug }.into())
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A rule as it is in force. Only [`check()`] makes one from what people write.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub id: RuleId,
    /// Grows by one with every change.
    pub revision: u64,
    pub spec: Spec,
}

/// What people write.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Unique, for people: "disk nearly full".
    pub name: String,
    pub enabled: bool,
    /// Over machine labels, `host.name` and `machine.id`; all must accept. All machines when empty.
    pub machines: Vec<Matcher>,
    pub condition: Condition,
    pub timing: Timing,
    pub no_data: NoData,
    /// A series without a value for this long has no data.
    pub no_data_after_ms: i64,
    /// Added to the alert, for routing and for people.
    pub labels: Labels,
    /// One line for people; a default when empty.
    pub summary: Template,
    pub runbook_url: String,
    /// Names of channels; every enabled channel when empty.
    pub channels: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    Threshold(Threshold),
    /// The machine went silent without a goodbye.
    Offline {
        level: Level,
    },
    Log(LogCount),
}

/// A signal of each matching series against a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// Exact name.
    pub metric: String,
    /// Over the labels of the series; all must accept.
    pub labels: Vec<Matcher>,
    /// Each value is divided by the latest value of this metric on the same machine: the series with the
    /// same labels, else the one without labels.
    pub divide_by: Option<String>,
    pub aggregate: Aggregate,
    pub window: Window,
    pub limit: Limit,
}

/// What the values in the window become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aggregate {
    Last,
    Mean,
    Min,
    Max,
    Sum,
    Count,
    /// Population standard deviation.
    StdDev,
    /// Linear between the two nearest ranks.
    P95,
    /// Increase per second, resets handled.
    Rate,
    /// Growth of a counter, resets handled.
    Increase,
    /// How many standard deviations the latest value lies from the mean of those before it.
    Deviation,
    /// The value this far ahead, by the straight line of least squares through the window.
    Forecast {
        ahead_ms: i64,
    },
}

impl Aggregate {
    /// Those without a parameter, with their names.
    pub const NAMES: [(&'static str, Self); 11] = [
        ("last", Self::Last),
        ("mean", Self::Mean),
        ("min", Self::Min),
        ("max", Self::Max),
        ("sum", Self::Sum),
        ("count", Self::Count),
        ("stddev", Self::StdDev),
        ("p95", Self::P95),
        ("rate", Self::Rate),
        ("increase", Self::Increase),
        ("deviation", Self::Deviation),
    ];

    const FORECAST: &'static str = "forecast";

    /// What is looked at where a rule does not say: an anomaly is told by the last hundred values.
    pub(crate) fn default_window(self) -> Window {
        match self {
            Self::Deviation => Window::Values { count: 100 },
            _ => Window::Instant,
        }
    }

    /// Where trouble starts when a rule does not say: an anomaly is more than three standard deviations off.
    pub(crate) fn default_limit(self) -> Option<Limit> {
        let three = Limit { side: Side::Above, warning: Some(3.0), critical: None, recover: None };
        (self == Self::Deviation).then_some(three)
    }

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, a)| *a == self).map_or(Self::FORECAST, |(name, _)| name)
    }

    /// One of those without a parameter.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, aggregate)| *aggregate)
    }

    /// What to say to a name that none has.
    pub(crate) fn expected(found: &str) -> String {
        let names = Self::NAMES.map(|(name, _)| name).join(", ");
        format!("expected one of {names}, {}, found {found:?}", Self::FORECAST)
    }
}

/// Which values are looked at together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// The latest value alone.
    Instant,
    /// The latest stretch of time, judged with every value.
    Sliding { ms: i64 },
    /// Stretches aligned to the epoch, each judged once, when it closes.
    Tumbling { ms: i64 },
    /// The latest values, judged with every value.
    Values { count: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Above,
    Below,
}

/// How bad an alert is. `Critical` is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    Warning,
    Critical,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Warning, Self::Critical].into_iter().find(|level| level.name() == name)
    }
}

/// Where trouble starts and where it ends. At least one of `warning` and `critical` is set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    pub side: Side,
    /// Trouble is strictly beyond.
    pub warning: Option<f64>,
    pub critical: Option<f64>,
    /// Only here or further back is trouble over. At the nearer threshold when absent.
    pub recover: Option<f64>,
}

/// What one value says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Trouble(Level),
    /// Between the threshold and the recover threshold: no reason to raise, none to resolve.
    Between,
    Fine,
}

impl Limit {
    /// The threshold that is passed first, and the level it means.
    pub fn nearest(&self) -> (f64, Level) {
        match (self.warning, self.critical) {
            (Some(warning), _) => (warning, Level::Warning),
            (None, critical) => (critical.unwrap_or(f64::NAN), Level::Critical),
        }
    }

    pub fn threshold(&self, level: Level) -> f64 {
        let of_level = match level {
            Level::Warning => self.warning,
            Level::Critical => self.critical,
        };
        of_level.unwrap_or_else(|| self.nearest().0)
    }

    pub fn verdict(&self, value: f64) -> Verdict {
        let beyond = |threshold: f64| match self.side {
            Side::Above => value > threshold,
            Side::Below => value < threshold,
        };
        let nearest = self.nearest();
        match self.critical {
            Some(critical) if beyond(critical) => Verdict::Trouble(Level::Critical),
            _ if beyond(nearest.0) => Verdict::Trouble(nearest.1),
            _ if beyond(self.recover.unwrap_or(nearest.0)) => Verdict::Between,
            _ => Verdict::Fine,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Trouble must last this long before it is an alert.
    pub for_ms: i64,
    /// Calm must last this long before the alert is over.
    pub keep_firing_ms: i64,
}

/// What a series that has no data any more means, while its machine is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoData {
    /// Nothing is wrong: what is gone (a container, a mount) needs no alert.
    #[default]
    Fine,
    /// Trouble in itself.
    Trouble,
    /// The alert stays as it is.
    Keep,
}

impl NoData {
    pub const NAMES: [(&'static str, Self); 3] =
        [("ok", Self::Fine), ("alert", Self::Trouble), ("keep", Self::Keep)];

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, n)| *n == self).map_or("", |(name, _)| name)
    }
}

impl Spec {
    pub fn threshold(&self) -> Option<&Threshold> {
        match &self.condition {
            Condition::Threshold(threshold) => Some(threshold),
            Condition::Offline { .. } | Condition::Log(_) => None,
        }
    }

    pub fn log(&self) -> Option<&LogCount> {
        match &self.condition {
            Condition::Log(log) => Some(log),
            Condition::Threshold(_) | Condition::Offline { .. } => None,
        }
    }

    /// What values are judged by, where there are any.
    pub fn limit(&self) -> Option<&Limit> {
        match &self.condition {
            Condition::Threshold(threshold) => Some(&threshold.limit),
            Condition::Log(log) => Some(&log.limit),
            Condition::Offline { .. } => None,
        }
    }

    /// The level of an alert that is nothing worse.
    pub fn least_level(&self) -> Level {
        match (&self.condition, self.limit()) {
            (Condition::Offline { level }, _) => *level,
            (_, limit) => limit.map_or(Level::Critical, |limit| limit.nearest().1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_trouble_beyond_the_threshold_and_fine_at_the_recover_threshold() {
        let check = |limit: Limit, value: f64, expected| {
            assert_eq!(limit.verdict(value), expected, "{value} against {limit:?}");
        };
        let above = Limit {
            side: Side::Above,
            warning: Some(0.8),
            critical: Some(0.9),
            recover: Some(0.7),
        };
        check(above, 0.95, Verdict::Trouble(Level::Critical));
        check(above, 0.9, Verdict::Trouble(Level::Warning));
        check(above, 0.8, Verdict::Between);
        check(above, 0.71, Verdict::Between);
        check(above, 0.7, Verdict::Fine);
        let below = Limit { side: Side::Below, warning: None, critical: Some(10.0), recover: None };
        check(below, 9.9, Verdict::Trouble(Level::Critical));
        check(below, 10.0, Verdict::Fine);
    }

    #[test]
    fn an_id_is_made_of_what_a_name_can_give() {
        let check = |name: &str, id: &str| assert_eq!(&*RuleId::from_name(name).0, id, "{name:?}");
        check("Disk nearly full (/var)", "disk-nearly-full-var");
        check("  ", "rule");
        check("Überlast", "berlast");
    }
}
