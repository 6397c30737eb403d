//! Roll-ups of one series as one row of arrays, which a person can read.

use model::{Kind, UnixMillis};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::history::Tier;
use crate::postgres::copy::Rows;
use crate::postgres::failure::{Outcome, corrupt};
use crate::postgres::stamp::Stamp;
use crate::rollup::Rollup;

/// What tells the two tiers' tables apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    /// Time that one row spans.
    pub(super) row_ms: i64,
    pub(super) window_ms: i64,
    pub(super) copy: &'static str,
    /// Of series `$1` in the row that starts at `$2`.
    pub(super) delete: &'static str,
    /// Of series `$1` in rows that start from `$2` on and before `$3`.
    pub(super) select: &'static str,
}

const MINUTES: Table = Table {
    row_ms: HOUR_MS,
    window_ms: MINUTE_MS,
    copy: "copy tier_minute (hour, series_id, minutes, counts, firsts, lasts, mins, maxs, sums,
        increases) from stdin (format binary)",
    delete: "delete from tier_minute where series_id = any($1) and hour = $2",
    select: "select series_id, hour as start, minutes as places, counts, firsts, lasts, mins, maxs,
            sums, increases
        from tier_minute where series_id = any($1) and hour >= $2 and hour < $3",
};

const HOURS: Table = Table {
    row_ms: DAY_MS,
    window_ms: HOUR_MS,
    copy: "copy tier_hour (day, series_id, hours, counts, firsts, lasts, mins, maxs, sums,
        increases) from stdin (format binary)",
    delete: "delete from tier_hour where series_id = any($1) and day = $2",
    select: "select series_id, day as start, hours as places, counts, firsts, lasts, mins, maxs,
            sums, increases
        from tier_hour where series_id = any($1) and day >= $2 and day < $3",
};

impl Table {
    pub(super) fn of(tier: Tier) -> Self {
        match tier {
            Tier::Minute => MINUTES,
            Tier::Hour => HOURS,
        }
    }

    /// Writes down one row. The windows must lie within the row that starts at `start`.
    pub(super) fn put(
        self,
        rows: &mut Rows,
        start: UnixMillis,
        series: i64,
        kind: Kind,
        windows: &[Rollup],
    ) {
        let of = |pick: fn(&Rollup) -> f64| windows.iter().map(pick);
        rows.row(10)
            .time(start)
            .int8(series)
            .int2s(windows.iter().map(|w| (w.start.since(start) / self.window_ms) as i16))
            .int4s(windows.iter().map(|w| i32::try_from(w.count).unwrap_or(i32::MAX)))
            .float8s(of(|w| w.first))
            .float8s(of(|w| w.last))
            .float8s(of(|w| w.min))
            .float8s(of(|w| w.max))
            .float8s(of(|w| w.sum));
        match kind {
            Kind::Gauge => rows.null(),
            Kind::Counter => rows.float8s(of(|w| w.increase)),
        };
    }

    /// The series of a row of [`Table::select`], and its windows.
    pub(super) fn take(self, row: &PgRow) -> Outcome<(i64, Vec<Rollup>)> {
        let series: i64 = row.try_get("series_id")?;
        let Stamp(start) = row.try_get("start")?;
        let places: Vec<i16> = row.try_get("places")?;
        let counts: Vec<i32> = row.try_get("counts")?;
        let array = |name: &str| -> Outcome<Vec<f64>> {
            let values: Vec<f64> = row.try_get(name)?;
            match values.len() == places.len() {
                true => Ok(values),
                false => {
                    Err(corrupt("tier", &format_args!("{name} of series {series} is too short")))
                }
            }
        };
        let (firsts, lasts) = (array("firsts")?, array("lasts")?);
        let (mins, maxs, sums) = (array("mins")?, array("maxs")?, array("sums")?);
        let increases: Option<Vec<f64>> = row.try_get("increases")?;
        let windows = places.iter().zip(&counts).enumerate().map(|(i, (&place, &count))| Rollup {
            start: start + i64::from(place) * self.window_ms,
            count: u32::try_from(count).unwrap_or_default().max(1),
            first: firsts[i],
            last: lasts[i],
            min: mins[i],
            max: maxs[i],
            sum: sums[i],
            increase: increases.as_ref().and_then(|all| all.get(i)).copied().unwrap_or_default(),
        });
        Ok((series, windows.collect()))
    }
}
