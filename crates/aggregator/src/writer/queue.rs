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

/// What an item costs beside its content. It bounds the number of items too.
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
        // As many slots as items that have room: with room, nobody waits for a slot.
        let (sender, receiver) = mpsc::channel(all_bytes / ITEM_OVERHEAD_BYTES + 1);
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

    /// Never waits: what has room has a slot.
    pub(crate) fn submit(&self, submission: Submission) -> Result<(), Closed> {
        let bytes = submission.room.bytes as i64;
        // Counted first, lest the writer be done with it before it was counted.
        self.metrics.queue_items.inc();
        self.metrics.queue_bytes.inc_by(bytes);
        self.sender.try_send(submission).map_err(|_| {
            self.metrics.queue_items.dec();
            self.metrics.queue_bytes.dec_by(bytes);
            Closed
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use model::{MachineId, Payload, SpoolEpoch, UnixMillis};
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::ingest::Outbox;
    use crate::writer::Content;

    #[test]
    fn whatever_has_room_is_taken_at_once_however_small_and_many_the_items_are() {
        let metrics = Metrics::register(&mut Registry::default());
        let config = WriterConfig::default();
        let (queue, mut waiting) = Queue::new(&config, metrics);
        let (outbox, nothing) = (Arc::new(Outbox::new()), Arc::new(Payload::Logs(Vec::new())));
        let mut items = 0;
        let mut budget = queue.budget();
        loop {
            let Some(room) = queue.try_room(&budget, 0) else {
                // This stream has its share; another one comes, unless all is full.
                budget = queue.budget();
                match queue.try_room(&budget, 0) {
                    Some(_) => continue,
                    None => break,
                }
            };
            items += 1;
            let submission = Submission {
                outbox: outbox.clone(),
                machine: MachineId::from_u128(1).expect("not zero"),
                epoch: SpoolEpoch(1),
                received: UnixMillis(0),
                received_mono: Instant::now(),
                seq: items,
                content: Content::Other(nothing.clone()),
                follow: 0,
                room,
            };
            assert!(queue.submit(submission).is_ok(), "item {items} had room");
        }
        assert_eq!(items, config.queue_bytes_max.0 / ITEM_OVERHEAD_BYTES as u64);
        let mut taken = 0;
        while waiting.try_recv().is_ok() {
            taken += 1;
        }
        assert_eq!(taken, items);
    }
}
