//! `muster aggregator`: takes in what collectors send, keeps it, and answers for it.

use std::net::SocketAddr;

use axum::Router;
use daemon::grpc;

use crate::config::Flags;
use crate::crew::Crew;
use crate::data_dir::{self, DataDir};
use crate::doorkeeper::Doorkeeper;
use crate::guard::Guard;
use crate::probe;
use crate::reload;
use crate::serving::{AGGREGATOR_SERVICES, GRACE, Serving};
use crate::stores;

/// Run the aggregator alone: take frames in, keep them, answer gRPC queries
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster aggregator
  muster aggregator --listen 127.0.0.1:7071 --data-dir /srv/muster
  muster collector --aggregator http://127.0.0.1:7071")]
pub(crate) struct Args {
    /// Address to serve on
    #[arg(long, value_name = "ADDRESS", env = "MUSTER_LISTEN", value_parser = crate::serving::address, default_value = "127.0.0.1:7071")]
    listen: SocketAddr,
    #[command(flatten)]
    data_dir: data_dir::Flag,
    /// Ask nobody for a token, even where others can come: they see and change everything
    #[arg(long, env = "MUSTER_INSECURE_NO_AUTH")]
    insecure_no_auth: bool,
    #[command(flatten)]
    flags: Flags,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let config = args.flags.load()?;
    let (file, asked) = (args.flags.file(), config.aggregator.collectors.clone());
    let probe_name = config.aggregator.name.clone();
    let shutdown = daemon::shutdown::on_signal();
    let mut serving = Serving::bind("aggregator", args.listen, &config, args.insecure_no_auth)?;
    let data_dir = DataDir::open(args.data_dir)?;
    let storing = serving.health.component("storage");
    let stores = storage::open(&config.storage, data_dir.path()).await?;
    storing.ready();
    let doorkeeper = Doorkeeper::open(&serving, &config.access, stores.credentials.clone()).await?;

    let refusals = serving.overload.refusals();
    let metrics = &mut serving.metrics;
    let watched = stores.clone();
    stores::register(metrics, &stores.conditions);
    let aggregator =
        ::aggregator::Aggregator::open(config.aggregator, stores, &refusals, metrics).await?;
    let board = aggregator.settings();
    let (routes, names) = doorkeeper.beside(aggregator.routes(), &AGGREGATOR_SERVICES);
    let guard = Guard::new(doorkeeper.link(), serving.hosts.clone(), false, metrics);
    let probing = proto::Link::new(routes.clone().prepare());
    let services = grpc::services(routes, proto::DESCRIPTOR_SET, &names, &serving.health);
    let url = serving.url();
    let (server, router, health) = serving.finish(Router::new().merge(services), guard.clone());

    let mut crew = Crew::default();
    if config.probe.enabled {
        let name = format!("{probe_name} {url}");
        let own = probe::Own { link: probing, has_alerts: false, page: None };
        crew.stage().add("probe", |stop| probe::follow(config.probe, name, own, stop));
    }
    crew.stage().add("settings", |stop| reload::follow(file, asked, board, stop));
    let answering = crew.stage();
    answering.add("aggregator", |stop| aggregator.run(stop));
    answering.add("stores", |stop| stores::watch(watched, storing, stop));
    answering.add("server", |stop| server.serve(router, stop));
    answering.add("guard", |stop| guard.run(stop));
    doorkeeper.introduce();
    answering.add("access", |stop| doorkeeper.run(stop));

    println!("Muster's aggregator is listening on {url}");
    println!("  data       {}", data_dir.path().display());
    println!("  collector  muster collector --aggregator {url}");
    println!("  dashboard  muster gateway --aggregator {url}");
    crew.run(shutdown, &health, GRACE).await
}
