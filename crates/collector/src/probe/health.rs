//! Whether a probe works, and how long to leave it alone when it does not.

use std::time::Duration;

/// The longest pause between tries of a probe that fails.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Consecutive failures of one probe.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
}

/// What a reading changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    None,
    Failed,
    Recovered,
}

impl Health {
    pub(super) fn record(&mut self, ok: bool) -> Turn {
        let before = self.failures;
        self.failures = if ok { 0 } else { before.saturating_add(1) };
        match (before, ok) {
            (0, false) => Turn::Failed,
            (1.., true) => Turn::Recovered,
            _ => Turn::None,
        }
    }

    /// Time from the latest reading to the next: the pace, doubled with each failure.
    pub(super) fn pause(&self, pace: Duration) -> Duration {
        if self.failures == 0 {
            return pace;
        }
        let first = pace.max(Duration::from_secs(1));
        let longest = PAUSE_MAX.max(pace);
        first.saturating_mul(1 << self.failures.min(16)).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_and_a_recovery_are_each_told_once() {
        let mut health = Health::default();
        let turns: Vec<Turn> =
            [true, false, false, true, true].map(|ok| health.record(ok)).into_iter().collect();
        assert_eq!(turns, [Turn::None, Turn::Failed, Turn::None, Turn::Recovered, Turn::None]);
    }

    #[test]
    fn pauses_grow_to_five_minutes_and_end_with_the_failure() {
        fn check(failures: u32, pace_s: u64, expected_s: u64) {
            let health = Health { failures };
            let pause = health.pause(Duration::from_secs(pace_s));
            assert_eq!(pause.as_secs(), expected_s, "{failures} failures at {pace_s} s");
        }
        check(0, 0, 0);
        check(0, 10, 10);
        check(1, 0, 2);
        check(2, 0, 4);
        check(1, 10, 20);
        check(30, 0, 300);
        check(u32::MAX, 600, 600);
    }
}
