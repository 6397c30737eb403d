//! When to try a channel that fails again. Pure.

use std::time::Duration;

/// Failures in a row after which the channel is left alone for longer.
const SUSPEND_AFTER: u32 = 5;
const PAUSE_MIN: Duration = Duration::from_secs(1);
const SUSPENDED_MIN: Duration = Duration::from_secs(60);
const SUSPENDED_MAX: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
}

impl Breaker {
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// How long to leave it alone: 1, 2, 4, 8 s, then a minute, two, … at most ten. After each pause one
    /// attempt decides. A receiver that asks for more time gets it. `jitter` is from 0 to 1 and adds up to
    /// a fifth, so that many do not come back at once.
    pub(super) fn failed(&mut self, asked: Option<Duration>, jitter: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let pause = match self.failures.checked_sub(SUSPEND_AFTER) {
            None => PAUSE_MIN * 2u32.pow(self.failures - 1),
            Some(more) => (SUSPENDED_MIN * 2u32.pow(more.min(8))).min(SUSPENDED_MAX),
        };
        pause.mul_f64(1.0 + 0.2 * jitter).max(asked.unwrap_or_default())
    }

    /// The latest attempt failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.failures >= SUSPEND_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_fails_is_left_alone_for_longer_and_longer() {
        let mut breaker = Breaker::default();
        let pauses: Vec<_> = (0..10).map(|_| breaker.failed(None, 0.0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 60, 120, 240, 480, 600, 600]);
        assert!(breaker.is_suspended());
        breaker.succeeded();
        assert!(!breaker.is_suspended());
        assert_eq!(breaker.failed(Some(Duration::from_secs(30)), 1.0).as_secs(), 30);
    }
}
