//! What is kept beside values: process reports, events, gaps, logs.

use std::sync::Arc;

use model::{
    EventKind, Gap, GapReason, Labels, MachineEvent, Payload, Process, ProcessReport, SeqRange,
    TimeRange,
};

use super::{DAY, HOUR, MINUTE, SECOND, START, Sender, forever, settle};
use crate::history::{History, Recorded, Retention};

pub async fn the_newest_process_report_before_a_time_is_found(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![]);
    let report = |seconds: i64| ProcessReport {
        time: START + seconds * SECOND,
        total: seconds as u32,
        processes: vec![Process {
            pid: 1,
            name: "init".into(),
            cpu_utilization: seconds as f64 / 10.0,
            ..Process::default()
        }],
        ..ProcessReport::default()
    };
    for seconds in (0..1800).step_by(5) {
        sender.send(vec![Payload::Processes(report(seconds))]).await;
    }
    let machine = sender.machine;
    let check = async |ms: i64, expected: Option<i64>, when: &str| {
        let found = history.processes_at(machine, START + ms).await.expect("read");
        assert_eq!(found, expected.map(report), "at {ms} ms, {when}");
    };
    for (now, when) in [
        (START, "as they came"),
        (START + 25 * MINUTE, "some sealed"),
        (START + HOUR, "all sealed"),
    ] {
        settle(&history, now).await;
        check(-1, None, when).await;
        check(0, Some(0), when).await;
        check(4 * SECOND, Some(0), when).await;
        check(5 * SECOND, Some(5), when).await;
        check(20 * MINUTE - 1, Some(1195), when).await;
        check(40 * MINUTE - 5 * SECOND, Some(1795), when).await;
        check(40 * MINUTE, None, when).await;
    }
    // A late one for time that was sealed.
    sender.send(vec![Payload::Processes(report(7))]).await;
    for now in [START + HOUR, START + DAY] {
        check(8 * SECOND, Some(7), "late").await;
        check(10 * SECOND, Some(10), "late").await;
        settle(&history, now).await;
    }
    let nobody = model::MachineId::from_u128(9).expect("not zero");
    assert_eq!(history.processes_at(nobody, START).await.expect("read"), None);
}

pub async fn events_and_gaps_come_newest_first(open: impl AsyncFn(Retention) -> Arc<dyn History>) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![]);
    let event = |seconds: i64, kind| MachineEvent {
        time: START + seconds * SECOND,
        kind,
        detail: format!("after {seconds} s"),
        attributes: Labels::of([("unit", "web")]),
    };
    let gap = |times| Gap {
        seqs: SeqRange::new(3, u64::MAX).expect("a range"),
        times,
        reason: GapReason::SpoolFull,
        detail: "the disk was small".into(),
    };
    let timed = gap(Some((START, START + 2 * SECOND)));
    let untimed = gap(None);
    let mut items = Vec::new();
    for (second, kind) in EventKind::ALL.into_iter().enumerate() {
        items.push(sender.item(Payload::Event(event(10 + second as i64, kind))));
    }
    items.push(sender.item(Payload::Gap(timed.clone())));
    items.push(sender.item(Payload::Gap(untimed.clone())));
    let mut delivery = sender.delivery(items);
    delivery.received = START + HOUR;
    history.append(vec![delivery]).await.expect("appended");

    let recorded = async |range: TimeRange, limit: usize| {
        history.recorded(sender.machine, range, limit).await.expect("read")
    };
    let mut expected = vec![Recorded::Gap(untimed, START + HOUR)];
    for (second, kind) in EventKind::ALL.into_iter().enumerate().rev() {
        expected.push(Recorded::Event(event(10 + second as i64, kind)));
    }
    expected.push(Recorded::Gap(timed, START + HOUR));
    assert_eq!(recorded(TimeRange::ALL, 100).await, expected);
    assert_eq!(recorded(TimeRange::ALL, 2).await, expected[..2]);
    let range = TimeRange::new(START, START + 10 * SECOND);
    assert_eq!(recorded(range, 100).await, expected[expected.len() - 1..]);
}
