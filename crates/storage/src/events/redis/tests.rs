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
    // Longer than any command waits for something to happen.
    let quiet = tokio::time::timeout(Duration::from_millis(2500), at_two.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let published = std::time::Instant::now();
    one.publish(event(7)).await.expect("published");
    assert_eq!(next_number(&mut at_two).await, 7);
    assert!(published.elapsed() < Duration::from_millis(200), "{:?}", published.elapsed());
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

async fn write(events: &RedisEvents, fields: Vec<(&'static str, &str)>) {
    let key = events.redis.keys.events();
    let _: String = events.redis.any().xadd(&key, false, None, "*", fields).await.expect("written");
}

async fn next_unreadable(subscription: &mut Box<dyn Subscription>) -> Unprocessed {
    match next(subscription).await {
        Received::Unreadable(unreadable) => Unprocessed::Unreadable(unreadable),
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn what_no_process_can_read_is_set_aside_once() {
    let Some((one, two)) = pair().await else { return };
    let (mut at_one, mut at_two) =
        (one.subscribe().await.expect("subscribed"), two.subscribe().await.expect("subscribed"));
    write(&one, vec![("machine", "nobody"), ("kind", "status"), ("data", "x")]).await;
    one.publish(event(1)).await.expect("published");
    let (first, second) = (next_unreadable(&mut at_one).await, next_unreadable(&mut at_two).await);
    // What comes behind it is not held up.
    assert_eq!((next_number(&mut at_one).await, next_number(&mut at_two).await), (1, 1));
    assert!(one.set_aside(&first).await.expect("set aside"));
    assert!(two.set_aside(&second).await.expect("there already"));
    let dead = two.dead_letters(10).await.expect("listed");
    assert_eq!(dead.total, 1, "{dead:?}");
    let letter = &dead.letters[0];
    assert_eq!((letter.machine.as_str(), letter.kind.as_str()), ("nobody", "status"));
    assert!(letter.reason.starts_with("machine: "), "{letter:?}");

    // It is still unreadable: then it can be set aside again.
    assert_eq!(two.retry_dead(&letter.id).await.expect("retried"), Retry::Published);
    assert!(one.set_aside(&next_unreadable(&mut at_one).await).await.expect("set aside"));
    assert_ne!(one.dead_letters(10).await.expect("listed").letters[0].id, letter.id);
}

#[tokio::test]
async fn whoever_is_killed_while_retrying_loses_and_doubles_nothing() {
    let Some((one, two)) = pair().await else { return };
    let mut at_two = two.subscribe().await.expect("subscribed");
    let failed = Unprocessed::Event(Arc::new(event(7)), "failed".to_owned());
    one.set_aside(&failed).await.expect("set aside");
    let letter = one.dead_letters(1).await.expect("listed").letters.remove(0);
    let fields = entry::again(&letter, codec::encode(&event(7).kind).1.into());
    // Published, and killed before it was forgotten.
    let key = one.redis.keys.events();
    let _: String = one.redis.any().xadd(&key, false, None, "*", fields).await.expect("written");
    assert_eq!(one.retry_dead(&letter.id).await.expect("retried"), Retry::Published);
    one.publish(event(8)).await.expect("published");
    match next(&mut at_two).await {
        Received::Again(event) => assert_eq!(number(&event), 7),
        other => panic!("unexpected {other:?}"),
    }
    assert_eq!(next_number(&mut at_two).await, 8, "it came once");
}

#[tokio::test]
async fn dead_letters_are_readable_by_hand_and_expire() {
    use fred::interfaces::HashesInterface as _;
    let Some((one, _two)) = pair().await else { return };
    let failed = Unprocessed::Event(Arc::new(event(7)), "failed".to_owned());
    one.set_aside(&failed).await.expect("set aside");
    for key in [one.redis.keys.dead(), one.redis.keys.dead_content()] {
        let ttl: i64 = one.redis.any().ttl(&key).await.expect("redis answers");
        assert!(ttl > 0, "{key} stays for ever");
    }
    let shown: Vec<String> =
        one.redis.any().hvals(one.redis.keys.dead()).await.expect("redis answers");
    assert!(shown[0].contains(r#""kind":"status","reason":"failed","whole":true"#), "{shown:?}");
}
