//! The classic: a machine is busy, its alert is everywhere it should be, and it is over with the work.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::call;
use super::receiver::{Manner, Receiver};
use crate::cluster::{Cluster, PATIENCE};
use crate::eventually::eventually;

/// This machine has other work too: a moment without it comes, but nobody knows when.
const UNTIL_CALM: Duration = Duration::from_secs(120);

/// Work for every CPU, for as long as it is held. It leaves the CPUs to whoever else wants them: they are as
/// busy with others' work.
struct Work(Vec<Child>);

impl Work {
    fn begin() -> Self {
        let cpus = std::thread::available_parallelism().expect("known").get();
        let busy = |_| {
            let mut command = Command::new("nice");
            command.args(["-n", "19", "sh", "-c", "while :; do :; done"]).stdin(Stdio::null());
            command.spawn().expect("starts")
        };
        Self((0..2 * cpus).map(busy).collect())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for what only a machine with nothing else to do shows. Without such a moment the test is over and says
/// so; under `CI=true` that is a failure.
async fn calm<T>(ask: impl AsyncFn() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + UNTIL_CALM;
    while Instant::now() < deadline {
        if let Some(answer) = ask().await {
            return Some(answer);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "this machine was busy with other work all the time");
    eprintln!("skipped: this machine was busy with other work for {UNTIL_CALM:?}");
    None
}

async fn active(cluster: &Cluster) -> Option<Value> {
    let (status, body) = cluster.get("/api/v1/alerts").await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let mut alerts = body["alerts"].as_array().expect("alerts").iter();
    alerts.find(|alert| alert["rule"] == "CPU busy" && alert["phase"] == "firing").cloned()
}

async fn past(cluster: &Cluster) -> Vec<Value> {
    let (status, body) = cluster.get("/api/v1/alerts/history?rule=cpu-busy").await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    body["incidents"].as_array().expect("incidents").clone()
}

async fn kept(cluster: &Cluster) -> Vec<storage::alerting::Incident> {
    let stores = storage::open(&storage::Config::default(), &cluster.data_dir()).await;
    let filter = storage::alerting::IncidentFilter {
        rule: Some("cpu-busy".to_owned()),
        ..storage::alerting::IncidentFilter::default()
    };
    stores.expect("opened").alerting.incidents(&filter, 100).await.expect("read")
}

fn told(receiver: &Receiver, status: &str) -> usize {
    receiver.got().iter().filter(|got| got.json()["status"] == status).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_machine_is_on_the_dashboard_in_the_database_and_told_and_so_is_the_end_of_it() {
    let receiver = Receiver::start(Manner::Status(200)).await;
    let cluster = Cluster::start(
        "up",
        &[("MUSTER_ALERTS__NOTIFY__GROUP_INTERVAL", "0s"), ("MUSTER_COLLECTOR__INTERVAL", "100ms")],
    )
    .await;
    let hook = json!({ "channel": { "name": "hook", "webhook": { "url": receiver.url } } });
    call(&cluster, "AlertConfigService/CreateChannel", hook).await;
    let rule = json!({ "rule": {
        "name": "CPU busy",
        "threshold": {
            "metric": "system.cpu.utilization",
            "labels": [
                { "name": "cpu.mode", "value": "" },
                { "name": "cpu.logical_number", "value": "" },
            ],
            "warning": 0.8,
        },
        "summary": "{{ machine.name }} is at {{ value | percent }}",
        "channels": ["hook"],
    }});
    call(&cluster, "AlertConfigService/CreateRule", rule).await;
    let quiet = async || active(&cluster).await.is_none().then_some(());
    let Some(()) = calm(quiet).await else { return };

    let work = Work::begin();
    let alert = eventually(PATIENCE, || async {
        active(&cluster).await.ok_or("nothing is wrong".to_owned())
    })
    .await;
    assert!(alert["summary"].as_str().expect("text").ends_with(" %"), "{alert}");
    let (status, page) = cluster.get("/alerts").await;
    // Its value may have moved on between the two.
    assert!(status == 200 && page.contains("CPU busy") && page.contains(" is at "), "{page}");
    eventually(PATIENCE, || async {
        (told(&receiver, "firing") > 0).then_some(()).ok_or("nobody was told".to_owned())
    })
    .await;
    let open = kept(&cluster).await.into_iter().find(|incident| incident.resolved.is_none());
    let open = open.expect("an incident that goes on");

    drop(work);
    let over = calm(async || {
        let mut incidents = past(&cluster).await.into_iter();
        incidents.find(|i| i["id"] == open.id.as_str() && i["resolved"].is_string())
    });
    let Some(over) = over.await else { return };
    assert!(over["peak"].as_f64().is_some_and(|peak| peak > 0.8), "{over}");
    assert_eq!((&over["level"], &over["cause"]), (&json!("warning"), &json!("value")));
    let resolved = format!("\"{}\"", open.id);
    eventually(PATIENCE, || async {
        let of_it = |got: &super::receiver::Got| {
            let body = got.json();
            body["status"] == "resolved" && body.to_string().contains(&resolved)
        };
        let told = receiver.got().iter().filter(|got| of_it(got)).count();
        (told == 1).then_some(()).ok_or(format!("told {told} times"))
    })
    .await;
    let closed = kept(&cluster).await.into_iter().find(|incident| incident.id == open.id);
    assert!(closed.is_some_and(|incident| incident.resolved.is_some()));
}
