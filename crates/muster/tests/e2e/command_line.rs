//! What goes wrong at the start is one clear line with a hint, and a failure.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use crate::cluster::{Cluster, PATIENCE};
use crate::process::{self, Process};

fn muster(args: &[&str]) -> Output {
    let mut command = process::muster();
    command.args(args).output().expect("runs")
}

/// The command fails with one `error:` line that holds `expected`, and a `hint:`.
fn fails(mut command: Command, expected: &str) {
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{command:?} succeeded: {said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        matches!(lines[..], [error, hint] if error.starts_with("error: ") && error.contains(expected)
            && hint.starts_with("hint: ")),
        "{command:?} should say {expected:?} and a hint, but said:\n{said}"
    );
}

fn up(listen: &str, data_dir: &Path) -> Command {
    let mut command = process::muster();
    command.args(["up", "--listen", listen, "--log", "warn", "--data-dir"]).arg(data_dir);
    command
}

#[test]
fn a_port_in_use_is_said() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    fails(up(&address, dir.path()), &format!("failed to listen on {address}: the port is in use"));
}

#[test]
fn a_directory_that_cannot_be_written_to_is_said() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "in the way").expect("written");
    fails(up("127.0.0.1:0", &file.join("data")), "failed to make the data directory");
}

#[tokio::test]
async fn a_directory_that_is_in_use_is_said() {
    let cluster = Cluster::aggregator().await;
    fails(up("127.0.0.1:0", &cluster.data_dir()), "is in use by another process");
}

#[test]
fn an_unknown_key_is_said_with_its_place_and_the_nearest_key() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("muster.toml");
    std::fs::write(&file, "[log]\nformat = \"json\"\nfiltr = \"info\"\n").expect("written");
    let file = file.to_str().expect("utf-8");
    let mut check = process::muster();
    check.args(["check-config", file]);
    fails(check, &format!("{file}:3: log.filtr: unknown key"));
    let mut start = process::muster();
    start.args(["up", "--config", file]);
    fails(start, &format!("{file}:3: log.filtr: unknown key"));
}

#[test]
fn a_label_that_is_none_is_said() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = process::muster();
    command.args(["collector", "--aggregator", "http://127.0.0.1:1", "--label", "nolabel"]);
    command.arg("--state-dir").arg(dir.path());
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("nolabel") && said.contains("error:"),
        "{said}"
    );
}

#[tokio::test]
async fn health_says_how_a_server_is_by_its_exit_code() {
    let cluster = Cluster::aggregator().await;
    let url = cluster.url();
    let asked = async |flags: &'static [&'static str]| {
        let url = url.clone();
        let well = tokio::task::spawn_blocking(move || {
            muster(&[&["health", "--url", url.as_str()], flags].concat())
        });
        let well = well.await.expect("does not panic");
        assert!(well.status.success(), "{}", String::from_utf8_lossy(&well.stderr));
        String::from_utf8_lossy(&well.stdout).into_owned()
    };
    assert_eq!(asked(&["--json"]).await.trim(), r#"{"status":"healthy","service":"aggregator"}"#);
    let said = asked(&[]).await;
    assert!(said.starts_with("status    healthy\nservice   aggregator\n"), "{said}");
    let nobody = format!("http://{}", crate::cluster::free_address());
    let mut health = process::muster();
    health.args(["health", "--url", &nobody]);
    fails(health, "failed to ask");
}

#[tokio::test]
async fn gateway_and_aggregator_work_as_separate_processes() {
    let cluster = Cluster::aggregator().await;
    let _collector = cluster.collector("web-1", &cluster.url());
    let address = crate::cluster::free_address();
    let mut command = process::muster();
    command.args(["gateway", "--listen", &address.to_string(), "--aggregator", &cluster.url()]);
    let _gateway = Process::start("gateway", cluster.dir(), command);
    crate::eventually::eventually(PATIENCE, || async move {
        let port = tokio::net::TcpStream::connect(address).await;
        port.map(drop).map_err(|error| error.to_string())
    })
    .await;
    crate::eventually::eventually(PATIENCE, || async move {
        let (ready, why) = crate::cluster::get(address, "/readyz").await;
        let (status, body) = crate::cluster::get(address, "/api/v1/machines").await;
        let there = ready == 200 && status == 200 && body.contains("web-1");
        there.then_some(()).ok_or(format!("{ready} {why}; {status} {body}"))
    })
    .await;
}

#[tokio::test]
async fn a_gateway_asks_an_alert_service_of_its_own_about_alerts_and_the_aggregator_about_the_rest()
{
    let (cluster, alerts) = (Cluster::aggregator().await, Cluster::up().await);
    let _collector = cluster.collector("web-1", &cluster.url());
    for (alerts, available) in [(None, false), (Some(alerts.url()), true)] {
        let address = crate::cluster::free_address();
        let mut command = process::muster();
        command.args(["gateway", "--listen", &address.to_string(), "--aggregator", &cluster.url()]);
        command.args(alerts.iter().flat_map(|url| ["--alerts", url]));
        let _gateway = Process::start("gateway", cluster.dir(), command);
        crate::eventually::eventually(PATIENCE, || async move {
            tokio::net::TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            let (_, machines) = crate::cluster::get(address, "/api/v1/machines").await;
            let (_, alerts) = crate::cluster::get(address, "/api/v1/alerts").await;
            let answered = alerts.contains(&format!("\"available\":{available}"));
            let there = answered && machines.contains("web-1");
            there.then_some(()).ok_or(format!("{machines}; {alerts}"))
        })
        .await;
    }
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = muster(&["completions", shell]);
        assert!(output.status.success(), "{shell}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("check-config"), "{shell}");
    }
}
