//! When to read: at whole multiples of the interval, however long the reading before took.

use std::time::Duration;

use model::UnixMillis;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// Beats on multiples of its interval of the wall clock, so that the frames of all machines fall on the
/// same instants. Runs on the monotonic clock: a step of the wall clock neither stops nor floods it.
#[derive(Debug)]
pub(crate) struct Ticker {
    interval: Interval,
    latest: Option<Instant>,
}

impl Ticker {
    pub(crate) fn new(period: Duration, now: UnixMillis) -> Self {
        let period_ms = i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1);
        let wait_ms = u64::try_from(period_ms - now.0.rem_euclid(period_ms)).unwrap_or(0);
        let start = Instant::now() + Duration::from_millis(wait_ms % period_ms.unsigned_abs());
        let mut interval = tokio::time::interval_at(start, period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self { interval, latest: None }
    }

    /// Waits for the next beat; returns how many were missed since the one before. Cancel safe.
    pub(crate) async fn tick(&mut self) -> u64 {
        let at = self.interval.tick().await;
        // A beat that came late is reported as what it was planned for.
        self.latest.replace(at).map_or(0, |latest| {
            let beats = (at - latest).as_millis() / self.interval.period().as_millis().max(1);
            u64::try_from(beats).unwrap_or(u64::MAX).saturating_sub(1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn beats_fall_on_multiples_of_the_interval() {
        let start = Instant::now();
        let mut ticker = Ticker::new(Duration::from_secs(1), UnixMillis(12_345_300));
        for beat in 0..3 {
            assert_eq!(ticker.tick().await, 0);
            assert_eq!(start.elapsed(), Duration::from_millis(700 + beat * 1000));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn beats_that_are_missed_are_counted_and_the_grid_is_kept() {
        let start = Instant::now();
        let mut ticker = Ticker::new(Duration::from_secs(1), UnixMillis(0));
        assert_eq!(ticker.tick().await, 0);
        tokio::time::advance(Duration::from_millis(3_500)).await;
        let mut missed = ticker.tick().await;
        missed += ticker.tick().await;
        assert_eq!(missed, 2);
        assert_eq!(start.elapsed(), Duration::from_secs(4));
        assert_eq!(ticker.tick().await, 0);
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}
