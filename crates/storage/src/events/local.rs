//! Events within this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use model::UnixMillis;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{
    DEAD_MAX, DeadLetter, DeadLetters, Event, EventStream, Received, Retry, Subscription,
    Unprocessed,
};
use crate::StorageError;

/// The embedded adapter of [`EventStream`]: a bounded broadcast. An event is shared, not copied, and is
/// freed when the last subscriber has read it.
#[derive(Debug)]
pub struct LocalEvents {
    sender: broadcast::Sender<Received>,
    /// By their ids. Locked to add or to take one.
    dead: Mutex<Dead>,
}

/// Without what it is about where that is too large.
type Dead = BTreeMap<String, (DeadLetter, Option<Unprocessed>)>;

/// How many events a subscriber may lag behind before it misses the oldest: some seconds of a fleet of a
/// thousand machines.
const LAG_MAX: usize = 8192;

impl LocalEvents {
    pub fn new() -> Self {
        Self::with_lag_max(LAG_MAX)
    }

    /// The bound is rounded up to a power of two.
    pub fn with_lag_max(events: usize) -> Self {
        Self { sender: broadcast::Sender::new(events), dead: Mutex::default() }
    }

    fn dead(&self) -> MutexGuard<'_, Dead> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for LocalEvents {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl EventStream for LocalEvents {
    async fn publish(&self, event: Event) -> Result<(), StorageError> {
        // It fails when nobody listens, which is fine.
        let _ = self.sender.send(Received::Event(Arc::new(event)));
        Ok(())
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, StorageError> {
        Ok(Box::new(LocalSubscription(self.sender.subscribe())))
    }

    async fn set_aside(&self, what: &Unprocessed) -> Result<bool, StorageError> {
        let mut dead = self.dead();
        if dead.len() >= DEAD_MAX {
            return Ok(false);
        }
        let (letter, _) = what.letter(UnixMillis::from(SystemTime::now()));
        let content = letter.whole.then(|| what.clone());
        dead.entry(letter.id.clone()).or_insert((letter, content));
        Ok(true)
    }

    async fn dead_letters(&self, limit: usize) -> Result<DeadLetters, StorageError> {
        let dead = self.dead();
        let letters = dead.values().take(limit).map(|(letter, _)| letter.clone()).collect();
        Ok(DeadLetters { letters, total: dead.len() })
    }

    async fn retry_dead(&self, id: &str) -> Result<Retry, StorageError> {
        let mut dead = self.dead();
        match dead.get(id) {
            None => return Ok(Retry::Absent),
            Some((_, None)) => return Ok(Retry::Cut),
            Some((_, Some(Unprocessed::Event(event, _)))) => {
                let _ = self.sender.send(Received::Again(event.clone()));
            }
            Some((_, Some(Unprocessed::Unreadable(unreadable)))) => {
                let _ = self.sender.send(Received::Unreadable(unreadable.clone()));
            }
        }
        dead.remove(id);
        Ok(Retry::Published)
    }

    async fn discard_dead(&self, id: &str) -> Result<bool, StorageError> {
        Ok(self.dead().remove(id).is_some())
    }
}

#[derive(Debug)]
struct LocalSubscription(broadcast::Receiver<Received>);

#[async_trait]
impl Subscription for LocalSubscription {
    async fn next(&mut self) -> Option<Received> {
        match self.0.recv().await {
            Ok(received) => Some(received),
            Err(RecvError::Lagged(missed)) => Some(Received::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{MachineId, MachineStatus, UnixMillis};

    use super::*;
    use crate::events::EventKind;

    fn event(since: i64) -> Event {
        let kind = EventKind::Status { status: MachineStatus::Online, since: UnixMillis(since) };
        Event { machine: MachineId::from_u128(7).expect("not zero"), kind }
    }

    async fn since(subscription: &mut Box<dyn Subscription>) -> i64 {
        match subscription.next().await {
            Some(Received::Event(event)) => match &event.kind {
                EventKind::Status { since, .. } => since.0,
                other => panic!("unexpected {other:?}"),
            },
            other => panic!("unexpected {other:?}"),
        }
    }

    #[tokio::test]
    async fn every_subscriber_sees_every_event_from_then_on_in_order() {
        let events = LocalEvents::new();
        events.publish(event(0)).await.expect("published");
        let mut a = events.subscribe().await.expect("subscribed");
        events.publish(event(1)).await.expect("published");
        let mut b = events.subscribe().await.expect("subscribed");
        events.publish(event(2)).await.expect("published");
        assert_eq!((since(&mut a).await, since(&mut a).await), (1, 2));
        assert_eq!(since(&mut b).await, 2);
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_how_much_it_missed_and_goes_on() {
        let events = LocalEvents::with_lag_max(4);
        let mut slow = events.subscribe().await.expect("subscribed");
        for n in 0..10 {
            events.publish(event(n)).await.expect("published");
        }
        match slow.next().await {
            Some(Received::Missed(missed)) => assert_eq!(missed, 6),
            other => panic!("unexpected {other:?}"),
        }
        assert_eq!(since(&mut slow).await, 6);
        drop(events);
        for _ in 7..10 {
            slow.next().await;
        }
        assert!(slow.next().await.is_none());
    }
}
