//! `muster bench`: a made-up fleet over real connections, and what the server made of it.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use model::UnixMillis;
use proto::v1;
use proto::v1::state_service_client::StateServiceClient;
use serde::Serialize;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

mod latency;
mod machine;
mod server;
mod values;

use latency::Latency;
use machine::{Fleet, Outcome};

/// Load a running server with a made-up fleet and report what it did.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster bench --machines 100 --series 300
  muster bench --machines 1000 --series 1000 --duration 5m --pid $(pidof muster) --json
  muster bench --machines 8 --series 1000 --max

The machines are named bench-0000 and so on, and stay in the server's history: use a server of its own.")]
pub(crate) struct Args {
    /// Address of the aggregator, or of `muster up`.
    #[arg(long, env = "MUSTER_BENCH_TARGET", default_value = "http://127.0.0.1:7070")]
    target: String,
    /// Machines, each with a connection of its own.
    #[arg(long, default_value_t = 100)]
    machines: usize,
    /// Series of each machine, at least 13.
    #[arg(long, default_value_t = 1000)]
    series: usize,
    /// Time between two frames of a machine.
    #[arg(long, default_value = "1s")]
    interval: daemon::config::Span,
    /// How long to send.
    #[arg(long, default_value = "60s")]
    duration: daemon::config::Span,
    /// Send as fast as the server acknowledges, not at the interval.
    #[arg(long)]
    max: bool,
    /// Process id of the server on this machine, to report its CPU time and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Seed of the made-up values and machine ids.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What came of it. Latencies are in milliseconds.
#[derive(Debug, Serialize)]
struct Report {
    machines: usize,
    series: usize,
    seconds: f64,
    sent_samples: u64,
    acknowledged_samples: u64,
    rejected_samples: u64,
    /// Sent and not found in history afterwards.
    lost_samples: u64,
    acknowledged_samples_per_second: f64,
    failed_machines: usize,
    ack_latency_p50_ms: Option<f64>,
    ack_latency_p99_ms: Option<f64>,
    /// From the reading on the machine to a `StreamMetrics` reader.
    live_latency_p50_ms: Option<f64>,
    live_latency_p99_ms: Option<f64>,
    server_cpu_seconds: Option<f64>,
    samples_per_server_cpu_second: Option<f64>,
    server_resident_bytes: Option<u64>,
    server_resident_peak_bytes: Option<u64>,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    ensure!(args.machines > 0, "--machines: expected at least 1, found 0");
    ensure!(
        args.series <= model::limits::SERIES_PER_MACHINE_MAX,
        "--series: expected at most {}, found {}",
        model::limits::SERIES_PER_MACHINE_MAX,
        args.series
    );
    let target = Endpoint::from_shared(args.target.clone())
        .with_context(|| {
            format!(
                "--target: expected a URL such as http://127.0.0.1:7070, found {:?}",
                args.target
            )
        })?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(10));
    let state = StateServiceClient::new(
        target.connect().await.with_context(|| format!("failed to reach {}", args.target))?,
    );
    let fleet = Arc::new(Fleet {
        target,
        layout: values::layout(args.series),
        interval: args.interval.0,
        max: args.max,
        frames_acknowledged: AtomicU64::new(0),
        connected: AtomicU64::new(0),
    });

    let before = args.pid.map(server::used).transpose()?;
    let started = Instant::now();
    let start_time = UnixMillis::from(SystemTime::now());
    let deadline = started + args.duration.0;
    let mut machines = JoinSet::new();
    for index in 0..args.machines {
        let (fleet, seed) = (fleet.clone(), args.seed);
        machines.spawn(async move { fleet.run(seed, index, deadline).await });
    }
    let watcher = tokio::spawn(watch_live(state.clone(), args.seed, args.machines, deadline));
    let (outcomes, failed) = finish(machines, &fleet, started).await;
    let seconds = started.elapsed().as_secs_f64();
    let after = args.pid.map(server::used).transpose()?;
    let live = watcher.await.unwrap_or_default();

