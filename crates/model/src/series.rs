//! One metric with its labels on one machine.

use crate::Labels;

/// What a series measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Cumulative; only grows, and starts again near zero when its source restarts. Kept raw: rates
    /// are computed where resets can be seen.
    Counter,
}

/// One metric with its labels. Which machine it belongs to is said by whoever holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series {
    /// OpenTelemetry metric name, `system.cpu.utilization`.
    pub metric: Box<str>,
    pub labels: Labels,
    pub kind: Kind,
    /// UCUM unit as OpenTelemetry writes it: `1`, `By`, `s`, `Cel`, `{process}`.
    pub unit: Box<str>,
}

impl Series {
    pub fn gauge(metric: &str, unit: &str, labels: Labels) -> Self {
        Self { metric: metric.into(), labels, kind: Kind::Gauge, unit: unit.into() }
    }

    pub fn counter(metric: &str, unit: &str, labels: Labels) -> Self {
        Self { metric: metric.into(), labels, kind: Kind::Counter, unit: unit.into() }
    }
}

/// `system.cpu.utilization{cpu.mode="user"}`.
impl std::fmt::Display for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.metric, self.labels)
    }
}
