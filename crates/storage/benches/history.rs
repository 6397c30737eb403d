//! What the embedded history does per second, and how long its answers take.
//!
//! `cargo bench -p storage --bench history`; the sizes are printed first.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use model::{
    Frame, Item, Labels, Layout, MachineId, Payload, Series, SpoolEpoch, TimeRange, UnixMillis,
};
use storage::contract::Dice;
use storage::history::{
    Delivery, History, Maintained, Retention, SeriesSelector, SqliteHistory, StoredSeries, Tier,
    block::{self, Packing},
};
use storage::sqlite::Database;
use tokio::runtime::Runtime;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const START: UnixMillis = UnixMillis(19_700 * DAY);

/// Series of the machine that has a month of history.
const MONTH_SERIES: usize = 200;

/// The standard mix: of ten series four are constant, three count, three are noisy with one decimal.
struct Mix {
    dice: Dice,
    values: Vec<f64>,
}

impl Mix {
    fn new(width: usize) -> Self {
        let mut dice = Dice::new(7);
        let values = (0..width)
            .map(|column| match column % 10 {
                0..4 => (dice.below(1000) * 4096) as f64,
                4..7 => dice.below(1 << 40) as f64,
                _ => dice.below(1000) as f64 / 10.0,
            })
            .collect();
        Self { dice, values }
    }

    fn next(&mut self) -> Vec<f64> {
        for (column, value) in self.values.iter_mut().enumerate() {
            match column % 10 {
                0..4 => {}
                // Traffic: a base rate with bursts.
                4..7 => *value += (self.dice.below(40) * 50) as f64,
                _ => {
                    let step = self.dice.below(21) as f64 / 10.0 - 1.0;
                    *value = ((*value + step).clamp(0.0, 100.0) * 10.0).round() / 10.0;
                }
            }
        }
        self.values.clone()
    }
}

struct Machine {
    id: MachineId,
    layout: Layout,
    mix: Mix,
    next: u64,
}

impl Machine {
    fn new(id: u128, width: usize) -> Self {
        let series = (0..width)
            .map(|column| {
                let labels = Labels::of([("column", column.to_string().as_str())]);
                match column % 10 {
                    4..7 => Series::counter("bench", "By", labels),
                    _ => Series::gauge("bench", "1", labels),
                }
            })
            .collect();
        Self {
            id: MachineId::from_u128(id).expect("not zero"),
            layout: Layout::new(series).expect("a valid layout"),
            mix: Mix::new(width),
            next: 1,
        }
    }

    fn delivery(&mut self, times: impl Iterator<Item = UnixMillis>) -> Delivery {
        let items: Vec<Item> = times
            .map(|time| {
                self.next += 1;
                let frame = Frame { time, layout: self.layout.id(), values: self.mix.next() };
                Item { seq: self.next - 1, payload: Payload::Frame(frame) }
            })
            .collect();
        Delivery {
            machine: self.id,
            epoch: SpoolEpoch(1),
            received: START,
            layouts: vec![self.layout.clone()],
            items,
        }
    }
}

fn every(step: i64, from: i64, to: i64) -> impl Iterator<Item = UnixMillis> {
    (from..to).step_by(step as usize).map(|ms| START + ms)
}

async fn settle(history: &dyn History, now: UnixMillis) {
    while history.maintain(now).await.expect("maintained") != Maintained::default() {}
}

async fn open(folder: &std::path::Path, name: &str) -> (Arc<Database>, SqliteHistory) {
    let database = Database::open(&folder.join(name)).await.expect("opens");
    let retention = Retention { size_max: u64::MAX, ..Retention::default() };
    (database.clone(), SqliteHistory::new(database, retention))
}

