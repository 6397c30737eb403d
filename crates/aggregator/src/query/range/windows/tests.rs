use Aggregate::{Count, Increase, Last, Max, Mean, Min, P95, Rate, Stddev, Sum};
use proptest::prelude::*;

use super::*;

const ALL: [Aggregate; 10] = [Last, Mean, Min, Max, Sum, Count, Stddev, P95, Rate, Increase];

fn samples(points: &[(i64, f64)]) -> Samples {
    let times = points.iter().map(|p| UnixMillis(p.0)).collect();
    Samples { times, values: points.iter().map(|p| p.1).collect() }
}

/// Equal, or equal but for rounding; NaN equals NaN.
fn close(a: &[f64], b: &[f64]) -> bool {
    let near = |(a, b): (&f64, &f64)| {
        (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
    };
    a.len() == b.len() && a.iter().zip(b).all(near)
}

#[track_caller]
fn check(aggregate: Aggregate, points: &[(i64, f64)], expected: &[f64]) {
    let windows = Windows { start: UnixMillis(10_000), step_ms: 10_000, count: expected.len() };
    let line = windows.of_samples(aggregate, false, &samples(points));
    assert!(close(&line.values, expected), "{aggregate:?}: {:?}, not {expected:?}", line.values);
}

#[test]
fn a_window_becomes_its_aggregate() {
    let points = [(10_000, 4.0), (12_000, 2.0), (19_999, 6.0), (35_000, 1.0)];
    let nan = f64::NAN;
    check(Last, &points, &[6.0, nan, 1.0]);
    check(Mean, &points, &[4.0, nan, 1.0]);
    check(Min, &points, &[2.0, nan, 1.0]);
    check(Max, &points, &[6.0, nan, 1.0]);
    check(Sum, &points, &[12.0, nan, 1.0]);
    check(Count, &points, &[3.0, nan, 1.0]);
    check(Stddev, &points, &[(8.0f64 / 3.0).sqrt(), nan, 0.0]);
    check(P95, &points, &[5.8, nan, 1.0]);
}

#[test]
fn what_lies_outside_the_windows_does_not_count() {
    check(Sum, &[(9_999, 1.0), (10_000, 2.0), (19_999, 4.0), (20_000, 8.0)], &[6.0]);
    check(Mean, &[], &[f64::NAN, f64::NAN]);
}

#[test]
fn growth_crosses_the_borders_of_windows() {
    // 10 a second.
    let points: Vec<_> = (0..31).map(|s| (s * 1000, s as f64 * 10.0)).collect();
    check(Increase, &points, &[100.0, 100.0]);
    check(Rate, &points, &[10.0, 10.0]);
    // Without a value before, the first window knows one step less; its rate is the same.
    check(Increase, &points[10..], &[90.0, 100.0]);
    check(Rate, &points[10..], &[10.0, 10.0]);
}

#[test]
fn a_counter_that_starts_again_counts_from_zero() {
    check(Increase, &[(9_000, 500.0), (11_000, 510.0), (12_000, 3.0)], &[13.0]);
    check(Rate, &[(9_000, 500.0), (11_000, 510.0), (12_000, 3.0)], &[13.0 / 3.0]);
}

#[test]
fn one_value_alone_has_no_growth() {
    check(Increase, &[(15_000, 500.0)], &[f64::NAN]);
    check(Rate, &[(15_000, 500.0)], &[f64::NAN]);
}

#[test]
fn growth_over_a_long_silence_belongs_to_no_window() {
    let silence = 301_000;
    let points = [(10_000 - silence, 0.0), (11_000, 1e9), (12_000, 1e9 + 5.0)];
    check(Increase, &points, &[5.0]);
    // Over a shorter one it is spread over the time it took.
    check(Rate, &[(0, 0.0), (20_000, 200.0)], &[f64::NAN, 10.0]);
}

#[test]
fn a_band_holds_the_extremes_of_each_window() {
    let windows = Windows { start: UnixMillis(0), step_ms: 10, count: 2 };
    let line = windows.of_samples(Mean, true, &samples(&[(1, 3.0), (2, 1.0), (11, 7.0)]));
    assert_eq!((line.min, line.max), (vec![1.0, 7.0], vec![3.0, 7.0]));
}

#[test]
fn windows_are_aligned_and_cover_the_range() {
    let check = |start: i64, end: i64, step: i64, first: i64, count: usize| {
        let windows = Windows::over(UnixMillis(start), UnixMillis(end), step);
        let expected = Windows { start: UnixMillis(first), step_ms: step, count };
        assert_eq!(windows, expected, "{start}..{end}");
    };
    check(0, 100, 10, 0, 10);
    check(5, 100, 10, 0, 10);
    check(5, 101, 10, 0, 11);
    check(9, 10, 10, 0, 1);
    check(-5, 5, 10, -10, 2);
}

#[test]
fn a_minute_that_has_only_begun_is_not_taken_for_a_slow_one() {
    // 10 a second; the second minute has had 6 of its 60 seconds.
    let points = (0..66).map(|s| (UnixMillis(s * 1000), s as f64 * 10.0));
    let rollups = Rollup::of(Kind::Counter, 60_000, points);
    let windows = Windows { start: UnixMillis(60_000), step_ms: 60_000, count: 1 };
    let line = windows.of_rollups(Rate, Kind::Counter, false, 60_000, &rollups);
    assert!(close(&line.values, &[10.0]), "{:?}", line.values);
}

/// Each window on its own, straight from the definitions.
fn naive(windows: &Windows, aggregate: Aggregate, points: &[(i64, f64)]) -> Vec<f64> {
    let window = |w: usize| {
        let from = windows.start.0 + w as i64 * windows.step_ms;
        let is_inside = |t: i64| from <= t && t < from + windows.step_ms;
        let inside: Vec<f64> = points.iter().filter(|p| is_inside(p.0)).map(|p| p.1).collect();
        if inside.is_empty() {
            return f64::NAN;
        }
        let n = inside.len() as f64;
        let mean = inside.iter().sum::<f64>() / n;
        let steps: Vec<(f64, f64)> = points
            .windows(2)
            .filter(|p| is_inside(p[1].0) && p[1].0 - p[0].0 <= windows.step_ms.max(300_000))
            .map(|p| (Rollup::step(p[0].1, p[1].1), (p[1].0 - p[0].0) as f64 / 1000.0))
            .collect();
        let increase: f64 = steps.iter().map(|s| s.0).sum();
        let mut sorted = inside.clone();
        sorted.sort_by(f64::total_cmp);
        match aggregate {
            Last => *inside.last().expect("not empty"),
            Mean => mean,
            Min => sorted[0],
            Max => sorted[sorted.len() - 1],
            Sum => inside.iter().sum(),
            Count => n,
            Stddev => (inside.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n).sqrt(),
            P95 => {
                let rank = 0.95 * (n - 1.0);
                let (low, high) = (rank.floor() as usize, rank.ceil() as usize);
                sorted[low] + (sorted[high] - sorted[low]) * (rank - rank.floor())
            }
            _ if steps.is_empty() => f64::NAN,
            Increase => increase,
            Rate => increase / steps.iter().map(|s| s.1).sum::<f64>(),
        }
    };
    (0..windows.count).map(window).collect()
}

fn points() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let gap = prop_oneof![8 => 1i64..2_000, 2 => 2_000i64..90_000, 1 => 300_000i64..900_000];
    prop::collection::vec((gap, 0.0..1000.0f64), 0..120).prop_map(|steps| {
        let mut time = 0;
        let at = |(gap, value): (i64, f64)| {
            time += gap;
            (time, value)
        };
        steps.into_iter().map(at).collect()
    })
}

