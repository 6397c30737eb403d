//! `muster demo`: a made-up fleet, so that every page has something to show.
//!
//! Start with `world`, where a machine is made up without a clock or a socket; `machine` speaks for it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use daemon::tls::{Client, ClientConfig};
use model::UnixMillis;
use proto::v1::push_service_client::PushServiceClient;
use proto::{Link, v1};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{gateway, remote, up};
use chance::Dice;
use machine::Sender;
use world::Machine;

mod chance;
mod incident;
mod lines;
mod machine;
mod role;
mod world;

const MACHINES_MAX: usize = 1_000;

/// Show a made-up fleet: on a server of its own with data that is thrown away, or on one that runs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster demo
  muster demo --machines 40 --logs 200 --backfill 6h
  muster demo --aggregator http://127.0.0.1:7070
  muster demo errors --rate 5

Without --aggregator everything is in this one process, at http://127.0.0.1:7070, and gone when it ends. Machines \
are named demo-web-1 and so on; on a server that runs they stay in its history: remove them by \
`muster machine remove`.")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    fleet: FleetFlags,
    /// Address of a server that runs, to send to instead of starting one
    #[arg(long, value_name = "URL")]
    aggregator: Option<String>,
    /// File with a token of the grant report:any, for a server that asks
    #[arg(long, value_name = "FILE", requires = "aggregator")]
    token_file: Option<PathBuf>,
    /// File of the authority (PEM) that a server at https:// is known by, instead of the system's
    #[arg(long, value_name = "FILE", requires = "aggregator")]
    ca: Option<PathBuf>,
    /// Address of the server that is started
    #[arg(long, value_name = "ADDRESS", value_parser = crate::serving::address, default_value = "127.0.0.1:7070", conflicts_with = "aggregator")]
    listen: SocketAddr,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Send test errors to a server that runs, to see what becomes of them
    Errors {
        /// Errors a second
        #[arg(long, default_value_t = 1.0)]
        rate: f64,
        /// Stop after so many
        #[arg(long)]
        count: Option<u64>,
        #[command(flatten)]
        server: remote::Flags,
    },
}

/// What is made up.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FleetFlags {
    /// Machines
    #[arg(long, default_value_t = 12)]
    machines: usize,
    /// Time between two frames of a machine
    #[arg(long, default_value = "1s")]
    interval: daemon::config::Span,
    /// Log events a second of the whole fleet
    #[arg(long, default_value_t = 20.0)]
    logs: f64,
    /// How much past to make up
    #[arg(long, default_value = "24h")]
    backfill: daemon::config::Span,
    /// The same seed makes the same machines
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    if let Some(Command::Errors { rate, count, server }) = args.command {
        return errors(server.connect().await?, rate, count).await;
    }
    args.fleet.check()?;
    let Some(aggregator) = &args.aggregator else {
        return up::demo(args.listen, args.fleet).await;
    };
    let shutdown = daemon::shutdown::on_signal();
    let tls = Client::open("--ca", &ClientConfig { ca: args.ca, ..ClientConfig::default() })?;
    let channel = gateway::channel("--aggregator", aggregator, tls)?;
    let token = args.token_file.as_deref().map(remote::read_token).transpose()?;
    let link = remote::link(channel, token);
    println!("{} made-up machines report to {aggregator}", args.fleet.machines);
    args.fleet.report(link, shutdown).await
}

impl FleetFlags {
    fn check(&self) -> anyhow::Result<()> {
        let machines = self.machines;
        ensure!(
            (1..=MACHINES_MAX).contains(&machines),
            "--machines: expected 1 to {MACHINES_MAX}, found {machines}"
        );
        let interval = self.interval.0;
        let bounds = Duration::from_millis(100)..=Duration::from_secs(60);
        ensure!(
            bounds.contains(&interval),
            "--interval: expected 100ms to 60s, found {interval:?}"
        );
        let week = Duration::from_secs(7 * 86_400 - 3_600);
        ensure!(self.backfill.0 <= week, "--backfill: expected less than 7 days");
        let logs = self.logs;
        ensure!((0.0..=100_000.0).contains(&logs), "--logs: expected 0 to 100000, found {logs}");
        Ok(())
    }

    /// Every machine reports until `stop`.
    pub(crate) async fn report(self, link: Link, stop: CancellationToken) -> anyhow::Result<()> {
        let begins = UnixMillis::from(SystemTime::now()) - self.backfill.0.as_millis() as i64;
        let mut senders = JoinSet::new();
        for index in 0..self.machines {
            let each = self.logs / self.machines as f64;
            let machine = |logs| Machine::new(self.seed, index, self.machines, logs, begins);
            let (now, past) = (machine(each), machine(each / 10.0));
            let (interval, link, stop) = (self.interval.0, link.clone(), stop.clone());
            senders.spawn(async move {
                let made = move || Sender::new(now, past, begins, interval);
                let sender = tokio::task::spawn_blocking(made).await.context("was not made up")?;
                sender.run(link, stop).await;
                anyhow::Ok(())
            });
        }
        while let Some(ended) = senders.join_next().await {
            ended.context("a made-up machine failed")??;
        }
        Ok(())
    }
}

async fn errors(link: Link, rate: f64, count: Option<u64>) -> anyhow::Result<()> {
    ensure!(rate > 0.0 && rate <= 10_000.0, "--rate: expected up to 10000, found {rate}");
    let shutdown = daemon::shutdown::on_signal();
    let mut client = PushServiceClient::new(link);
    let mut dice = Dice::new(UnixMillis::from(SystemTime::now()).0 as u64);
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    let mut sent = 0;
    while count.is_none_or(|count| sent < count) {
        if shutdown.run_until_cancelled(ticks.tick()).await.is_none() {
            break;
        }
        let (severity_number, body) = lines::test_error(sent, &mut dice);
        let event = v1::LogEvent {
            severity_number,
            service: "demo-errors".to_owned(),
            body,
            ..v1::LogEvent::default()
        };
        let request = v1::PushRequest {
            source: "demo-errors".to_owned(),
            events: vec![event],
            ..v1::PushRequest::default()
        };
        client.push(request).await.map_err(|status| remote::refused(&status))?;
        sent += 1;
    }
    println!("{sent} test errors were sent and stored");
    Ok(())
}
