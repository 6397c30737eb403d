use model::{Headline, Labels, Layout, MachineStatus, Series};

use super::*;
use crate::testing;

fn machine(id: u128) -> MachineId {
    MachineId::from_u128(id).expect("not zero")
}

fn layout(names: &[&str]) -> Layout {
    let series = names.iter().map(|name| Series::gauge(name, "1", Labels::empty()));
    Layout::new(series.collect()).expect("valid")
}

fn frame(layout: &Layout, ms: i64, values: &[f64]) -> LiveFrame {
    let frame = Frame { time: UnixMillis(ms), layout: layout.id(), values: values.to_vec() };
    LiveFrame { layout: layout.clone(), frame: Arc::new(frame) }
}

fn presence() -> Presence {
    Presence {
        status: MachineStatus::Online,
        status_since: UnixMillis(1_700_000_000_000),
        last_seen: UnixMillis(1_700_000_001_500),
        interval_ms: 1000,
        clock_skew_ms: -3,
        connected: true,
        headline: Headline { cpu_utilization: Some(0.4321), ..Headline::default() },
    }
}

async fn recent(live: &RedisLive, since: i64) -> Vec<(i64, Vec<f64>)> {
    let frames = live.recent(machine(7), UnixMillis(since)).await.expect("redis answers");
    frames.iter().map(|f| (f.frame.time.0, f.frame.values.clone())).collect()
}

#[tokio::test]
async fn a_person_can_read_how_a_machine_is_doing() {
    let Some(redis) = testing::redis().await else { return };
    let live = RedisLive::new(redis.clone());
    live.put_presence(machine(7), presence()).await.expect("redis takes it");
    let key = redis.keys.machine(machine(7));
    let fields: HashMap<String, String> = redis.any().hgetall(&key).await.expect("redis answers");
    let check = |name: &str, expected: &str| assert_eq!(fields[name], expected, "{name}");
    check("status", "online");
    check("status_since", "2023-11-14T22:13:20Z");
    check("last_seen", "2023-11-14T22:13:21.5Z");
    check("connected", "yes");
    check("cpu_utilization", "0.4321");
    check("load_1m", "");
    assert_eq!(live.presence(machine(7)).await.expect("redis answers"), Some(presence()));
    let gone = Presence { headline: Headline::default(), ..presence() };
    live.put_presence(machine(7), gone.clone()).await.expect("redis takes it");
    assert_eq!(live.presences().await.expect("redis answers"), [(machine(7), gone)]);
}

#[tokio::test]
async fn five_minutes_stay_and_a_late_frame_joins_them_without_becoming_the_latest() {
    let Some(redis) = testing::redis().await else { return };
    let (live, a) = (RedisLive::new(redis), layout(&["a"]));
    let start = 1_700_000_000_000;
    for second in (0..400).chain([350, 20]) {
        let f = frame(&a, start + second * 1000, &[second as f64]);
        live.put_frame(machine(7), f).await.expect("redis takes it");
    }
    let all = recent(&live, i64::MIN).await;
    assert_eq!(all.first(), Some(&(start + 99_000, vec![99.0])));
    assert_eq!(all.last(), Some(&(start + 399_000, vec![399.0])));
    assert_eq!(all.len(), 301);
    assert_eq!(recent(&live, start + 398_000).await.len(), 2);
    assert_eq!(recent(&live, start + 400_000).await.len(), 0);
    let latest = live.latest(machine(7)).await.expect("redis answers");
    assert_eq!(latest[0].frame.values, [399.0]);
}

#[tokio::test]
async fn another_process_sees_the_same_with_the_layouts_that_explain_it() {
    let prefix = testing::unique("test");
    let Some(redis) = testing::redis_with(&prefix).await else { return };
    let Some(other) = testing::redis_with(&prefix).await else { return };
    let (live, other) = (RedisLive::new(redis.clone()), RedisLive::new(other));
    let (a, b) = (layout(&["a", "b"]), layout(&["c"]));
    live.put_frame(machine(7), frame(&a, 1000, &[1.5, f64::NAN])).await.expect("redis takes it");
    live.put_frame(machine(7), frame(&b, 500, &[3.0])).await.expect("redis takes it");
    live.put_frame(machine(7), frame(&b, 600, &[3.0, 4.0])).await.expect("ignored");
    let latest = other.latest(machine(7)).await.expect("redis answers");
    assert_eq!(
        latest.iter().map(|f| f.layout.series()).collect::<Vec<_>>(),
        [b.series(), a.series()]
    );
    assert_eq!(
        *latest[1].frame,
        Frame { time: UnixMillis(1000), layout: a.id(), values: vec![1.5, f64::NAN] }
    );
    let report = |ms, total| {
        Arc::new(ProcessReport { time: UnixMillis(ms), total, ..ProcessReport::default() })
    };
    for (ms, total) in [(2000, 2), (3000, 3), (1000, 1)] {
        live.put_processes(machine(7), report(ms, total)).await.expect("redis takes it");
    }
    let newest = other.processes(machine(7)).await.expect("redis answers");
    assert_eq!(newest.map(|r| r.total), Some(3));
    live.remove(machine(7)).await.expect("redis answers");
    assert_eq!(other.latest(machine(7)).await.expect("redis answers").len(), 0);
    assert!(other.processes(machine(7)).await.expect("redis answers").is_none());
    assert_eq!(recent(&other, i64::MIN).await, []);
}

#[tokio::test]
async fn a_newer_lease_ends_an_older_one_and_a_lost_one_is_put_back() {
    let Some(redis) = testing::redis().await else { return };
    let live = RedisLive::new(redis.clone());
    let first = live.acquire(machine(7)).await.expect("redis answers");
    let second = live.acquire(machine(7)).await.expect("redis answers");
    assert!(second.token > first.token);
    assert!(!live.is_current(&first).await.expect("redis answers"));
    assert!(live.is_current(&second).await.expect("redis answers"));
    // As after a restart that lost everything.
    let _: i64 = redis.any().del(redis.keys.lease(machine(7))).await.expect("deleted");
    assert!(live.is_current(&second).await.expect("redis answers"));
    assert!(!live.is_current(&first).await.expect("redis answers"));
    let _: i64 = redis.any().del(redis.keys.lease(machine(7))).await.expect("deleted");
    let third = live.acquire(machine(7)).await.expect("redis answers");
    assert!(third.token > second.token);
    live.remove(machine(7)).await.expect("redis answers");
    assert!(!live.is_current(&third).await.expect("redis answers"));
    assert!(live.acquire(machine(7)).await.expect("redis answers").token > third.token);
}

#[tokio::test]
async fn every_key_expires() {
    let prefix = testing::unique("test");
    let Some(redis) = testing::redis_with(&prefix).await else { return };
    let (live, a) = (RedisLive::new(redis.clone()), layout(&["a"]));
    live.acquire(machine(7)).await.expect("redis answers");
    live.put_presence(machine(7), presence()).await.expect("redis takes it");
    live.put_frame(machine(7), frame(&a, 1000, &[1.0])).await.expect("redis takes it");
    live.put_processes(machine(7), Arc::default()).await.expect("redis takes it");
    let keys: Vec<String> = {
        use fred::interfaces::ClientLike as _;
        let pattern = format!("{prefix}:*");
        let command = fred::cmd!("KEYS");
        redis.any().custom(command, vec![pattern]).await.expect("redis answers")
    };
    assert_eq!(keys.len(), 7, "{keys:?}");
    for key in keys {
        let ttl: i64 = redis.any().ttl(&key).await.expect("redis answers");
        assert!(ttl > 0, "{key} lives for ever");
    }
}
