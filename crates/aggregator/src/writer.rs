//! Into history: many streams, one commit at a time, and no acknowledgement before it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Layout, MachineId, Payload, Seq, SpoolEpoch, UnixMillis};
use storage::{History, StorageError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use self::batch::Batch;
use crate::config::WriterConfig;
use crate::ingest::Outbox;
use crate::metrics::Metrics;

mod batch;
mod queue;
mod strain;

pub(crate) use queue::{Budget, Queue};
pub(crate) use strain::Strain;

/// An item on its way into history.
#[derive(Debug)]
pub(crate) struct Submission {
    /// Whom to acknowledge it to.
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) machine: MachineId,
    pub(crate) epoch: SpoolEpoch,
    pub(crate) received: UnixMillis,
    pub(crate) received_mono: Instant,
    pub(crate) seq: Seq,
    pub(crate) content: Content,
    /// Items of the same outbox that follow at once and go into the same commit: all of them are stored, or none is.
    pub(crate) follow: usize,
    /// Room in the queue, given back when the item is done with.
    pub(crate) room: Room,
}

/// Shared with the live view, so that an item exists once while it waits.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Frame(Layout, Arc<model::Frame>),
    Other(Arc<Payload>),
}

/// Bytes of the queue's bounds that an item occupies: of its stream's, and of all streams'.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) bytes: usize,
    pub(crate) stream: OwnedSemaphorePermit,
    pub(crate) all: OwnedSemaphorePermit,
}

/// The one task that writes to history.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) queue: mpsc::Receiver<Submission>,
    pub(crate) history: Arc<dyn History>,
    pub(crate) config: WriterConfig,
    pub(crate) metrics: Metrics,
    pub(crate) strain: Arc<Strain>,
}

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Items of one commit; what limits it is usually their bytes.
const COMMIT_ITEMS_MAX: usize = 20_000;

impl Writer {
    /// Writes until `draining`, then what is still in the queue, within the configured time. What cannot
    /// be written by then is not acknowledged: its collectors keep it.
    pub(crate) async fn run(mut self, draining: CancellationToken) {
        while let Some(batch) = self.collect(&draining).await {
            self.commit(batch, &draining).await;
        }
    }

    /// The next commit's items; `None` when the queue has ended.
    async fn collect(&mut self, draining: &CancellationToken) -> Option<Batch> {
        let first = tokio::select! {
            biased;
            first = self.queue.recv() => first,
            () = draining.cancelled() => {
                // Nothing enters any more, what is inside still comes out.
                self.queue.close();
                self.queue.recv().await
            }
        }?;
        let mut batch = Batch::default();
        batch.push(first);
        // While the last commit ran, a batch has gathered by itself; only a quiet queue is waited for.
        let deadline = tokio::time::Instant::now() + self.config.commit_window.0;
        let bytes_max = usize::try_from(self.config.commit_bytes_max.0).unwrap_or(usize::MAX);
        loop {
            let is_full = batch.bytes() >= bytes_max || batch.items() >= COMMIT_ITEMS_MAX;
            if is_full && batch.is_whole() {
                break;
            }
            let next = match self.queue.try_recv() {
                Ok(next) => Some(next),
                // They are handed in in a row.
                Err(_) if !batch.is_whole() => self.queue.recv().await,
                Err(_) if draining.is_cancelled() => None,
                Err(_) => tokio::select! {
                    next = timeout_at(deadline, self.queue.recv()) => next.ok().flatten(),
                    () = draining.cancelled() => None,
                },
            };
            match next {
                Some(next) => batch.push(next),
                None => break,
            }
        }
        Some(batch)
    }

    /// Tries until it succeeds: a store that is down slows the streams down, it loses nothing.
    async fn commit(&self, mut batch: Batch, draining: &CancellationToken) {
        let mut pause = RETRY_FIRST;
        let mut give_up: Option<tokio::time::Instant> = None;
        let mut failed: Option<Instant> = None;
        loop {
            match self.append(&batch).await {
                Ok(()) => {
                    if let Some(since) = failed {
                        tracing::info!(
                            duration_ms = since.elapsed().as_millis() as u64,
                            "history takes items again"
                        );
                    }
                    self.acknowledge(batch);
                    return;
                }
                Err(error) => {
                    self.metrics.commit_failures.inc();
                    if failed.is_none() {
                        failed = Some(Instant::now());
                        tracing::error!(
                            %error,
                            items = batch.items(),
                            "failed to write to history; nothing is acknowledged until it takes items again"
                        );
                    }
                    // One delivery that cannot be stored must not hold up those of others.
                    if !error.is_transient() {
                        batch = self.commit_singly(batch).await;
                        if batch.items() == 0 {
                            return;
                        }
                    }
                }
            }
            if draining.is_cancelled() {
                let limit = *give_up.get_or_insert_with(|| {
                    tokio::time::Instant::now() + self.config.drain_timeout.0
                });
                if tokio::time::Instant::now() >= limit {
                    self.abandon(batch);
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // Try once more at once when the end begins.
                () = draining.cancelled(), if give_up.is_none() => {}
            }
            pause = (pause * 2).min(RETRY_MAX);
            if give_up.is_some() {
                pause = pause.min(Duration::from_millis(500));
            }
        }
    }

    async fn append(&self, batch: &Batch) -> Result<(), StorageError> {
        let began = Instant::now();
        self.strain.commit_begins(began);
        let result = self.history.append(batch.deliveries()).await;
        let ended = Instant::now();
        self.metrics.commit_duration.observe(ended.duration_since(began).as_secs_f64());
        if let Some(over) = self.strain.commit_ends(ended, result.is_ok()) {
            tracing::info!(
                duration_ms = over.lasted.as_millis() as u64,
                items = over.items,
                "history keeps up again"
            );
        }
        result
    }

    /// Commits each stream's items alone. What cannot be stored even so is put off: its collector keeps it and
    /// sends it again. Returns what the store was not there for.
    async fn commit_singly(&self, batch: Batch) -> Batch {
        let mut remaining = Batch::default();
        for single in batch.split() {
            match self.append(&single).await {
                Ok(()) => self.acknowledge(single),
                Err(error) if error.is_transient() => remaining.absorb(single),
                Err(error) => {
                    let machine = single.machine();
                    tracing::error!(machine.id = %machine, %error, "failed to store a machine's items");
                    self.done(&single);
                    single.put_off();
                }
            }
        }
        remaining
    }

    fn acknowledge(&self, batch: Batch) {
        self.done(&batch);
        self.metrics.acknowledged.inc_by(batch.items() as u64);
        let now = Instant::now();
        batch.acknowledge(|received| {
            self.metrics.ack_latency.observe(now.saturating_duration_since(received).as_secs_f64());
        });
    }

    fn abandon(&self, batch: Batch) {
        tracing::warn!(
            items = batch.items(),
            "stopped with items that history did not take; their collectors keep them"
        );
        self.done(&batch);
        self.metrics.abandoned.inc_by(batch.items() as u64);
        batch.abandon();
    }

    fn done(&self, batch: &Batch) {
        self.metrics.queue_items.dec_by(batch.items() as i64);
        self.metrics.queue_bytes.dec_by(batch.bytes() as i64);
    }
}
