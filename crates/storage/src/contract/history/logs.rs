//! Log events: kept once, found by what was asked, in pages; errors in groups.

use std::sync::Arc;

use model::{Item, Labels, LogEvent, LogQuery, Payload, Severity, TimeRange};

use super::{DAY, HOUR, MINUTE, SECOND, START, Sender, forever, settle};
use crate::history::{History, LogPage, LogSearch, Retention};

fn log(seconds: i64, severity: u32, service: &str, body: &str) -> LogEvent {
    LogEvent {
        time: START + seconds * SECOND,
        severity: Severity::new(severity).expect("a severity"),
        service: service.into(),
        body: body.into(),
        body_truncated: seconds % 2 == 0,
        attributes: Labels::of([("code", "500")]),
        source: "journald".into(),
    }
}

/// All that the tests send.
fn days() -> TimeRange {
    TimeRange::new(START, START + 2 * DAY)
}

pub async fn logs_come_newest_first(open: impl AsyncFn(Retention) -> Arc<dyn History>) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![]);
    let log = |seconds: i64| {
        log(seconds, 17, "web", &format!("request {seconds} \"failed\" \u{1F600}\u{0}"))
    };
    sender.send(vec![Payload::Logs((0..100).map(log).collect())]).await;
    sender.send(vec![Payload::Logs((100..150).rev().map(log).collect())]).await;
    let logs = async |range: TimeRange, limit: usize| -> Vec<LogEvent> {
        let search = LogSearch::of(sender.machine, range, limit);
        let page = history.search_logs(search).await.expect("read");
        page.events.into_iter().map(|found| found.event).collect()
    };
    assert_eq!(logs(TimeRange::ALL, 3).await, [149, 148, 147].map(log));
    let range = TimeRange::new(START + 98 * SECOND, START + 101 * SECOND);
    assert_eq!(logs(range, 100).await, [100, 99, 98].map(log));
    assert_eq!(logs(TimeRange::ALL, 1000).await.len(), 150);
}

pub async fn log_events_of_an_item_sent_again_are_stored_once(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![]);
    let items: Vec<Item> = (0..3)
        .map(|i| {
            sender.item(Payload::Logs(vec![log(i, 17, "web", "failed"), log(i, 9, "web", "x")]))
        })
        .collect();
    history.append(vec![sender.delivery(items[..2].to_vec())]).await.expect("appended");
    history
        .append(vec![sender.delivery(items[1..].to_vec()), sender.delivery(items.clone())])
        .await
        .expect("appended");
    assert_eq!(sender.logs("").await.len(), 6);
    let errors = history.errors(days(), HOUR, None).await.expect("read");
    assert_eq!(errors.groups.iter().map(|group| group.count).collect::<Vec<_>>(), [3]);
}

pub async fn a_query_selects_log_events(open: impl AsyncFn(Retention) -> Arc<dyn History>) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![]);
    // One commit large enough for a block with a filter, one small.
    let mut many: Vec<LogEvent> = (0..5000)
        .map(|i| log(i, 9, ["api", "web", "db"][i as usize % 3], &format!("request {i} took 5 ms")))
        .collect();
    many[1000] = log(1000, 18, "api", "Connection refused by 10.0.0.12:5432");
    many[3000] = log(3000, 21, "web", "out of memory\n  at line 5");
    many[4000] =
        LogEvent { attributes: Labels::of([("user", "Ann")]), ..log(4000, 0, "cron", "ran") };
    sender.send(vec![Payload::Logs(many)]).await;
    sender.send(vec![Payload::Logs(vec![log(6000, 17, "api", "connection refused, again")])]).await;
    for round in 0..2 {
        for (query, expected) in [
            ("refused", &[6000, 1000][..]),
            ("\"refused connection\"", &[]),
            ("\"connection refused\" -again", &[1000]),
            ("10.0.0.12", &[1000]),
            ("10.0.0.13", &[]),
            ("REQUEST 4999", &[4999]),
            ("level:>=error", &[6000, 3000, 1000]),
            ("level:error service:api", &[6000, 1000]),
            ("level:error service:web", &[]),
            ("level:fatal", &[3000]),
            ("level:unknown", &[4000]),
            ("service:cr*", &[4000]),
            ("user:ann", &[4000]),
            ("ann", &[4000]),
            ("memo*", &[3000]),
            ("nowhere", &[]),
            ("-level:info", &[6000, 4000, 3000, 1000]),
        ] {
            let found: Vec<i64> =
                sender.logs(query).await.iter().map(|e| e.time.since(START) / SECOND).collect();
            assert_eq!(found, expected, "{query}, round {round}");
        }
        assert_eq!(sender.logs("service:db").await.len(), 1666);
        settle(&history, START + (1 + round) * DAY + 2 * HOUR).await;
    }
}

