//! `muster up`: every role in one process, on one port, with nothing else to install.

use std::net::SocketAddr;
use std::path::PathBuf;

use daemon::grpc;
use proto::Link;
use tonic::service::Routes;

use crate::config::{Config, Flags};
use crate::crew::Crew;
use crate::data_dir::{self, DataDir};
use crate::demo::FleetFlags;
use crate::doorkeeper::Doorkeeper;
use crate::guard::Guard;
use crate::probe;
use crate::reload;
use crate::serving::{AGGREGATOR_SERVICES, ALERTS_SERVICES, GRACE, Serving};
use crate::stores;

/// Run everything on this machine: collector, aggregator, alerts, store and dashboard, on one port
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster up
  muster up --listen 127.0.0.1:9000 --data-dir /srv/muster
  muster up --logs '/var/log/*.log'
  MUSTER_COLLECTOR__INTERVAL=5s muster up

The dashboard, REST (/api/v1/), the WebSocket, gRPC for collectors and grpcurl, and /metrics are all \
served on the one address. Data is kept across restarts.")]
pub(crate) struct Args {
    /// Address to serve on
    #[arg(long, value_name = "ADDRESS", env = "MUSTER_LISTEN", value_parser = crate::serving::address, default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    #[command(flatten)]
    data_dir: data_dir::Flag,
    /// Ask nobody for a login or a token, even where others can come: they see and change everything
    #[arg(long, env = "MUSTER_INSECURE_NO_AUTH")]
    insecure_no_auth: bool,
    #[command(flatten)]
    log_files: ::collector::cli::LogFiles,
    #[command(flatten)]
    flags: Flags,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let mut config = args.flags.load()?;
    args.log_files.add_to(&mut config.collector.logs)?;
    let file = args.flags.file();
    let serving = Serving::bind("muster", args.listen, &config, args.insecure_no_auth)?;
    let data_dir = DataDir::open(args.data_dir)?;
    serve(serving, data_dir, config, file, None).await
}

/// A made-up fleet instead of this machine, kept where it goes when this ends.
pub(crate) async fn demo(listen: SocketAddr, fleet: FleetFlags) -> anyhow::Result<()> {
    // No setting of a real server counts: nothing made up may get into its stores.
    let config = Config::default();
    daemon::logging::init(config.log.format, &config.log.filter)?;
    let serving = Serving::bind("muster", listen, &config, false)?;
    let dir = tempfile::Builder::new().prefix("muster-demo-").tempdir()?;
    let data_dir = DataDir::hold(dir.path().join("data"))?;
    serve(serving, data_dir, config, None, Some(fleet)).await
}

/// `fleet` reports instead of a collector.
async fn serve(
    mut serving: Serving,
    data_dir: DataDir,
    config: Config,
    file: Option<PathBuf>,
    fleet: Option<FleetFlags>,
) -> anyhow::Result<()> {
    let asked = config.aggregator.collectors.clone();
    let probe_name = config.aggregator.name.clone();
    let shutdown = daemon::shutdown::on_signal();
    let storing = serving.health.component("storage");
    let stores = storage::open(&config.storage, data_dir.path()).await?;
    storing.ready();
    let doorkeeper = Doorkeeper::open(&serving, &config.access, stores.credentials.clone()).await?;

    let refusals = serving.overload.refusals();
    let metrics = &mut serving.metrics;
    let watched = stores.clone();
    stores::register(metrics, &stores.conditions);
    // First, so that it misses nothing of what the aggregator tells.
    let alerts = ::alerts::Alerts::open(config.alerts, stores.clone(), metrics).await?;
    let aggregator =
        ::aggregator::Aggregator::open(config.aggregator, stores, &refusals, metrics).await?;
    let board = aggregator.settings();
    let routes = together(aggregator.routes(), alerts.routes());
    let names = [&AGGREGATOR_SERVICES[..], &ALERTS_SERVICES[..]].concat();
    let (routes, names) = doorkeeper.beside(routes, &names);
    // The same clients and services as across a network, without the network.
    let link = Link::new(routes.clone().prepare());
    let gateway = ::gateway::Gateway::new(config.gateway, link.clone(), metrics)?;
    let guard = Guard::new(doorkeeper.link(), serving.hosts.clone(), true, metrics);
    let state_dir = config.collector.state_dir.clone();
    let collector = ::collector::Config {
        state_dir: state_dir.or_else(|| Some(data_dir.path().join("collector"))),
        ..config.collector
    };
    let target = ::collector::Target::Link(link.clone());
    let collector = match fleet {
        Some(_) => None,
        None => Some(::collector::Collector::open(collector, target)?),
    };

    let probing = link.clone();
    let services = grpc::services(routes, proto::DESCRIPTOR_SET, &names, &serving.health);
    let url = serving.url();
    let only_us = serving.server.local_addr().ip().to_canonical().is_loopback();
    // Its own page is open to itself where it is to all.
    let page = (!serving.guarded && !serving.server.speaks_tls()).then(|| url.clone());
    let (server, router, health) = serving.finish(gateway.router().merge(services), guard.clone());

    let mut crew = Crew::default();
    // The collector says goodbye while there is still somebody to say it to.
    match (collector, fleet) {
        (Some(collector), _) => crew.stage().add("collector", |stop| collector.run(stop)),
        (None, Some(fleet)) => crew.stage().add("demo", |stop| fleet.report(link, stop)),
        (None, None) => {}
    }
    if config.probe.enabled {
        let name = format!("{probe_name} {url}");
        let own = probe::Own { link: probing, has_alerts: true, page };
        crew.stage().add("probe", |stop| probe::follow(config.probe, name, own, stop));
    }
    crew.stage().add("settings", |stop| reload::follow(file, asked, board, stop));
    // The dashboard ends before what it watches does: that would look to it like an outage.
    crew.stage().add("gateway", |stop| gateway.run(stop));
    let answering = crew.stage();
    answering.add("aggregator", |stop| aggregator.run(stop));
    answering.add("alerts", |stop| alerts.run(stop));
    answering.add("stores", |stop| stores::watch(watched, storing, stop));
    answering.add("server", |stop| server.serve(router, stop));
    answering.add("guard", |stop| guard.run(stop));
    doorkeeper.introduce();
    answering.add("access", |stop| doorkeeper.run(stop));

    println!("Muster is listening on {url}");
    println!("  dashboard  {url}/");
    println!("  data       {}", data_dir.path().display());
    println!("  collector  muster collector --aggregator {url}");
    if only_us {
        println!("             from this machine only; --listen 0.0.0.0:7070 lets others report");
    }
    crew.run(shutdown, &health, GRACE).await
}

/// The services of two roles on one port. Only one may answer for what is unknown.
pub(crate) fn together(routes: Routes, more: Routes) -> Routes {
    Routes::from(routes.into_axum_router().merge(more.into_axum_router().reset_fallback()))
}
