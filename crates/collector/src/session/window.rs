//! How much of the backlog may be under way.
//!
//! Everything on one stream arrives in order, so a fresh item waits behind whatever of the backlog the
//! network holds already. The window therefore grows only while acknowledgements come about as quickly
//! as the quickest did, and shrinks when they come later: the queue before a fresh item stays short on
//! any line, fast or slow.

use std::time::Duration;

use tokio::time::Instant;

const BYTES_MIN: usize = 64 * 1024;
const BYTES_FIRST: usize = 256 * 1024;
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Queueing beyond the quickest answer: below the first the window grows, above the second it shrinks.
const GROWS_BELOW: Duration = Duration::from_millis(300);
const SHRINKS_ABOVE: Duration = Duration::from_millis(800);

#[derive(Debug)]
pub(super) struct Window {
    bytes: usize,
    quickest: Option<Duration>,
    shrunk_at: Option<Instant>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { bytes: BYTES_FIRST, quickest: None, shrunk_at: None }
    }

    pub(super) fn is_open(&self, in_flight: usize) -> bool {
        in_flight < self.bytes
    }

    pub(super) fn acknowledged(&mut self, bytes: usize, latency: Duration, now: Instant) {
        let quickest = self.quickest.map_or(latency, |quickest| quickest.min(latency));
        self.quickest = Some(quickest);
        let queueing = latency - quickest;
        if queueing < GROWS_BELOW {
            // Doubles within the time of one answer.
            self.bytes = self.bytes.saturating_add(bytes).min(BYTES_MAX);
        } else if queueing > SHRINKS_ABOVE {
            // Once per answer's time: what is under way was sent under the old window.
            let settled = self.shrunk_at.is_none_or(|at| now.saturating_duration_since(at) > latency);
            if settled {
                self.bytes = (self.bytes / 2).max(BYTES_MIN);
                self.shrunk_at = Some(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drains over a line of `bytes_per_second` with an idle answer time of `idle`; returns how long
    /// the last answers took.
    fn drain(bytes_per_second: f64, idle: Duration) -> Duration {
        let (mut window, start) = (Window::new(), Instant::now());
        let mut latency = idle;
        let mut clock = Duration::ZERO;
        for _ in 0..200 {
            latency = idle + Duration::from_secs_f64(window.bytes as f64 / bytes_per_second);
            clock += latency;
            let mut rest = window.bytes;
            while rest > 0 {
                let chunk = rest.min(16 * 1024);
                window.acknowledged(chunk, latency, start + clock);
                rest -= chunk;
            }
        }
        latency - idle
    }

    #[test]
    fn a_fast_line_is_used_and_a_slow_one_is_not_flooded() {
        let idle = Duration::from_millis(50);
        assert!(drain(100e6, idle) < Duration::from_millis(60));
        // 1 Mbit/s: the smallest window takes half a second.
        assert!(drain(125e3, idle) < Duration::from_millis(1600));
        // An aggregator that answers late, but takes much, is not taken for a slow line.
        assert!(drain(100e6, Duration::from_secs(2)) < Duration::from_millis(60));
    }

    #[test]
    fn the_window_keeps_its_bounds() {
        let mut window = Window::new();
        let now = Instant::now();
        window.acknowledged(usize::MAX, Duration::ZERO, now);
        assert!(!window.is_open(BYTES_MAX));
        for i in 1..100 {
            window.acknowledged(1, Duration::from_secs(5), now + Duration::from_secs(6 * i));
        }
        assert!(window.is_open(BYTES_MIN - 1));
        assert!(!window.is_open(BYTES_MIN));
    }
}
