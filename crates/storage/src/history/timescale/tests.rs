//! What the contract does not ask: several processes at once, and the views for people.

use model::{
    EventKind, Frame, Gap, GapReason, Item, Labels, Layout, LogEvent, MachineEvent, MachineFacts,
    MachineStatus, Payload, SeqRange, Series, Severity,
};

use super::*;
use crate::registry::{MachineRecord, Registry as _, TimescaleRegistry};
use crate::testing;

fn machine(id: u128) -> MachineId {
    MachineId::from_u128(id).expect("not zero")
}

fn delivery(machine: MachineId, layout: &Layout, items: Vec<Item>) -> Delivery {
    Delivery {
        machine,
        epoch: SpoolEpoch(1),
        received: UnixMillis::from(std::time::SystemTime::now()),
        layouts: vec![layout.clone()],
        items,
    }
}

fn frame(layout: &Layout, time: UnixMillis, values: &[f64]) -> Payload {
    Payload::Frame(Frame { time, layout: layout.id(), values: values.to_vec() })
}

fn web() -> Layout {
    let cpu = Labels::of([("cpu.mode", "user")]);
    let network =
        Labels::of([("network.io.direction", "receive"), ("network.interface.name", "eth0")]);
    let disk = Labels::of([("system.filesystem.mountpoint", "/")]);
    Layout::new(vec![
        Series::gauge("system.cpu.utilization", "1", cpu),
        Series::counter("system.network.io", "By", network),
        Series::gauge("system.filesystem.utilization", "1", disk),
    ])
    .expect("valid")
}

#[tokio::test]
async fn an_item_that_two_processes_bring_at_once_is_stored_once() {
    let Some(timescale) = testing::timescale().await else { return };
    let layout = web();
    let start = UnixMillis(1_700_000_000_000);
    let items: Vec<Item> = (0..200)
        .map(|n| {
            let detail = format!("{n}");
            let kind = EventKind::Reboot;
            let event = MachineEvent { time: start + n, kind, detail, attributes: Labels::empty() };
            Item { seq: n as u64 + 1, payload: Payload::Event(event) }
        })
        .collect();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        // Each with a memory of its own, as in a process of its own.
        let history = TimescaleHistory::new(timescale.clone(), Retention::default());
        let (items, layout) = (items.clone(), layout.clone());
        writers.spawn(async move {
            for chunk in items.chunks(7) {
                // Machines in different orders must not wait for each other for ever.
                let both = [1, 2].map(|id| delivery(machine(id), &layout, chunk.to_vec()));
                history.append(both.to_vec()).await.expect("appended");
            }
        });
    }
    writers.join_all().await;
    let history = TimescaleHistory::new(timescale, Retention::default());
    for id in [1, 2] {
        let all = history.recorded(machine(id), TimeRange::ALL, 1000).await.expect("read");
        assert_eq!(all.len(), 200);
        let acknowledged = history.acknowledged(machine(id), SpoolEpoch(1)).await.expect("read");
        assert_eq!(acknowledged.to_string(), "1-200");
    }
}

#[tokio::test]
async fn frames_that_come_while_their_stretch_is_sealed_are_kept() {
    let Some(timescale) = testing::timescale().await else { return };
    let layout = web();
    let start = UnixMillis(1_700_000_000_000).floor(HOUR_MS);
    let history = Arc::new(TimescaleHistory::new(timescale.clone(), Retention::default()));
    let writer = {
        let (history, layout) = (history.clone(), layout.clone());
        tokio::spawn(async move {
            for n in 0..300i64 {
                // Back and forth in the same hour.
                let time = start + (n * 7919 % 3600) * 1000;
                let item = Item {
                    seq: n as u64 + 1,
                    payload: frame(&layout, time, &[n as f64, 1.0, 0.5]),
                };
                history
                    .append(vec![delivery(machine(1), &layout, vec![item])])
                    .await
                    .expect("appended");
            }
        })
    };
    let sealer = TimescaleHistory::new(timescale, Retention::default());
    while !writer.is_finished() {
        sealer.maintain(start + 2 * HOUR_MS).await.expect("maintained");
    }
    writer.await.expect("wrote");
    let selector =
        SeriesSelector { metric: "system.cpu.utilization".into(), ..SeriesSelector::default() };
    let series = history.find_series(&selector, 10).await.expect("found");
    for _ in 0..20 {
        let read = history.read_raw(&series, TimeRange::ALL).await.expect("read");
        assert_eq!(read[0].times.len(), 300);
        sealer.maintain(start + 3 * HOUR_MS).await.expect("maintained");
    }
}

