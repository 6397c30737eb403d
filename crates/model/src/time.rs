//! Wall-clock instants. Durations are measured with `std::time::Instant`, never with these.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00Z, as a clock showed them. May be any number: it comes from
/// other machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    pub const MIN: Self = Self(i64::MIN);
    pub const MAX: Self = Self(i64::MAX);

    /// The largest multiple of `step_ms` that is not after this instant. `step_ms` must be positive.
    pub fn floor(self, step_ms: i64) -> Self {
        Self(self.0.div_euclid(step_ms).saturating_mul(step_ms))
    }

    /// The smallest multiple of `step_ms` that is not before this instant. `step_ms` must be positive.
    pub fn ceil(self, step_ms: i64) -> Self {
        let floor = self.floor(step_ms);
        if floor == self { self } else { floor + step_ms }
    }

    /// Milliseconds from `earlier` to this instant; negative when it lies ahead.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<i64> for UnixMillis {
    type Output = Self;

    fn add(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Sub<i64> for UnixMillis {
    type Output = Self;

    fn sub(self, ms: i64) -> Self {
        Self(self.0.saturating_sub(ms))
    }
}

impl From<SystemTime> for UnixMillis {
    fn from(time: SystemTime) -> Self {
        let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(ms(after)),
            Err(before) => Self(-ms(before.duration())),
        }
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// From `start` (included) to `end` (not included). Empty when `end` is not after `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeRange {
    pub start: UnixMillis,
    pub end: UnixMillis,
}

impl TimeRange {
    pub const ALL: Self = Self { start: UnixMillis::MIN, end: UnixMillis::MAX };

    pub fn new(start: UnixMillis, end: UnixMillis) -> Self {
        Self { start, end }
    }

    pub fn contains(&self, time: UnixMillis) -> bool {
        self.start <= time && time < self.end
    }

    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    pub fn len_ms(&self) -> i64 {
        self.end.since(self.start).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_align_below_and_above_the_epoch() {
        fn check(ms: i64, step: i64, floor: i64, ceil: i64) {
            assert_eq!(UnixMillis(ms).floor(step), UnixMillis(floor), "floor of {ms}");
            assert_eq!(UnixMillis(ms).ceil(step), UnixMillis(ceil), "ceil of {ms}");
        }
        check(0, 1000, 0, 0);
        check(999, 1000, 0, 1000);
        check(1000, 1000, 1000, 1000);
        check(-1, 1000, -1000, 0);
        check(i64::MAX, 7, i64::MAX / 7 * 7, i64::MAX);
    }
}
