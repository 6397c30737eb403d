//! `muster bench`: a made-up fleet over real connections, and what the server made of it.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use model::UnixMillis;
use proto::v1;
use proto::v1::state_service_client::StateServiceClient;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

mod fleet;
mod latency;
mod logs;
mod machine;
mod outstanding;
mod pace;
mod remote_write;
mod report;
mod server;
mod values;
mod watch;

use fleet::{Fleet, Outcome, Plan};
use latency::Latency;
use report::Report;
use watch::Reader;

/// Load a running server with a made-up fleet and report what it did.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster bench --machines 100 --series 300
  muster bench --machines 1000 --series 1000 --duration 5m --pid $(pidof muster) --json
  muster bench --machines 8 --series 1000 --max
  muster bench --machines 10 --backfill 2h --duration 0s --pid $(pidof muster) --data-dir DIR
  muster bench --protocol remote-write --target http://127.0.0.1:9090

The machines are named bench-0000 and so on, and stay in the server's history: use a server of its own.")]
pub(crate) struct Args {
    /// Address of the aggregator, or of `muster up`; with remote write, of the other server.
    #[arg(long, env = "MUSTER_BENCH_TARGET", default_value = "http://127.0.0.1:7070")]
    target: String,
    /// How to speak. `remote-write` gives the same values to Prometheus, VictoriaMetrics and the like.
    #[arg(long, value_enum, default_value_t = Protocol::Muster)]
    protocol: Protocol,
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
    /// Before the present, send this much of the past as fast as the server acknowledges.
    #[arg(long, default_value = "0s")]
    backfill: daemon::config::Span,
    /// Send as fast as the server acknowledges, not at the interval.
    #[arg(long)]
    max: bool,
    /// Replace a tenth of all series by new ones this often.
    #[arg(long)]
    churn: Option<daemon::config::Span>,
    /// Log events a second of the whole fleet.
    #[arg(long, default_value_t = 0)]
    logs: u64,
    /// How long acknowledgements may fail to come before a machine gives up on what it sent.
    #[arg(long, default_value = "30s")]
    patience: daemon::config::Span,
    /// Process ids of the server on this machine, to report its CPU time and memory, with those of the
    /// processes that it started.
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    /// Directory where the server keeps its data on this machine, to report its growth.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Seed of the made-up values and machine ids.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// How the machines speak to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Protocol {
    /// As collectors do.
    Muster,
    /// Prometheus remote write, version 1.
    RemoteWrite,
}

impl Args {
    fn measured(&self) -> bool {
        !self.pid.is_empty()
    }

    fn plan(&self) -> Result<Plan> {
        let most = model::limits::SERIES_PER_MACHINE_MAX;
        ensure!(self.machines > 0, "--machines: expected at least 1, found 0");
        ensure!(self.series <= most, "--series: expected at most {most}, found {}", self.series);
        let interval = self.interval.0;
        ensure!(!interval.is_zero(), "--interval: expected more than 0");
        let logs = self.logs == 0 || self.protocol == Protocol::Muster;
        ensure!(logs, "--logs: remote write carries no logs");
        Ok(Plan {
            seed: self.seed,
            machines: self.machines,
            series: self.series,
            interval,
            backfill: self.backfill.0,
            duration: self.duration.0,
            max: self.max,
            churn: self.churn.as_ref().map(|churn| churn.0),
            patience: self.patience.0,
            logs_per_second: self.logs,
            start: SystemTime::now().into(),
        })
    }
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let plan = args.plan()?;
    let target = Endpoint::from_shared(args.target.clone())
        .with_context(|| {
            format!(
                "--target: expected a URL such as http://127.0.0.1:7070, found {:?}",
                args.target
            )
        })?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(10));
    let fleet = Arc::new(Fleet {
        plan: plan.clone(),
        target: target.clone(),
        frames_acknowledged: AtomicU64::new(0),
        connected: AtomicU64::new(0),
    });
    let server = Server::look(&args)?;
    let started = Instant::now();
    let mut machines = JoinSet::new();
    for index in 0..args.machines {
        let fleet = fleet.clone();
        match args.protocol {
            Protocol::Muster => machines.spawn(async move { fleet.stream(index).await }),
            Protocol::RemoteWrite => {
                machines.spawn(async move { fleet.write_remotely(index).await })
            }
        };
    }
    let state = match args.protocol {
        Protocol::Muster => Some(StateServiceClient::new(
            target.connect().await.with_context(|| format!("failed to reach {}", args.target))?,
        )),
        Protocol::RemoteWrite => None,
    };
    let until = started + plan.duration;
    let watch = async |reader: Option<Reader>| match reader {
        Some(reader) => watch::follow(&plan, reader, until).await,
        None => Latency::default(),
    };
    let page = state.is_some().then(|| Reader::Page(args.target.clone()));
    let ((total, failed), live, pages) = tokio::join!(
        finish(machines, &fleet, started),
        watch(state.clone().map(Reader::Stream)),
        watch(page),
    );
    let seconds = started.elapsed().as_secs_f64();
    let loaded = args.measured().then(|| server::used(&args.pid)).transpose()?;
    let stored = match state {
        Some(state) => frames_in_history(state, &plan).await,
        None => fleet.frames_found_remotely(total.frames_sent).await,
    };
    let stored = stored.context("failed to compare with history")?;
    let (cpu, disk) = server.grown(&args).await?;

    let per_frame = values::layout(plan.series, 0).len() as u64;
    let ms = |latency: &Latency, share| {
        latency.percentile(share).map(|d: Duration| d.as_secs_f64() * 1000.0)
    };
    let acknowledged = total.frames_acknowledged * per_frame;
    let each = |n: f64| (acknowledged > 0).then(|| n / acknowledged as f64);
    let report = Report {
        machines: plan.machines,
        series: per_frame as usize,
        seconds,
        sent_samples: total.frames_sent * per_frame,
        acknowledged_samples: acknowledged,
        rejected_samples: total.frames_rejected * per_frame,
        put_off_samples: total.frames_put_off * per_frame,
        lost_samples: total.frames_sent.saturating_sub(stored) * per_frame,
        acknowledged_samples_per_second: acknowledged as f64 / seconds,
        sent_log_events: total.logs_sent,
        acknowledged_log_events: total.logs_acknowledged,
        failed_machines: failed,
        ack_latency_p50_ms: ms(&total.latency, 0.5),
        ack_latency_p99_ms: ms(&total.latency, 0.99),
        live_latency_p50_ms: ms(&live, 0.5),
        live_latency_p99_ms: ms(&live, 0.99),
        page_latency_p50_ms: ms(&pages, 0.5),
        page_latency_p99_ms: ms(&pages, 0.99),
        server_cpu_seconds: cpu,
        samples_per_server_cpu_second: cpu.filter(|c| *c > 0.0).map(|c| acknowledged as f64 / c),
        server_resident_bytes: loaded.map(|used| used.resident_bytes),
        disk_bytes: disk,
        disk_bytes_per_sample: disk.and_then(|bytes| each(bytes as f64)),
    };
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => report.print(),
    }
    Ok(())
}

