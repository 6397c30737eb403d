//! Makes what the watcher decided durable, and then wakes those who tell it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use storage::StorageError;
use storage::alerting::{Alerting, Batch, Claim};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::watch::Decided;

/// Changes that are kept in one transaction at most.
const TOGETHER_MAX: usize = 256;
/// Incidents that ended, and audits, are kept for two years.
const HISTORY_MS: i64 = 2 * 365 * 24 * 3600 * 1000;
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the watcher hands over, in order.
#[derive(Debug)]
pub(crate) enum Keep {
    Changes(Decided),
    /// Everything that was decided under these claims came before.
    Release(Vec<Claim>),
}

#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) store: Arc<dyn Alerting>,
    pub(crate) queue: mpsc::Receiver<Keep>,
    /// Moves whenever there may be something new to tell.
    pub(crate) news: watch::Sender<u64>,
    pub(crate) metrics: Metrics,
    /// The latest batch of each claim.
    pub(crate) numbers: HashMap<Claim, i64>,
}

impl Keeper {
    /// Ends when the watcher has and everything is kept; or when told to, with the store still down.
    pub(crate) async fn run(mut self, give_up: CancellationToken) {
        let mut hourly = tokio::time::interval(PRUNE_EVERY);
        loop {
            let first = tokio::select! {
                keep = self.queue.recv() => match keep {
                    Some(keep) => keep,
                    None => return,
                },
                _ = hourly.tick() => {
                    self.prune().await;
                    continue;
                }
            };
            let (changes, release) = self.together(first);
            if !self.keep(changes, &give_up).await || !self.release(&release, &give_up).await {
                tracing::error!("the state of alerts could not be kept before the end");
                return;
            }
        }
    }

    /// What waits already goes into the same transaction, up to a release.
    fn together(&mut self, first: Keep) -> (Decided, Vec<Claim>) {
        let mut changes = match first {
            Keep::Changes(changes) => changes,
            Keep::Release(claims) => return (Decided::new(), claims),
        };
        for _ in 1..TOGETHER_MAX {
            match self.queue.try_recv() {
                Ok(Keep::Changes(more)) => {
                    for (claim, later) in more {
                        changes.entry(claim).or_default().append(later);
                    }
                }
                Ok(Keep::Release(claims)) => return (changes, claims),
                Err(_) => break,
            }
        }
        (changes, Vec::new())
    }

    async fn prune(&self) {
        if let Err(error) = self.store.prune(crate::book::now() - HISTORY_MS).await {
            tracing::warn!(%error, "failed to forget old incidents, trying again in an hour");
        }
    }

    async fn keep(&mut self, changes: Decided, give_up: &CancellationToken) -> bool {
        if changes.is_empty() {
            return true;
        }
        let news = changes.values().any(|changes| !changes.notices.is_empty());
        let batch = |(claim, changes)| {
            let number = self.numbers.entry(claim).or_default();
            *number += 1;
            Batch { claim, number: *number, changes }
        };
        // With the same numbers however often it is tried: it takes effect once.
        let batches: Vec<Batch> = changes.into_iter().map(batch).collect();
        let store = self.store.clone();
        let record = || store.record_under(batches.clone());
        let Some(refused) = self.persist(record, give_up).await else { return false };
        if !refused.is_empty() {
            // Whoever watches these machines now has decided the same, or will.
            self.metrics.claims_refused.inc_by(refused.len() as u64);
            tracing::warn!(
                shards = refused.len(),
                "other alert services had taken over machines: what was decided of them here is dropped"
            );
        }
        if news {
            self.news.send_modify(|count| *count += 1);
        }
        true
    }

    async fn release(&mut self, claims: &[Claim], give_up: &CancellationToken) -> bool {
        if claims.is_empty() {
            return true;
        }
        self.numbers.retain(|claim, _| !claims.contains(claim));
        let store = self.store.clone();
        self.persist(|| store.release(claims), give_up).await.is_some()
    }

    /// Tries until the store took it. `None` when told to give up.
    async fn persist<T, F>(
        &self,
        mut attempt: impl FnMut() -> F,
        give_up: &CancellationToken,
    ) -> Option<T>
    where
        F: Future<Output = Result<T, StorageError>>,
    {
        let mut pause = PAUSE_MIN;
        loop {
            match attempt().await {
                Ok(done) => return Some(done),
                Err(error) => {
                    self.metrics.commit_failures.inc();
                    if pause == PAUSE_MIN {
                        tracing::error!(%error, "failed to keep the state of alerts, trying again");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                () = give_up.cancelled() => return None,
            }
        }
    }
}
