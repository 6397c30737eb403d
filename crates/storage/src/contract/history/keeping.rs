//! How long things are kept, and what goes when there is too much.

use std::sync::Arc;

use model::{
    EventKind, Item, Kind, Labels, LogEvent, MachineEvent, MachineId, Payload, ProcessReport,
    Severity, SpoolEpoch, TimeRange, UnixMillis,
};

use super::tiers::assert_same;
use super::{
    DAY, HOUR, MINUTE, SECOND, START, Sender, counter, forever, frame, gauge, layout, settle,
};
use crate::contract::Dice;
use crate::history::{Delivery, History, Retention, Tier};
use crate::rollup::Rollup;

fn log(time: UnixMillis, body: &str) -> Payload {
    Payload::Logs(vec![LogEvent {
        time,
        severity: Severity::default(),
        service: "web".into(),
        body: body.into(),
        body_truncated: false,
        attributes: Labels::empty(),
        source: "file".into(),
    }])
}

pub async fn each_kind_of_thing_is_kept_as_long_as_configured(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let retention = Retention {
        raw_ms: 2 * DAY,
        minute_ms: 10 * DAY,
        hour_ms: 30 * DAY,
        logs_ms: 4 * DAY,
        processes_ms: 3 * DAY,
        events_ms: 20 * DAY,
        size_max: u64::MAX,
    };
    let history = open(retention).await;
    let mut sender = Sender::new(&history, 1, vec![layout(vec![gauge("a")])]);
    let reboot = MachineEvent {
        time: START,
        kind: EventKind::Reboot,
        detail: String::new(),
        attributes: Labels::empty(),
    };
    sender
        .send(vec![
            frame(sender.layouts[0].id(), START, &[1.0]),
            log(START, "hello"),
            Payload::Processes(ProcessReport { time: START, ..ProcessReport::default() }),
            Payload::Event(reboot),
        ])
        .await;
    let series = sender.find("a").await;
    let counts = async || {
        let tier = async |tier| {
            history.read_tier(&series, tier, TimeRange::ALL).await.expect("read")[0].len()
        };
        let raw = history.read_raw(&series, TimeRange::ALL).await.expect("read");
        let processes = history.processes_at(sender.machine, START + SECOND).await.expect("read");
        [
            raw[0].times.len(),
            usize::from(processes.is_some()),
            sender.logs("").await.len(),
            tier(Tier::Minute).await,
            history.recorded(sender.machine, TimeRange::ALL, 9).await.expect("read").len(),
            tier(Tier::Hour).await,
        ]
    };
    for (days, expected) in [
        (1, [1, 1, 1, 1, 1, 1]),
        (3, [0, 1, 1, 1, 1, 1]),
        (4, [0, 0, 1, 1, 1, 1]),
        (5, [0, 0, 0, 1, 1, 1]),
        (12, [0, 0, 0, 0, 1, 1]),
        (21, [0, 0, 0, 0, 0, 1]),
        (32, [0, 0, 0, 0, 0, 0]),
    ] {
        settle(&history, START + days * DAY - HOUR).await;
        settle(&history, START + days * DAY).await;
        assert_eq!(
            counts().await,
            expected,
            "raw, processes, logs, minutes, events, hours after {days} days"
        );
    }
}

pub async fn what_comes_after_its_raw_values_expired_joins_the_tiers(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(Retention { raw_ms: 2 * DAY, ..forever() }).await;
    let mut sender =
        Sender::new(&history, 1, vec![layout(vec![gauge("gauge"), counter("counter")])]);
    let values = |minute: i64| [minute as f64 / 2.0, (minute * 10) as f64];
    for minute in 0..30 {
        sender.send_frames(&[(minute * MINUTE, &values(minute))]).await;
    }
    let mut now = START + 4 * DAY;
    settle(&history, now - HOUR).await;
    settle(&history, now).await;
    assert_eq!(sender.raw("gauge").await, []);
    for part in [30..45, 45..60, 60..90] {
        for minute in part.clone() {
            sender.send_frames(&[(minute * MINUTE, &values(minute))]).await;
        }
        for step in 0..3 {
            for (metric, kind, column) in [("gauge", Kind::Gauge, 0), ("counter", Kind::Counter, 1)]
            {
                for tier in [Tier::Minute, Tier::Hour] {
                    let samples = (0..part.end).map(|m| (START + m * MINUTE, values(m)[column]));
                    let expected = Rollup::of(kind, tier.window_ms(), samples);
                    let series = sender.find(metric).await;
                    let found =
                        history.read_tier(&series, tier, TimeRange::ALL).await.expect("read");
                    let when = format!("{metric} by {tier:?} up to {}, step {step}", part.end);
                    assert_same(kind, &found[0], &expected, &when);
                }
            }
            now = now + MINUTE;
            settle(&history, now).await;
        }
    }
}

