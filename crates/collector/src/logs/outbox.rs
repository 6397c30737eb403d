//! What was read and goes to the spool next, together with how far it was read.

use std::sync::Arc;

use model::{LogEvent, limits};
use tokio::sync::{mpsc, oneshot};

use super::LogBatch;
use crate::CollectorStats;
use crate::spool::Bookmark;

/// A batch is sent when it has as much text as this.
const BATCH_BYTES: usize = 256 * 1024;
/// What one event takes besides its text, roughly.
const EVENT_BYTES: usize = 128;
/// So many events may come at once.
const EVENTS_AT_ONCE_MAX: usize = limits::LOG_EVENTS_PER_BATCH_MAX / 2;

/// The delivery is gone: there is nobody to read for.
#[derive(Debug)]
pub(crate) struct Closed;

#[derive(Debug)]
pub(super) struct Outbox {
    sender: mpsc::Sender<LogBatch>,
    batch: LogBatch,
    bytes: usize,
    stats: Arc<CollectorStats>,
}

impl Outbox {
    pub(super) fn new(sender: mpsc::Sender<LogBatch>, stats: Arc<CollectorStats>) -> Self {
        Self { sender, batch: LogBatch::default(), bytes: 0, stats }
    }

    /// Takes events in, and where their source goes on after them. True when the batch must be sent.
    pub(super) fn take_in(&mut self, events: &mut Vec<LogEvent>, bookmark: Bookmark) -> bool {
        self.mark(bookmark);
        self.add(events)
    }

    /// As [`Outbox::take_in`], of a source that cannot be read again.
    pub(super) fn add(&mut self, events: &mut Vec<LogEvent>) -> bool {
        debug_assert!(events.len() <= EVENTS_AT_ONCE_MAX);
        self.bytes += events.iter().map(|event| event.body.len() + EVENT_BYTES).sum::<usize>();
        self.batch.events.append(events);
        self.is_full()
    }

    /// Whether the batch must be sent before anything is added.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.batch.events.len() >= EVENTS_AT_ONCE_MAX
    }

    /// Sends the batch if that takes no waiting; keeps it otherwise.
    pub(super) fn try_send(&mut self) -> Result<(), Closed> {
        match self.sender.clone().try_reserve_owned() {
            Ok(permit) => {
                if let Some(batch) = self.take() {
                    permit.send(batch);
                }
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Closed),
        }
    }

    /// As [`Outbox::take_in`], and sends what must be sent, from a thread that may wait.
    pub(super) fn put(
        &mut self,
        events: &mut Vec<LogEvent>,
        bookmark: Bookmark,
    ) -> Result<(), Closed> {
        if self.take_in(events, bookmark) { self.flush() } else { Ok(()) }
    }

    /// Only the latest place of a source counts.
    pub(super) fn mark(&mut self, bookmark: Bookmark) {
        let bookmarks = &mut self.batch.bookmarks;
        match bookmarks.iter_mut().find(|known| known.source == bookmark.source) {
            Some(known) => *known = bookmark,
            None => bookmarks.push(bookmark),
        }
    }

    /// Sends the batch. Waits, with its thread, while the delivery is behind.
    pub(super) fn flush(&mut self) -> Result<(), Closed> {
        match self.take() {
            Some(batch) => self.sender.blocking_send(batch).map_err(|_| Closed),
            None => Ok(()),
        }
    }

    /// As [`Outbox::flush`], without holding up the thread.
    pub(super) async fn send(&mut self) -> Result<(), Closed> {
        if self.batch.events.is_empty() && self.batch.bookmarks.is_empty() {
            return Ok(());
        }
        // The place first: whoever stops waiting loses nothing.
        let permit = self.sender.clone().reserve_owned().await.map_err(|_| Closed)?;
        if let Some(batch) = self.take() {
            permit.send(batch);
        }
        Ok(())
    }

    /// As [`Outbox::send`]; says when it is in the spool, with all that was sent before it.
    pub(super) async fn send_kept(&mut self) -> Result<oneshot::Receiver<()>, Closed> {
        let permit = self.sender.clone().reserve_owned().await.map_err(|_| Closed)?;
        let (sender, kept) = oneshot::channel();
        permit.send(LogBatch { kept: Some(sender), ..self.take().unwrap_or_default() });
        Ok(kept)
    }

    fn take(&mut self) -> Option<LogBatch> {
        if self.batch.events.is_empty() && self.batch.bookmarks.is_empty() {
            return None;
        }
        self.bytes = 0;
        self.stats.add_log_events(self.batch.events.len() as u64);
        Some(std::mem::take(&mut self.batch))
    }

    /// Counts events that came faster than they may.
    pub(super) fn add_dropped(&self, events: u64) {
        self.stats.add_log_dropped(events);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}
