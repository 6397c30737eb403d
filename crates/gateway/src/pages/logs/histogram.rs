//! How many events came over the time of a search: from the counts that are kept as series, so it costs
//! the same whatever was logged.

use std::time::Duration;

use model::log_query::{Level, LogTest};
use model::{LogQuery, Severity, UnixMillis, metric};
use proto::convert::{duration_from_ms, timestamp_to_proto};
use proto::v1;

use crate::format;
use crate::gateway::Shared;
use crate::view::{bars_up_to, millis};

/// Bars, roughly: windows begin at multiples of their length.
const BARS: i64 = 60;
const BAR_MS_MIN: i64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(2);

/// What the template shows.
#[derive(Debug, PartialEq)]
pub(super) struct Histogram {
    pub(super) from_ms: i64,
    pub(super) bar_ms: i64,
    pub(super) bar: String,
    pub(super) bars: usize,
    /// Paths, up to the same height.
    pub(super) all: String,
    pub(super) errors: String,
    pub(super) total: String,
    pub(super) total_errors: String,
    /// The query has words or attributes, which are not counted.
    pub(super) is_wider: bool,
}

/// `None` when the query cannot be read, or nothing is known.
pub(super) async fn histogram(
    shared: &Shared,
    query: &str,
    start: i64,
    end: i64,
) -> Option<Histogram> {
    let query = LogQuery::parse(query).ok()?;
    let bar_ms = ((end - start) / BARS).max(BAR_MS_MIN);
    let request = v1::QueryRangeRequest {
        metric: metric::LOG_EVENTS.name.to_owned(),
        start: Some(timestamp_to_proto(UnixMillis(start))),
        end: Some(timestamp_to_proto(UnixMillis(end))),
        step: Some(duration_from_ms(bar_ms)),
        aggregate: v1::Aggregate::Increase.into(),
        ..Default::default()
    };
    // Lines are what was asked for; a slow past does not hold them up.
    let answer = tokio::time::timeout(PATIENCE, shared.upstream.query_range(request)).await;
    of(&answer.ok()?.ok()?, &query, bar_ms)
}

fn of(answer: &v1::QueryRangeResponse, query: &LogQuery, bar_ms: i64) -> Option<Histogram> {
    let fits = |series: &&v1::RangeSeries| {
        let label = |name: &str| series.labels.get(name).map_or("", String::as_str);
        query.accepts_machine(&series.host_name.to_lowercase(), &series.machine_id)
            && query.accepts_kind(severity(label("severity")), label("service.name"))
    };
    let mut all: Vec<u64> = Vec::new();
    let mut errors: Vec<u64> = Vec::new();
    for series in answer.series.iter().filter(fits) {
        all.resize(all.len().max(series.values.len()), 0);
        errors.resize(all.len(), 0);
        let severity = series.labels.get("severity").map_or("", String::as_str);
        let is_error = Level::of(self::severity(severity)).is_error();
        // A window without a value had no events.
        for (at, value) in series.values.iter().enumerate().filter(|(_, v)| **v > 0.0) {
            all[at] += value.round() as u64;
            errors[at] += if is_error { value.round() as u64 } else { 0 };
        }
    }
    let top = all.iter().copied().max().filter(|top| *top > 0)?;
    let total = |counts: &[u64]| format::number(counts.iter().sum::<u64>() as f64);
    let is_text =
        |test: &LogTest| matches!(test, LogTest::Words { .. } | LogTest::Attribute { .. });
    Some(Histogram {
        from_ms: millis(answer.start.as_ref())?,
        bar_ms,
        bar: format::duration(bar_ms as f64 / 1000.0),
        bars: all.len(),
        all: bars_up_to(&all, top),
        errors: bars_up_to(&errors, top),
        total: total(&all),
        total_errors: total(&errors),
        is_wider: query.terms.iter().any(|term| is_text(&term.test)),
    })
}

/// The highest that has this name.
fn severity(level: &str) -> Severity {
    let at = Level::ALL.iter().position(|known| known.name() == level).unwrap_or(0);
    Severity::new(at as u32 * 4).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(host: &str, service: &str, severity: &str, values: &[f64]) -> v1::RangeSeries {
        let labels = [("service.name", service), ("severity", severity)];
        v1::RangeSeries {
            machine_id: format!("{host}-id"),
            host_name: host.to_owned(),
            labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            values: values.to_vec(),
            ..Default::default()
        }
    }

    fn shown(query: &str) -> Option<(String, String, bool)> {
        let answer = v1::QueryRangeResponse {
            start: Some(timestamp_to_proto(UnixMillis(60_000))),
            series: vec![
                series("Web-1", "api", "info", &[10.0, f64::NAN, 5.0]),
                series("Web-1", "api", "error", &[0.0, 2.0, 0.0]),
                series("db-1", "postgres", "fatal", &[0.0, 0.0, 1.0]),
                series("db-1", "postgres", "unknown", &[3.0, 0.0, 0.0]),
            ],
            ..Default::default()
        };
        let query = LogQuery::parse(query).expect("a query");
        let shown = of(&answer, &query, 1_000)?;
        assert_eq!((shown.from_ms, shown.bars), (60_000, 3));
        Some((shown.total, shown.total_errors, shown.is_wider))
    }

    #[test]
    fn level_service_and_machine_are_counted_as_they_are_searched() {
        fn check(query: &str, all: &str, errors: &str) {
            assert_eq!(shown(query), Some((all.to_owned(), errors.to_owned(), false)), "{query}");
        }
        check("", "21", "3");
        check("level:>=error", "3", "3");
        check("level:info", "15", "0");
        check("level:unknown", "3", "0");
        check("service:api", "17", "2");
        check("machine:web-1 -level:error", "15", "0");
        assert_eq!(shown("service:nothing"), None);
    }

    #[test]
    fn words_are_not_counted_and_that_is_said() {
        assert_eq!(shown("refused level:error"), Some(("2".to_owned(), "2".to_owned(), true)));
        assert_eq!(shown("http.status:503").map(|shown| shown.2), Some(true));
    }
}