    let per_frame = fleet.layout.len() as u64;
    let mut total = Outcome::default();
    for outcome in &outcomes {
        total.frames_sent += outcome.frames_sent;
        total.frames_acknowledged += outcome.frames_acknowledged;
        total.frames_rejected += outcome.frames_rejected;
        total.latency.add(&outcome.latency);
    }
    let stored =
        frames_in_history(state, start_time).await.context("failed to compare with history")?;
    let cpu = before.zip(after).map(|(b, a)| a.cpu_seconds - b.cpu_seconds);
    let ms = |latency: &Latency, share| {
        latency.percentile(share).map(|d: Duration| d.as_secs_f64() * 1000.0)
    };
    let acknowledged = total.frames_acknowledged * per_frame;
    let report = Report {
        machines: args.machines,
        series: fleet.layout.len(),
        seconds,
        sent_samples: total.frames_sent * per_frame,
        acknowledged_samples: acknowledged,
        rejected_samples: total.frames_rejected * per_frame,
        lost_samples: total.frames_sent.saturating_sub(stored) * per_frame,
        acknowledged_samples_per_second: acknowledged as f64 / seconds,
        failed_machines: failed,
        ack_latency_p50_ms: ms(&total.latency, 0.5),
        ack_latency_p99_ms: ms(&total.latency, 0.99),
        live_latency_p50_ms: ms(&live, 0.5),
        live_latency_p99_ms: ms(&live, 0.99),
        server_cpu_seconds: cpu,
        samples_per_server_cpu_second: cpu.filter(|c| *c > 0.0).map(|c| acknowledged as f64 / c),
        server_resident_bytes: after.map(|a| a.resident_bytes),
        server_resident_peak_bytes: after.map(|a| a.resident_peak_bytes),
    };
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => report.print(),
    }
    Ok(())
}

/// Waits for every machine, with a line of progress where a person watches.
async fn finish(
    mut machines: JoinSet<Result<Outcome>>,
    fleet: &Fleet,
    started: Instant,
) -> (Vec<Outcome>, usize) {
    let person = std::io::stderr().is_terminal();
    let mut progress = tokio::time::interval(Duration::from_secs(1));
    let (mut outcomes, mut failed) = (Vec::new(), 0);
    loop {
        tokio::select! {
            done = machines.join_next() => match done {
                None => break,
                Some(Ok(Ok(outcome))) => outcomes.push(outcome),
                Some(Ok(Err(error))) => {
                    failed += 1;
                    tracing::warn!("a machine failed: {error:#}");
                }
                Some(Err(error)) => {
                    failed += 1;
                    tracing::error!("a machine's task failed: {error}");
                }
            },
            _ = progress.tick(), if person => eprint!(
                "\r{:4.0} s  {} machines  {} M samples acknowledged ",
                started.elapsed().as_secs_f64(),
                fleet.connected.load(Ordering::Relaxed),
                fleet.frames_acknowledged.load(Ordering::Relaxed) * fleet.layout.len() as u64 / 1_000_000,
            ),
        }
    }
    if person {
        eprintln!();
    }
    (outcomes, failed)
}

