//! How many log events each history takes in per second, durable and searchable, and how long searches take.
//!
//! `cargo bench -p storage --features contract --bench logs -- [MILLIONS]`; with MUSTER_TEST_TIMESCALE_URL set
//! TimescaleDB too: `cargo xtask services cargo bench -p storage --features contract --bench logs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{
    Item, Labels, LogEvent, LogQuery, MachineId, Payload, Severity, SpoolEpoch, TimeRange,
    UnixMillis,
};
use storage::contract::Dice;
use storage::history::{Delivery, History, LogSearch, Retention, SqliteHistory, TimescaleHistory};
use storage::postgres::{Timescale, TimescaleConfig};
use storage::secret::Secret;
use storage::sqlite::Database;

const MACHINES: usize = 20;
/// Events of each machine in one commit: as many as fit the writer's 8 MiB together.
const EVENTS: usize = 1_500;
const SERVICES: [&str; 10] =
    ["api", "web", "auth", "billing", "search", "cron", "postgres", "nginx", "worker", "mail"];
const PATHS: [&str; 8] =
    ["users", "orders", "carts", "items", "search", "login", "health", "reports"];

/// A line of about 200 bytes, with ids that hardly come twice; one in a hundred is an error.
fn event(dice: &mut Dice, time: UnixMillis, number: u64) -> LogEvent {
    let error = dice.below(100) == 0;
    let (path, user) = (PATHS[dice.below(8) as usize], dice.below(1_000_000));
    let trace = format!("{:08x}{:08x}", dice.below(1 << 32), dice.below(1 << 32));
    let body = match error {
        true => format!(
            "POST /api/v2/{path}/{user} failed after {} ms: connection to 10.0.{}.{}:5432 refused by the server, giving up after 3 attempts; the request is not tried again trace={trace}",
            dice.below(3000),
            dice.below(8),
            dice.below(250),
        ),
        false => format!(
            "GET /api/v2/{path}/{user}/details?page={}&size=50 status=200 duration={}ms bytes={} agent=\"muster-bench/1.0 (linux; x86_64)\" remote=192.168.{}.{} trace={trace} n={number}",
            dice.below(40),
            dice.below(900),
            dice.below(100_000),
            dice.below(8),
            dice.below(250),
        ),
    };
    LogEvent {
        time,
        severity: Severity::new(if error { 17 } else { 9 }).expect("a severity"),
        service: SERVICES[dice.below(10) as usize].to_owned(),
        body,
        body_truncated: false,
        attributes: Labels::of([("logger", "http.server")]),
        source: "file".to_owned(),
    }
}

async fn measure(name: &str, history: Arc<dyn History>, commits: usize) {
    let mut dice = Dice::new(1);
    let start = UnixMillis::from(std::time::SystemTime::now()) - 1000 * commits as i64;
    let (mut spent, mut slowest, mut cpu) = (Duration::ZERO, Duration::ZERO, 0.0);
    let (mut number, mut plain) = (0u64, 0usize);
    for commit in 0..commits {
        let mut deliveries = Vec::new();
        for machine in 0..MACHINES {
            let events: Vec<LogEvent> = (0..EVENTS)
                .map(|i| {
                    number += 1;
                    let time = start + 1000 * commit as i64 + (i * 1000 / EVENTS) as i64;
                    event(&mut dice, time, number)
                })
                .collect();
            plain += events.iter().map(|e| e.body.len()).sum::<usize>();
            deliveries.push(Delivery {
                machine: MachineId::from_u128(machine as u128 + 1).expect("not zero"),
                epoch: SpoolEpoch(1),
                received: start,
                layouts: Vec::new(),
                items: vec![Item { seq: commit as u64 + 1, payload: Payload::Logs(events) }],
            });
        }
        let (began, cpu_before) = (Instant::now(), cpu_seconds());
        history.append(deliveries).await.expect("appended");
        spent += began.elapsed();
        slowest = slowest.max(began.elapsed());
        cpu += cpu_seconds() - cpu_before;
    }
    let bytes = history.usage().await.expect("read").bytes as f64;
    println!(
        "{name}: {number} events of {:.0} bytes: {:.0} k/s, {:.2} CPU s/million, {:.1} bytes/event, slowest commit of {} {:.0} ms",
        plain as f64 / number as f64,
        number as f64 / spent.as_secs_f64() / 1e3,
        cpu / (number as f64 / 1e6),
        bytes / number as f64,
        MACHINES * EVENTS,
        slowest.as_secs_f64() * 1e3,
    );
    let rare = format!("n={}", number / 3);
    for query in [
        rare.as_str(),
        "nowhereatall",
        "level:error service:api",
        "level:error service:api \"connection refused\"",
        "\"10.0.3.77:5432\" refused",
        "service:mail",
        "",
    ] {
        let search = LogSearch {
            query: LogQuery::parse(query).expect("a query"),
            machines: None,
            range: TimeRange::ALL,
            before: None,
            limit: 100,
        };
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..7 {
            let began = Instant::now();
            found = history.search_logs(search.clone()).await.expect("read").events.len();
            times.push(began.elapsed());
        }
        times.sort();
        println!("{name}: {query:?}: {found} found, median {:.1} ms", times[3].as_secs_f64() * 1e3);
    }
}

/// Of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

#[tokio::main]
async fn main() {
    let millions = std::env::args().filter_map(|arg| arg.parse::<f64>().ok()).next().unwrap_or(2.0);
    let commits = ((millions * 1e6) as usize / (MACHINES * EVENTS)).max(1);
    let folder = tempfile::tempdir().expect("a temporary directory");
    let database = Database::open(&folder.path().join("muster.db")).await.expect("opened");
    let history = Arc::new(SqliteHistory::new(database, Retention::default()));
    measure("sqlite", history, commits).await;
    match std::env::var("MUSTER_TEST_TIMESCALE_URL") {
        Ok(url) => {
            let config = TimescaleConfig { url: Secret::new(url), ..TimescaleConfig::default() };
            let timescale = Timescale::open(&config).await.expect("opened");
            let history = Arc::new(TimescaleHistory::new(timescale, Retention::default()));
            measure("timescaledb", history, commits).await;
        }
        Err(_) => println!("timescaledb: skipped, MUSTER_TEST_TIMESCALE_URL is not set"),
    }
}
