//! `muster health`: asks a running process how it is, for container checks and scripts.

use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::http::{Uri, Version};
use daemon::hint::WithHint as _;
use daemon::tls::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const TIMEOUT: Duration = Duration::from_secs(5);
/// More than any answer of `/health` has.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Ask a running Muster how it is: exit code 0 when it is well, 1 when not
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster health
  muster health --url http://127.0.0.1:7071

In a container: HEALTHCHECK CMD [\"muster\", \"health\"]")]
pub(crate) struct Args {
    /// Where it serves
    #[arg(long, env = "MUSTER_HEALTH_URL", value_parser = url, default_value = "http://127.0.0.1:7070")]
    url: Uri,
    #[command(flatten)]
    tls: crate::remote::TlsFlags,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Some(authority) =
        args.url.authority().filter(|_| matches!(args.url.scheme_str(), Some("http" | "https")))
    else {
        bail!(
            "--url: expected an address such as http://127.0.0.1:7070, found {:?}",
            args.url.to_string()
        );
    };
    let address = authority.as_str();
    let answer = tokio::time::timeout(TIMEOUT, ask(&args.url, address, args.tls.client()?))
        .await
        .with_context(|| format!("{address} does not answer within {} s", TIMEOUT.as_secs()))?
        .with_context(|| format!("failed to ask {address}"))
        .hint("is it running? `muster up` starts it; --url says where it serves")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("{address} is not well: {}", body.trim());
    }
    println!("{}", body.trim());
    Ok(())
}

/// As collectors read addresses, `http://` may be left out.
fn url(text: &str) -> Result<Uri, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    whole.parse().map_err(|_| "expected an address such as http://127.0.0.1:7070".to_owned())
}

async fn ask(url: &Uri, address: &str, client: Client) -> std::io::Result<String> {
    let mut stream = client.connect(url, Version::HTTP_11).await?;
    let head = format!("GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await;
    // A server may close without the farewell of TLS.
    if answer.is_empty() {
        read?;
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
