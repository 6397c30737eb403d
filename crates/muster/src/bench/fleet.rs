//! What the made-up machines share, whichever way they speak.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use model::{MachineId, UnixMillis};
use tonic::transport::Endpoint;

use super::latency::Latency;

/// What each machine does.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) machines: usize,
    pub(super) series: usize,
    pub(super) interval: Duration,
    /// Past to send first.
    pub(super) backfill: Duration,
    /// How long to send the present.
    pub(super) duration: Duration,
    /// As fast as it is acknowledged, instead of at the interval.
    pub(super) max: bool,
    /// Time between two replacements of a tenth of the series.
    pub(super) churn: Option<Duration>,
    /// How long acknowledgements may fail to come before a machine gives up on them.
    pub(super) patience: Duration,
    /// Log events a second of the whole fleet.
    pub(super) logs_per_second: u64,
    /// The present, as the run began.
    pub(super) start: UnixMillis,
}

impl Plan {
    /// Which replacement of series the next frame has, after this many.
    pub(super) fn generation(&self, frames: u64) -> u32 {
        let Some(every) = self.churn else { return 0 };
        let frames_each = (every.as_secs_f64() / self.interval.as_secs_f64()).max(1.0) as u64;
        (frames / frames_each) as u32
    }
}

#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) plan: Plan,
    pub(super) target: Endpoint,
    pub(super) frames_acknowledged: AtomicU64,
    pub(super) connected: AtomicU64,
}

/// What one machine sent, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) frames_sent: u64,
    pub(super) frames_acknowledged: u64,
    /// For good.
    pub(super) frames_rejected: u64,
    /// Of all that were settled, those that the server could not take at first.
    pub(super) frames_put_off: u64,
    pub(super) logs_sent: u64,
    pub(super) logs_acknowledged: u64,
    pub(super) latency: Latency,
}

impl Outcome {
    pub(super) fn add(&mut self, other: &Self) {
        self.frames_sent += other.frames_sent;
        self.frames_acknowledged += other.frames_acknowledged;
        self.frames_rejected += other.frames_rejected;
        self.frames_put_off += other.frames_put_off;
        self.logs_sent += other.logs_sent;
        self.logs_acknowledged += other.logs_acknowledged;
        self.latency.add(&other.latency);
    }
}

pub(super) fn id(seed: u64, index: usize) -> MachineId {
    MachineId::from_u128((u128::from(seed) << 64 | 0xbe7c << 32) + index as u128 + 1)
        .expect("not zero")
}

pub(super) fn name(index: usize) -> String {
    format!("bench-{index:04}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_replaced_as_often_as_asked() {
        let plan = |churn: Option<u64>| Plan {
            interval: Duration::from_secs(1),
            churn: churn.map(Duration::from_secs),
            ..Plan::default()
        };
        assert_eq!([0, 9, 10, 25].map(|n| plan(Some(10)).generation(n)), [0, 0, 1, 2]);
        assert_eq!(plan(None).generation(1000), 0);
    }
}
