//! What only this adapter can show: damage, a full disk, other versions, cancellation, reopening.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use model::{
    EventKind, Frame, Item, Labels, Layout, MachineEvent, MachineId, Payload, Series, SpoolEpoch,
    TimeRange, UnixMillis,
};

use super::*;
use crate::history::SeriesSelector;
use crate::sqlite::testing::scratch;

const START: UnixMillis = UnixMillis(19_700 * DAY_MS);

fn machine() -> MachineId {
    MachineId::from_u128(1).expect("not zero")
}

fn layout() -> Layout {
    Layout::new(vec![Series::gauge("a", "1", Labels::empty())]).expect("a valid layout")
}

fn frame(ms: i64, value: f64) -> Payload {
    Payload::Frame(Frame { time: START + ms, layout: layout().id(), values: vec![value] })
}

fn event(detail: String) -> Payload {
    let attributes = Labels::empty();
    Payload::Event(MachineEvent { time: START, kind: EventKind::Reboot, detail, attributes })
}

fn delivery(first: u64, payloads: Vec<Payload>) -> Vec<Delivery> {
    vec![Delivery {
        machine: machine(),
        epoch: SpoolEpoch(1),
        received: START,
        layouts: vec![layout()],
        items: (first..).zip(payloads).map(|(seq, payload)| Item { seq, payload }).collect(),
    }]
}

async fn history() -> SqliteHistory {
    SqliteHistory::new(scratch().await, Retention::default())
}

async fn raw(history: &SqliteHistory) -> Vec<(i64, f64)> {
    let selector = SeriesSelector { metric: "a".into(), ..SeriesSelector::default() };
    let series = history.find_series(&selector, 9).await.expect("found");
    let samples = history.read_raw(&series, TimeRange::ALL).await.expect("read");
    let Some(samples) = samples.first() else { return Vec::new() };
    samples.times.iter().map(|t| t.since(START)).zip(samples.values.iter().copied()).collect()
}

async fn settle(history: &SqliteHistory, now: UnixMillis) {
    while history.maintain(now).await.expect("maintained") != Maintained::default() {}
}

async fn execute(history: &SqliteHistory, statement: &'static str) {
    let mut tx = history.database.write().await.expect("begins");
    sqlx::query(statement).execute(&mut *tx).await.expect("executed");
    tx.commit().await.expect("committed");
}

async fn count(history: &SqliteHistory, statement: &'static str) -> i64 {
    let mut tx = history.database.read().await.expect("begins");
    sqlx::query_scalar(statement).fetch_one(&mut *tx).await.expect("counted")
}

#[tokio::test]
async fn an_hour_that_is_closed_is_one_block_and_no_frames() {
    let history = history().await;
    for minute in 0..60 {
        let payloads = vec![frame(minute * MINUTE_MS, minute as f64)];
        history.append(delivery(1 + minute as u64, payloads)).await.expect("appended");
        settle(&history, START + minute * MINUTE_MS).await;
    }
    assert_eq!(count(&history, "select count(*) from block").await, 5, "closed stretches");
    assert_eq!(count(&history, "select count(*) from frame").await, 10, "the one in progress");
    settle(&history, START + HOUR_MS + MINUTE_MS).await;
    assert_eq!(count(&history, "select count(*) from block").await, 1);
    assert_eq!(count(&history, "select count(*) from frame").await, 0);
    assert_eq!(count(&history, "select count(*) from open_hour").await, 0);
    assert_eq!(raw(&history).await.len(), 60);
}

