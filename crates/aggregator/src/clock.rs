//! Now, in the two ways that matter: what time it is, and how long ago something was.

use std::time::{Duration, Instant, SystemTime};

use model::UnixMillis;

/// One reading of both clocks. Wall time is shown and stored; durations come from the monotonic clock,
/// because wall clocks jump. Decisions are given this value, so that tests can choose it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) wall: UnixMillis,
    pub(crate) mono: Instant,
}

impl Now {
    pub(crate) fn read() -> Self {
        Self { wall: SystemTime::now().into(), mono: Instant::now() }
    }

    pub(crate) fn since(&self, earlier: Instant) -> Duration {
        self.mono.saturating_duration_since(earlier)
    }

    /// This instant and some time more.
    #[cfg(test)]
    pub(crate) fn plus_ms(&self, ms: u64) -> Self {
        Self { wall: self.wall + ms as i64, mono: self.mono + Duration::from_millis(ms) }
    }
}
