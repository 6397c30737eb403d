//! What a window of values becomes, once and for all: pure arithmetic, no clock, no store.

use model::{Kind, UnixMillis};

/// One window of one series. Self-contained: it needs neither neighbour, so a window is exact whatever
/// the order in which others arrive. Growth across the border of two windows is the step from the
/// `last` of one to the `first` of the next, see [`Rollup::step`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rollup {
    /// Start of the window.
    pub start: UnixMillis,
    /// Values in the window; at least 1.
    pub count: u32,
    pub first: f64,
    pub last: f64,
    pub min: f64,
    pub max: f64,
    pub sum: f64,
    /// Growth from `first` to `last`, resets handled. 0 for gauges.
    pub increase: f64,
}

impl Rollup {
    /// Growth of a counter between two neighbouring values: their difference, or the later value alone
    /// when the counter started again in between. The rule of Prometheus' `increase`, without its
    /// extrapolation.
    pub fn step(earlier: f64, later: f64) -> f64 {
        if later >= earlier { later - earlier } else { later }
    }

    /// Rolls up values sorted by time into windows of `window_ms`, aligned to the epoch; empty windows are left
    /// out. NaN is skipped.
    pub fn of(
        kind: Kind,
        window_ms: i64,
        samples: impl IntoIterator<Item = (UnixMillis, f64)>,
    ) -> Vec<Self> {
        let mut windows: Vec<Self> = Vec::new();
        for (time, value) in samples {
            if value.is_nan() {
                continue;
            }
            match windows.last_mut() {
                // A division for each value would cost more than all the rest.
                Some(window) if (0..window_ms).contains(&time.since(window.start)) => {
                    window.push(kind, value);
                }
                _ => windows.push(Self::one(time.floor(window_ms), value)),
            }
        }
        windows
    }

    fn one(start: UnixMillis, value: f64) -> Self {
        Self {
            start,
            count: 1,
            first: value,
            last: value,
            min: value,
            max: value,
            sum: value,
            increase: 0.0,
        }
    }

    fn push(&mut self, kind: Kind, value: f64) {
        if kind == Kind::Counter {
            self.increase += Self::step(self.last, value);
        }
        self.count += 1;
        self.last = value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += value;
    }

    /// Joins two stretches, `self` earlier than `later`, into a window that starts at `start`.
    pub fn join(&self, kind: Kind, later: &Self, start: UnixMillis) -> Self {
        let across = match kind {
            Kind::Counter => Self::step(self.last, later.first),
            Kind::Gauge => 0.0,
        };
        Self {
            start,
            count: self.count.saturating_add(later.count),
            first: self.first,
            last: later.last,
            min: self.min.min(later.min),
            max: self.max.max(later.max),
            sum: self.sum + later.sum,
            increase: self.increase + across + later.increase,
        }
    }

    pub fn mean(&self) -> f64 {
        self.sum / f64::from(self.count)
    }

    /// Coarser windows out of finer ones sorted by time.
    pub fn coarsen(kind: Kind, window_ms: i64, windows: &[Self]) -> Vec<Self> {
        let mut coarse: Vec<Self> = Vec::new();
        for window in windows {
            let start = window.start.floor(window_ms);
            match coarse.last_mut() {
                Some(last) if last.start == start => *last = last.join(kind, window, start),
                _ => coarse.push(Self { start, ..*window }),
            }
        }
        coarse
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64, values: &[f64]) -> Vec<(UnixMillis, f64)> {
        values.iter().enumerate().map(|(i, v)| (UnixMillis(i as i64 * ms), *v)).collect()
    }

    #[test]
    fn a_counter_that_starts_again_counts_from_zero() {
        fn check(values: &[f64], increase: f64) {
            let windows = Rollup::of(Kind::Counter, 60_000, at(1000, values));
            assert_eq!(windows[0].increase, increase, "{values:?}");
        }
        check(&[5.0], 0.0);
        check(&[5.0, 8.0, 8.0], 3.0);
        check(&[5.0, 8.0, 2.0, 4.0], 3.0 + 2.0 + 2.0);
        check(&[5.0, f64::NAN, 8.0], 3.0);
        check(&[f64::NAN, 1.0, 0.0], 0.0);
    }

    proptest! {
        #[test]
        fn hours_from_minutes_equal_hours_from_values(
            values in prop::collection::vec(prop_oneof![9 => 0.0..1e6f64, 1 => Just(f64::NAN)], 0..400),
            counter in any::<bool>(),
        ) {
            let kind = if counter { Kind::Counter } else { Kind::Gauge };
            let samples = at(17_000, &values);
            let minutes = Rollup::of(kind, 60_000, samples.iter().copied());
            let direct = Rollup::of(kind, 3_600_000, samples.iter().copied());
            let coarse = Rollup::coarsen(kind, 3_600_000, &minutes);
            prop_assert_eq!(direct.len(), coarse.len());
            for (a, b) in direct.iter().zip(&coarse) {
                prop_assert_eq!((a.start, a.count, a.first, a.last), (b.start, b.count, b.first, b.last));
                prop_assert_eq!((a.min, a.max), (b.min, b.max));
                prop_assert!((a.sum - b.sum).abs() <= a.sum.abs() * 1e-9 + 1e-9);
                prop_assert!((a.increase - b.increase).abs() <= a.increase.abs() * 1e-9 + 1e-9);
            }
        }
    }
}
