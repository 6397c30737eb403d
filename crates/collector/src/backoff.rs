//! How long to wait before the next attempt. The only file that uses the `backoff` crate: it is
//! unmaintained, and whoever replaces it changes nothing else.

use std::time::Duration;

use backoff::SystemClock;
use backoff::backoff::Backoff as _;
use backoff::exponential::{ExponentialBackoff, ExponentialBackoffBuilder};

/// Doubles from `first` to `longest`, each drawn from half to one and a half times its value, so that
/// a fleet that lost its aggregator does not come back in one blow.
#[derive(Debug)]
pub(crate) struct Backoff(ExponentialBackoff<SystemClock>);

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        let policy = ExponentialBackoffBuilder::new()
            .with_initial_interval(first)
            .with_max_interval(longest)
            .with_multiplier(2.0)
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
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let found = backoff.next().as_secs_f64();
            assert!((expected * 0.5..=expected * 1.5).contains(&found), "{expected}: {found}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(1500));
    }
}
