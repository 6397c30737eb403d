//! What the alert services cannot process is set aside, and people decide what becomes of it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;
use xtask::services::Server;

use crate::apart::{beside, root};
use crate::cluster::{Cluster, PATIENCE, post_json};
use crate::eventually::eventually;
use crate::process;

/// Says one line to Redis, as `telnet` would.
fn say(redis: &Server, line: &str) {
    let address = redis.url().strip_prefix("redis://:").and_then(|rest| rest.strip_suffix("/0"));
    let (password, address) = address.and_then(|rest| rest.split_once('@')).expect("an address");
    let mut stream = TcpStream::connect(address).expect("connects");
    write!(stream, "AUTH {password}\r\n{line}\r\nQUIT\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    assert!(!answer.contains("-ERR"), "{answer}");
}

async fn dead(cluster: &Cluster) -> Value {
    let (status, body) = cluster.get("/api/v1/alerts/dead-events").await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("JSON")
}

/// Waits for one that is not `before`; its id.
async fn next(cluster: &Cluster, before: &str) -> String {
    eventually(PATIENCE, || async {
        let dead = dead(cluster).await;
        let events = dead["events"].as_array().cloned().unwrap_or_default();
        let new = events.iter().filter_map(|e| e["id"].as_str()).find(|id| *id != before);
        new.map(str::to_owned).ok_or_else(|| dead.to_string())
    })
    .await
}

fn command(cluster: &Cluster, args: &[&str]) -> String {
    let mut command: Command = process::muster();
    command.args(["alerts", "dead"]).args(args).args(["--url", &cluster.url()]);
    let output = beside(|| command.output()).expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_nobody_can_read_is_listed_retried_and_discarded() {
    let Some(root) = root() else { return };
    let redis = beside(|| Server::redis(&root)).expect("a private Redis");
    let variables = [("MUSTER_STORAGE__EVENTS__REDIS__URL", redis.url())];
    let cluster = Cluster::start("up", &variables).await;
    assert!(command(&cluster, &["list"]).starts_with("no events are set aside"));
    say(&redis, "XADD muster:events * machine nobody kind status data x");
    let id = next(&cluster, "").await;
    let listed = command(&cluster, &["list"]);
    assert!(listed.contains(&id) && listed.contains("machine: "), "{listed}");
    let (_, page) = cluster.get("/about/health").await;
    assert!(page.contains("1 event could not be processed by the alert service"), "{page}");
    assert!(page.contains(&format!("alerts/dead-events/{id}/discard")), "{page}");

    // It is as unreadable as before, so it comes back.
    let path = format!("/api/v1/alerts/dead-events/{id}/retry");
    let (status, body) = post_json(cluster.address, &path, "").await.expect("answers");
    assert_eq!((status, body.contains(&id)), (200, true), "{body}");
    let again = next(&cluster, &id).await;
    let (status, body) = post_json(cluster.address, &path, "").await.expect("answers");
    assert_eq!(status, 404, "{body}");
    assert!(command(&cluster, &["retry", &again]).contains(&again));
    let last = next(&cluster, &again).await;
    assert!(command(&cluster, &["discard", &last]).contains("discarded"));
    assert_eq!(dead(&cluster).await["total"], 0);
    let (_, metrics) = cluster.get("/metrics").await;
    assert!(metrics.contains("muster_alerts_events_failed_total 3"), "{metrics}");
}
