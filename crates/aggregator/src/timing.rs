//! How long something takes: as a histogram for who scrapes it, and as counts that can be read back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// 1 ms, 2 ms, … 16 s; one more for what took longer.
const BOUNDS: usize = 15;
const FIRST_SECONDS: f64 = 0.001;

/// How many took how long. Bucket `i` holds what took at most `1 ms · 2^i`.
pub(crate) type Buckets = [u64; BOUNDS + 1];

/// Cheap to clone; all clones observe together.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    histogram: Histogram,
    counts: Arc<[AtomicU64; BOUNDS + 1]>,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            histogram: Histogram::new(exponential_buckets(FIRST_SECONDS, 2.0, BOUNDS as u16)),
            counts: Arc::default(),
        }
    }
}

impl Timing {
    pub(crate) fn histogram(&self) -> Histogram {
        self.histogram.clone()
    }

    pub(crate) fn observe(&self, seconds: f64) {
        self.histogram.observe(seconds);
        let bucket = (0..BOUNDS).find(|&i| seconds <= bound(i)).unwrap_or(BOUNDS);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Buckets {
        std::array::from_fn(|i| self.counts[i].load(Ordering::Relaxed))
    }
}

fn bound(i: usize) -> f64 {
    FIRST_SECONDS * f64::from(1u32 << i.min(BOUNDS - 1))
}

/// What this share of them took at most; `None` when there are none. For what is beyond the last bound,
/// the last bound.
pub(crate) fn quantile(buckets: &Buckets, share: f64) -> Option<Duration> {
    let count: u64 = buckets.iter().sum();
    let wanted = ((count as f64 * share).ceil() as u64).max(1);
    let mut seen = 0;
    let found = buckets.iter().position(|n| {
        seen += n;
        seen >= wanted
    });
    found.map(|i| Duration::from_secs_f64(bound(i)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_bound_that_so_many_stayed_within() {
        let timing = Timing::default();
        for _ in 0..99 {
            timing.observe(0.003);
        }
        timing.observe(300.0);
        let buckets = timing.read();
        let check = |share: f64, ms: u64| {
            assert_eq!(quantile(&buckets, share), Some(Duration::from_millis(ms)), "{share}");
        };
        check(0.0, 4);
        check(0.5, 4);
        check(0.99, 4);
        check(1.0, 16_384);
        assert_eq!(quantile(&Buckets::default(), 0.5), None);
    }
}
