//! Log events that a query finds, counted for each service of a machine, against a limit.

use model::{Labels, LogQuery, Series};
use proto::convert::FieldError;

use super::{Limit, Side};

/// What is asked for, and how often it may be found.
#[derive(Clone, Debug, PartialEq)]
pub struct LogCount {
    /// As it was written.
    pub text: String,
    pub query: LogQuery,
    /// Counted over this stretch of time.
    pub window_ms: i64,
    pub limit: Limit,
}

/// Of alerts about logs. Neither sent nor kept.
const METRIC: &str = "muster.log.matches";
const WINDOW_MS: i64 = 5 * 60 * 1000;

impl LogCount {
    /// Without a window five minutes are looked at, and without a threshold the first event is a warning.
    ///
    /// # Errors
    /// A query that cannot be read, or that finds everything.
    pub fn new(
        text: &str,
        window_ms: Option<i64>,
        (warning, critical, recover): (Option<f64>, Option<f64>, Option<f64>),
    ) -> Result<Self, FieldError> {
        let query = LogQuery::parse(text).map_err(|e| FieldError::new("log", e))?;
        if query.terms.is_empty() {
            let problem = "expected a query such as level:>=error, found one that finds everything";
            return Err(FieldError::new("log", problem));
        }
        let warning = match (warning, critical) {
            (None, None) => Some(0.0),
            _ => warning,
        };
        Ok(Self {
            text: text.to_owned(),
            query,
            window_ms: window_ms.unwrap_or(WINDOW_MS),
            limit: Limit { side: Side::Above, warning, critical, recover },
        })
    }

    /// What an alert is about: the events of one service.
    pub(crate) fn series(service: &str) -> Option<Series> {
        let labels = Labels::new([("service.name", service)]).ok()?;
        Some(Series::gauge(METRIC, "{event}", labels))
    }

    pub(crate) fn is_series(series: &Series) -> bool {
        *series.metric == *METRIC
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_alone_is_a_warning_at_its_first_event_in_five_minutes() {
        let count = LogCount::new("level:fatal", None, (None, None, None)).expect("valid");
        assert_eq!((count.window_ms, count.limit.nearest().0), (300_000, 0.0));
        let count = LogCount::new("oops", Some(1000), (None, Some(5.0), None)).expect("valid");
        assert_eq!((count.limit.warning, count.limit.critical), (None, Some(5.0)));
    }

    #[test]
    fn a_query_that_finds_everything_or_cannot_be_read_is_refused() {
        for text in ["", "  ", "level:loud", "\"open"] {
            let error = LogCount::new(text, None, (None, None, None)).expect_err(text);
            assert_eq!(error.field, "log");
        }
    }
}
