//! What the values of a window become.

use std::collections::VecDeque;

use super::Point;
use crate::rule::Aggregate;

/// Of the first `len` points. `None` when there are too few for it.
pub(super) fn reduce(
    aggregate: Aggregate,
    points: &VecDeque<Point>,
    len: usize,
    base: Option<Point>,
) -> Option<f64> {
    let within = || points.iter().take(len);
    let last = within().next_back()?;
    let count = || within().map(|p| f64::from(p.count)).sum::<f64>();
    Some(match aggregate {
        Aggregate::Last => last.value,
        Aggregate::Count => count(),
        Aggregate::Sum => within().map(|p| p.value).sum(),
        Aggregate::Mean => within().map(|p| p.value).sum::<f64>() / count(),
        Aggregate::Min => within().map(|p| p.value).fold(f64::INFINITY, f64::min),
        Aggregate::Max => within().map(|p| p.value).fold(f64::NEG_INFINITY, f64::max),
        Aggregate::StdDev => spread(within().map(Point::mean))?.1,
        Aggregate::P95 => percentile(within().map(Point::mean).collect(), 0.95)?,
        Aggregate::Increase => increase(base, within()),
        Aggregate::Rate => {
            let first = base.or(points.front().copied())?;
            let seconds = last.time.since(first.time) as f64 / 1000.0;
            if seconds <= 0.0 {
                return None;
            }
            increase(base, within()) / seconds
        }
        Aggregate::Deviation => deviation(last.mean(), within().take(len - 1).map(Point::mean))?,
        Aggregate::Forecast { ahead_ms } => forecast(within(), ahead_ms as f64)?,
    })
}

/// The rule of Prometheus' `increase`, without its extrapolation: after a reset a counter counts from zero.
fn increase<'a>(base: Option<Point>, points: impl Iterator<Item = &'a Point>) -> f64 {
    let mut previous = base.map(|p| p.value);
    let mut total = 0.0;
    for point in points {
        if let Some(previous) = previous {
            let value = point.value;
            total += if value >= previous { value - previous } else { value };
        }
        previous = Some(point.value);
    }
    total
}

/// Mean and population standard deviation, in one pass (Welford).
fn spread(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (mut n, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        n += 1.0;
        let delta = value - mean;
        mean += delta / n;
        squares += delta * (value - mean);
    }
    (n > 0.0).then(|| (mean, (squares / n).sqrt()))
}

fn percentile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = share * values.len().checked_sub(1)? as f64;
    let (below, above) = (values[rank.floor() as usize], values[rank.ceil() as usize]);
    Some(below + (above - below) * rank.fract())
}

/// Standard deviations between the value and the mean of those before it. A series that hardly moves would
/// make any twitch an anomaly, so a standard deviation counts as at least one percent of the mean.
fn deviation(value: f64, before: impl Iterator<Item = f64>) -> Option<f64> {
    let (mean, deviation) = spread(before)?;
    let least = (mean.abs() * 0.01).max(1e-9);
    Some((value - mean).abs() / deviation.max(least))
}

/// The straight line of least squares, read `ahead_ms` after the latest point.
fn forecast<'a>(points: impl Iterator<Item = &'a Point> + Clone, ahead_ms: f64) -> Option<f64> {
    let last = points.clone().last()?;
    // Times relative to the latest point: absolute ones would cost half of the digits.
    let at = |p: &Point| p.time.since(last.time) as f64;
    let n = points.clone().count() as f64;
    let mean_t = points.clone().map(at).sum::<f64>() / n;
    let mean_v = points.clone().map(Point::mean).sum::<f64>() / n;
    let (mut up, mut down) = (0.0, 0.0);
    for point in points {
        let t = at(point) - mean_t;
        up += t * (point.mean() - mean_v);
        down += t * t;
    }
    (down > 0.0).then(|| mean_v + up / down * (ahead_ms - mean_t))
}

#[cfg(test)]
mod tests {
    use model::UnixMillis;

    use super::*;

    fn check(aggregate: Aggregate, values: &[f64], expected: Option<f64>) {
        let points: VecDeque<Point> = (0..)
            .zip(values)
            .map(|(i, value)| Point { time: UnixMillis(i * 1000), value: *value, count: 1 })
            .collect();
        let found = reduce(aggregate, &points, points.len(), None);
        let close = match (found, expected) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-9,
            (a, b) => a == b,
        };
        assert!(close, "{aggregate:?} of {values:?}: {found:?}, not {expected:?}");
    }

    #[test]
    fn a_window_becomes_one_value() {
        check(Aggregate::StdDev, &[1.0, 3.0], Some(1.0));
        check(Aggregate::P95, &[5.0, 1.0, 2.0, 3.0, 4.0], Some(4.8));
        check(Aggregate::Increase, &[10.0, 12.0, 1.0], Some(3.0));
        check(Aggregate::Rate, &[10.0, 12.0, 14.0], Some(2.0));
        check(Aggregate::Rate, &[10.0], None);
        check(Aggregate::Deviation, &[9.0, 11.0, 9.0, 11.0, 13.0], Some(3.0));
        check(Aggregate::Deviation, &[10.0, 10.0, 10.05], Some(0.5));
        check(Aggregate::Forecast { ahead_ms: 10_000 }, &[1.0, 2.0, 3.0], Some(13.0));
        check(Aggregate::Forecast { ahead_ms: 10_000 }, &[1.0], None);
        check(Aggregate::Mean, &[], None);
    }
}
