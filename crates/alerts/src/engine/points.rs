//! The values of one series that a rule looks at together, in bounded memory.
//!
//! A stretch of time is kept as at most 600 slots. Up to one value a slot (ten minutes at 1 Hz) every
//! aggregate is exact; beyond, neighbours share a slot, and the aggregates that need single values (p95,
//! standard deviation, deviation, forecast) see the mean of each slot.

use std::collections::VecDeque;

use model::UnixMillis;

use crate::rule::{Aggregate, Side, Threshold, Window};

mod reduce;

/// Slots in one window.
const SLOTS: i64 = 600;

/// One slot: its latest time, and what its values fold to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    time: UnixMillis,
    /// Sum, minimum, maximum or latest value, by the aggregate.
    value: f64,
    count: u32,
}

impl Point {
    fn mean(&self) -> f64 {
        self.value / f64::from(self.count)
    }
}

/// What a window says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    /// The value's time, or the end of a tumbling window.
    pub(super) at: UnixMillis,
    pub(super) value: f64,
    /// Values were taken in over the whole window.
    pub(super) complete: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Points {
    aggregate: Aggregate,
    window: Window,
    slot_ms: i64,
    points: VecDeque<Point>,
    /// The newest point that left the window: where growth within it starts.
    base: Option<Point>,
    /// From when on values were taken in without a long gap.
    covered_since: UnixMillis,
    /// Longer than this without a value is a long gap.
    patience_ms: i64,
    /// End of the latest tumbling window that was judged.
    closed: UnixMillis,
}

impl Points {
    /// `None` when the rule looks at the latest value alone.
    pub(super) fn of(threshold: &Threshold, patience_ms: i64) -> Option<Self> {
        let ms = match threshold.window {
            Window::Instant => return None,
            Window::Sliding { ms } | Window::Tumbling { ms } => ms,
            Window::Values { .. } => SLOTS,
        };
        Some(Self {
            aggregate: threshold.aggregate,
            window: threshold.window,
            slot_ms: (ms / SLOTS).max(1),
            points: VecDeque::new(),
            base: None,
            covered_since: UnixMillis::MAX,
            patience_ms: patience_ms.max(ms),
            closed: UnixMillis::MIN,
        })
    }

    pub(super) fn is_tumbling(&self) -> bool {
        matches!(self.window, Window::Tumbling { .. })
    }

    /// Takes a value in. Only for tumbling windows may it be older than the one before. False when its
    /// window was judged already.
    pub(super) fn add(&mut self, time: UnixMillis, value: f64) -> bool {
        if time < self.closed {
            return false;
        }
        if self
            .points
            .back()
            .or(self.base.as_ref())
            .is_none_or(|p| time.since(p.time) > self.patience_ms)
        {
            self.points.clear();
            self.base = None;
            self.covered_since = time;
        }
        // Of tumbling windows the first values may come in any order.
        self.covered_since = self.covered_since.min(time);
        let slot = self.slot(time);
        let mut at = self.points.len();
        while at > 0 && self.slot(self.points[at - 1].time) > slot {
            at -= 1;
        }
        match at.checked_sub(1) {
            Some(last) if self.shares_slots() && self.slot(self.points[last].time) == slot => {
                let aggregate = self.aggregate;
                fold(aggregate, &mut self.points[last], time, value);
            }
            _ => self.points.insert(at, Point { time, value, count: 1 }),
        }
        true
    }

    /// What the window that ends with the latest value says. Not for tumbling windows.
    pub(super) fn latest(&mut self) -> Option<Reading> {
        let at = self.points.back()?.time;
        let complete = match self.window {
            Window::Sliding { ms } => {
                let start = at - ms;
                while self.points.front().is_some_and(|p| p.time <= start) {
                    self.base = self.points.pop_front();
                }
                self.covered_since <= start
            }
            Window::Values { count } => {
                // The latest value is judged by those before it.
                let kept = count + usize::from(self.aggregate == Aggregate::Deviation);
                while self.points.len() > kept {
                    self.base = self.points.pop_front();
                }
                self.points.len() == kept
            }
            Window::Instant | Window::Tumbling { .. } => return None,
        };
        let value = reduce::reduce(self.aggregate, &self.points, self.points.len(), self.base)?;
        Some(Reading { at, value, complete })
    }

    /// The oldest tumbling window that is closed at the watermark and was not judged yet.
    pub(super) fn close(&mut self, watermark: UnixMillis) -> Option<Reading> {
        let Window::Tumbling { ms } = self.window else { return None };
        let first = self.points.front()?;
        let start = first.time.floor(ms);
        let end = start + ms;
        if end > watermark {
            return None;
        }
        let within = self.points.iter().take_while(|p| p.time < end).count();
        let value = reduce::reduce(self.aggregate, &self.points, within, self.base);
        self.base = self.points.drain(..within).next_back();
        self.closed = end;
        let complete = self.covered_since <= start;
        value.map(|value| Reading { at: end, value, complete }).or_else(|| self.close(watermark))
    }

