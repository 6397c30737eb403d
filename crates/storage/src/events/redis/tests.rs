use std::time::Duration;

use fred::interfaces::{KeysInterface as _, StreamsInterface as _};
use model::{Frame, Labels, Layout, MachineId, MachineStatus, Series, UnixMillis};

use super::*;
use crate::events::EventKind;
use crate::live::LiveFrame;
use crate::testing;

fn event(since: i64) -> Event {
    let kind = EventKind::Status { status: MachineStatus::Online, since: UnixMillis(since) };
    Event { machine: MachineId::from_u128(7).expect("not zero"), kind }
}

fn number(event: &Event) -> i64 {
    match &event.kind {
        EventKind::Status { since, .. } => since.0,
        other => panic!("unexpected {other:?}"),
    }
}

async fn next(subscription: &mut Box<dyn Subscription>) -> Received {
    let next = tokio::time::timeout(Duration::from_secs(5), subscription.next()).await;
    next.expect("within five seconds").expect("the stream goes on")
}

async fn next_number(subscription: &mut Box<dyn Subscription>) -> i64 {
    match next(subscription).await {
        Received::Event(event) => number(&event),
        other => panic!("unexpected {other:?}"),
    }
}

async fn pair() -> Option<(RedisEvents, RedisEvents)> {
    let prefix = testing::unique("test");
    let one = testing::redis_with(&prefix).await?;
    let two = testing::redis_with(&prefix).await?;
    let one = RedisEvents::open(one).await.expect("opened");
    Some((one, RedisEvents::open(two).await.expect("opened")))
}

#[tokio::test]
async fn every_process_sees_every_event_once_and_in_order() {
    let Some((one, two)) = pair().await else { return };
    let (mut at_one, mut at_two) =
        (one.subscribe().await.expect("subscribed"), two.subscribe().await.expect("subscribed"));
    for n in 0..1000 {
        one.publish(event(n)).await.expect("published");
    }
    for n in 0..1000 {
        assert_eq!(next_number(&mut at_one).await, n);
        assert_eq!(next_number(&mut at_two).await, n);
    }
    two.publish(event(-1)).await.expect("published");
    assert_eq!(next_number(&mut at_two).await, -1);
    assert_eq!(next_number(&mut at_one).await, -1);
    // Nothing came back to whoever published it.
    let more = tokio::time::timeout(Duration::from_millis(200), at_two.next()).await;
    assert!(more.is_err());
}

