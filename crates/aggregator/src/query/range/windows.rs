//! Windows out of values or roll-ups: arithmetic, no clock and no store.

use model::{Kind, UnixMillis};
use storage::history::Samples;
use storage::rollup::Rollup;

/// What a window becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregate {
    Last,
    Mean,
    Min,
    Max,
    Sum,
    Count,
    Stddev,
    P95,
    Rate,
    Increase,
}

/// Consecutive windows of one length, aligned to multiples of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) start: UnixMillis,
    pub(crate) step_ms: i64,
    pub(crate) count: usize,
}

/// One value per window; NaN where there was nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Line {
    pub(crate) values: Vec<f64>,
    /// Both empty unless a band was asked for.
    pub(crate) min: Vec<f64>,
    pub(crate) max: Vec<f64>,
}

/// Growth between two values that are further apart than this, and than a window, is not known well
/// enough to belong to any window.
const REACH_MS_MIN: i64 = 5 * 60 * 1000;

impl Aggregate {
    /// Whether it is about growth, which crosses the borders of windows.
    pub(crate) fn is_growth(self) -> bool {
        matches!(self, Self::Rate | Self::Increase)
    }

    /// Whether a roll-up of this kind holds what is needed to be exact: those of counters keep no sum.
    pub(crate) fn is_exact_from_rollups(self, kind: Kind) -> bool {
        match self {
            Self::Stddev | Self::P95 => false,
            Self::Mean | Self::Sum => kind == Kind::Gauge,
            Self::Last | Self::Min | Self::Max | Self::Count | Self::Rate | Self::Increase => true,
        }
    }
}

impl Windows {
    /// The windows that touch the range from `start` (included) to `end` (not included).
    pub(crate) fn over(start: UnixMillis, end: UnixMillis, step_ms: i64) -> Self {
        let first = start.floor(step_ms);
        let count = end.ceil(step_ms).since(first) / step_ms;
        Self { start: first, step_ms, count: usize::try_from(count).unwrap_or(0) }
    }

    pub(crate) fn end(&self) -> UnixMillis {
        self.start + self.step_ms.saturating_mul(i64::try_from(self.count).unwrap_or(i64::MAX))
    }

    /// How far before the first window values matter to growth.
    pub(crate) fn reach_ms(&self) -> i64 {
        self.step_ms.max(REACH_MS_MIN)
    }

    /// From values by time, which may begin before the first window.
    ///
    /// Growth is the sum of the steps between neighbouring values; a step belongs to the window of its
    /// later value. A rate is the growth divided by the time that these steps cover.
    pub(crate) fn of_samples(&self, aggregate: Aggregate, band: bool, samples: &Samples) -> Line {
        let Samples { times, values } = samples;
        let mut sorted = Vec::new();
        self.line(times, band, |from, to| {
            let inside = &values[from..to];
            let value = match aggregate {
                Aggregate::Last => inside[inside.len() - 1],
                Aggregate::Mean => mean(inside),
                Aggregate::Min => least(inside),
                Aggregate::Max => greatest(inside),
                Aggregate::Sum => inside.iter().sum(),
                Aggregate::Count => inside.len() as f64,
                Aggregate::Stddev => stddev(inside.iter().map(|v| (*v, 1.0))),
                Aggregate::P95 => percentile_95(inside, &mut sorted),
                Aggregate::Rate | Aggregate::Increase => {
                    let mut growth = Growth::default();
                    for i in from.max(1)..to {
                        let ms = times[i].since(times[i - 1]);
                        if ms <= self.reach_ms() {
                            growth.add(Rollup::step(values[i - 1], values[i]), ms as f64);
                        }
                    }
                    growth.value(aggregate)
                }
            };
            (value, band.then(|| (least(inside), greatest(inside))))
        })
    }

