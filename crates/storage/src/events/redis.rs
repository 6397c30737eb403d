//! Events between processes, over one Redis stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::entry::Origin;
use super::{DeadLetters, Event, EventStream, Received, Retry, Subscription, Unprocessed};
use crate::StorageError;
use crate::redis::{Redis, STORE};

pub(super) mod codec;
mod dead;
mod entry;
mod reader;
mod writer;

/// The server adapter of [`EventStream`].
///
/// An event reaches the subscribers of its own process directly, so that they see it even while Redis is
/// down; those of other processes read it from the stream. Writing is queued: publishing never waits
/// for Redis. Each entry carries a number of its publisher, so that whoever follows knows how many it
/// missed, whether they were trimmed from the stream or never reached it.
#[derive(Debug)]
pub struct RedisEvents {
    redis: Arc<Redis>,
    fan: Fan,
    queue: mpsc::Sender<(u64, Arc<Event>)>,
    /// Number of the latest event published here.
    published: AtomicU64,
    dropped: Arc<AtomicU64>,
    /// The writer and the reader; they end when this is dropped.
    _tasks: JoinSet<()>,
}

/// How many events a subscriber may lag behind before it misses the oldest, and how many may wait to be
/// written.
const LAG_MAX: usize = 8192;

/// To the subscribers of this process.
type Fan = broadcast::Sender<Received>;

impl RedisEvents {
    /// Follows the stream from now on.
    pub async fn open(redis: Arc<Redis>) -> Result<Self, StorageError> {
        let origin = Origin::random();
        let fan = Fan::new(LAG_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let (queue, queued) = mpsc::channel(LAG_MAX);
        let mut tasks = JoinSet::new();
        let reader = reader::Reader::open(redis.clone(), origin, fan.clone()).await?;
        tasks.spawn(reader.run());
        let writer = writer::Writer::new(redis.clone(), origin, queued, dropped.clone());
        tasks.spawn(writer.run());
        Ok(Self { redis, fan, queue, published: AtomicU64::new(0), dropped, _tasks: tasks })
    }

    /// Events published here that did not reach other processes.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl EventStream for RedisEvents {
    /// An error says that Redis is down and other processes will not see the event; subscribers here do.
    async fn publish(&self, event: Event) -> Result<(), StorageError> {
        let event = Arc::new(event);
        // It fails when nobody here listens, which is fine.
        let _ = self.fan.send(Received::Event(event.clone()));
        // What is not sent leaves a hole in the numbers, which others report as missed.
        let number = self.published.fetch_add(1, Ordering::Relaxed) + 1;
        if self.queue.try_send((number, event)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        match self.redis.breaker().open_reason() {
            None => Ok(()),
            Some(reason) => Err(StorageError::Unavailable { store: STORE, reason }),
        }
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, StorageError> {
        Ok(Box::new(RedisSubscription(self.fan.subscribe())))
    }

    async fn set_aside(&self, what: &Unprocessed) -> Result<bool, StorageError> {
        dead::set_aside(&self.redis, what).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<DeadLetters, StorageError> {
        dead::letters(&self.redis, limit).await
    }

    async fn retry_dead(&self, id: &str) -> Result<Retry, StorageError> {
        dead::retry(&self.redis, id).await
    }

    async fn discard_dead(&self, id: &str) -> Result<bool, StorageError> {
        dead::discard(&self.redis, id).await
    }
}

#[derive(Debug)]
struct RedisSubscription(broadcast::Receiver<Received>);

#[async_trait]
impl Subscription for RedisSubscription {
    async fn next(&mut self) -> Option<Received> {
        match self.0.recv().await {
            Ok(received) => Some(received),
            Err(RecvError::Lagged(missed)) => Some(Received::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests;
