//! Which log events are kept. What is not is counted and shown like all others.

use model::{Level, LogEvent, glob};

use crate::config::{LevelMin, LogsConfig};

/// The lowest level of each service that is kept.
#[derive(Debug, Default)]
pub(crate) struct LogFilter {
    otherwise: LevelMin,
    /// Names and globs, the longest first: of several that fit, that is the one that is meant.
    services: Vec<(String, LevelMin)>,
}

impl LogFilter {
    pub(crate) fn new(config: &LogsConfig) -> Self {
        let mut services: Vec<_> =
            config.services.iter().map(|(name, level)| (name.clone(), *level)).collect();
        services.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Self { otherwise: config.level_min, services }
    }

    /// A source that does not tell how bad it is may mean the worst.
    pub(crate) fn keeps(&self, event: &LogEvent) -> bool {
        let level = Level::of(event.severity);
        level == Level::Unknown || level >= self.level_min(&event.service).level()
    }

    /// Leaves only what is kept; returns how many are not.
    pub(crate) fn leave_out(&self, events: &mut Vec<LogEvent>) -> u64 {
        let count = events.len();
        events.retain(|event| self.keeps(event));
        (count - events.len()) as u64
    }

    fn level_min(&self, service: &str) -> LevelMin {
        let of_service = self.services.iter().find(|(name, _)| glob::matches(name, service));
        of_service.map_or(self.otherwise, |(_, level)| *level)
    }
}

#[cfg(test)]
mod tests {
    use model::{Labels, Severity, UnixMillis};

    use super::*;

    fn event(service: &str, severity: u32) -> LogEvent {
        LogEvent {
            time: UnixMillis(0),
            severity: Severity::new(severity).expect("valid"),
            service: service.to_owned(),
            body: "x".to_owned(),
            body_truncated: false,
            attributes: Labels::empty(),
            source: "file".to_owned(),
        }
    }

    #[test]
    fn everything_is_kept_unless_a_level_is_named() {
        let filter = LogFilter::default();
        assert!((0..=24).all(|severity| filter.keeps(&event("api", severity))));
    }

    #[test]
    fn a_service_has_the_level_of_the_longest_name_that_fits() {
        let services =
            [("api", LevelMin::Error), ("batch-*", LevelMin::Trace), ("*", LevelMin::Fatal)];
        let services = services.map(|(name, level)| (name.to_owned(), level)).into();
        let filter = LogFilter::new(&LogsConfig { level_min: LevelMin::Info, services });
        let check = |service: &str, severity: u32, kept: bool| {
            assert_eq!(filter.keeps(&event(service, severity)), kept, "{service} {severity}");
        };
        check("api", 16, false);
        check("api", 17, true);
        check("batch-7", 1, true);
        check("web", 20, false);
        check("web", 21, true);
        check("web", 0, true);
        let mut events = vec![event("api", 9), event("api", 17), event("web", 17)];
        assert_eq!((filter.leave_out(&mut events), events), (2, vec![event("api", 17)]));
    }
}
