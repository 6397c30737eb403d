//! The contract of [`EventStream`](crate::EventStream). Every function takes a closure that opens a stream.

use std::sync::Arc;

use model::{MachineId, UnixMillis};

use crate::events::{Event, EventKind, EventStream, Received, Subscription};

/// Runs the whole suite: `events_contract!(async || -> Arc<dyn EventStream> { … })`.
#[macro_export]
macro_rules! events_contract {
    ($($open:tt)+) => {
        $crate::contract_tests!(events, { $($open)+ },
            every_subscriber_gets_every_event_in_order
            a_subscriber_gets_nothing_from_before
            a_slow_subscriber_is_told_what_it_missed_and_slows_nobody
        );
    };
}

fn event(number: i64) -> Event {
    let status = model::MachineStatus::Online;
    Event {
        machine: MachineId::from_u128(1).expect("not zero"),
        kind: EventKind::Status { status, since: UnixMillis(number) },
    }
}

/// The event's number, or `None` and how many were missed.
async fn next(subscription: &mut Box<dyn Subscription>) -> Result<i64, u64> {
    match subscription.next().await.expect("the stream goes on") {
        Received::Missed(count) => Err(count),
        Received::Event(event) => match event.kind {
            EventKind::Status { since, .. } => Ok(since.0),
            ref other => panic!("nobody published {other:?}"),
        },
    }
}

pub async fn every_subscriber_gets_every_event_in_order(
    open: impl AsyncFn() -> Arc<dyn EventStream>,
) {
    let events = open().await;
    let mut subscriptions = Vec::new();
    for _ in 0..3 {
        subscriptions.push(events.subscribe().await.expect("subscribed"));
    }
    for number in 0..50 {
        events.publish(event(number)).await.expect("published");
    }
    for subscription in &mut subscriptions {
        for number in 0..50 {
            assert_eq!(next(subscription).await, Ok(number));
        }
    }
}

pub async fn a_subscriber_gets_nothing_from_before(open: impl AsyncFn() -> Arc<dyn EventStream>) {
    let events = open().await;
    events.publish(event(1)).await.expect("nobody listens, and that is fine");
    let mut subscription = events.subscribe().await.expect("subscribed");
    events.publish(event(2)).await.expect("published");
    assert_eq!(next(&mut subscription).await, Ok(2));
}

pub async fn a_slow_subscriber_is_told_what_it_missed_and_slows_nobody(
    open: impl AsyncFn() -> Arc<dyn EventStream>,
) {
    const PUBLISHED: i64 = 200_000;
    let events = open().await;
    let mut slow = events.subscribe().await.expect("subscribed");
    for number in 0..PUBLISHED {
        events.publish(event(number)).await.expect("published");
    }
    let (mut received, mut missed, mut last) = (0, 0, -1);
    while last < PUBLISHED - 1 {
        match next(&mut slow).await {
            Ok(number) => {
                assert!(number > last);
                (received, last) = (received + 1, number);
            }
            Err(count) => missed += count as i64,
        }
    }
    assert!(missed > 0, "it is bounded");
    assert_eq!(received + missed, PUBLISHED, "and every loss is counted");
}
