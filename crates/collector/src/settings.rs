//! How the aggregator wants this machine to be read. It can only choose what is read, and how often.

use std::time::Duration;

use model::limits;
use proto::v1;
use serde::{Deserialize, Serialize};

/// Settings in force. `None`: as configured here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    pub(crate) interval: Option<Duration>,
    pub(crate) process_interval: Option<Duration>,
    pub(crate) disabled_probes: Vec<String>,
    /// `None`: no aggregator was heard yet.
    pub(crate) log_sources: Option<Vec<LogSource>>,
    /// The collector's own interval, for when none is asked for.
    pub(crate) own_interval: Duration,
}

/// A place to read logs of, if the machine's owner allows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogSource {
    pub(crate) kind: String,
    pub(crate) selector: String,
}

impl Settings {
    pub(crate) fn own(interval: Duration) -> Self {
        Self { own_interval: interval, ..Self::default() }
    }

    /// What is out of bounds is told and left as configured.
    pub(crate) fn from_proto(settings: v1::Settings, own_interval: Duration) -> Self {
        let source = |source: v1::LogSource| {
            let v1::LogSource { kind, selector } = source;
            LogSource { kind, selector }
        };
        Self {
            interval: interval("interval", settings.interval),
            process_interval: interval("process_interval", settings.process_interval),
            disabled_probes: settings.disabled_probes,
            log_sources: Some(settings.log_sources.into_iter().map(source).collect()),
            own_interval,
        }
    }

    pub(crate) fn interval_in_force(&self) -> Duration {
        self.interval.unwrap_or(self.own_interval)
    }
}

fn interval(field: &str, asked: Option<prost_types::Duration>) -> Option<Duration> {
    let asked = asked?;
    let ms =
        proto::convert::duration_to_ms(field, &asked).ok().and_then(|ms| u64::try_from(ms).ok());
    let allowed = limits::INTERVAL_MS_MIN..=limits::INTERVAL_MS_MAX;
    match ms.filter(|ms| allowed.contains(ms)) {
        Some(ms) => Some(Duration::from_millis(ms)),
        None => {
            tracing::warn!(
                field,
                ?asked,
                "the aggregator asked for an interval outside of 100 ms to 1 h; it is ignored"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_intervals_within_the_limits_are_taken_over() {
        fn check(ms: i64, expected: Option<u64>) {
            let asked = Some(proto::convert::duration_from_ms(ms));
            let settings = v1::Settings { interval: asked, ..Default::default() };
            let settings = Settings::from_proto(settings, Duration::from_secs(1));
            assert_eq!(settings.interval, expected.map(Duration::from_millis), "{ms}");
        }
        check(99, None);
        check(100, Some(100));
        check(3_600_000, Some(3_600_000));
        check(3_600_001, None);
        check(-5_000, None);
    }
}