pub async fn what_comes_late_while_others_raw_values_expire_is_not_counted_twice(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(Retention { raw_ms: 2 * DAY, ..forever() }).await;
    let layouts = vec![layout(vec![gauge("gauge"), counter("counter")])];
    let mut late = Sender::new(&history, 1, layouts.clone());
    let mut other = Sender::new(&history, 2, layouts);
    let values = |minute: i64| [minute as f64 / 2.0, (minute * 10) as f64];
    for minute in (0..60).filter(|minute| *minute != 30) {
        late.send_frames(&[(minute * MINUTE, &values(minute))]).await;
        other.send_frames(&[(minute * MINUTE, &values(minute))]).await;
        other.send_frames(&[(HOUR + minute * MINUTE, &values(minute))]).await;
    }
    settle(&history, START + 2 * HOUR + 5 * MINUTE).await;
    settle(&history, START + 2 * HOUR + 6 * MINUTE).await;
    // Just when raw values of both hours expire, something more comes for one of the first hour.
    late.send_frames(&[(30 * MINUTE, &values(30))]).await;
    let now = START + 2 * DAY + 2 * HOUR;
    for step in 0..4 {
        for (metric, kind, column) in [("gauge", Kind::Gauge, 0), ("counter", Kind::Counter, 1)] {
            for tier in [Tier::Minute, Tier::Hour] {
                let samples = (0..60).map(|m| (START + m * MINUTE, values(m)[column]));
                let expected = Rollup::of(kind, tier.window_ms(), samples);
                let series = late.find(metric).await;
                let found = history.read_tier(&series, tier, TimeRange::ALL).await.expect("read");
                let when = format!("{metric} by {tier:?}, step {step}");
                assert_same(kind, &found[0], &expected, &when);
            }
        }
        match step {
            0 => _ = history.maintain(now).await.expect("maintained"),
            1 => settle(&history, now).await,
            _ => settle(&history, now + step * MINUTE).await,
        }
    }
    assert_eq!(other.raw("gauge").await, []);
}

pub async fn the_oldest_makes_room_when_there_is_too_much(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    const SIZE_MAX: u64 = 3 << 20;
    let history = open(Retention { size_max: SIZE_MAX, ..forever() }).await;
    let mut sender = Sender::new(&history, 1, vec![layout(vec![gauge("a")])]);
    let mut dice = Dice::new(3);
    let mut noise =
        || -> String { (0..500).map(|_| char::from(b'a' + dice.below(26) as u8)).collect() };
    let mut now = START;
    for hour in 0..48 {
        now = START + hour * HOUR;
        let mut payloads = vec![frame(sender.layouts[0].id(), now, &[hour as f64])];
        payloads.extend((0..400).map(|i| log(now + i * SECOND, &noise())));
        sender.send(payloads).await;
        settle(&history, now + 30 * MINUTE).await;
    }
    now = now + 2 * HOUR;
    settle(&history, now).await;
    let usage = history.usage().await.expect("read");
    assert!(usage.bytes <= SIZE_MAX, "{usage:?}");
    let logs = sender.logs("").await;
    assert!(logs.len() > 400, "the newest are kept: {}", logs.len());
    assert!(logs.len() < 48 * 400, "the oldest are gone");
    assert_eq!(logs[0].time, START + 47 * HOUR + 399 * SECOND);
    // What is small and precious outlives what is large.
    let series = sender.find("a").await;
    let hours = history.read_tier(&series, Tier::Hour, TimeRange::ALL).await.expect("read");
    assert_eq!(hours[0].len(), 48);
    assert!(usage.raw_since.is_some_and(|since| since > START));
}

pub async fn a_removed_machine_is_forgotten_and_may_come_back(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let layouts = vec![layout(vec![gauge("a")])];
    let mut gone = Sender::new(&history, 1, layouts.clone());
    let mut other = Sender::new(&history, 2, layouts.clone());
    for hour in 0..5 {
        for sender in [&mut gone, &mut other] {
            sender
                .send(vec![
                    frame(layouts[0].id(), START + hour * HOUR, &[hour as f64]),
                    log(START + hour * HOUR, "hello"),
                ])
                .await;
        }
    }
    settle(&history, START + 4 * HOUR).await;
    let series = gone.find("a").await;
    history.remove(gone.machine).await.expect("removed");
    for step in 0..2 {
        assert_eq!(gone.find("a").await, [], "step {step}");
        assert!(history.acknowledged(gone.machine, gone.epoch).await.expect("read").is_empty());
        let samples = history.read_raw(&series, TimeRange::ALL).await.expect("read");
        assert_eq!(samples[0].times, []);
        assert_eq!(gone.logs("").await, []);
        assert_eq!(other.raw("a").await.len(), 5);
        settle(&history, START + DAY).await;
    }
    let mut back = Sender::new(&history, 1, layouts);
    back.send_frames(&[(0, &[7.0])]).await;
    assert_eq!(back.raw("a").await, [(0, 7.0)]);
    settle(&history, START + 2 * DAY).await;
    assert_eq!(back.raw("a").await, [(0, 7.0)]);
    let tier = history.read_tier(&back.find("a").await, Tier::Hour, TimeRange::ALL).await;
    assert_eq!(tier.expect("read")[0].len(), 1);
}

pub async fn a_key_of_what_programs_push_is_known_for_a_day_and_a_spool_for_longer(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let (source, epoch) = (model::pushed::source_machine("shop"), SpoolEpoch(7));
    let collector = MachineId::from_u128(7).expect("not zero");
    for machine in [source, collector] {
        let items = vec![Item { seq: 1, payload: log(START, "hello") }];
        let delivery = Delivery { machine, epoch, received: START, layouts: Vec::new(), items };
        history.append(vec![delivery]).await.expect("appended");
    }
    let known =
        async |machine| !history.acknowledged(machine, epoch).await.expect("read").is_empty();
    settle(&history, START + DAY).await;
    assert!(known(source).await && known(collector).await);
    settle(&history, START + DAY + HOUR).await;
    assert!(!known(source).await && known(collector).await);
}
