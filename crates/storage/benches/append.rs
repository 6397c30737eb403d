//! How many samples each history takes in per second: frames of 1,000 values, many machines to a commit.
//!
//! `cargo bench -p storage --features contract --bench append`; with MUSTER_TEST_TIMESCALE_URL set
//! TimescaleDB too: `cargo xtask services cargo bench -p storage --features contract --bench append`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Frame, Item, Labels, Layout, MachineId, Payload, Series, SpoolEpoch, UnixMillis};
use storage::contract::Dice;
use storage::history::{Delivery, History, Retention, SqliteHistory, TimescaleHistory};
use storage::postgres::{Timescale, TimescaleConfig};
use storage::secret::Secret;
use storage::sqlite::Database;

const WIDTH: usize = 1000;
const MACHINES: usize = 50;
/// Frames of each machine in one commit.
const FRAMES: usize = 4;
const COMMITS: usize = 40;

/// The standard mix: of ten series four are constant, three count, three are noisy with one decimal.
fn values(dice: &mut Dice, values: &mut [f64]) {
    for (column, value) in values.iter_mut().enumerate() {
        match column % 10 {
            0..4 => *value = (column * 4096) as f64,
            4..7 => *value += (dice.below(40) * 50) as f64,
            _ => *value = dice.below(1000) as f64 / 10.0,
        }
    }
}

fn layout() -> Layout {
    let series = (0..WIDTH).map(|i| {
        let labels = Labels::of([("device", format!("d{i}").as_str())]);
        match i % 10 {
            4..7 => Series::counter("bench.counter", "By", labels),
            _ => Series::gauge("bench.gauge", "1", labels),
        }
    });
    Layout::new(series.collect()).expect("valid")
}

async fn measure(name: &str, history: Arc<dyn History>) {
    let layout = layout();
    let mut dice = Dice::new(1);
    let mut now = UnixMillis::from(std::time::SystemTime::now()) - 1000 * (COMMITS * FRAMES) as i64;
    let mut rows = vec![vec![0.0; WIDTH]; MACHINES];
    let (mut spent, mut slowest) = (Duration::ZERO, Duration::ZERO);
    let mut seq = 0;
    // The first commit brings the layouts and is not counted.
    for commit in 0..=COMMITS {
        let mut deliveries: Vec<Delivery> = Vec::new();
        for (machine, row) in rows.iter_mut().enumerate() {
            let items = (1..=FRAMES as u64).map(|number| {
                values(&mut dice, row);
                let time = now + 1000 * number as i64;
                let frame = Frame { time, layout: layout.id(), values: row.clone() };
                Item { seq: seq + number, payload: Payload::Frame(frame) }
            });
            deliveries.push(Delivery {
                machine: MachineId::from_u128(machine as u128 + 1).expect("not zero"),
                epoch: SpoolEpoch(1),
                received: now,
                layouts: vec![layout.clone()],
                items: items.collect(),
            });
        }
        seq += FRAMES as u64;
        now = now + 1000 * FRAMES as i64;
        let began = Instant::now();
        history.append(deliveries).await.expect("appended");
        if commit > 0 {
            spent += began.elapsed();
            slowest = slowest.max(began.elapsed());
        }
    }
    let samples = (COMMITS * MACHINES * FRAMES * WIDTH) as f64;
    let bytes = history.usage().await.expect("read").bytes as f64;
    println!(
        "{name}: {:.2} M samples/s, {:.1} bytes/sample, slowest commit {:.0} ms",
        samples / spent.as_secs_f64() / 1e6,
        bytes / (samples / COMMITS as f64 * (COMMITS + 1) as f64),
        slowest.as_secs_f64() * 1e3,
    );
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let database = Database::open(&folder.path().join("muster.db")).await.expect("opened");
    measure("sqlite", Arc::new(SqliteHistory::new(database, Retention::default()))).await;
    match std::env::var("MUSTER_TEST_TIMESCALE_URL") {
        Ok(url) => {
            let config = TimescaleConfig { url: Secret::new(url), ..TimescaleConfig::default() };
            let timescale = Timescale::open(&config).await.expect("opened");
            let history = TimescaleHistory::new(timescale, Retention::default());
            measure("timescaledb", Arc::new(history)).await;
        }
        Err(_) => println!("timescaledb: skipped, MUSTER_TEST_TIMESCALE_URL is not set"),
    }
}