proptest! {
    #[test]
    fn windows_equal_a_naive_evaluation(
        points in points(),
        start in -10_000i64..200_000,
        len in 1i64..1_000_000,
        step in 100i64..120_000,
    ) {
        let windows = Windows::over(UnixMillis(start), UnixMillis(start + len), step);
        for aggregate in ALL {
            let line = windows.of_samples(aggregate, false, &samples(&points));
            let expected = naive(&windows, aggregate, &points);
            prop_assert!(close(&line.values, &expected), "{aggregate:?}: {line:?}, not {expected:?}");
        }
    }

    #[test]
    fn windows_from_minutes_equal_windows_from_values(points in points(), minutes in 1i64..10) {
        let windows = Windows::over(UnixMillis(0), UnixMillis(3_600_000), minutes * 60_000);
        let values = samples(&points);
        let at = || values.times.iter().copied().zip(values.values.iter().copied());
        let rollups = Rollup::of(Kind::Gauge, 60_000, at());
        for aggregate in [Last, Mean, Min, Max, Sum, Count] {
            let raw = windows.of_samples(aggregate, true, &values);
            let tier = windows.of_rollups(aggregate, Kind::Gauge, true, 60_000, &rollups);
            prop_assert!(close(&raw.values, &tier.values), "{aggregate:?}: {raw:?}, not {tier:?}");
            prop_assert!(close(&raw.min, &tier.min) && close(&raw.max, &tier.max));
        }
    }

    #[test]
    fn growth_from_minutes_equals_growth_from_values_without_long_gaps(
        steps in prop::collection::vec((1i64..20_000, 0.0..1000.0f64), 2..200),
        minutes in 1i64..10,
    ) {
        let mut time = 0;
        let points: Vec<_> = steps.iter().map(|(gap, v)| { time += gap; (time, *v) }).collect();
        let windows = Windows::over(UnixMillis(0), UnixMillis(time + 1), minutes * 60_000);
        let values = samples(&points);
        let at = values.times.iter().copied().zip(values.values.iter().copied());
        let rollups = Rollup::of(Kind::Counter, 60_000, at);
        let raw = windows.of_samples(Increase, false, &values);
        let tier = windows.of_rollups(Increase, Kind::Counter, false, 60_000, &rollups);
        prop_assert!(close(&raw.values, &tier.values), "{raw:?}, not {tier:?}");
    }
}
