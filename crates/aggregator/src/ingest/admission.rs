//! What a stream may send: layouts within the limits, frames that fit them, times that make sense.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Frame, Layout, LayoutId, UnixMillis, limits};
use proto::v1;
use proto::v1::reject::Reason;

use crate::roll::headline::Projection;

/// Why something is refused. The message names the field.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) message: String,
    /// Whether the same can be accepted later.
    pub(super) retry: bool,
}

/// The layouts of one stream.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    known: HashMap<LayoutId, Known>,
    series: usize,
}

/// A layout and what is needed to take in its frames.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) layout: Layout,
    pub(super) projection: Projection,
    /// The newest frame so far.
    pub(super) newest: Option<Arc<Frame>>,
    used: Instant,
}

/// A layout that had no frame for this long makes room for others.
const UNUSED_AFTER: Duration = Duration::from_millis(limits::LIVE_WINDOW_MS as u64);

impl Refusal {
    pub(super) fn invalid(problem: impl ToString) -> Self {
        Self { reason: Reason::Invalid, message: problem.to_string(), retry: false }
    }

    /// For `Reject.reason` in metrics.
    pub(super) fn name(&self) -> &'static str {
        match self.reason {
            Reason::Unspecified => "unspecified",
            Reason::Invalid => "invalid",
            Reason::UnknownLayout => "unknown_layout",
            Reason::TooOld => "too_old",
            Reason::TooNew => "too_new",
            Reason::Limit => "limit",
            Reason::Unavailable => "unavailable",
        }
    }
}

impl Layouts {
    /// Takes in a layout that was checked against its id.
    pub(super) fn admit(&mut self, layout: Layout, now: Instant) -> Result<(), Refusal> {
        if let Some(known) = self.known.get_mut(&layout.id()) {
            known.used = now;
            return Ok(());
        }
        if self.series + layout.len() > limits::SERIES_PER_MACHINE_MAX {
            self.forget_unused(now);
        }
        let series = self.series + layout.len();
        if series > limits::SERIES_PER_MACHINE_MAX {
            let max = limits::SERIES_PER_MACHINE_MAX;
            return Err(Refusal {
                reason: Reason::Limit,
                message: format!(
                    "layout.series: with these {} the machine would have {series} series in use, at most {max} are taken",
                    layout.len(),
                ),
                retry: true,
            });
        }
        self.series = series;
        let projection = Projection::of(&layout);
        let known = Known { projection, newest: None, used: now, layout };
        self.known.insert(known.layout.id(), known);
        Ok(())
    }

    fn forget_unused(&mut self, now: Instant) {
        self.known.retain(|_, known| now.saturating_duration_since(known.used) < UNUSED_AFTER);
        self.series = self.known.values().map(|known| known.layout.len()).sum();
    }

    /// The machine's clock was set: times before and after do not compare.
    pub(super) fn forget_newest(&mut self) {
        for known in self.known.values_mut() {
            known.newest = None;
        }
    }

    /// Whose frame this is.
    pub(super) fn of(&mut self, frame: &Frame, now: Instant) -> Result<&mut Known, Refusal> {
        let Some(known) = self.known.get_mut(&frame.layout) else {
            return Err(Refusal {
                reason: Reason::UnknownLayout,
                message: format!("frame.layout_id: {} was not sent on this stream", frame.layout),
                retry: true,
            });
        };
        let (expected, found) = (known.layout.len(), frame.values.len());
        if expected != found {
            return Err(Refusal::invalid(format!(
                "frame.values: expected {expected} as in layout {}, found {found}",
                frame.layout
            )));
        }
        known.used = now;
        Ok(known)
    }
}