/// Follows a few machines as a live reader and times each frame from its reading to here.
async fn watch_live(
    state: StateServiceClient<Channel>,
    seed: u64,
    machines: usize,
    until: Instant,
) -> Latency {
    let mut watchers = JoinSet::new();
    for index in (0..machines).step_by(machines.div_ceil(8)) {
        let mut state = state.clone();
        watchers.spawn(async move {
            let mut latency = Latency::default();
            let request = v1::StreamMetricsRequest {
                machine: machine::id(seed, index).to_string(),
                metrics: vec![values::MARKER.into()],
                format: v1::stream_metrics_request::Format::Columns.into(),
                lookback: None,
            };
            let follow = async {
                // The machine appears a moment after this reader.
                let mut stream = loop {
                    match state.stream_metrics(request.clone()).await {
                        Ok(answer) => break answer.into_inner(),
                        Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                    }
                };
                while let Ok(Some(update)) = stream.message().await {
                    let Some(read) = update.time.filter(|_| !update.past) else { continue };
                    if let Ok(read) = proto::convert::timestamp_from_proto("time", &read) {
                        let ms = UnixMillis::from(SystemTime::now()).since(read).max(0);
                        latency.record(Duration::from_millis(ms.unsigned_abs()));
                    }
                }
            };
            let _ = tokio::time::timeout_at(until.into(), follow).await;
            latency
        });
    }
    let mut all = Latency::default();
    while let Some(watched) = watchers.join_next().await {
        all.add(&watched.unwrap_or_default());
    }
    all
}

/// How many frames of the bench's machines history holds since the start.
async fn frames_in_history(
    mut state: StateServiceClient<Channel>,
    since: UnixMillis,
) -> Result<u64> {
    // By the second, so that raw values are counted; in pieces, so that answers stay within the limits.
    const STEP_MS: i64 = 1000;
    const PIECE_MS: i64 = 600 * STEP_MS;
    let end = UnixMillis::from(SystemTime::now()) + STEP_MS;
    let mut frames = 0.0;
    let mut start = since;
    while start < end {
        let piece_end = end.min(start.floor(STEP_MS) + PIECE_MS);
        let request = v1::QueryRangeRequest {
            metric: values::MARKER.into(),
            machines: vec![v1::LabelMatcher {
                name: "env".into(),
                op: v1::label_matcher::Op::Equal.into(),
                value: "bench".into(),
            }],
            start: Some(proto::convert::timestamp_to_proto(start)),
            end: Some(proto::convert::timestamp_to_proto(piece_end)),
            step: Some(proto::convert::duration_from_ms(STEP_MS)),
            aggregate: v1::Aggregate::Count.into(),
            ..Default::default()
        };
        let answer = state.query_range(request).await?.into_inner();
        let counts = answer.series.iter().flat_map(|s| &s.values).filter(|v| !v.is_nan());
        frames += counts.sum::<f64>();
        start = piece_end;
    }
    Ok(frames as u64)
}

impl Report {
    fn print(&self) {
        let millions = |n: u64| format!("{:.2} M", n as f64 / 1e6);
        let ms = |p: Option<f64>| p.map_or("-".into(), |ms| format!("{ms:.1} ms"));
        println!("{} machines × {} series for {:.1} s", self.machines, self.series, self.seconds);
        println!("  sent          {} samples", millions(self.sent_samples));
        println!(
            "  acknowledged  {} samples, {:.2} M a second",
            millions(self.acknowledged_samples),
            self.acknowledged_samples_per_second / 1e6
        );
        println!("  lost          {} samples", self.lost_samples);
        if self.rejected_samples > 0 || self.failed_machines > 0 {
            println!(
                "  refused       {} samples, {} machines failed",
                self.rejected_samples, self.failed_machines
            );
        }
        println!(
            "  ack latency   p50 {}, p99 {}",
            ms(self.ack_latency_p50_ms),
            ms(self.ack_latency_p99_ms)
        );
        println!(
            "  live latency  p50 {}, p99 {}",
            ms(self.live_latency_p50_ms),
            ms(self.live_latency_p99_ms)
        );
        if let (Some(cpu), Some(resident)) = (self.server_cpu_seconds, self.server_resident_bytes) {
            println!(
                "  server        {cpu:.1} CPU-s ({:.0} % of one core), {} samples per CPU-second, {} MB resident",
                cpu / self.seconds * 100.0,
                self.samples_per_server_cpu_second
                    .map_or("-".into(), |n| format!("{:.2} M", n / 1e6)),
                resident / 1_000_000
            );
        }
    }
}
