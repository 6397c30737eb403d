//! What reading this machine costs: `cargo run --release -p collector --example probe -- [TICKS] [MS]`.
//!
//! Ticks the probes as the collector does and prints CPU time per probe and memory. CPU per tick is the
//! probe's CPU time over all ticks, so a probe with a slow pace shows its share.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use collector::CollectorStats;
use collector::probe::{Prober, ProberConfig};
use model::UnixMillis;
use rustix::time::{ClockId, clock_gettime};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let ticks: u32 = arguments.next().map_or(Ok(30), |text| text.parse())?;
    let interval_ms: u64 = arguments.next().map_or(Ok(1000), |text| text.parse())?;

    let mut prober = Prober::new(ProberConfig::default(), Arc::new(CollectorStats::default()));
    let mut interval = tokio::time::interval(Duration::from_millis(interval_ms));
    let (mut frames, mut values, mut slowest) = (0, 0, Duration::ZERO);
    let mut last_report = None;
    let mut base = Base::now(&prober);
    for tick in 0..=ticks {
        interval.tick().await;
        let before = Instant::now();
        let readings = prober.tick(UnixMillis::from(SystemTime::now())).await;
        for event in &readings.events {
            println!("event: {}", event.detail);
        }
        if tick == 0 {
            // Opening files and starting threads is not part of a tick.
            base = Base::now(&prober);
            println!("resident after the first tick: {} KiB", resident_kib()?);
            continue;
        }
        slowest = slowest.max(before.elapsed());
        frames += readings.frames.len();
        values += readings.frames.iter().map(|frame| frame.values.len()).sum::<usize>();
        last_report = readings.processes.or(last_report);
    }

    if let Some(report) = last_report {
        println!("{} processes, {} reported; the busiest:", report.total, report.processes.len());
        for process in report.processes.iter().take(3) {
            let (cpu, name) = (process.cpu_utilization, &process.name);
            println!("{:>8} {cpu:>7.4} CPU  {name}: {}", process.pid, process.command_line);
        }
    }
    println!("{:<14}{:>10}{:>16}{:>14}", "probe", "readings", "us per reading", "us per tick");
    for ((name, cost), (_, before)) in prober.costs().zip(&base.costs) {
        let readings = cost.readings - before.readings;
        let us = (cost.cpu - before.cpu).as_secs_f64() * 1e6;
        let per_reading = us / readings.max(1) as f64;
        println!("{name:<14}{readings:>10}{per_reading:>16.1}{:>14.1}", us / f64::from(ticks));
    }
    let cpu = (process_cpu() - base.cpu).as_secs_f64() * 1e6 / f64::from(ticks);
    println!("whole process: {cpu:.0} us CPU per tick, slowest tick {slowest:.1?}");
    println!("{frames} frames, {values} values in {ticks} ticks");
    println!("resident: {} KiB", resident_kib()?);
    Ok(())
}

struct Base {
    cpu: Duration,
    costs: Vec<(&'static str, collector::probe::ProbeCost)>,
}

impl Base {
    fn now(prober: &Prober) -> Self {
        Self { cpu: process_cpu(), costs: prober.costs().collect() }
    }
}

fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn resident_kib() -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split_whitespace().nth(1).map_or(Ok(0), str::parse)?;
    Ok(pages * rustix::param::page_size() as u64 / 1024)
}
