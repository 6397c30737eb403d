//! The contract of [`EventStream`](crate::EventStream). Every function takes a closure that opens a stream.

use std::sync::Arc;

use model::{MachineId, UnixMillis};

use crate::events::{
    CONTENT_BYTES_MAX, DEAD_MAX, Event, EventKind, EventStream, Received, Retry, Subscription,
    Unprocessed,
};

/// Runs the whole suite: `events_contract!(async || -> Arc<dyn EventStream> { … })`.
#[macro_export]
macro_rules! events_contract {
    ($($open:tt)+) => {
        $crate::contract_tests!(events, { $($open)+ },
            every_subscriber_gets_every_event_in_order
            a_subscriber_gets_nothing_from_before
            a_slow_subscriber_is_told_what_it_missed_and_slows_nobody
            what_is_set_aside_is_listed_until_it_is_discarded
            a_dead_letter_that_is_retried_reaches_every_subscriber_once_and_is_gone
            what_is_too_large_is_set_aside_without_its_content
            no_more_is_set_aside_than_may_be
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
        Received::Event(event) => Ok(number(&event)),
        other => panic!("nobody asked for {other:?}"),
    }
}

fn number(event: &Event) -> i64 {
    match event.kind {
        EventKind::Status { since, .. } => since.0,
        ref other => panic!("nobody published {other:?}"),
    }
}

fn failed(number: i64) -> Unprocessed {
    Unprocessed::Event(Arc::new(event(number)), format!("failed at {number}"))
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

pub async fn what_is_set_aside_is_listed_until_it_is_discarded(
    open: impl AsyncFn() -> Arc<dyn EventStream>,
) {
    let events = open().await;
    assert_eq!(events.dead_letters(10).await.expect("listed").total, 0);
    for number in 0..3 {
        assert!(events.set_aside(&failed(number)).await.expect("set aside"));
    }
    let dead = events.dead_letters(2).await.expect("listed");
    assert_eq!((dead.total, dead.letters.len()), (3, 2));
    let letter = &dead.letters[0];
    assert_eq!(letter.machine, event(0).machine.to_string());
    assert_eq!(letter.kind, "status");
    assert!(letter.reason.starts_with("failed at ") && letter.whole, "{letter:?}");
    assert!(letter.since.0 > 0 && letter.since <= dead.letters[1].since, "{dead:?}");
    assert!(events.discard_dead(&letter.id).await.expect("discarded"));
    assert!(!events.discard_dead(&letter.id).await.expect("answers"));
    let left = events.dead_letters(10).await.expect("listed");
    assert_eq!(left.total, 2);
    assert!(left.letters.iter().all(|other| other.id != letter.id), "{left:?}");
}

pub async fn a_dead_letter_that_is_retried_reaches_every_subscriber_once_and_is_gone(
    open: impl AsyncFn() -> Arc<dyn EventStream>,
) {
    let events = open().await;
    let mut subscriptions = Vec::new();
    for _ in 0..2 {
        subscriptions.push(events.subscribe().await.expect("subscribed"));
    }
    events.set_aside(&failed(7)).await.expect("set aside");
    let id = events.dead_letters(1).await.expect("listed").letters.remove(0).id;
    assert_eq!(events.retry_dead(&id).await.expect("retried"), Retry::Published);
    assert_eq!(events.dead_letters(1).await.expect("listed").total, 0);
    assert_eq!(events.retry_dead(&id).await.expect("answers"), Retry::Absent);
    events.set_aside(&failed(8)).await.expect("set aside");
    let id = events.dead_letters(1).await.expect("listed").letters.remove(0).id;
    assert_eq!(events.retry_dead(&id).await.expect("retried"), Retry::Published);
    for subscription in &mut subscriptions {
        for expected in [7, 8] {
            match subscription.next().await {
                Some(Received::Again(event)) => assert_eq!(number(&event), expected),
                other => panic!("expected {expected} again, found {other:?}"),
            }
        }
    }
}

pub async fn what_is_too_large_is_set_aside_without_its_content(
    open: impl AsyncFn() -> Arc<dyn EventStream>,
) {
    let events = open().await;
    let kind = EventKind::Machine(model::MachineEvent {
        time: UnixMillis(1),
        kind: model::EventKind::OomKill,
        detail: "x".repeat(CONTENT_BYTES_MAX),
        attributes: model::Labels::empty(),
    });
    let large = Arc::new(Event { kind, ..event(0) });
    let large = Unprocessed::Event(large, "too much".to_owned());
    assert!(events.set_aside(&large).await.expect("set aside"));
    let letter = events.dead_letters(1).await.expect("listed").letters.remove(0);
    assert!(!letter.whole, "{letter:?}");
    assert_eq!(events.retry_dead(&letter.id).await.expect("answers"), Retry::Cut);
    assert!(events.discard_dead(&letter.id).await.expect("discarded"));
}

pub async fn no_more_is_set_aside_than_may_be(open: impl AsyncFn() -> Arc<dyn EventStream>) {
    let events = open().await;
    for number in 0..DEAD_MAX {
        assert!(events.set_aside(&failed(number as i64)).await.expect("set aside"));
    }
    assert!(!events.set_aside(&failed(-1)).await.expect("answers"), "it is bounded");
    let dead = events.dead_letters(DEAD_MAX + 1).await.expect("listed");
    assert_eq!((dead.total, dead.letters.len()), (DEAD_MAX, DEAD_MAX));
}
