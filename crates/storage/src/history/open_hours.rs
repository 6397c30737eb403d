//! Hours that are not closed: what the tiers say of them is not all there is to say. Pure.

use model::{Kind, TimeRange, UnixMillis};

use super::{Samples, Tier, late};
use crate::rollup::Rollup;

/// Neighbouring hours of one machine that are open alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct OpenStretch {
    pub(crate) range: TimeRange,
    /// All raw values that the tiers were made from are kept. Else what there is came later, and belongs to
    /// what the tiers hold.
    pub(crate) complete: bool,
}

/// Joins hours, given by time, each once.
pub(crate) fn stretches(hours: impl IntoIterator<Item = (UnixMillis, bool)>) -> Vec<OpenStretch> {
    let mut stretches: Vec<OpenStretch> = Vec::new();
    for (hour, complete) in hours {
        let end = hour + Tier::Hour.window_ms();
        match stretches.last_mut() {
            Some(last) if last.range.end == hour && last.complete == complete => {
                last.range.end = end;
            }
            _ => stretches.push(OpenStretch { range: TimeRange::new(hour, end), complete }),
        }
    }
    stretches
}

/// Lays what the raw values of a stretch say over the windows that a tier holds of one series.
pub(crate) fn overlay(
    kind: Kind,
    tier: Tier,
    windows: &mut Vec<Rollup>,
    OpenStretch { range, complete }: OpenStretch,
    samples: Samples,
) {
    let fresh = Rollup::of(kind, tier.window_ms(), samples.times.into_iter().zip(samples.values));
    if !complete {
        *windows = late::join_all(kind, windows, &fresh);
        return;
    }
    let from = windows.partition_point(|w| w.start < range.start);
    let to = windows.partition_point(|w| w.start < range.end);
    windows.splice(from..to, fresh);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(n: i64) -> UnixMillis {
        UnixMillis(n * Tier::Hour.window_ms())
    }

    #[test]
    fn neighbours_that_are_alike_are_joined() {
        let open = [(1, true), (2, true), (3, false), (5, false)];
        let found = stretches(open.map(|(n, complete)| (hour(n), complete)));
        let found: Vec<_> = found.iter().map(|s| (s.range, s.complete)).collect();
        let range = |from, to| TimeRange::new(hour(from), hour(to));
        assert_eq!(found, [(range(1, 3), true), (range(3, 4), false), (range(5, 6), false)]);
    }

    #[test]
    fn complete_hours_replace_and_others_add() {
        let check = |complete: bool, count: u32| {
            let one = |n: i64| Samples { times: vec![hour(n)], values: vec![1.0] };
            let kept = |n: i64| Rollup::of(Kind::Gauge, 3_600_000, [(hour(n), 1.0)])[0];
            let mut windows = vec![kept(1), kept(2), kept(3)];
            let stretch = OpenStretch { range: TimeRange::new(hour(2), hour(3)), complete };
            overlay(Kind::Gauge, Tier::Hour, &mut windows, stretch, one(2));
            let counts: Vec<u32> = windows.iter().map(|w| w.count).collect();
            assert_eq!(counts, [1, count, 1]);
        };
        check(true, 1);
        check(false, 2);
    }
}
