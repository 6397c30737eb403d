//! `muster probe`, and the same inside the server: one marked sample goes all the way, and is timed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure};
use axum::http::HeaderValue;
use daemon::config::Span;
use daemon::tls::{Client, ClientConfig};
use proto::Link;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::{gateway, remote};
use way::{Ends, Page, Took, Way};

mod way;

/// How long a sample may take for a stage; one that takes longer did not arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// The section `[probe]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Whether a server measures itself.
    pub(crate) enabled: bool,
    /// Time between two samples.
    pub(crate) every: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, every: Span(Duration::from_secs(10)) }
    }
}

impl Config {
    /// # Errors
    /// When the time cannot be used.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let bounds = Duration::from_secs(1)..=Duration::from_secs(3600);
        let found = self.every.0;
        ensure!(bounds.contains(&found), "probe.every: expected 1s to 1h, found {found:?}");
        Ok(())
    }
}

/// Send marked samples all the way through a deployment and say how long each stage takes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster probe
  muster probe --url https://hub.example:7070 --token-file admin.token --collector-token-file fleet.token
  muster probe --aggregator http://10.0.0.5:7071 --alerts http://10.0.0.5:7072 --url http://10.0.0.6:7070

Exit code 1 when a sample does not arrive. What is sent is in no list of machines.")]
pub(crate) struct Args {
    /// Where the dashboard is: `muster up`, or a gateway
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7070")]
    url: String,
    /// Where the aggregator is, when it is a process of its own [default: --url]
    #[arg(long, value_name = "URL")]
    aggregator: Option<String>,
    /// Where the alert service is, when it is a process of its own [default: --url, or none with --aggregator]
    #[arg(long, value_name = "URL")]
    alerts: Option<String>,
    /// File with a token that may read, for a server that asks
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File with a token of the grant report:any, for a server that asks
    #[arg(long, value_name = "FILE")]
    collector_token_file: Option<PathBuf>,
    /// File of the authority (PEM) that a server at https:// is known by, instead of the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Samples
    #[arg(long, default_value_t = 5)]
    count: usize,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let bounds = 1..=10_000;
    ensure!(bounds.contains(&args.count), "--count: expected 1 to 10000, found {}", args.count);
    let tls = Client::open("--ca", &ClientConfig { ca: args.ca, ..ClientConfig::default() })?;
    let token = |file: Option<PathBuf>| -> anyhow::Result<Option<HeaderValue>> {
        file.as_deref().map(remote::read_token).transpose()
    };
    let (reader, collector) = (token(args.token_file)?, token(args.collector_token_file)?);
    let aggregator = args.aggregator.as_ref().unwrap_or(&args.url);
    let channel = gateway::channel("--aggregator", aggregator, tls.clone())?;
    let alerts = match (&args.alerts, &args.aggregator) {
        (Some(alerts), _) => Some(gateway::channel("--alerts", alerts, tls.clone())?),
        (None, None) => Some(channel.clone()),
        (None, Some(_)) => None,
    };
    let alerts = alerts.map(|channel| remote::link(channel, reader.clone()));
    let page = Page { url: args.url, token: reader.clone(), tls };
    // One at a time for each process: two of the same name would take each other's stream.
    let name = format!("muster probe {}", std::process::id());
    let ends = Ends {
        collector: remote::link(channel.clone(), collector),
        reader: remote::link(channel, reader),
        alerts,
        page: Some(page),
    };
    let mut way = Way::open(&name, ends).await?;
    let mut all: Vec<Took> = Vec::new();
    let shutdown = daemon::shutdown::on_signal();
    for _ in 0..args.count {
        let Some(took) = shutdown.run_until_cancelled(way.once(PATIENCE)).await else { break };
        all.push(took?);
    }
    let mut lost = 0;
    println!("{:<10}{:>12}{:>12}{:>8}", "stage", "half", "longest", "lost");
    for stage in way.stages() {
        let mut found: Vec<Duration> = all.iter().filter_map(|took| took.of(stage)).collect();
        found.sort();
        let missing = all.len() - found.len();
        lost += missing;
        let ms = |at: Option<&Duration>| {
            at.map_or("-".to_owned(), |took| format!("{:.1} ms", took.as_secs_f64() * 1e3))
        };
        let (half, longest) = (ms(found.get(found.len() / 2)), ms(found.last()));
        println!("{:<10}{half:>12}{longest:>12}{missing:>8}", stage.name());
    }
    way.close().await;
    match lost {
        0 => Ok(()),
        lost => bail!("{lost} stages were not reached within {} s", PATIENCE.as_secs()),
    }
}

/// What of a server's own it can measure.
pub(crate) struct Own {
    pub(crate) link: Link,
    /// Whether the alert service is behind the link too.
    pub(crate) has_alerts: bool,
    /// Where its dashboard is, when it can be opened.
    pub(crate) page: Option<String>,
}

/// A server measures itself until `stop`.
pub(crate) async fn follow(
    config: Config,
    name: String,
    own: Own,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let tls = Client::open("probe", &ClientConfig::default())?;
    let ends = Ends {
        collector: own.link.clone(),
        reader: own.link.clone(),
        alerts: own.has_alerts.then_some(own.link),
        page: own.page.map(|url| Page { url, token: None, tls }),
    };
    let mut way: Option<Way> = None;
    let mut is_told = false;
    // The first once everything is up.
    while stop.run_until_cancelled(tokio::time::sleep(config.every.0)).await.is_some() {
        let once = async {
            let open = match way.take() {
                Some(open) => open,
                None => Way::open(&name, ends.clone()).await?,
            };
            way.insert(open).whole(PATIENCE).await
        };
        let Some(went) = stop.run_until_cancelled(once).await else { break };
        match went {
            Ok(()) if std::mem::take(&mut is_told) => {
                tracing::info!("the probe gets through again");
            }
            Ok(()) => {}
            Err(error) => {
                // What is open may be what is broken.
                way = None;
                if !std::mem::replace(&mut is_told, true) {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the probe of this server does not get through");
                }
            }
        }
    }
    if let Some(way) = way {
        way.close().await;
    }
    Ok(())
}
