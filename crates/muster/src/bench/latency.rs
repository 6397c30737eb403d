//! Latency percentiles out of a bounded histogram.

use std::time::Duration;

/// Buckets grow by 1/8 of a power of two, so a percentile is at most 12.5 % too high.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    buckets: [u64; 64 * 8],
    count: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: [0; 64 * 8], count: 0 }
    }
}

impl Latency {
    pub(super) fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(us)] += 1;
        self.count += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
    }

    /// Upper bound of the bucket that holds the given share (0 to 1) of all; `None` when empty.
    pub(super) fn percentile(&self, share: f64) -> Option<Duration> {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.buckets.iter().position(|n| {
            seen += n;
            seen >= rank
        })?;
        Some(Duration::from_micros(upper(found)))
    }
}

fn bucket(us: u64) -> usize {
    if us < 8 {
        return us as usize;
    }
    let power = us.ilog2() as usize;
    let eighth = (us >> (power - 3)) as usize & 7;
    (power - 2) * 8 + eighth
}

fn upper(bucket: usize) -> u64 {
    if bucket < 8 {
        return bucket as u64;
    }
    let (power, eighth) = (bucket / 8 + 2, (bucket % 8) as u64);
    ((8 + eighth + 1) << (power - 3)).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_never_too_low_and_at_most_an_eighth_too_high() {
        for us in [0, 1, 7, 8, 9, 100, 999, 1_000_000, 123_456_789] {
            let mut latency = Latency::default();
            latency.record(Duration::from_micros(us));
            let found = latency.percentile(0.99).expect("one value").as_micros() as u64;
            assert!(us <= found && found <= us + us / 8 + 1, "{us} read back as {found}");
        }
        assert_eq!(Latency::default().percentile(0.5), None);
    }

    #[test]
    fn percentiles_are_ranked() {
        let mut latency = Latency::default();
        (1..=100).for_each(|ms| latency.record(Duration::from_millis(ms)));
        let ms = |share| latency.percentile(share).expect("not empty").as_millis();
        assert!((50..=57).contains(&ms(0.5)), "{}", ms(0.5));
        assert!((99..=112).contains(&ms(0.99)), "{}", ms(0.99));
    }
}