pub async fn pages_of_log_events_are_complete_while_blocks_are_joined(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let mut first = Sender::new(&history, 1, vec![]);
    let mut second = Sender::new(&history, 2, vec![]);
    // Many small commits, three events to each instant.
    for i in 0..150 {
        let sender = if i % 2 == 0 { &mut first } else { &mut second };
        let events = (0..2).map(|n| log(i / 3, 9, "web", &format!("event {i} {n}"))).collect();
        sender.send(vec![Payload::Logs(events)]).await;
    }
    let mut search = LogSearch {
        query: LogQuery::default(),
        machines: None,
        range: TimeRange::ALL,
        before: None,
        limit: 7,
    };
    let mut bodies = Vec::new();
    let mut joined = 0;
    loop {
        let LogPage { events, next } = history.search_logs(search.clone()).await.expect("read");
        assert!(events.is_sorted_by(|a, b| a.position > b.position));
        bodies.extend(events.into_iter().map(|found| found.event.body));
        search.before = next;
        if next.is_none() {
            break;
        }
        joined += history.maintain(START + MINUTE).await.expect("maintained").sealed;
    }
    assert!(joined > 0, "small blocks were joined meanwhile");
    bodies.sort();
    let mut expected: Vec<String> =
        (0..150).flat_map(|i| (0..2).map(move |n| format!("event {i} {n}"))).collect();
    expected.sort();
    assert_eq!(bodies, expected);
}

pub async fn removed_machines_have_no_log_events(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let mut gone = Sender::new(&history, 1, vec![]);
    let mut other = Sender::new(&history, 2, vec![]);
    for sender in [&mut gone, &mut other] {
        sender.send(vec![Payload::Logs(vec![log(1, 17, "web", "before")])]).await;
    }
    history.remove(gone.machine).await.expect("removed");
    let mut back = Sender::new(&history, 1, vec![]);
    back.send(vec![Payload::Logs(vec![log(2, 9, "web", "after")])]).await;
    for _ in 0..2 {
        let bodies = |events: Vec<LogEvent>| -> Vec<String> {
            events.into_iter().map(|event| event.body).collect()
        };
        assert_eq!(bodies(back.logs("").await), ["after"]);
        assert_eq!(bodies(other.logs("").await), ["before"]);
        let errors = history.errors(days(), HOUR, None).await.expect("read");
        assert!(errors.counts.iter().all(|count| count.machine == other.machine));
        // All of that day becomes one block.
        settle(&history, START + DAY + HOUR).await;
    }
}

pub async fn errors_are_counted_once_by_group_machine_and_time(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(Retention { logs_ms: 4 * DAY, ..forever() }).await;
    let mut one = Sender::new(&history, 1, vec![]);
    let mut two = Sender::new(&history, 2, vec![]);
    for i in 0..5 {
        let body = format!("order {i} failed");
        one.send(vec![Payload::Logs(vec![
            log(i * 60, 17, "shop", &body),
            log(i * 60, 21, "shop", "no such table"),
            log(i * 60, 13, "shop", "slow"),
        ])])
        .await;
    }
    two.send(vec![Payload::Logs(vec![log(4000, 19, "shop", "order 7 failed")])]).await;
    let errors = history.errors(days(), HOUR, None).await.expect("read");
    let failed =
        errors.groups.iter().find(|g| g.template == "order <number> failed").expect("found");
    assert_eq!((failed.service.as_str(), failed.count), ("shop", 6));
    assert_eq!(failed.example, "order 0 failed");
    assert_eq!(failed.severity.number(), 19);
    assert_eq!((failed.first_seen, failed.last_seen), (START, START + 4000 * SECOND));
    assert_eq!(errors.groups.len(), 2);
    let counts = |machine| -> Vec<(i64, u64)> {
        let of = errors.counts.iter();
        of.filter(|c| c.fingerprint == failed.fingerprint && c.machine == machine)
            .map(|c| (c.time.since(START) / HOUR, c.count))
            .collect()
    };
    assert_eq!(counts(one.machine), [(0, 5)]);
    assert_eq!(counts(two.machine), [(1, 1)]);
    let range = TimeRange::new(START + 2 * MINUTE, START + 4 * MINUTE);
    let some = history.errors(range, MINUTE, Some(&[one.machine])).await.expect("read");
    assert_eq!(some.counts.iter().map(|c| c.count).collect::<Vec<_>>(), [1, 1, 1, 1]);
    let none = history.errors(range, MINUTE, Some(&[two.machine])).await.expect("read");
    assert_eq!((none.groups.len(), none.counts.len()), (0, 0));
    settle(&history, START + 5 * DAY).await;
    settle(&history, START + 5 * DAY + HOUR).await;
    let later = history.errors(days(), HOUR, None).await.expect("read");
    assert_eq!((later.groups.len(), later.counts.len()), (0, 0));
}