/// The measured server before the run.
struct Server {
    used: Option<server::Used>,
    disk_bytes: Option<u64>,
}

impl Server {
    fn look(args: &Args) -> Result<Self> {
        let used = args.measured().then(|| server::used(&args.pid)).transpose()?;
        Ok(Self { used, disk_bytes: args.data_dir.as_deref().map(server::bytes_under) })
    }

    /// CPU time used and bytes added since, once the server is quiet again.
    async fn grown(&self, args: &Args) -> Result<(Option<f64>, Option<u64>)> {
        let mut cpu = None;
        if let Some(before) = self.used {
            cpu = Some(
                server::quiet(&args.pid, args.protocol).await?.cpu_seconds - before.cpu_seconds,
            );
        }
        let now = args.data_dir.as_deref().map(server::bytes_under);
        let disk = now.zip(self.disk_bytes).map(|(now, before)| now.saturating_sub(before));
        Ok((cpu, disk))
    }
}

/// Waits for every machine, with a line of progress where a person watches.
async fn finish(
    mut machines: JoinSet<Result<Outcome>>,
    fleet: &Fleet,
    started: Instant,
) -> (Outcome, usize) {
    let person = std::io::stderr().is_terminal();
    let mut progress = tokio::time::interval(Duration::from_secs(1));
    let per_frame = fleet.plan.series as u64;
    let (mut total, mut failed) = (Outcome::default(), 0);
    loop {
        tokio::select! {
            done = machines.join_next() => match done {
                None => break,
                Some(Ok(Ok(outcome))) => total.add(&outcome),
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
                "\r{:4.0} s  {} machines  {} samples acknowledged ",
                started.elapsed().as_secs_f64(),
                fleet.connected.load(Ordering::Relaxed),
                report::short(
                    (fleet.frames_acknowledged.load(Ordering::Relaxed) * per_frame) as f64
                ),
            ),
        }
    }
    if person {
        eprintln!();
    }
    (total, failed)
}

/// How many frames of the bench's machines history holds since the start.
async fn frames_in_history(mut state: StateServiceClient<Channel>, plan: &Plan) -> Result<u64> {
    // By the second, so that raw values are counted; in pieces, so that answers stay within the limits.
    const STEP_MS: i64 = 1000;
    const PIECE_MS: i64 = 600 * STEP_MS;
    let end = UnixMillis::from(SystemTime::now()) + STEP_MS;
    let mut frames = 0.0;
    let past_ms = plan.backfill.as_millis() as i64 + plan.interval.as_millis() as i64;
    let mut start = plan.start - past_ms;
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