#[tokio::test]
async fn a_damaged_block_is_left_out_counted_and_set_aside() {
    let history = history().await;
    let payloads = vec![frame(0, 1.0), frame(20 * MINUTE_MS, 2.0), frame(40 * MINUTE_MS, 3.0)];
    history.append(delivery(1, payloads)).await.expect("appended");
    while history.maintain(START + 50 * MINUTE_MS + 1).await.expect("maintained").sealed > 0 {}
    execute(
        &history,
        "update block set data = substr(data, 1, 10) where first % 3600000 = 1200000",
    )
    .await;
    assert_eq!(raw(&history).await, [(0, 1.0), (40 * MINUTE_MS, 3.0)]);
    assert_eq!(history.damaged_total(), 1);
    settle(&history, START + DAY_MS).await;
    settle(&history, START + DAY_MS + MINUTE_MS).await;
    assert_eq!(count(&history, "select count(*) from damaged_block").await, 1);
    assert_eq!(count(&history, "select count(*) from block").await, 1);
    assert_eq!(raw(&history).await, [(0, 1.0), (40 * MINUTE_MS, 3.0)]);
    assert_eq!(history.damaged_total(), 2, "nothing hinders reading any more");
}

#[tokio::test]
async fn damaged_rows_of_any_kind_hinder_nobody() {
    let history = history().await;
    let report = model::ProcessReport { time: START, ..Default::default() };
    let payloads = vec![frame(0, 1.0), frame(1, 2.0), Payload::Processes(report)];
    history.append(delivery(1, payloads)).await.expect("appended");
    execute(&history, "update frame set data = x'ffff' where time % 2 = 0").await;
    execute(&history, "update process_report set data = x'00'").await;
    assert_eq!(raw(&history).await, [(1, 2.0)]);
    assert_eq!(history.processes_at(machine(), START).await.expect("read"), None);
    settle(&history, START + DAY_MS).await;
    settle(&history, START + DAY_MS + HOUR_MS).await;
    assert_eq!(raw(&history).await, [(1, 2.0)]);
    execute(&history, "update tier_minute set data = x'ff'").await;
    execute(&history, "update process_block set data = x'ff'").await;
    let selector = SeriesSelector { metric: "a".into(), ..SeriesSelector::default() };
    let series = history.find_series(&selector, 9).await.expect("found");
    let minutes = history.read_tier(&series, Tier::Minute, TimeRange::ALL).await.expect("read");
    assert_eq!(minutes, [vec![]]);
    let hours = history.read_tier(&series, Tier::Hour, TimeRange::ALL).await.expect("read");
    assert_eq!(hours[0].len(), 1);
    assert_eq!(history.processes_at(machine(), START).await.expect("read"), None);
}

#[tokio::test]
async fn a_full_disk_is_said_and_leaves_nothing_half_done() {
    let history = history().await;
    history.append(delivery(1, vec![event("fits".into())])).await.expect("appended");
    let pages = count(&history, "select page_count from pragma_page_count").await;
    let limit = |pages: i64| {
        let mut limit = String::from("pragma max_page_count = ");
        limit.push_str(&pages.to_string());
        sqlx::AssertSqlSafe(limit)
    };
    let mut tx = history.database.write().await.expect("begins");
    sqlx::raw_sql(limit(pages + 4)).execute(&mut *tx).await.expect("limited");
    drop(tx);
    let large = || delivery(2, (0..50).map(|_| event("x".repeat(4000))).collect());
    let error = history.append(large()).await.expect_err("the disk is full");
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("its disk is full"), "{error}");
    let acknowledged = history.acknowledged(machine(), SpoolEpoch(1)).await.expect("read");
    assert_eq!(acknowledged.to_string(), "1");
    let mut tx = history.database.write().await.expect("begins");
    sqlx::raw_sql(limit(1 << 20)).execute(&mut *tx).await.expect("unlimited");
    drop(tx);
    history.append(large()).await.expect("appended");
    assert_eq!(count(&history, "select count(*) from event").await, 51);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_with_a_hint() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("muster.db");
    let database = Database::open(&file).await.expect("opens");
    let history = SqliteHistory::new(database.clone(), Retention::default());
    execute(
        &history,
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'later', true, x'00', 0)",
    )
    .await;
    database.close().await;
    refused(&file, "a newer version of Muster wrote it (schema 9999)", "a newer one").await;
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_refused_with_a_hint() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let missing = folder.path().join("missing/muster.db");
    refused(&missing, "it cannot be created or written", "--data-dir").await;
    let text = folder.path().join("text.db");
    std::fs::write(
        &text,
        "not a database at all, but longer than a header of one would be: ".repeat(20),
    )
    .expect("written");
    refused(&text, "it is not a database, or is damaged", "restore it from a backup").await;
}

