//! Makes what the watcher decided durable, and then wakes those who tell it.

use std::time::Duration;

use std::sync::Arc;
use storage::alerting::{AlertChanges, Alerting};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Changes that are kept in one transaction at most.
const TOGETHER_MAX: usize = 256;
/// Incidents that ended, and audits, are kept for two years.
const HISTORY_MS: i64 = 2 * 365 * 24 * 3600 * 1000;
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) store: Arc<dyn Alerting>,
    pub(crate) queue: mpsc::Receiver<AlertChanges>,
    /// Moves whenever there may be something new to tell.
    pub(crate) news: watch::Sender<u64>,
    pub(crate) metrics: Metrics,
}

impl Keeper {
    /// Ends when the watcher has and everything is kept; or when told to, with the store still down.
    pub(crate) async fn run(mut self, give_up: CancellationToken) {
        let mut hourly = tokio::time::interval(PRUNE_EVERY);
        loop {
            let mut changes = tokio::select! {
                changes = self.queue.recv() => match changes {
                    Some(changes) => changes,
                    None => return,
                },
                _ = hourly.tick() => {
                    self.prune().await;
                    continue;
                }
            };
            let mut together = 1;
            while together < TOGETHER_MAX
                && let Ok(more) = self.queue.try_recv()
            {
                changes.append(more);
                together += 1;
            }
            if !self.keep(&changes, &give_up).await {
                tracing::error!("the state of alerts could not be kept before the end");
                return;
            }
            if !changes.notices.is_empty() {
                self.news.send_modify(|count| *count += 1);
            }
        }
    }

    async fn prune(&self) {
        if let Err(error) = self.store.prune(crate::book::now() - HISTORY_MS).await {
            tracing::warn!(%error, "failed to forget old incidents, trying again in an hour");
        }
    }

    async fn keep(&self, changes: &AlertChanges, give_up: &CancellationToken) -> bool {
        let mut pause = PAUSE_MIN;
        loop {
            match self.store.record(changes.clone()).await {
                Ok(()) => return true,
                Err(error) => {
                    self.metrics.commit_failures.inc();
                    if pause == PAUSE_MIN {
                        tracing::error!(%error, "failed to keep the state of alerts, trying again");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                () = give_up.cancelled() => return false,
            }
        }
    }
}
