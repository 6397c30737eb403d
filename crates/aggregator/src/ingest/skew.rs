//! How far a collector's clock is ahead of ours.

use std::time::{Duration, Instant};

use model::UnixMillis;

/// A running estimate of the collector's clock minus ours, in milliseconds.
///
/// A message is received after it was written, so the collector's time minus the time of receipt is never
/// more than the true skew: the largest difference seen lately is the best estimate, and errs by the
/// quickest delivery. Old ones are forgotten, so that a clock that drifts back is followed; one that is
/// stepped back says so in an event.
#[derive(Debug)]
pub(super) struct Skew {
    ms: i64,
    /// Largest difference in this stretch of time and in the one before.
    current: Option<i64>,
    former: Option<i64>,
    began: Instant,
}

const STRETCH: Duration = Duration::from_secs(60);

impl Skew {
    /// `ms`: the collector's time in a message it wrote just now, minus the time of receipt.
    pub(super) fn new(ms: i64, now: Instant) -> Self {
        Self { ms, current: Some(ms), former: None, began: now }
    }

    pub(super) fn ms(&self) -> i64 {
        self.ms
    }

    /// How old something is by our clock.
    pub(super) fn age_ms(&self, time: UnixMillis, received: UnixMillis) -> i64 {
        received.since(time - self.ms)
    }

    /// Something of the present came.
    pub(super) fn saw(&mut self, difference_ms: i64, now: Instant) {
        if now.saturating_duration_since(self.began) >= STRETCH {
            self.former = self.current.take();
            self.began = now;
        }
        self.current = self.current.max(Some(difference_ms));
        self.ms = self.current.max(self.former).unwrap_or(self.ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_delivery_counts_and_a_drift_back_is_followed() {
        let start = Instant::now();
        let mut skew = Skew::new(-40, start);
        let mut saw = |second: u64, difference: i64, expected: i64| {
            skew.saw(difference, start + Duration::from_secs(second));
            assert_eq!(skew.ms(), expected, "after {second} s");
        };
        saw(1, -5, -5);
        saw(2, -300, -5);
        saw(61, -200, -5);
        saw(130, -210, -200);
        saw(131, 5000, 5000);
    }

    #[test]
    fn age_is_measured_on_our_clock() {
        let skew = Skew::new(60_000, Instant::now());
        assert_eq!(skew.age_ms(UnixMillis(160_000), UnixMillis(100_500)), 500);
    }
}
