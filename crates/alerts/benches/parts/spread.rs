//! Percentiles of all samples of a benchmark: a mean hides what the slowest see.

use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Spread(Vec<Duration>);

impl Spread {
    pub(crate) fn note(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// Of so many samples, the median and the 99th percentile.
    pub(crate) fn print(&mut self, what: &str) {
        self.0.sort_unstable();
        let Some(last) = self.0.len().checked_sub(1) else { return };
        let at = |share: f64| self.0[(last as f64 * share).round() as usize];
        println!("{what}: p50 {:.2?}, p99 {:.2?}, of {} samples", at(0.5), at(0.99), last + 1);
    }
}
