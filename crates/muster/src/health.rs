//! `muster health`: asks a running process how it is, for container checks and scripts.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use axum::http::{Uri, Version};
use daemon::hint::WithHint as _;
use daemon::tls::Client;
use serde::Deserialize;
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
  muster health --json

In a container: HEALTHCHECK CMD [\"muster\", \"health\"]")]
pub(crate) struct Args {
    /// Where it serves
    #[arg(long, env = "MUSTER_HEALTH_URL", value_parser = url, default_value = "http://127.0.0.1:7070")]
    url: Uri,
    /// What it answers, as JSON
    #[arg(long, env = "MUSTER_HEALTH_JSON")]
    json: bool,
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
    let asked = Instant::now();
    let answer = tokio::time::timeout(TIMEOUT, ask(&args.url, address, args.tls.client()?))
        .await
        .with_context(|| format!("{address} does not answer within {} s", TIMEOUT.as_secs()))?
        .with_context(|| format!("failed to ask {address}"))
        .hint("is it running? `muster up` starts it; --url says where it serves")?;
    let took = asked.elapsed();
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let is_well = head.starts_with("HTTP/1.1 200 ");
    let report = serde_json::from_str::<Report>(body);
    match report {
        _ if args.json && is_well => println!("{}", body.trim()),
        Ok(report) if !args.json => print!("{}", table(&report, address, took)),
        _ => {}
    }
    if !is_well {
        bail!("{address} is not well: {}", body.trim());
    }
    Ok(())
}

/// What `/health` answers.
#[derive(Deserialize)]
struct Report {
    status: String,
    service: String,
    /// What is not ready and why, one after the other.
    reason: Option<String>,
}

fn table(report: &Report, address: &str, took: Duration) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // What a server says must not command the terminal.
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        let _ = writeln!(text, "{name:<9} {value}");
    };
    line("status", &report.status);
    line("service", &report.service);
    line("address", address);
    line("answered", &format!("in {:.1} ms", took.as_secs_f64() * 1000.0));
    for reason in report.reason.iter().flat_map(|reasons| reasons.split("; ")) {
        line("trouble", reason);
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_a_table_and_each_trouble_on_its_line() {
        fn check(body: &str, expected: &str) {
            let report = serde_json::from_str(body).expect("a report");
            assert_eq!(table(&report, "127.0.0.1:7070", Duration::from_micros(1_250)), expected);
        }
        check(
            r#"{"status":"healthy","service":"muster"}"#,
            "status    healthy\nservice   muster\naddress   127.0.0.1:7070\nanswered  in 1.2 ms\n",
        );
        check(
            r#"{"status":"unhealthy","service":"alerts","reason":"storage: gone\u001b[2J; process: stopping"}"#,
            "status    unhealthy\nservice   alerts\naddress   127.0.0.1:7070\nanswered  in 1.2 ms\n\
             trouble   storage: gone[2J\ntrouble   process: stopping\n",
        );
    }
}