    /// From roll-ups of `tier_ms`, which belong to the window in which they start. Standard deviation and
    /// percentile are those of the roll-ups' means, and so lower than the true ones where values jump
    /// within a roll-up.
    pub(crate) fn of_rollups(
        &self,
        aggregate: Aggregate,
        kind: Kind,
        band: bool,
        tier_ms: i64,
        rollups: &[Rollup],
    ) -> Line {
        let times: Vec<UnixMillis> = rollups.iter().map(|r| r.start).collect();
        let (mut means, mut sorted) = (Vec::new(), Vec::new());
        self.line(&times, band, |from, to| {
            let inside = &rollups[from..to];
            let count = || inside.iter().map(|r| f64::from(r.count)).sum::<f64>();
            let sum = || inside.iter().map(|r| r.sum).sum::<f64>();
            let min = || inside.iter().map(|r| r.min).fold(f64::INFINITY, f64::min);
            let max = || inside.iter().map(|r| r.max).fold(f64::NEG_INFINITY, f64::max);
            let value = match aggregate {
                Aggregate::Last => inside[inside.len() - 1].last,
                Aggregate::Mean => sum() / count(),
                Aggregate::Min => min(),
                Aggregate::Max => max(),
                Aggregate::Sum => sum(),
                Aggregate::Count => count(),
                Aggregate::Stddev => stddev(inside.iter().map(|r| (r.mean(), f64::from(r.count)))),
                Aggregate::P95 => {
                    means.clear();
                    means.extend(inside.iter().map(Rollup::mean));
                    percentile_95(&means, &mut sorted)
                }
                Aggregate::Rate | Aggregate::Increase => {
                    let mut growth = Growth::default();
                    for i in from..to {
                        let before = (i > 0).then(|| &rollups[i - 1]);
                        growth.add_rollup(kind, before, &rollups[i], tier_ms, self.reach_ms());
                    }
                    growth.value(aggregate)
                }
            };
            (value, band.then(|| (min(), max())))
        })
    }

    /// Walks over the windows; `one` is given the places of what lies in each that is not empty.
    fn line(
        &self,
        times: &[UnixMillis],
        band: bool,
        mut one: impl FnMut(usize, usize) -> (f64, Option<(f64, f64)>),
    ) -> Line {
        let nothing = |wanted: bool| if wanted { vec![f64::NAN; self.count] } else { Vec::new() };
        let mut line = Line { values: nothing(true), min: nothing(band), max: nothing(band) };
        let mut from = times.partition_point(|time| *time < self.start);
        while from < times.len() {
            let window = times[from].since(self.start) / self.step_ms;
            let Some(place) = usize::try_from(window).ok().filter(|w| *w < self.count) else {
                break;
            };
            let end = self.start + (window + 1) * self.step_ms;
            let to = from + times[from..].partition_point(|time| *time < end);
            let (value, limits) = one(from, to);
            line.values[place] = value;
            if let Some((min, max)) = limits {
                line.min[place] = min;
                line.max[place] = max;
            }
            from = to;
        }
        line
    }
}

/// Growth of a counter and the time that it took.
#[derive(Default)]
struct Growth {
    increase: f64,
    ms: f64,
}

impl Growth {
    fn add(&mut self, increase: f64, ms: f64) {
        self.increase += increase;
        self.ms += ms;
    }

    /// A roll-up does not say at which moments its values were read. Its neighbour's count tells how much of its
    /// window it covers, so that a window that has only begun is not taken for a slow one.
    fn add_rollup(
        &mut self,
        kind: Kind,
        before: Option<&Rollup>,
        rollup: &Rollup,
        tier_ms: i64,
        reach_ms: i64,
    ) {
        let inside = if kind == Kind::Counter { rollup.increase } else { 0.0 };
        let count = f64::from(rollup.count);
        let between = before.map(|b| (b, rollup.start.since(b.start) - tier_ms));
        match between.filter(|(_, ms)| *ms <= reach_ms) {
            Some((before, ms)) => {
                let covered = (count / f64::from(before.count)).min(1.0);
                let step = Rollup::step(before.last, rollup.first);
                self.add(inside + step, ms as f64 + tier_ms as f64 * covered);
            }
            None if rollup.count > 1 => self.add(inside, tier_ms as f64 * (count - 1.0) / count),
            None => {}
        }
    }

    /// NaN when no two values were there to compare.
    fn value(&self, aggregate: Aggregate) -> f64 {
        match aggregate {
            _ if self.ms <= 0.0 => f64::NAN,
            Aggregate::Rate => self.increase / (self.ms / 1000.0),
            _ => self.increase,
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn greatest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Population standard deviation of weighted values, in two passes for the sake of precision.
fn stddev(values: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let weight: f64 = values.clone().map(|(_, w)| w).sum();
    let mean = values.clone().map(|(v, w)| v * w).sum::<f64>() / weight;
    (values.map(|(v, w)| w * (v - mean).powi(2)).sum::<f64>() / weight).sqrt()
}

/// Linear between the two nearest ranks.
fn percentile_95(values: &[f64], sorted: &mut Vec<f64>) -> f64 {
    sorted.clear();
    sorted.extend_from_slice(values);
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = 0.95 * (sorted.len() - 1) as f64;
    let (below, share) = (rank as usize, rank.fract());
    match sorted.get(below + 1) {
        Some(above) => sorted[below] + (above - sorted[below]) * share,
        None => sorted[below],
    }
}

#[cfg(test)]
mod tests;
