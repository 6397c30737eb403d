//! How long to wait before the next attempt. The only file that uses the `backoff` crate: it is
//! unmaintained, and whoever replaces it changes nothing else.

use std::time::Duration;

use backoff::SystemClock;
use backoff::backoff::Backoff as _;
use backoff::exponential::{ExponentialBackoff, ExponentialBackoffBuilder};

/// Grows from `first` to `longest`, each drawn from half to one and a half times its value, so that a
/// fleet that lost its aggregator does not come back in one blow.
#[derive(Debug)]
pub(crate) struct Backoff(ExponentialBackoff<SystemClock>);

impl Backoff {
    /// Doubles with each attempt: for what is unlikely to succeed soon.
    pub(crate) fn doubling(first: Duration, longest: Duration) -> Self {
        Self::growing(first, longest, 2.0)
    }

    /// Grows by a quarter with each attempt. The waits add up, so each is about a quarter of the time
    /// for which there was trouble: a server that was away for seconds is found again within one or two,
    /// and one that was away for a minute is met by its fleet over a quarter of a minute.
    pub(crate) fn in_proportion(first: Duration, longest: Duration) -> Self {
        Self::growing(first, longest, 1.25)
    }

    fn growing(first: Duration, longest: Duration, by: f64) -> Self {
        let policy = ExponentialBackoffBuilder::new()
            .with_initial_interval(first)
            .with_max_interval(longest)
            .with_multiplier(by)
            .with_randomization_factor(0.5)
            .with_max_elapsed_time(None)
            .build();
        Self(policy)
    }

    /// Never gives up: there is always a next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    pub(crate) fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again_after_a_reset() {
        let mut backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(30));
        for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let found = backoff.next().as_secs_f64();
            assert!((expected * 0.5..=expected * 1.5).contains(&found), "{expected}: {found}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(1500));
    }

    #[test]
    fn a_wait_in_proportion_is_no_longer_than_the_trouble_before_it() {
        let mut backoff =
            Backoff::in_proportion(Duration::from_millis(500), Duration::from_secs(30));
        let mut trouble = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..40 {
            let wait = backoff.next();
            assert!(wait <= trouble + Duration::from_secs(1), "{wait:?} after {trouble:?}");
            trouble += wait;
            waits.push(wait);
        }
        // In the end it is as patient as any other.
        assert!(waits[30..].iter().all(|wait| *wait >= Duration::from_secs(15)), "{waits:?}");
    }
}
