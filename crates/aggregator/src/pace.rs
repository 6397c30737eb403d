//! How fast what is counted grows: totals are read now and then, and compared with those of a minute ago.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::timing::Buckets;

const EVERY: Duration = Duration::from_secs(5);
/// With the newest, a minute.
const READINGS: usize = 13;

/// Every total at one instant.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    pub(crate) at: Instant,
    pub(crate) flows: Vec<(&'static str, u64)>,
    pub(crate) troubles: Vec<(String, u64)>,
    pub(crate) timings: Vec<(&'static str, Buckets)>,
}

/// The readings of the last minute. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    metrics: Metrics,
    readings: Arc<Mutex<VecDeque<Totals>>>,
}

/// Now, and how it was about a minute ago, or at the start when that is less.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) before: Totals,
    pub(crate) now: Totals,
}

impl Pace {
    pub(crate) fn new(metrics: Metrics) -> Self {
        let readings = VecDeque::from([Totals::of(&metrics, Instant::now())]);
        Self { metrics, readings: Arc::new(Mutex::new(readings)) }
    }

    pub(crate) async fn run(self, stopping: CancellationToken) {
        while stopping.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            let totals = Totals::of(&self.metrics, Instant::now());
            let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
            readings.push_back(totals);
            let surplus = readings.len().saturating_sub(READINGS);
            readings.drain(..surplus);
        }
    }

    pub(crate) fn last_minute(&self) -> Stretch {
        let now = Totals::of(&self.metrics, Instant::now());
        let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        let before = readings.front().cloned().unwrap_or_else(|| now.clone());
        Stretch { before, now }
    }
}

impl Totals {
    fn of(metrics: &Metrics, at: Instant) -> Self {
        Self {
            at,
            flows: metrics.flows(),
            troubles: metrics.troubles(),
            timings: vec![
                ("acknowledgement", metrics.ack_latency.read()),
                ("commit", metrics.commit_duration.read()),
                ("range_query", metrics.query_duration.read()),
                ("probe_stored", metrics.probe_latency[0].read()),
                ("probe_streamed", metrics.probe_latency[1].read()),
                ("probe_watched", metrics.probe_latency[2].read()),
                ("probe_shown", metrics.probe_latency[3].read()),
            ],
        }
    }
}

impl Stretch {
    /// Per second, from one total to the other.
    pub(crate) fn rate(&self, before: u64, now: u64) -> f64 {
        let seconds = self.now.at.saturating_duration_since(self.before.at).as_secs_f64();
        now.saturating_sub(before) as f64 / seconds.max(1.0)
    }
}

/// What came since.
pub(crate) fn since(before: &Buckets, now: &Buckets) -> Buckets {
    std::array::from_fn(|i| now[i].saturating_sub(before[i]))
}
