//! `muster alerts`: watches and tells people; `muster alerts check` reads a rules file.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use daemon::grpc;
use daemon::hint::WithHint as _;
use storage::config::EventsKind;

use crate::config::Flags;
use crate::crew::Crew;
use crate::data_dir::{self, DataDir};
use crate::doorkeeper::Doorkeeper;
use crate::guard::Guard;
use crate::serving::{ALERTS_SERVICES, GRACE, Serving};
use crate::stores;

mod dead;

/// Run the alert service alone: watch rules, remember alerts, send messages
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  muster alerts
  muster alerts --listen 127.0.0.1:7072
  muster alerts check /etc/muster/rules.toml
  muster alerts dead list
  muster alerts dead retry 1732734000000-0 --url http://10.0.0.5:7070 --token-file admin.token

`muster up` has the alert service in it. Alone it needs stores that it shares with the aggregator."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Address to serve on
    #[arg(long, value_name = "ADDRESS", env = "MUSTER_LISTEN", value_parser = crate::serving::address, default_value = "127.0.0.1:7072")]
    listen: SocketAddr,
    #[command(flatten)]
    data_dir: data_dir::Flag,
    /// Ask nobody for a token, even where others can come: they see and change everything
    #[arg(long, env = "MUSTER_INSECURE_NO_AUTH")]
    insecure_no_auth: bool,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check a rules file without starting anything
    Check {
        /// Rules file (TOML)
        file: PathBuf,
    },
    /// Look at events that could not be processed, and retry or discard them
    Dead(dead::Args),
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        None => {}
        Some(Command::Check { file }) => {
            let rules = ::alerts::read_rules_file(&file)?;
            println!("{}: ok, {} rules", file.display(), rules.len());
            return Ok(());
        }
        Some(Command::Dead(dead)) => return dead::run(dead).await,
    }
    let config = args.flags.load()?;
    if config.storage.events == EventsKind::Local {
        let what = "storage.events: \"local\" is heard in one process only, and this one has no aggregator";
        return Err(anyhow::anyhow!(what)).hint(
            "run `muster up`, which has the alert service in it, or choose a shared event stream",
        );
    }
    let shutdown = daemon::shutdown::on_signal();
    let mut serving = Serving::bind("alerts", args.listen, &config, args.insecure_no_auth)?;
    let data_dir = DataDir::open(args.data_dir)?;
    let storing = serving.health.component("storage");
    let stores = storage::open(&config.storage, data_dir.path()).await?;
    storing.ready();
    let doorkeeper = Doorkeeper::open(&serving, &config.access, stores.credentials.clone()).await?;

    let watched = stores.clone();
    stores::register(&mut serving.metrics, &stores.conditions);
    let alerts = ::alerts::Alerts::open(config.alerts, stores, &mut serving.metrics).await?;
    let (routes, names) = doorkeeper.beside(alerts.routes(), &ALERTS_SERVICES);
    let guard = Guard::new(doorkeeper.link(), serving.hosts.clone(), false, &mut serving.metrics);
    let services = grpc::services(routes, proto::DESCRIPTOR_SET, &names, &serving.health);
    let url = serving.url();
    let (server, router, health) = serving.finish(Router::new().merge(services), guard.clone());

    let mut crew = Crew::default();
    let answering = crew.stage();
    answering.add("alerts", |stop| alerts.run(stop));
    answering.add("stores", |stop| stores::watch(watched, storing, stop));
    answering.add("server", |stop| server.serve(router, stop));
    answering.add("guard", |stop| guard.run(stop));
    doorkeeper.introduce();
    answering.add("access", |stop| doorkeeper.run(stop));

    println!("Muster's alert service is listening on {url}");
    crew.run(shutdown, &health, GRACE).await
}
