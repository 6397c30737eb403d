//! Keeps history in shape: seals, rolls up, expires, evicts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use storage::history::Usage;
use storage::{History, Registry};
use tokio_util::sync::CancellationToken;

use crate::clock::Now;
use crate::metrics::Metrics;
use crate::roll::Roll;

/// How much history holds, as of the last look. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastUsage(Arc<Mutex<Usage>>);

impl LastUsage {
    pub(crate) fn get(&self) -> Usage {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, usage: Usage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = usage;
    }
}

/// The one task that maintains.
#[derive(Debug)]
pub(crate) struct Maintenance {
    pub(crate) history: Arc<dyn History>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) roll: Arc<Roll>,
    pub(crate) usage: LastUsage,
    pub(crate) metrics: Metrics,
}

/// Time between rounds when there is nothing to do.
const IDLE: Duration = Duration::from_secs(15);
/// Time between rounds while there is: appends and queries come in between.
const BUSY: Duration = Duration::from_millis(50);

impl Maintenance {
    pub(crate) async fn run(self, stopping: CancellationToken) {
        let mut failing = false;
        let mut looked: Option<Instant> = None;
        loop {
            let pause = tokio::select! {
                biased;
                () = stopping.cancelled() => return,
                round = self.round(&mut looked) => match round {
                    Ok(worked) => {
                        failing = false;
                        if worked { BUSY } else { IDLE }
                    }
                    Err(error) => {
                        self.metrics.maintenance_failures.inc();
                        if !failing {
                            tracing::warn!(%error, "failed to maintain history; trying again");
                        }
                        failing = true;
                        IDLE
                    }
                },
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// True when there may be more to do. A large fleet always has something to seal, so what there is is looked
    /// at now and then all the same.
    async fn round(&self, looked: &mut Option<Instant>) -> Result<bool, storage::StorageError> {
        let done = self.history.maintain(SystemTime::now().into()).await?;
        let worked = done != Default::default();
        if worked {
            tracing::debug!(
                placed = done.placed,
                sealed = done.sealed,
                rolled_up = done.rolled_up,
                expired = done.expired,
                evicted = done.evicted,
                "maintained history"
            );
        }
        if !worked || looked.is_none_or(|at| at.elapsed() >= IDLE) {
            *looked = Some(Instant::now());
            let usage = self.history.usage().await?;
            self.metrics.history_bytes.set(i64::try_from(usage.bytes).unwrap_or(i64::MAX));
            self.usage.set(usage);
            let _turn = self.roll.registering.lock().await;
            self.roll.meet(self.registry.machines().await?, Now::read());
        }
        Ok(worked)
    }
}
