//! Processes apart, on Redis and TimescaleDB of their own: what people miss when one of them dies.
//!
//! `cargo xtask outage` runs these with outages of a minute and shows the figures.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::PATIENCE;
use crate::eventually::eventually;
use crate::process::Process;
use crate::promises::{all_are_heard, all_is_promised, compare, drain};
use crate::witness::Witness;

mod one_address;
mod page;
mod processes;

use page::Page;
use processes::Apart;
pub(crate) use processes::{beside, root};

const COLLECTORS: [&str; 3] = ["web-1", "web-2", "web-3"];
const INTERVAL: &str = "100ms";
/// What a person may miss when an aggregator dies.
const MISSED_MAX: Duration = Duration::from_secs(3);
/// How soon after Redis is back everything is live.
const LIVE_AGAIN: Duration = Duration::from_secs(5);
/// Connections to the database that an aggregator has unless it is told otherwise.
const POOL: f64 = 20.0;

/// What waits to be stored, and what its bounds do not count: buffers of connections, and what the allocator keeps.
const GROWTH_MAX: u64 = 400_000_000;

/// How long a store is away.
fn outage() -> Duration {
    let given = std::env::var("MUSTER_TEST_OUTAGE_SECONDS").ok();
    let seconds = given.map_or(10, |given| given.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// Three collectors that know both aggregators, and who stands between.
struct Watched {
    witness: [Witness; 2],
    collectors: [Process; COLLECTORS.len()],
    pages: Vec<Page>,
}

impl Watched {
    async fn start(apart: &Apart) -> Self {
        let first = Witness::of(&apart.aggregators[0].url()).await;
        let second = first.beside(&apart.aggregators[1].url()).await;
        let witness = [first, second];
        let collectors = all(apart, &witness, INTERVAL);
        all_are_heard(&witness[0], COLLECTORS.len()).await;
        let opened = Instant::now();
        let mut pages = Vec::new();
        for machine in apart.ids(COLLECTORS).await {
            pages.push(Page::open(apart.gateway.address, &machine).await);
        }
        for page in &pages {
            page.is_live_after(opened, PATIENCE).await;
        }
        Self { witness, collectors, pages }
    }

    /// Stops the collectors when all that they read is delivered, and compares it with history.
    async fn everything_is_kept(self, apart: &Apart) {
        let quietly = || all(apart, &self.witness, "1h");
        drain(&self.witness[0], self.collectors, quietly).await;
        let records = self.witness[0].records();
        all_is_promised(&records, COLLECTORS.len(), 1);
        compare(&apart.stores().await, &records).await;
    }
}

/// The second prefers the other aggregator.
fn all(apart: &Apart, witness: &[Witness; 2], every: &str) -> [Process; COLLECTORS.len()] {
    let [first, second] = witness.each_ref().map(Witness::url);
    COLLECTORS.map(|name| {
        let urls = match name {
            "web-2" => format!("{second},{first}"),
            _ => format!("{first},{second}"),
        };
        apart.collector(every, name, &urls)
    })
}

fn shown(times: &[Duration]) -> String {
    let seconds = times.iter().map(|time| format!("{:.1} s", time.as_secs_f64()));
    seconds.collect::<Vec<_>>().join(", ")
}

fn mb(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

#[tokio::test(flavor = "multi_thread")]
async fn when_an_aggregator_is_killed_its_collectors_move_and_little_is_missed() {
    let Some(mut apart) = Apart::start().await else { return };
    let watched = Watched::start(&apart).await;
    let killed = Instant::now();
    // The gateway's and that of two collectors.
    apart.aggregators[0].process.kill();
    for page in &watched.pages {
        page.is_live_after(killed + MISSED_MAX, PATIENCE).await;
    }
    let missed: Vec<_> = watched.pages.iter().map(|page| page.longest_silence(killed)).collect();
    eprintln!("figure: an aggregator killed: pages had nothing new for {}", shown(&missed));
    assert!(missed.iter().all(|missed| *missed <= MISSED_MAX), "{missed:?}");
    watched.everything_is_kept(&apart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_redis_comes_back_empty_everything_is_live_again_by_itself() {
    let Some(mut apart) = Apart::start().await else { return };
    let watched = Watched::start(&apart).await;
    beside(|| apart.redis.stop()).expect("stops");
    tokio::time::sleep(outage()).await;
    beside(|| apart.redis.start()).expect("starts");
    let back = Instant::now();
    eventually(PATIENCE, || async {
        let machines = apart.machines().await?;
        let is_live =
            |m: &Value| m["status"] == "online" && m["headline"]["cpu_utilization"].is_number();
        let live = machines.iter().filter(|m| is_live(m)).count();
        (live == COLLECTORS.len()).then_some(()).ok_or_else(|| format!("{machines:?}"))
    })
    .await;
    let mut after = vec![back.elapsed()];
    for page in &watched.pages {
        after.push(page.is_live_after(back, PATIENCE).await);
    }
    eprintln!(
        "figure: Redis empty after {} s: fleet and pages live again after {}",
        outage().as_secs(),
        shown(&after)
    );
    assert!(after.iter().all(|after| *after <= LIVE_AGAIN), "{after:?}");
    watched.everything_is_kept(&apart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_timescaledb_is_away_aggregators_do_not_grow_and_nothing_is_lost() {
    let Some(mut apart) = Apart::start().await else { return };
    let watched = Watched::start(&apart).await;
    let duration = format!("{}s", 2 * outage().as_secs());
    let load = apart.load(
        &[
            ["--machines", "50", "--series", "1000", "--duration", &duration],
            ["--patience", "10m", "--interval", "1s", "--seed", "4"],
        ]
        .concat(),
    );
    has_streams(&apart, 51.0).await;
    tokio::time::sleep(outage() / 2).await;
    let before = apart.aggregators[0].resident_bytes();
    beside(|| apart.timescale.stop()).expect("stops");
    let away = Instant::now();
    let mut highest = before;
    while away.elapsed() < outage() {
        tokio::time::sleep(Duration::from_millis(250)).await;
        highest = highest.max(apart.aggregators[0].resident_bytes());
    }
    let silence: Vec<_> = watched.pages.iter().map(|page| page.longest_silence(away)).collect();
    beside(|| apart.timescale.start()).expect("starts");
    let back = Instant::now();
    while !load.is_over() {
        assert!(back.elapsed() < 3 * outage() + PATIENCE, "the load does not end");
        tokio::time::sleep(Duration::from_millis(250)).await;
        highest = highest.max(apart.aggregators[0].resident_bytes());
    }
    let after = apart.aggregators[0].resident_bytes();
    let report = load.report().await;
    eprintln!(
        "figure: TimescaleDB away for {} s under {} x {} values a second: aggregator {} before, {} at most, {} after; \
         {} of {} samples acknowledged, {} lost, the last {:.1} s after the return; pages had nothing new for {}",
        outage().as_secs(),
        report["machines"],
        report["series"],
        mb(before),
        mb(highest),
        mb(after),
        report["acknowledged_samples"],
        report["sent_samples"],
        report["lost_samples"],
        back.elapsed().as_secs_f64(),
        shown(&silence),
    );
    assert_eq!(report["lost_samples"], 0, "{report}");
    assert_eq!(report["failed_machines"], 0, "{report}");
    assert_eq!(report["acknowledged_samples"], report["sent_samples"], "{report}");
    assert!(highest < before + GROWTH_MAX, "{} before, {} at most", mb(before), mb(highest));
    watched.everything_is_kept(&apart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_share_the_connections_of_one_pool() {
    let Some(mut apart) = Apart::start().await else { return };
    // Its sessions are not those that are counted.
    assert!(apart.aggregators[1].process.stop(PATIENCE).success(), "an aggregator ends well");
    let duration = format!("{}s", 2 * outage().as_secs());
    // Streams are what is looked at, not how much comes through them.
    let load = apart.load(
        &[
            ["--machines", "1000", "--series", "20", "--duration", &duration],
            ["--patience", "10m", "--interval", "2s", "--seed", "5"],
        ]
        .concat(),
    );
    let aggregator = &apart.aggregators[0];
    let highest = async |name: &str, so_far: f64| {
        aggregator.metric(name).await.unwrap_or_default().max(so_far)
    };
    let (mut streams, mut open, mut busy, mut sessions) = (0.0, 0.0, 0.0, 0);
    while !load.is_over() {
        const HOLDS: &str = "{holds=\"history\",store=\"TimescaleDB\"}";
        streams = highest("muster_aggregator_streams", streams).await;
        open = highest(&format!("muster_store_connections{HOLDS}"), open).await;
        busy = highest(&format!("muster_store_connections_busy{HOLDS}"), busy).await;
        sessions = sessions.max(apart.sessions());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let report = load.report().await;
    eprintln!(
        "figure: {streams} streams: {open} connections to TimescaleDB at most, {busy} of them busy; the database counted {sessions}; \
         {} of {} samples lost",
        report["lost_samples"], report["sent_samples"],
    );
    assert!(streams >= 1_000.0, "{streams} streams");
    assert!((1.0..=POOL).contains(&open) && f64::from(sessions) <= POOL, "{open} {sessions}");
    assert_eq!(report["lost_samples"], 0, "{report}");
}

async fn has_streams(apart: &Apart, least: f64) {
    eventually(PATIENCE, || async {
        let streams = apart.aggregators[0].metric("muster_aggregator_streams").await;
        streams.is_some_and(|n| n >= least).then_some(()).ok_or_else(|| format!("{streams:?}"))
    })
    .await;
}