/// A month at one value a minute, then an hour at one a second that is closed, and one in progress.
async fn month(history: &SqliteHistory) -> UnixMillis {
    let mut machine = Machine::new(1, MONTH_SERIES);
    for hour in 0..30 * 24 {
        let from = hour * HOUR;
        let delivery = machine.delivery(every(MINUTE, from, from + HOUR));
        history.append(vec![delivery]).await.expect("appended");
        settle(history, START + from + HOUR + MINUTE).await;
    }
    let from = 30 * DAY;
    for part in 0..12 {
        let end = (from + (part + 1) * 10 * MINUTE).min(from + 2 * HOUR - 10 * SECOND);
        let delivery = machine.delivery(every(SECOND, from + part * 10 * MINUTE, end));
        history.append(vec![delivery]).await.expect("appended");
        settle(history, START + end).await;
    }
    let now = START + from + 2 * HOUR - 10 * SECOND;
    settle(history, now).await;
    now
}

async fn series(history: &SqliteHistory) -> Vec<StoredSeries> {
    let selector = SeriesSelector { metric: "bench".into(), ..SeriesSelector::default() };
    history.find_series(&selector, usize::MAX).await.expect("found")
}

fn queries(c: &mut Criterion, runtime: &Runtime, folder: &std::path::Path) {
    let began = Instant::now();
    let (database, history) = runtime.block_on(open(folder, "month.db"));
    let now = runtime.block_on(month(&history));
    let all = runtime.block_on(series(&history));
    let usage = runtime.block_on(history.usage()).expect("read");
    eprintln!(
        "a month of {MONTH_SERIES} series: built in {:.1?}, {:.1} MiB",
        began.elapsed(),
        usage.bytes as f64 / f64::from(1 << 20)
    );
    // A noisy gauge: the most expensive kind.
    let noisy = |s: &&StoredSeries| s.series.labels.get("column").ends_with('7');
    let one: Vec<StoredSeries> = all.iter().find(noisy).cloned().into_iter().collect();
    let hundred = &all[..100];
    let ago = |ms: i64| TimeRange::new(now - ms, now);
    let sealed = TimeRange::new(START + 30 * DAY, START + 30 * DAY + HOUR);

    let mut group = c.benchmark_group("query");
    let mut raw = |name: &str, series: &[StoredSeries], range: TimeRange, least: usize| {
        let read = || runtime.block_on(history.read_raw(series, range)).expect("read");
        assert!(read().iter().all(|s| s.times.len() >= least), "{name}");
        group.bench_function(name, |b| b.iter(|| black_box(read())));
    };
    raw("1 series, 1 h raw, sealed", &one, sealed, 3600);
    raw("1 series, 1 h raw, in progress", &one, ago(HOUR), 3590);
    raw("100 series, 1 h raw, sealed", hundred, sealed, 3600);
    let mut tier = |name: &str, series: &[StoredSeries], tier: Tier, range: TimeRange, least| {
        let read = || runtime.block_on(history.read_tier(series, tier, range)).expect("read");
        assert!(read().iter().all(|windows| windows.len() >= least), "{name}");
        group.bench_function(name, |b| b.iter(|| black_box(read())));
    };
    tier("1 series, 30 d by hour", &one, Tier::Hour, ago(30 * DAY), 30 * 24);
    tier("1 series, 30 d by minute", &one, Tier::Minute, ago(30 * DAY), 30 * 24 * 60 - 60);
    tier("100 series, 24 h by minute", hundred, Tier::Minute, ago(DAY), 24 * 60 - 60);
    group.finish();
    runtime.block_on(database.close());
}

fn appends(c: &mut Criterion, runtime: &Runtime, folder: &std::path::Path) {
    let mut group = c.benchmark_group("append");
    group.measurement_time(Duration::from_secs(4)).sample_size(10);
    for (name, machines, frames, width) in [
        ("100 machines, 1 frame of 1000 values", 100, 1, 1000),
        ("100 machines, 10 frames of 20 values", 100, 10, 20),
        ("1 machine, 1 frame of 20 values", 1, 1, 20),
    ] {
        let (database, history) =
            runtime.block_on(open(folder, &format!("append-{machines}-{width}.db")));
        let mut fleet: Vec<Machine> = (1..=machines).map(|id| Machine::new(id, width)).collect();
        let mut at = 0;
        group.throughput(Throughput::Elements(machines as u64 * frames * width as u64));
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let from = at;
                    at += frames as i64 * SECOND;
                    fleet
                        .iter_mut()
                        .map(|m| m.delivery(every(SECOND, from, at)))
                        .collect::<Vec<_>>()
                },
                |deliveries| runtime.block_on(history.append(deliveries)).expect("appended"),
                criterion::BatchSize::PerIteration,
            );
        });
        runtime.block_on(database.close());
    }
    group.finish();
}