#[tokio::test]
async fn a_frame_arrives_with_its_layout() {
    let Some((one, two)) = pair().await else { return };
    let mut at_two = two.subscribe().await.expect("subscribed");
    let series = Series::gauge("system.cpu.utilization", "1", Labels::of([("cpu.mode", "user")]));
    let layout = Layout::new(vec![series]).expect("valid");
    let frame = Frame { time: UnixMillis(5), layout: layout.id(), values: vec![0.25] };
    let live = LiveFrame { layout: layout.clone(), frame: Arc::new(frame.clone()) };
    let kind = EventKind::Frame { frame: live, late: true };
    one.publish(Event { kind, ..event(0) }).await.expect("published");
    let Received::Event(received) = next(&mut at_two).await else { panic!("missed") };
    match &received.kind {
        EventKind::Frame { frame: received, late: true } => {
            assert_eq!(received.layout.series(), layout.series());
            assert_eq!(*received.frame, frame);
        }
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn whoever_lost_events_is_told_how_many() {
    let Some((one, two)) = pair().await else { return };
    let mut at_two = two.subscribe().await.expect("subscribed");
    one.publish(event(0)).await.expect("published");
    assert_eq!(next_number(&mut at_two).await, 0);
    // As when the queue was full.
    one.published.fetch_add(3, Ordering::Relaxed);
    one.publish(event(4)).await.expect("published");
    assert!(matches!(next(&mut at_two).await, Received::Missed(3)));
    assert_eq!(next_number(&mut at_two).await, 4);
}

#[tokio::test]
async fn a_quiet_stream_is_followed_without_a_pause() {
    let Some((one, two)) = pair().await else { return };
    let mut at_two = two.subscribe().await.expect("subscribed");
    let mut member = two.consumer("alerts", "a", Duration::from_secs(60)).await.expect("joined");
    // Longer than any command waits for something to happen.
    let quiet = tokio::time::timeout(Duration::from_millis(2500), member.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let published = std::time::Instant::now();
    one.publish(event(7)).await.expect("published");
    assert_eq!(next_number(&mut at_two).await, 7);
    assert!(published.elapsed() < Duration::from_millis(200), "{:?}", published.elapsed());
    assert_eq!(number(&member.next().await.expect("handed out").event), 7);
}

#[tokio::test]
async fn the_stream_is_bounded_and_expires() {
    let Some((one, two)) = pair().await else { return };
    let mut at_two = two.subscribe().await.expect("subscribed");
    one.publish(event(0)).await.expect("published");
    next_number(&mut at_two).await;
    let key = one.redis.keys.events();
    let ttl: i64 = one.redis.any().ttl(&key).await.expect("redis answers");
    assert!(ttl > 0);
    let removed: i64 = one.redis.any().xtrim(&key, ("MAXLEN", "=", 0)).await.expect("trimmed");
    assert_eq!(removed, 1);
    one.publish(event(1)).await.expect("published");
    assert_eq!(next_number(&mut at_two).await, 1);
}

const SOON: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_group_shares_the_work_and_takes_over_from_a_dead_member() {
    let Some((one, two)) = pair().await else { return };
    let mut a = two.consumer("alerts", "a", SOON).await.expect("joined");
    for n in 0..3 {
        one.publish(event(n)).await.expect("published");
    }
    let first = a.next().await.expect("handed out");
    assert_eq!((number(&first.event), first.attempts), (0, 1));
    a.acknowledge(&first.id).await.expect("acknowledged");
    // It dies without having acknowledged the others, which it may have been handed.
    let second = a.next().await.expect("handed out");
    assert_eq!(number(&second.event), 1);
    drop(a);
    tokio::time::sleep(SOON * 2).await;
    let mut b = one.consumer("alerts", "b", SOON).await.expect("joined");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let event = tokio::time::timeout(Duration::from_secs(5), b.next()).await;
        let event = event.expect("in time").expect("handed out");
        b.acknowledge(&event.id).await.expect("acknowledged");
        seen.push(number(&event.event));
    }
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);
}

#[tokio::test]
async fn what_keeps_failing_is_set_aside_and_can_be_retried_or_discarded() {
    let Some((one, _two)) = pair().await else { return };
    let mut a = one.consumer("alerts", "a", SOON).await.expect("joined");
    one.publish(event(1)).await.expect("published");
    let failing = a.next().await.expect("handed out");
    a.give_up(&failing, "the rule is broken").await.expect("set aside");
    let dead = one.dead_letters(10).await.expect("listed");
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].group.as_str(), dead[0].kind.as_str()), ("alerts", "status"));
    assert_eq!(dead[0].reason, "the rule is broken");
    assert!(one.retry_dead(&dead[0].id).await.expect("published again"));
    assert!(!one.discard_dead(&dead[0].id).await.expect("gone already"));
    let again = a.next().await.expect("handed out");
    assert_eq!(number(&again.event), 1);
    assert!(one.dead_letters(10).await.expect("listed").is_empty());

    // Never acknowledged: set aside after the last attempt.
    drop(a);
    for round in 0..=group::ATTEMPTS_MAX + 1 {
        tokio::time::sleep(SOON + SOON / 4).await;
        let mut member = one.consumer("alerts", "b", SOON).await.expect("joined");
        let _ = tokio::time::timeout(Duration::from_millis(300), member.next()).await;
        if one.dead_letters(10).await.expect("listed").len() == 1 {
            assert!(round >= group::ATTEMPTS_MAX - 1, "set aside too early: {round}");
            return;
        }
    }
    panic!("it is handed out for ever");
}

#[tokio::test]
async fn an_entry_that_is_no_event_is_set_aside_by_a_group_and_counted_as_missed_by_subscribers() {
    let Some((one, two)) = pair().await else { return };
    let mut at_two = two.subscribe().await.expect("subscribed");
    let mut a = two.consumer("alerts", "a", SOON).await.expect("joined");
    let fields = vec![("machine", "nobody"), ("kind", "status")];
    let key = one.redis.keys.events();
    let _: String = one.redis.any().xadd(&key, false, None, "*", fields).await.expect("written");
    one.publish(event(1)).await.expect("published");
    assert_eq!(number(&a.next().await.expect("handed out").event), 1);
    let dead = one.dead_letters(10).await.expect("listed");
    assert!(dead[0].reason.contains("machine"), "{dead:?}");
    assert!(matches!(next(&mut at_two).await, Received::Missed(1)));
    assert_eq!(next_number(&mut at_two).await, 1);
}