    fn shares_slots(&self) -> bool {
        !matches!(self.window, Window::Values { .. })
    }

    /// Slots never straddle two tumbling windows.
    fn slot(&self, time: UnixMillis) -> i64 {
        let start = match self.window {
            Window::Tumbling { ms } => time.floor(ms),
            _ => UnixMillis(0),
        };
        start.0 + time.since(start).div_euclid(self.slot_ms) * self.slot_ms
    }
}

fn fold(aggregate: Aggregate, point: &mut Point, time: UnixMillis, value: f64) {
    let newer = time >= point.time;
    point.time = point.time.max(time);
    point.count += 1;
    match aggregate {
        Aggregate::Min => point.value = point.value.min(value),
        Aggregate::Max => point.value = point.value.max(value),
        Aggregate::Last | Aggregate::Rate | Aggregate::Increase if newer => point.value = value,
        Aggregate::Last | Aggregate::Rate | Aggregate::Increase => {}
        _ => point.value += value,
    }
}

/// Whether a part of the window is enough for trouble: more values can only make it worse.
pub(super) fn grows_worse(aggregate: Aggregate, side: Side) -> bool {
    matches!(
        (aggregate, side),
        (Aggregate::Max | Aggregate::Increase | Aggregate::Count, Side::Above)
            | (Aggregate::Min, Side::Below)
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rule::Limit;

    fn points(aggregate: Aggregate, window: Window) -> Points {
        let limit = Limit { side: Side::Above, warning: Some(1.0), critical: None, recover: None };
        let threshold = Threshold {
            metric: "m".into(),
            labels: vec![],
            divide_by: None,
            aggregate,
            window,
            limit,
        };
        Points::of(&threshold, 300_000).expect("a window")
    }

    #[test]
    fn a_sliding_window_is_judged_whole_once_it_was_covered() {
        let mut points = points(Aggregate::Mean, Window::Sliding { ms: 3000 });
        let mut read = |s: i64, value: f64| {
            points.add(UnixMillis(s * 1000), value);
            points.latest().map(|r| (r.value, r.complete))
        };
        assert_eq!(read(1, 1.0), Some((1.0, false)));
        assert_eq!(read(2, 2.0), Some((1.5, false)));
        assert_eq!(read(3, 3.0), Some((2.0, false)));
        assert_eq!(read(4, 4.0), Some((3.0, true)));
        // After a long gap the coverage starts again.
        assert_eq!(read(1000, 9.0), Some((9.0, false)));
    }

    #[test]
    fn a_tumbling_window_is_judged_once_and_takes_values_in_any_order_until_then() {
        let mut points = points(Aggregate::Increase, Window::Tumbling { ms: 10_000 });
        for (time, value) in [(0, 5.0), (4000, 8.0), (2000, 6.0), (9000, 1.0), (12_000, 3.0)] {
            assert!(points.add(UnixMillis(time), value));
        }
        assert_eq!(points.close(UnixMillis(9999)), None);
        let read = points.close(UnixMillis(10_000)).expect("closed");
        assert_eq!((read.at, read.value), (UnixMillis(10_000), 4.0), "5 to 8, reset, 1");
        assert!(!points.add(UnixMillis(9500), 2.0), "late");
        let read = points.close(UnixMillis(20_000)).expect("closed");
        assert_eq!((read.value, read.complete), (2.0, true), "from 1 to 3");
    }

    #[test]
    fn memory_is_bounded_however_many_values_come() {
        let mut points = points(Aggregate::Mean, Window::Sliding { ms: 3_600_000 });
        for i in 0..100_000 {
            points.add(UnixMillis(i * 100), i as f64);
            points.latest();
        }
        assert!(points.points.len() <= SLOTS as usize + 1, "{}", points.points.len());
        let mean = points.latest().expect("a value").value;
        assert!((mean - (100_000.0 - 18_000.0)).abs() < 60.0, "{mean}");
    }

    proptest! {
        #[test]
        fn one_value_a_slot_is_exact(values in prop::collection::vec(0.0..100.0f64, 1..60)) {
            type Exact = fn(&[f64]) -> f64;
            let exact: [(Aggregate, Exact); 6] = [
                (Aggregate::Mean, |v| v.iter().sum::<f64>() / v.len() as f64),
                (Aggregate::Min, |v| v.iter().copied().fold(f64::INFINITY, f64::min)),
                (Aggregate::Max, |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
                (Aggregate::Sum, |v| v.iter().sum()),
                (Aggregate::Count, |v| v.len() as f64),
                (Aggregate::Last, |v| v[v.len() - 1]),
            ];
            for (aggregate, exact) in exact {
                let mut points = points(aggregate, Window::Sliding { ms: 10_000 });
                for (i, value) in values.iter().enumerate() {
                    points.add(UnixMillis(i as i64 * 1000), *value);
                    let read = points.latest().expect("a value").value;
                    let window = &values[(i + 1).saturating_sub(10)..=i];
                    prop_assert!((read - exact(window)).abs() < 1e-9, "{:?}", aggregate);
                }
            }
        }
    }
}