#[tokio::test]
async fn values_that_the_server_cannot_take_are_not_taken_for_a_server_that_is_away() {
    let Some(timescale) = testing::timescale().await else { return };
    for statement in ["select 1 / 0", "insert into machine (name) values ('x'), ('x')"] {
        for _ in 0..5 {
            let call = async {
                let mut tx = timescale.write().await?;
                sqlx::query(statement).execute(&mut *tx).await?;
                Ok(())
            };
            let error = timescale.call(call).await.expect_err("refused");
            assert!(matches!(error, StorageError::Invalid { .. }), "{error}");
        }
    }
    assert_eq!(timescale.breaker().open_reason(), None);
}

#[tokio::test]
async fn every_query_of_the_documentation_answers() {
    let Some(timescale) = testing::timescale().await else { return };
    let now = UnixMillis::from(std::time::SystemTime::now());
    let facts = MachineFacts { host_name: "web-1".into(), ..MachineFacts::default() };
    let record = MachineRecord {
        id: machine(1),
        facts,
        labels: Labels::empty(),
        first_seen: now,
        last_seen: now,
        status: MachineStatus::Online,
        status_since: now,
    };
    TimescaleRegistry::new(timescale.clone()).put_machine(record).await.expect("kept");
    let layout = web();
    let history = TimescaleHistory::new(timescale.clone(), Retention::default());
    let mut payloads: Vec<Payload> = (0..180)
        .map(|minute| {
            let n = f64::from(180 - minute as i32);
            frame(&layout, now - minute * MINUTE_MS, &[n / 200.0, n * 1e6, 0.9])
        })
        .collect();
    payloads.push(Payload::Event(MachineEvent {
        time: now,
        kind: EventKind::OomKill,
        detail: "killed".into(),
        attributes: Labels::empty(),
    }));
    payloads.push(Payload::Logs(vec![LogEvent {
        time: now,
        severity: Severity::new(17).expect("valid"),
        service: "nginx".into(),
        body: "failed".into(),
        body_truncated: false,
        attributes: Labels::empty(),
        source: "journald".into(),
    }]));
    payloads.push(Payload::Gap(Gap {
        seqs: SeqRange::new(3, 9).expect("ordered"),
        times: Some((now, now)),
        reason: GapReason::SpoolFull,
        detail: "full".into(),
    }));
    let items = payloads.into_iter().zip(1..).map(|(payload, seq)| Item { seq, payload });
    history.append(vec![delivery(machine(1), &layout, items.collect())]).await.expect("appended");
    for later in [0, 2 * MINUTE_MS] {
        while history.maintain(now + later).await.expect("maintained") != Maintained::default() {}
    }
    // Whatever the clock says, one that is not sealed.
    let item = Item { seq: 1000, payload: frame(&layout, now + 1, &[0.5, 1.0, 0.9]) };
    history.append(vec![delivery(machine(1), &layout, vec![item])]).await.expect("appended");

    let page = include_str!("../../../../../docs/reference/sql.md");
    let queries: Vec<&str> =
        page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(queries.len(), 10);
    let mut tx = timescale.read().await.expect("connected");
    for query in queries {
        // It is our own page.
        let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(query)).fetch_all(&mut *tx).await;
        let rows = rows.unwrap_or_else(|error| panic!("{query}: {error}"));
        assert!(!rows.is_empty(), "no rows: {query}");
    }
}
