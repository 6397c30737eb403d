//! Events within this process.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Event, EventStream, Received, Subscription};
use crate::StorageError;

/// The embedded adapter of [`EventStream`]: a bounded broadcast. An event is shared, not copied, and is
/// freed when the last subscriber has read it.
#[derive(Debug)]
pub struct LocalEvents {
    sender: broadcast::Sender<Arc<Event>>,
}

/// How many events a subscriber may lag behind before it misses the oldest: some seconds of a fleet of a
/// thousand machines.
const LAG_MAX: usize = 8192;

impl LocalEvents {
    pub fn new() -> Self {
        Self::with_lag_max(LAG_MAX)
    }

    /// The bound is rounded up to a power of two.
    pub fn with_lag_max(events: usize) -> Self {
        Self { sender: broadcast::Sender::new(events) }
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
        let _ = self.sender.send(Arc::new(event));
        Ok(())
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, StorageError> {
        Ok(Box::new(LocalSubscription(self.sender.subscribe())))
    }
}

#[derive(Debug)]
struct LocalSubscription(broadcast::Receiver<Arc<Event>>);

#[async_trait]
impl Subscription for LocalSubscription {
    async fn next(&mut self) -> Option<Received> {
        match self.0.recv().await {
            Ok(event) => Some(Received::Event(event)),
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
