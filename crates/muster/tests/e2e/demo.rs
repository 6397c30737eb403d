//! One command shows everything, and a running server can be shown it too.

use serde_json::Value;

use crate::cluster::{self, Cluster, PATIENCE, free_address};
use crate::eventually::eventually;
use crate::process::{self, Process};

async fn json(address: std::net::SocketAddr, path: &str) -> Value {
    let (status, body) = cluster::get(address, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_alone_serves_a_fleet_with_a_past_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = free_address();
    let mut command = process::muster();
    command.args(["demo", "--machines", "5", "--backfill", "10m", "--interval", "200ms"]);
    command.args(["--listen", &address.to_string()]).env("TMPDIR", dir.path().join(""));
    let mut demo = Process::start("demo", dir.path(), command);
    eventually(PATIENCE, || async {
        tokio::net::TcpStream::connect(address).await.map(drop).map_err(|e| e.to_string())
    })
    .await;
    eventually(PATIENCE, || async {
        let machines = json(address, "/api/v1/machines").await;
        let machines = machines["machines"].as_array().expect("machines").clone();
        let is_made_up =
            |m: &Value| m["host_name"].as_str().is_some_and(|n| n.starts_with("demo-"));
        // One may be down just now, as machines are.
        let online = machines.iter().filter(|m| m["status"] == "online").count();
        let all = machines.len() == 5 && machines.iter().all(is_made_up) && online >= 4;
        all.then_some(()).ok_or_else(|| format!("{machines:?}"))
    })
    .await;
    eventually(PATIENCE, || async {
        let path = "/api/v1/query_range?metric=system.cpu.utilization&start=-9m&end=-8m&step=15s";
        let range = json(address, path).await;
        let series = range["series"].as_array().map_or(0, Vec::len);
        (series > 10).then_some(()).ok_or_else(|| format!("{range}"))
    })
    .await;
    for query in ["service%3Ashop-api", "service%3Apostgres"] {
        eventually(PATIENCE, || async {
            let logs = json(address, &format!("/api/v1/logs?query={query}")).await;
            let found = logs["entries"].as_array().is_some_and(|entries| !entries.is_empty());
            found.then_some(()).ok_or_else(|| format!("{logs}"))
        })
        .await;
    }
    assert!(demo.stop(PATIENCE).success());
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("reads").flatten().collect();
    let left: Vec<_> = left.iter().map(std::fs::DirEntry::file_name).collect();
    assert_eq!(left, ["demo.log"], "its data went with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn test_errors_are_streamed_to_a_running_server_and_grouped_there() {
    let cluster = Cluster::start("up", &[]).await;
    let url = cluster.url();
    let sent = tokio::task::spawn_blocking(move || {
        let mut command = process::muster();
        command.args(["demo", "errors", "--rate", "200", "--count", "30", "--url", &url]);
        command.output().expect("runs")
    });
    let sent = sent.await.expect("no panic");
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let (_, errors) = cluster.get("/api/v1/logs/errors?service=demo-errors").await;
    let errors: Value = serde_json::from_str(&errors).expect("JSON");
    let groups = errors["groups"].as_array().expect("groups");
    assert!((2..=6).contains(&groups.len()), "{errors}");
}
