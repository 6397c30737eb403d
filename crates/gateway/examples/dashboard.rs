//! The dashboard over machines that do not exist, to work on pages: `cargo run -p gateway --example
//! dashboard -- [MACHINES] [PORT]`.

#[path = "../tests/service/synthetic.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod synthetic;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut number = |default: usize| -> anyhow::Result<usize> {
        args.next().map_or(Ok(default), |text| text.parse().context("expected a number"))
    };
    let (machines, port) = (number(8)?, number(7079)?);
    let fleet = synthetic::Synthetic::new(machines);
    let mut metrics = prometheus_client::registry::Registry::default();
    let gateway = gateway::Gateway::new(gateway::Config::default(), fleet.link(), &mut metrics)?;
    let listener = TcpListener::bind(("127.0.0.1", u16::try_from(port)?)).await?;
    println!("http://{}", listener.local_addr()?);
    let router = gateway.router();
    let shutdown = CancellationToken::new();
    tokio::spawn(gateway.run(shutdown.clone()));
    axum::serve(listener, router).await?;
    Ok(())
}