async fn refused(file: &Path, reason: &str, hint: &str) {
    let error = Database::open(file).await.expect_err("refused").to_string();
    let (message, found) = error.split_once("\nhint: ").expect("a hint");
    assert_eq!(message, format!("cannot open {}: {reason}", file.display()));
    assert!(found.contains(hint), "{found}");
}

#[tokio::test]
async fn what_was_appended_is_there_after_the_process_died() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("muster.db");
    let database = Database::open(&file).await.expect("opens");
    let history = SqliteHistory::new(database, Retention::default());
    history.append(delivery(1, vec![frame(0, 1.0), frame(1, 2.0)])).await.expect("appended");
    // As a kill would leave them: the file and its log, with no connection closed.
    let copy = tempfile::tempdir().expect("a temporary directory");
    for name in ["muster.db", "muster.db-wal"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).expect("copied");
    }
    let database = Database::open(&copy.path().join("muster.db")).await.expect("opens");
    let again = SqliteHistory::new(database, Retention::default());
    assert_eq!(raw(&again).await, [(0, 1.0), (1, 2.0)]);
    let acknowledged = again.acknowledged(machine(), SpoolEpoch(1)).await.expect("read");
    assert_eq!(acknowledged.to_string(), "1-2");
    again.append(delivery(1, vec![frame(5, 9.0), frame(6, 9.0)])).await.expect("known already");
    assert_eq!(raw(&again).await, [(0, 1.0), (1, 2.0)]);
}

/// Polls a future a few times, and drops it.
async fn cancelled_after(polls: usize, future: impl Future) {
    polled(polls, std::pin::pin!(future)).await;
}

/// Polls a future a few times and lets the database's own thread work in between.
async fn polled<T>(polls: usize, mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    for _ in 0..polls {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return Some(done);
        }
        std::thread::sleep(std::time::Duration::from_micros(300));
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test]
async fn an_append_that_was_cancelled_anywhere_can_be_sent_again() {
    let history = history().await;
    for round in 0..40u64 {
        let first = 1 + round * 3;
        let payloads = || (0..3).map(|i| event(format!("{}", first + i))).collect::<Vec<_>>();
        cancelled_after(round as usize, history.append(delivery(first, payloads()))).await;
        history.append(delivery(first, payloads())).await.expect("appended");
        assert_eq!(count(&history, "select count(*) from event").await, 3 * (round as i64 + 1));
    }
    assert_eq!(count(&history, "select count(distinct detail) from event").await, 120);
}