fn blocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("block");
    for (name, rows) in [("hour", 3600), ("10 minutes", 600)] {
        let mut mix = Mix::new(60);
        let times: Vec<UnixMillis> = every(SECOND, 0, rows * SECOND).collect();
        let mut columns = vec![Vec::new(); 60];
        for _ in 0..rows {
            for (column, value) in columns.iter_mut().zip(mix.next()) {
                column.push(value);
            }
        }
        let bytes = block::encode(&times, &columns, Packing::Tight);
        let samples = rows as u64 * 60;
        eprintln!("{name}: {:.3} bytes a sample, sealed", bytes.len() as f64 / samples as f64);
        group.throughput(Throughput::Elements(samples));
        group.bench_function(format!("seal {name}"), |b| {
            b.iter(|| black_box(block::encode(&times, &columns, Packing::Tight)));
        });
        group.bench_function(format!("open {name}"), |b| {
            b.iter(|| {
                let block = block::Block::open(&bytes).expect("own bytes");
                for column in 0..60 {
                    black_box(block.column(column).expect("own column"));
                }
            });
        });
    }
    group.finish();
}

/// CPU time of all threads of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_ascii_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// A fleet for an hour, all the way: appended, sealed, closed, rolled up. What it costs in CPU and bytes.
fn life(runtime: &Runtime, folder: &std::path::Path) {
    const MACHINES: u128 = 50;
    for (width, minutes) in [(1000, 60), (20, 60)] {
        let (database, history) = runtime.block_on(open(folder, &format!("life-{width}.db")));
        let mut fleet: Vec<Machine> = (1..=MACHINES).map(|id| Machine::new(id, width)).collect();
        let (mut making, mut appending, mut maintaining) = (0.0, 0.0, 0.0);
        // Layouts come once: what they cost is not a cost of samples.
        let began = Instant::now();
        let layouts = fleet.iter_mut().map(|m| m.delivery(std::iter::empty())).collect();
        runtime.block_on(history.append(layouts)).expect("appended");
        eprintln!("{MACHINES} layouts of {width} series: placed in {:.1?}", began.elapsed());
        for at in (0..minutes * 60).step_by(10) {
            for second in at..at + 10 {
                let from = second * SECOND;
                let began = cpu();
                let deliveries: Vec<_> = fleet
                    .iter_mut()
                    .map(|m| m.delivery(every(SECOND, from, from + SECOND)))
                    .collect();
                let made = cpu();
                runtime.block_on(history.append(deliveries)).expect("appended");
                (making, appending) = (making + made - began, appending + cpu() - made);
            }
            let began = cpu();
            runtime.block_on(settle(&history, START + (at + 10) * SECOND));
            maintaining += cpu() - began;
        }
        let before = runtime.block_on(history.usage()).expect("read");
        let began = cpu();
        runtime.block_on(settle(&history, START + HOUR + MINUTE));
        let closing = cpu() - began;
        let samples = MACHINES as f64 * width as f64 * minutes as f64 * 60.0;
        let rate = |seconds: f64| samples / seconds / 1e6;
        eprintln!(
            "{minutes} min of {MACHINES} machines with {width} series at 1 Hz, million samples per CPU-second: append {:.2}, seal {:.2}, close {:.2}, all {:.2} ({:.2} s to make the data); {} MiB before closing",
            rate(appending),
            rate(maintaining),
            rate(closing),
            rate(appending + maintaining + closing),
            making,
            before.bytes >> 20,
        );
        runtime.block_on(database.close());
    }
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let runtime = Runtime::new().expect("a runtime");
    let mut c = Criterion::default().configure_from_args();
    blocks(&mut c);
    life(&runtime, folder.path());
    appends(&mut c, &runtime, folder.path());
    queries(&mut c, &runtime, folder.path());
    c.final_summary();
}
