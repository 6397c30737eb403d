//! What the prober tells the self probe about itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Set by the prober, read by the self probe on its thread.
#[derive(Debug)]
pub(crate) struct Vitals {
    tick_us: AtomicU64,
    failing: Vec<(&'static str, AtomicBool)>,
}

impl Vitals {
    pub(super) fn new(probes: impl Iterator<Item = &'static str>) -> Self {
        let failing = probes.map(|name| (name, AtomicBool::new(false))).collect();
        Self { tick_us: AtomicU64::new(0), failing }
    }

    pub(super) fn set_tick_duration(&self, duration: Duration) {
        self.tick_us.store(duration.as_micros() as u64, Relaxed);
    }

    /// How long the latest tick took.
    pub(super) fn tick_duration(&self) -> Duration {
        Duration::from_micros(self.tick_us.load(Relaxed))
    }

    pub(super) fn set_failing(&self, probe: usize, failing: bool) {
        self.failing[probe].1.store(failing, Relaxed);
    }

    /// Every probe and whether it fails now.
    pub(super) fn failing(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.failing.iter().map(|(name, failing)| (*name, failing.load(Relaxed)))
    }
}
