//! `muster gateway`: the dashboard, as a client of an aggregator elsewhere.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use axum::http::{HeaderValue, Request, Response};
use daemon::grpc;
use daemon::health::Readiness;
use daemon::hint::WithHint as _;
use daemon::tls::Client;
use proto::Link;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt as _;
use tower::util::Oneshot;

use crate::config::Flags;
use crate::crew::Crew;
use crate::guard::Guard;
use crate::remote;
use crate::serving::{ALERTS_SERVICES, GRACE, Serving};

/// Idle proxies cut streams after a minute, and a peer that vanished is noticed no other way.
const KEEPALIVE: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the readiness of the aggregator is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Run the dashboard alone: pages, REST and WebSocket, asking an aggregator
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster gateway
  muster gateway --listen 127.0.0.1:8080 --aggregator http://10.0.0.5:7071")]
pub(crate) struct Args {
    /// Address to serve on
    #[arg(long, value_name = "ADDRESS", env = "MUSTER_LISTEN", value_parser = crate::serving::address, default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    /// Address of the aggregator
    #[arg(
        long,
        value_name = "URL",
        env = "MUSTER_AGGREGATOR",
        default_value = "http://127.0.0.1:7071"
    )]
    aggregator: String,
    /// Address of the alert service, when it is a process of its own [default: asked where the aggregator is]
    #[arg(long, value_name = "URL", env = "MUSTER_ALERTS")]
    alerts: Option<String>,
    /// Ask nobody for a login, even where others can come: they see and change everything
    #[arg(long, env = "MUSTER_INSECURE_NO_AUTH")]
    insecure_no_auth: bool,
    /// File with the token that the gateway proves itself with to the aggregator; it may do everything
    #[arg(long, value_name = "FILE", env = "MUSTER_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// File of the authority (PEM) that an aggregator at https:// is known by, instead of the system's
    #[arg(long, value_name = "FILE", env = "MUSTER_CA")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let config = args.flags.load()?;
    let shutdown = daemon::shutdown::on_signal();
    let mut serving = Serving::bind("gateway", args.listen, &config, args.insecure_no_auth)?;
    let tls = daemon::tls::ClientConfig {
        ca: args.ca.or_else(|| config.gateway.tls.ca.clone()),
        ..config.gateway.tls.clone()
    };
    let tls = Client::open("gateway.tls", &tls)?;
    let shown = tls.clone();
    daemon::tls::show_expiry(&mut serving.metrics, "gateway.tls", move || shown.expires());
    let followed = tls.clone();
    let channel = channel("--aggregator", &args.aggregator, tls.clone())?;
    let alerts = args.alerts.as_deref().map(|url| self::channel("--alerts", url, tls));
    let upstream = serving.health.component("aggregator");
    let token = token(args.token_file.as_deref(), &config.access)?;
    let proven = token.is_some();
    let link = remote::link(channel.clone(), token.clone());
    let link = match alerts.transpose()? {
        Some(alerts) => Link::new(Fork { alerts: remote::link(alerts, token), others: link }),
        None => link,
    };
    if serving.guarded && !proven {
        return Err(anyhow::anyhow!("the gateway has no token, and must ask the aggregator who its visitors are"))
            .hint("make one with `muster token create gateway --grant admin` where the aggregator runs, and name its file with --token-file");
    }
    let guard = Guard::new(
        serving.guarded.then(|| link.clone()),
        serving.hosts.clone(),
        true,
        &mut serving.metrics,
    );
    let gateway = ::gateway::Gateway::new(config.gateway, link, &mut serving.metrics)?
        .showing(serving.overload.refusals());

    let url = serving.url();
    let (server, router, health) = serving.finish(gateway.router(), guard.clone());
    let mut crew = Crew::default();
    let answering = crew.stage();
    answering.add("gateway", |stop| gateway.run(stop));
    answering.add("server", |stop| server.serve(router, stop));
    answering.add("guard", |stop| guard.run(stop));
    answering.add("tls", |stop| async {
        followed.follow(stop).await;
        Ok(())
    });
    answering.add("readiness", |stop| follow(channel, upstream, stop));

    println!("Muster's dashboard is listening on {url}");
    println!("  aggregator  {}", args.aggregator);
    if let Some(alerts) = &args.alerts {
        println!("  alerts      {alerts}");
    }
    crew.run(shutdown, &health, GRACE).await
}

/// From the file, else from the configuration.
fn token(file: Option<&Path>, config: &access::Config) -> anyhow::Result<Option<HeaderValue>> {
    let token = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file);
            text.with_context(|| format!("--token-file: {}", file.display()))?
        }
        None => match &config.admin_token {
            Some(token) => token.expose().to_owned(),
            None => return Ok(None),
        },
    };
    Ok(Some(remote::bearer(token.trim()).context("the gateway's token")?))
}

/// A channel that connects when it is first used and again whenever it must: the gateway starts and stays
/// whether or not the aggregator is there.
pub(crate) fn channel(flag: &str, url: &str, tls: Client) -> anyhow::Result<Channel> {
    let invalid =
        || format!("{flag}: expected an address such as http://127.0.0.1:7071, found {url:?}");
    let endpoint = Endpoint::from_shared(url.to_owned()).with_context(invalid)?;
    let scheme = endpoint.uri().scheme_str();
    if !matches!(scheme, Some("http" | "https")) || endpoint.uri().authority().is_none() {
        return Err(anyhow::anyhow!(invalid())).hint("begin it with http:// or https://");
    }
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(remote::over(tls)))
}

/// Calls of the alert service go to it, all others to the aggregator.
#[derive(Clone)]
struct Fork {
    alerts: Link,
    others: Link,
}

impl Service<Request<Body>> for Fork {
    type Response = Response<Body>;
    type Error = <Link as Service<Request<Body>>>::Error;
    type Future = Oneshot<Link, Request<Body>>;

    /// Which of the two must be ready is known with the call.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = request.uri().path().trim_start_matches('/').split('/').next();
        let link = match service.is_some_and(|name| ALERTS_SERVICES.contains(&name)) {
            true => &self.alerts,
            false => &self.others,
        };
        link.clone().oneshot(request)
    }
}

/// Ready as long as the aggregator says that it is.
async fn follow(
    channel: Channel,
    upstream: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        match tokio::time::timeout(LOOK_EVERY, grpc::check(channel.clone())).await {
            Ok(Ok(())) => upstream.ready(),
            Ok(Err(reason)) => upstream.not_ready(reason),
            Err(_) => upstream.not_ready("does not answer"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}