#[tokio::test]
async fn what_comes_at_any_moment_of_its_stretchs_sealing_is_not_lost() {
    let history = history().await;
    let report = |ms: i64| {
        Payload::Processes(model::ProcessReport { time: START + ms, ..Default::default() })
    };
    let now = START + DAY_MS;
    const MOMENTS: i64 = 40;
    for moment in 0..MOMENTS {
        let (ms, seq) = (moment * STRETCH_MS, 1 + moment as u64 * 4);
        let before = delivery(seq, vec![frame(ms, 1.0), report(ms)]);
        history.append(before).await.expect("appended");
        let mut sealing = std::pin::pin!(history.maintain(now));
        let done = polled(moment as usize, sealing.as_mut()).await;
        let meanwhile = history.append(delivery(seq + 2, vec![report(ms + 2000)]));
        let (sealed, appended) = match done {
            Some(sealed) => (sealed, meanwhile.await),
            None => tokio::join!(sealing, meanwhile),
        };
        sealed.expect("maintained");
        appended.expect("appended");
    }
    settle(&history, now).await;
    for moment in 0..MOMENTS {
        let ms = moment * STRETCH_MS;
        for ms in [ms, ms + 2000] {
            let found = history.processes_at(machine(), START + ms).await.expect("read");
            assert_eq!(found.map(|r| r.time.since(START)), Some(ms), "moment {moment}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_come_while_their_stretch_is_sealed_are_not_lost() {
    const FRAMES: i64 = 600;
    let history = Arc::new(history().await);
    let appending = tokio::spawn({
        let history = history.clone();
        async move {
            // All into one stretch that was closed long ago.
            for i in 0..FRAMES {
                let at = i * 389 % FRAMES;
                let payloads = vec![frame(at, at as f64)];
                history.append(delivery(1 + i as u64, payloads)).await.expect("appended");
            }
        }
    });
    let mut now = START + DAY_MS;
    while !appending.is_finished() {
        history.maintain(now).await.expect("maintained");
        now = now + MINUTE_MS;
    }
    appending.await.expect("no panic");
    settle(&history, now + HOUR_MS).await;
    let expected: Vec<(i64, f64)> = (0..FRAMES).map(|i| (i, i as f64)).collect();
    assert_eq!(raw(&history).await, expected);
}

#[tokio::test]
async fn file_space_is_used_again() {
    let history = history().await;
    let mut largest = 0;
    for day in 0..20 {
        let start = day * DAY_MS;
        let noise = |i: i64| ((day * 86_400 + i) as f64).sin();
        let payloads = (0..2000).map(|i| frame(start + i * 1000, noise(i))).collect();
        history.append(delivery(1 + day as u64 * 2000, payloads)).await.expect("appended");
        settle(&history, START + start + HOUR_MS + MINUTE_MS).await;
        let size = history.database.size().await.expect("read");
        let file = size.used + size.free;
        if day < 5 {
            largest = file;
        }
        assert!(file <= largest + largest / 2, "day {day}: {file} bytes after {largest}");
    }
}

#[tokio::test]
async fn layouts_and_series_that_nothing_refers_to_are_forgotten() {
    let history = history().await;
    let send = async |seq: u64, day: i64, metric: &str| {
        let series = vec![Series::gauge(metric, "1", Labels::empty())];
        let layout = Layout::new(series).expect("a valid layout");
        let time = START + day * DAY_MS;
        let frame = Frame { time, layout: layout.id(), values: vec![1.0] };
        let mut deliveries = delivery(seq, vec![Payload::Frame(frame)]);
        deliveries[0].layouts = vec![layout];
        deliveries[0].received = time;
        history.append(deliveries).await.expect("appended");
        settle(&history, time + HOUR_MS + MINUTE_MS).await;
    };
    // A container that came and went, beside what is always there.
    send(1, 0, "container").await;
    for day in 0..12 {
        send(2 + day as u64, day, "always").await;
    }
    assert_eq!(count(&history, "select count(*) from placement").await, 1);
    assert_eq!(count(&history, "select count(*) from layout").await, 1);
    assert_eq!(count(&history, "select count(*) from series").await, 2, "its roll-ups are kept");
    settle(&history, START + 800 * DAY_MS).await;
    assert_eq!(count(&history, "select count(*) from tier_hour").await, 0);
    assert_eq!(count(&history, "select count(*) from series").await, 0);
    // It may come back.
    send(20, 801, "container").await;
    assert_eq!(count(&history, "select count(*) from placement").await, 1);
    assert_eq!(count(&history, "select count(*) from tier_minute").await, 1);
}

#[tokio::test]
async fn what_is_sealed_loosely_is_packed_tightly_when_its_hour_is_closed() {
    let history = history().await;
    let frames = (0..600).map(|second| frame(second * 1000, (second % 7) as f64));
    history.append(delivery(1, frames.collect())).await.expect("appended");
    let tight = "select count(*) from block where substr(data, 1, 1) = x'01'";
    let bytes = "select sum(length(data)) from block";
    settle(&history, START + 11 * MINUTE_MS).await;
    assert_eq!(count(&history, "select count(*) from block").await, 1);
    assert_eq!(count(&history, tight).await, 0);
    let (before, loose) = (raw(&history).await, count(&history, bytes).await);
    settle(&history, START + HOUR_MS + MINUTE_MS).await;
    assert_eq!(count(&history, "select count(*) from block").await, 1);
    assert_eq!(count(&history, tight).await, 1);
    assert!(count(&history, bytes).await < loose / 2);
    assert_eq!(raw(&history).await, before);
}

#[tokio::test]
async fn frames_of_an_older_file_are_kept_when_their_table_is_changed() {
    let history = history().await;
    let frames = [frame(0, 1.0), frame(1000, 2.0)];
    history.append(delivery(1, frames.to_vec())).await.expect("appended");
    execute(
        &history,
        "create table older (machine_id integer not null, time integer not null,
            layout_id integer not null, data blob not null,
            primary key (machine_id, time, layout_id)) strict, without rowid;
         insert into older select machine_id, time, layout_id, data from frame;
         drop table frame;
         alter table older rename to frame;",
    )
    .await;
    let step = include_str!("../../../../../migrations/sqlite/0008_frames_by_arrival.sql");
    execute(&history, step).await;
    assert_eq!(raw(&history).await, [(0, 1.0), (1000, 2.0)]);
    // One that comes again under another number still replaces what was there.
    history.append(delivery(3, vec![frame(1000, 3.0)])).await.expect("appended");
    assert_eq!(raw(&history).await, [(0, 1.0), (1000, 3.0)]);
}

/// The first frame of each of these machines, of a layout that lists this many series.
fn first_frames(machines: std::ops::RangeInclusive<u128>, width: usize) -> Vec<Delivery> {
    let series = (0..width).map(|i| {
        let labels = Labels::of([("i", i.to_string().as_str())]);
        Series::gauge("a", "1", labels)
    });
    let layout = Layout::new(series.collect()).expect("a valid layout");
    let frame = Frame { time: START, layout: layout.id(), values: vec![1.0; width] };
    let of = |id| Delivery {
        machine: MachineId::from_u128(id).expect("not zero"),
        epoch: SpoolEpoch(1),
        received: START,
        layouts: vec![layout.clone()],
        items: vec![Item { seq: 1, payload: Payload::Frame(frame.clone()) }],
    };
    machines.map(of).collect()
}

#[tokio::test]
async fn a_fleet_that_appears_at_once_is_placed_after_its_commit_and_seen_by_whoever_asks() {
    let history = history().await;
    history.append(first_frames(1..=9, 900)).await.expect("appended");
    let waiting = "select count(*) from unplaced";
    assert_eq!(count(&history, waiting).await, 7, "two layouts fit the commit");
    assert_eq!(count(&history, "select count(*) from unplaced_layout").await, 1);
    let of = async |id: u128| {
        let machines = Some(vec![MachineId::from_u128(id).expect("not zero")]);
        let selector = SeriesSelector { metric: "a".into(), machines, ..SeriesSelector::default() };
        History::find_series(&history, &selector, usize::MAX).await.expect("found")
    };
    let series = of(9).await;
    assert_eq!(series.len(), 900);
    let values = history.read_raw(&series, TimeRange::ALL).await.expect("read");
    assert!(values.iter().all(|samples| samples.values == [1.0]));
    assert_eq!(count(&history, waiting).await, 6, "nobody asked for the others");
    // The layout is known, placed or not, so its frames need not bring it again.
    let again = |mut delivery: Delivery| {
        delivery.layouts.clear();
        delivery.items[0].seq = 2;
        delivery
    };
    let history = SqliteHistory::new(history.database.clone(), Retention::default());
    let second = first_frames(1..=9, 900).into_iter().map(again);
    history.append(second.collect()).await.expect("appended");
    // An hour is closed once all of its series have their places.
    settle(&history, START + HOUR_MS + MINUTE_MS).await;
    assert_eq!(count(&history, waiting).await, 0);
    assert_eq!(count(&history, "select count(*) from unplaced_layout").await, 0);
    assert_eq!(count(&history, "select count(*) from placement").await, 9 * 900);
    assert_eq!(count(&history, "select count(*) from tier_minute").await, 9 * 900);
}

#[tokio::test]
async fn a_machine_that_is_removed_before_it_was_placed_leaves_nothing() {
    let history = history().await;
    history.append(first_frames(1..=9, 900)).await.expect("appended");
    for id in 1..=9 {
        let machine = MachineId::from_u128(id).expect("not zero");
        history.remove(machine).await.expect("removed");
    }
    settle(&history, START + MINUTE_MS).await;
    for table in ["machine", "series", "placement", "unplaced", "unplaced_layout", "frame"] {
        let statement = format!("select count(*) from {table}");
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .fetch_one(&mut *history.database.read().await.expect("reads"))
            .await
            .expect("counted");
        assert_eq!(rows, 0, "{table}");
    }
}

#[tokio::test]
async fn a_machines_hour_of_raw_values_goes_as_a_whole() {
    let history = history().await;
    // More blocks than one transaction drops of anything else.
    let series = (0..33 * 64).map(|i| Series::gauge(&format!("s{i}"), "1", Labels::empty()));
    let wide = Layout::new(series.collect()).expect("a valid layout");
    let values = vec![1.0; wide.len()];
    let frame = Payload::Frame(Frame { time: START, layout: wide.id(), values });
    let mut deliveries = delivery(1, vec![frame]);
    deliveries[0].layouts = vec![wide];
    history.append(deliveries).await.expect("appended");
    settle(&history, START + HOUR_MS + MINUTE_MS).await;
    assert_eq!(count(&history, "select count(*) from block").await, 33);
    history.drop_raw(START + DAY_MS).await.expect("dropped");
    assert_eq!(count(&history, "select count(*) from block").await, 0);
}

#[tokio::test]
async fn a_late_frame_that_comes_while_its_hour_is_closed_counts_once() {
    let history = history().await;
    let now = START + 4 * DAY_MS;
    history.append(delivery(1, vec![frame(0, 1.0)])).await.expect("appended");
    settle(&history, START + HOUR_MS + MINUTE_MS).await;
    settle(&history, now).await;
    assert_eq!(raw(&history).await, [], "raw values have expired");
    history.append(delivery(2, vec![frame(1, 2.0)])).await.expect("appended");
    history.maintain(now).await.expect("sealed");
    // After it was looked up as due, and before it is rolled up.
    history.append(delivery(3, vec![frame(2, 3.0)])).await.expect("appended");
    history.close_hour(1, START).await.expect("closed");
    settle(&history, now + MINUTE_MS).await;
    settle(&history, now + 2 * MINUTE_MS).await;
    let selector = SeriesSelector { metric: "a".into(), ..SeriesSelector::default() };
    let series = history.find_series(&selector, 9).await.expect("found");
    let hours = history.read_tier(&series, Tier::Hour, TimeRange::ALL).await.expect("read");
    assert_eq!((hours[0][0].count, hours[0][0].sum), (3, 6.0));
}

#[tokio::test]
async fn blocks_that_are_damaged_one_after_the_other_hinder_nobody() {
    let history = history().await;
    for hour in 0..3 {
        let frames = [0, 20, 40].map(|m| frame(hour * HOUR_MS + m * MINUTE_MS, m as f64));
        let first = 1 + hour as u64 * 3;
        history.append(delivery(first, frames.to_vec())).await.expect("appended");
        let over = START + (hour + 1) * HOUR_MS;
        while history.maintain(over).await.expect("maintained").sealed > 0 {}
        // The last of them, so that its number is given again.
        execute(
            &history,
            "update block set data = substr(data, 1, 10) where id = (select max(id) from block)",
        )
        .await;
        settle(&history, over + MINUTE_MS).await;
        settle(&history, over + 3 * MINUTE_MS).await;
        assert_eq!(count(&history, "select count(*) from damaged_block").await, hour + 1);
        assert_eq!(count(&history, "select count(*) from open_hour").await, 0);
    }
}
