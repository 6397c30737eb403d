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
            let settled =
                self.shrunk_at.is_none_or(|at| now.saturating_duration_since(at) > latency);
            if settled {
                self.bytes = (self.bytes / 2).max(BYTES_MIN);
                self.shrunk_at = Some(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Drains over a line of `bytes_per_second` with an idle answer time of `idle`, always as much as
    /// the window allows; returns how long the queue in front of a fresh item was in the end.
    fn drain(bytes_per_second: f64, idle: Duration) -> Duration {
        const CHUNK: usize = 16 * 1024;
        let (mut window, start) = (Window::new(), Instant::now());
        let mut under_way: VecDeque<(Duration, Duration)> = VecDeque::new();
        let (mut clock, mut line_free) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..3000 {
            while window.is_open(under_way.len() * CHUNK) {
                let takes = Duration::from_secs_f64(CHUNK as f64 / bytes_per_second);
                line_free = line_free.max(clock) + takes;
                under_way.push_back((clock, line_free + idle));
            }
            let Some((sent, answered)) = under_way.pop_front() else { continue };
            clock = clock.max(answered);
            window.acknowledged(CHUNK, answered - sent, start + clock);
        }
        line_free.saturating_sub(clock)
    }

    #[test]
    fn a_fast_line_is_used_and_a_slow_one_is_not_flooded() {
        let idle = Duration::from_millis(50);
        let check = |bytes_per_second: f64, idle: Duration, least_ms: u64, most_ms: u64| {
            let queue = drain(bytes_per_second, idle).as_millis() as u64;
            assert!((least_ms..=most_ms).contains(&queue), "{bytes_per_second}: {queue} ms");
        };
        check(100e6, idle, 0, 60);
        // 1 Mbit/s: the queue is neither empty, which would waste the line, nor long.
        check(125e3, idle, 200, 1_200);
        check(1e6, idle, 100, 1_200);
        // An aggregator that answers late, but takes much, is not taken for a slow line.
        check(100e6, Duration::from_secs(2), 0, 60);
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
