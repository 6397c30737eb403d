//! A sample goes all the way, again and again, and how long it takes is told.

use serde_json::Value;

use crate::cluster::{Cluster, PATIENCE};
use crate::eventually::eventually;
use crate::process;

async fn probe(args: &[&str]) -> (bool, String) {
    let mut command = process::muster();
    command.arg("probe").args(args);
    let output = tokio::task::spawn_blocking(move || command.output().expect("runs"));
    let output = output.await.expect("no panic");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_measures_its_own_way_and_no_list_has_the_probe() {
    let cluster = Cluster::start("up", &[("MUSTER_PROBE__EVERY", "1s")]).await;
    let (is_well, said) = probe(&["--url", &cluster.url(), "--count", "3"]).await;
    assert!(is_well, "{said}");
    for stage in ["stored", "streamed", "watched", "shown"] {
        let line = said.lines().find(|line| line.starts_with(stage)).expect(stage);
        assert!(line.contains(" ms") && line.ends_with(" 0"), "{line}");
    }
    eventually(PATIENCE, || async {
        let (_, metrics) = cluster.get("/metrics").await;
        let counts = |stage: &str| {
            let name = format!("muster_aggregator_probe_{stage}_seconds_count ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
            line.and_then(|count| count.parse::<f64>().ok()).unwrap_or_default()
        };
        // Two of them are of the command.
        let all =
            ["stored", "streamed", "watched", "shown"].iter().all(|stage| counts(stage) >= 4.0);
        all.then_some(()).ok_or_else(|| {
            metrics.lines().filter(|line| line.contains("probe")).collect::<Vec<_>>().join("\n")
        })
    })
    .await;
    let (_, health) = cluster.get("/about/health").await;
    assert!(health.contains("Probe: from sample to a page"), "{health}");
    let (_, machines) = cluster.get("/api/v1/machines").await;
    let machines: Value = serde_json::from_str(&machines).expect("JSON");
    assert_eq!(machines["machines"].as_array().map(Vec::len), Some(1), "{machines}");
    let (_, fleet) = cluster.get("/").await;
    assert!(!fleet.contains("muster probe"), "{fleet}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_callers_are_asked_a_probe_needs_what_a_collector_and_a_viewer_need() {
    let cluster = Cluster::start("up", &[("MUSTER_ACCESS__AUTH", "required")]).await;
    let token = async |grant: &str| {
        let mut command = process::muster();
        command.args(["token", "create", "probe", "--grant", grant]);
        command.arg("--data-dir").arg(cluster.data_dir());
        let made = tokio::task::spawn_blocking(move || command.output().expect("runs"));
        let file = cluster.dir().join(grant.replace(':', "-"));
        std::fs::write(&file, made.await.expect("no panic").stdout).expect("written");
        file.display().to_string()
    };
    let (read, report) = (token("read").await, token("report:any").await);
    let url = cluster.url();
    let (is_well, said) = probe(&["--url", &url, "--count", "1"]).await;
    assert!(!is_well && said.contains("muster token create"), "{said}");
    let tokens = ["--token-file", &read, "--collector-token-file", &report];
    let (is_well, said) = probe(&[&["--url", &url, "--count", "1"], &tokens[..]].concat()).await;
    assert!(is_well, "{said}");
}