/// Refuses what happened too long ago or lies too far ahead, by the collector's own word.
pub(super) fn check_time(
    field: &str,
    time: UnixMillis,
    received: UnixMillis,
) -> Result<(), Refusal> {
    let age = received.since(time);
    let refusal = |reason, message| Err(Refusal { reason, message, retry: false });
    if age > limits::ITEM_AGE_MS_MAX {
        let message = format!("{field}: {time} is {} s ago, at most 7 days are taken", age / 1000);
        return refusal(Reason::TooOld, message);
    }
    if age < -limits::ITEM_AHEAD_MS_MAX {
        let message =
            format!("{field}: {time} is {} s ahead, at most 10 minutes are taken", -(age / 1000));
        return refusal(Reason::TooNew, message);
    }
    Ok(())
}

/// The wire form of a refusal. `seq` is 0 for what is no item.
pub(super) fn reject(refusal: &Refusal, seq: u64) -> v1::Reject {
    v1::Reject {
        ranges: (seq != 0).then_some(v1::SeqRange { first: seq, last: seq }).into_iter().collect(),
        reason: refusal.reason.into(),
        message: refusal.message.clone(),
        retry: refusal.retry,
    }
}

#[cfg(test)]
mod tests {
    use model::{Labels, Series};

    use super::*;

    fn layout(name: &str, series: usize) -> Layout {
        let one = |i: usize| Series::gauge(name, "1", Labels::of([("i", i.to_string().as_str())]));
        Layout::new((1..=series).map(one).collect()).expect("valid")
    }

    fn frame(layout: &Layout, values: usize) -> Frame {
        Frame { time: UnixMillis(0), layout: layout.id(), values: vec![0.0; values] }
    }

    #[test]
    fn a_frame_must_fit_a_layout_that_was_sent() {
        let (now, a) = (Instant::now(), layout("a", 2));
        let mut layouts = Layouts::default();
        let refusal = layouts.of(&frame(&a, 2), now).expect_err("unknown");
        assert_eq!((refusal.reason, refusal.retry), (Reason::UnknownLayout, true));
        assert!(refusal.message.starts_with("frame.layout_id: "), "{}", refusal.message);
        layouts.admit(a.clone(), now).expect("within limits");
        assert!(layouts.of(&frame(&a, 2), now).is_ok());
        let refusal = layouts.of(&frame(&a, 3), now).expect_err("too long");
        assert_eq!((refusal.reason, refusal.retry), (Reason::Invalid, false));
        assert!(refusal.message.contains("expected 2"), "{}", refusal.message);
    }

    #[test]
    fn the_series_of_all_layouts_in_use_are_limited_and_unused_ones_make_room() {
        let now = Instant::now();
        let later = now + UNUSED_AFTER;
        let (a, b, c) = (layout("a", 10_000), layout("b", 10_000), layout("c", 1));
        let mut layouts = Layouts::default();
        layouts.admit(a.clone(), now).expect("within limits");
        layouts.admit(b.clone(), now).expect("within limits");
        layouts.admit(b.clone(), now).expect("known already");
        assert_eq!(layouts.admit(c.clone(), now).expect_err("over").reason, Reason::Limit);
        layouts.of(&frame(&b, 10_000), later).expect("still known");
        layouts.admit(c, later).expect("the first layout made room");
        assert!(layouts.of(&frame(&a, 10_000), later).is_err());
        assert!(layouts.of(&frame(&b, 10_000), later).is_ok());
    }

    #[test]
    fn times_far_off_are_refused_for_good() {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        let now = UnixMillis(1_700_000_000_000);
        let check = |offset_ms: i64, expected: Option<Reason>| {
            let result = check_time("frame.time_unix_ms", now + offset_ms, now);
            assert_eq!(result.as_ref().err().map(|r| r.reason), expected, "{offset_ms}");
            assert!(result.is_ok_and(|()| true) || expected.is_some());
        };
        check(0, None);
        check(-7 * DAY_MS, None);
        check(-7 * DAY_MS - 1, Some(Reason::TooOld));
        check(600_000, None);
        check(600_001, Some(Reason::TooNew));
        check(i64::MIN, Some(Reason::TooOld));
        check(i64::MAX, Some(Reason::TooNew));
    }
}
