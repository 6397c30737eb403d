//! Values that come after the raw values of their hour are gone: they join a roll-up whose values nobody has any
//! more.

use model::Kind;

use crate::rollup::Rollup;

/// Joins late values to the window that is kept.
///
/// Count, sum, minimum and maximum are exact. Which of both came first in time is not known any more: for
/// gauges the late ones count as the last. A counter tells by itself, as long as one lies wholly above the
/// other; where they interleave, the greater increase stands, which misses growth rather than inventing it.
pub(crate) fn join(kind: Kind, kept: &Rollup, late: &Rollup) -> Rollup {
    match kind {
        Kind::Counter if kept.first >= late.last => late.join(kind, kept, kept.start),
        Kind::Counter if late.first < kept.last => {
            let joined = kept.join(Kind::Gauge, late, kept.start);
            Rollup {
                first: kept.first.min(late.first),
                last: kept.last.max(late.last),
                increase: kept.increase.max(late.increase),
                ..joined
            }
        }
        _ => kept.join(kind, late, kept.start),
    }
}

/// Joins late windows to the kept ones. Both by time; so is the result.
pub(crate) fn join_all(kind: Kind, kept: &[Rollup], late: &[Rollup]) -> Vec<Rollup> {
    let mut windows: Vec<Rollup> = kept.to_vec();
    for late in late {
        match windows.binary_search_by_key(&late.start, |w| w.start) {
            Ok(at) => windows[at] = join(kind, &windows[at], late),
            Err(at) => windows.insert(at, *late),
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use model::UnixMillis;

    use super::*;

    fn window(kind: Kind, values: &[f64]) -> Rollup {
        Rollup::of(kind, 60_000, values.iter().enumerate().map(|(i, v)| (UnixMillis(i as i64), *v)))
            [0]
    }

    #[test]
    fn a_counter_tells_which_part_came_first() {
        fn check(kept: &[f64], late: &[f64], first: f64, last: f64, increase: f64) {
            let kind = Kind::Counter;
            let joined = join(kind, &window(kind, kept), &window(kind, late));
            assert_eq!((joined.first, joined.last, joined.increase), (first, last, increase));
            assert_eq!(joined.count as usize, kept.len() + late.len());
        }
        check(&[10.0, 20.0], &[30.0, 40.0], 10.0, 40.0, 30.0);
        check(&[30.0, 40.0], &[10.0, 20.0], 10.0, 40.0, 30.0);
        // Interleaved: no step back is taken for a reset.
        check(&[10.0, 30.0], &[20.0, 40.0], 10.0, 40.0, 20.0);
        check(&[10.0, 40.0], &[20.0, 30.0], 10.0, 40.0, 30.0);
    }

    #[test]
    fn late_windows_find_their_place() {
        let kind = Kind::Gauge;
        let at = |minute: i64, value: f64| Rollup {
            start: UnixMillis(minute * 60_000),
            ..window(kind, &[value])
        };
        let joined = join_all(kind, &[at(0, 1.0), at(2, 5.0)], &[at(1, 2.0), at(2, 3.0)]);
        let means: Vec<(i64, f64)> =
            joined.iter().map(|w| (w.start.0 / 60_000, w.mean())).collect();
        assert_eq!(means, [(0, 1.0), (1, 2.0), (2, 4.0)]);
    }
}
