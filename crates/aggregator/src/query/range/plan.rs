//! Which windows, and where their values come from: decisions only.

use model::{Kind, UnixMillis, limits};
use proto::convert::FieldError;

use super::windows::{Aggregate, Windows};

/// Where values are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Raw,
    Minute,
    Hour,
}

/// What was asked for, read and checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) start: UnixMillis,
    pub(super) end: UnixMillis,
    /// Absent: as fits a chart.
    pub(super) step_ms: Option<i64>,
    pub(super) aggregate: Aggregate,
    pub(super) kind: Kind,
    pub(super) series: usize,
    /// Raw values of the whole range are kept, as far as there ever were any.
    pub(super) raw_kept: bool,
}

pub(super) const STEP_MS_MIN: i64 = 100;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Windows of a chart.
const CHART_WINDOWS: i64 = 300;
/// Steps that people can read off an axis.
const STEPS_MS: [i64; 24] = [
    1_000,
    2_000,
    5_000,
    10_000,
    15_000,
    20_000,
    30_000,
    MINUTE_MS,
    2 * MINUTE_MS,
    3 * MINUTE_MS,
    5 * MINUTE_MS,
    10 * MINUTE_MS,
    15 * MINUTE_MS,
    20 * MINUTE_MS,
    30 * MINUTE_MS,
    HOUR_MS,
    2 * HOUR_MS,
    3 * HOUR_MS,
    6 * HOUR_MS,
    12 * HOUR_MS,
    DAY_MS,
    2 * DAY_MS,
    7 * DAY_MS,
    30 * DAY_MS,
];
/// Raw values that one query reads where roll-ups would do nearly as well, at one value a second.
const RAW_VALUES_MAX: i64 = 20_000_000;

impl Asked {
    /// The windows and their source.
    pub(super) fn plan(&self) -> Result<(Windows, Source), FieldError> {
        let step_ms = self.step_ms.unwrap_or_else(|| self.chart_step_ms());
        let windows = Windows::over(self.start, self.end, step_ms);
        if windows.count > limits::QUERY_WINDOWS_MAX {
            let (count, max) = (windows.count, limits::QUERY_WINDOWS_MAX);
            return Err(FieldError::new(
                "step",
                format!(
                    "{step_ms} ms makes {count} windows, at most {max} are answered; hint: choose a longer step"
                ),
            ));
        }
        let values = windows.count.saturating_mul(self.series);
        if values > limits::QUERY_VALUES_MAX {
            let (series, max) = (self.series, limits::QUERY_VALUES_MAX);
            return Err(FieldError::new(
                "step",
                format!(
                    "{series} series in {} windows are {values} values, at most {max} are answered; hint: choose a longer step or fewer series",
                    windows.count
                ),
            ));
        }
        Ok((windows, self.source(step_ms)))
    }

    /// The step for about as many windows as a chart has points.
    fn chart_step_ms(&self) -> i64 {
        let range_ms = self.end.since(self.start);
        let fits = |step: &&i64| range_ms / **step <= CHART_WINDOWS;
        let step = *STEPS_MS.iter().find(fits).unwrap_or(&STEPS_MS[STEPS_MS.len() - 1]);
        if self.raw_kept { step } else { step.max(MINUTE_MS) }
    }

    /// Roll-ups where they say the same; raw values where only these do.
    fn source(&self, step_ms: i64) -> Source {
        let tier = match step_ms {
            _ if step_ms % HOUR_MS == 0 => Source::Hour,
            _ => Source::Minute,
        };
        let exact = self.aggregate.is_exact_from_rollups(self.kind) && step_ms % MINUTE_MS == 0;
        let raw_values = (self.end.since(self.start) / 1000)
            .saturating_mul(i64::try_from(self.series).unwrap_or(i64::MAX));
        let raw_affordable = step_ms < MINUTE_MS || raw_values <= RAW_VALUES_MAX;
        match self.raw_kept && !exact && raw_affordable {
            true => Source::Raw,
            false => tier,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range_ms: i64, step_ms: Option<i64>) -> Asked {
        Asked {
            start: UnixMillis(0),
            end: UnixMillis(range_ms),
            step_ms,
            aggregate: Aggregate::Mean,
            kind: Kind::Gauge,
            series: 1,
            raw_kept: true,
        }
    }

    #[test]
    fn a_chart_has_about_300_windows_with_steps_that_people_can_read() {
        fn check(range_ms: i64, step_ms: i64, source: Source) {
            let (windows, found) = asked(range_ms, None).plan().expect("within limits");
            assert_eq!((windows.step_ms, found), (step_ms, source), "{range_ms}");
        }
        check(5 * MINUTE_MS, 1_000, Source::Raw);
        check(HOUR_MS, 15_000, Source::Raw);
        check(6 * HOUR_MS, 2 * MINUTE_MS, Source::Minute);
        check(DAY_MS, 5 * MINUTE_MS, Source::Minute);
        check(30 * DAY_MS, 3 * HOUR_MS, Source::Hour);
        check(730 * DAY_MS, 7 * DAY_MS, Source::Hour);
    }

    #[test]
    fn raw_values_are_read_where_roll_ups_would_not_be_exact() {
        fn check(change: impl FnOnce(&mut Asked), source: Source) {
            let mut asked = asked(HOUR_MS, Some(MINUTE_MS));
            change(&mut asked);
            assert_eq!(asked.plan().expect("within limits").1, source, "{asked:?}");
        }
        check(|_| {}, Source::Minute);
        check(|a| a.step_ms = Some(HOUR_MS), Source::Hour);
        check(|a| a.step_ms = Some(90_000), Source::Raw);
        check(|a| a.step_ms = Some(1_000), Source::Raw);
        check(|a| a.aggregate = Aggregate::P95, Source::Raw);
        check(|a| a.aggregate = Aggregate::Rate, Source::Minute);
        let counter = |a: &mut Asked| a.kind = Kind::Counter;
        check(|a| (counter(a), a.aggregate = Aggregate::Increase).0, Source::Minute);
        check(|a| (counter(a), a.aggregate = Aggregate::Max).0, Source::Minute);
        check(|a| (counter(a), a.aggregate = Aggregate::Mean).0, Source::Raw);
        check(|a| (counter(a), a.aggregate = Aggregate::Sum).0, Source::Raw);
        let old = |a: &mut Asked| a.raw_kept = false;
        check(|a| (old(a), a.aggregate = Aggregate::P95).0, Source::Minute);
        check(|a| (old(a), a.step_ms = Some(1_000)).0, Source::Minute);
        check(|a| (old(a), a.step_ms = None).0, Source::Minute);
        let many = |a: &mut Asked| a.series = 10_000;
        check(|a| (many(a), a.aggregate = Aggregate::P95).0, Source::Minute);
    }

    #[test]
    fn an_answer_that_would_be_too_large_is_refused_with_its_step() {
        fn check(asked: Asked) {
            let error = asked.plan().expect_err("accepted");
            assert!(error.to_string().starts_with("step: "), "{error}");
        }
        check(asked(HOUR_MS, Some(100)));
        check(Asked { series: 2000, ..asked(DAY_MS, Some(MINUTE_MS)) });
        check(Asked { end: UnixMillis::MAX, ..asked(0, None) });
    }
}
