//! The way to the writer, bounded in bytes for each stream and for all of them.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::{Room, Submission};
use crate::config::WriterConfig;
use crate::metrics::Metrics;

/// Where streams hand in their items. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    sender: mpsc::Sender<Submission>,
    all: Arc<Semaphore>,
    all_bytes: usize,
    stream_bytes: usize,
    metrics: Metrics,
}

/// The part of the queue that one stream may fill.
#[derive(Debug)]
pub(crate) struct Budget {
    stream: Arc<Semaphore>,
}

/// The writer has ended.
#[derive(Debug)]
pub(crate) struct Closed;

/// Bytes bound the queue; this bounds the slots for items that are nearly empty.
const ITEMS_MAX: usize = 65_536;
/// What an item costs beside its content.
const ITEM_OVERHEAD_BYTES: usize = 256;

impl Queue {
    pub(crate) fn new(
        config: &WriterConfig,
        metrics: Metrics,
    ) -> (Self, mpsc::Receiver<Submission>) {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        // A permit is a byte, and one request for permits is a `u32`.
        let bound = |bytes: usize| bytes.clamp(1, (u32::MAX >> 1) as usize);
        let all_bytes = bound(bytes(config.queue_bytes_max.0));
        let stream_bytes = bound(bytes(config.stream_bytes_max.0)).min(all_bytes);
        let (sender, receiver) = mpsc::channel(ITEMS_MAX);
        let all = Arc::new(Semaphore::new(all_bytes));
        (Self { sender, all, all_bytes, stream_bytes, metrics }, receiver)
    }

    pub(crate) fn budget(&self) -> Budget {
        Budget { stream: Arc::new(Semaphore::new(self.stream_bytes)) }
    }

    /// Room that is there now.
    pub(crate) fn try_room(&self, budget: &Budget, content_bytes: usize) -> Option<Room> {
        let (bytes, of_stream, of_all) = self.permits(content_bytes);
        let stream = budget.stream.clone().try_acquire_many_owned(of_stream).ok()?;
        let all = self.all.clone().try_acquire_many_owned(of_all).ok()?;
        Some(Room { bytes, stream, all })
    }

    /// Waits for room; this is what slows a stream down when history is slow. Safe to cancel.
    pub(crate) async fn room(&self, budget: &Budget, content_bytes: usize) -> Result<Room, Closed> {
        let (bytes, of_stream, of_all) = self.permits(content_bytes);
        let stream = budget.stream.clone().acquire_many_owned(of_stream).await;
        let all = self.all.clone().acquire_many_owned(of_all).await;
        match (stream, all) {
            (Ok(stream), Ok(all)) => Ok(Room { bytes, stream, all }),
            _ => Err(Closed),
        }
    }

    /// An item larger than a bound takes all of it.
    fn permits(&self, content_bytes: usize) -> (usize, u32, u32) {
        let bytes = content_bytes + ITEM_OVERHEAD_BYTES;
        (bytes, bytes.min(self.stream_bytes) as u32, bytes.min(self.all_bytes) as u32)
    }

    pub(crate) async fn submit(&self, submission: Submission) -> Result<(), Closed> {
        let bytes = submission.room.bytes as i64;
        // Counted first, lest the writer be done with it before it was counted.
        self.metrics.queue_items.inc();
        self.metrics.queue_bytes.inc_by(bytes);
        self.sender.send(submission).await.map_err(|_| {
            self.metrics.queue_items.dec();
            self.metrics.queue_bytes.dec_by(bytes);
            Closed
        })
    }
}
