//! Something is wrong on a real machine, somebody is told once, and told that it is over.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, PATIENCE};
use crate::eventually::eventually;
use crate::grpcurl;

mod fleet;
mod killed;
mod load;
mod logs;
mod mail;
#[path = "../../../alerts/tests/receiver.rs"]
pub(crate) mod receiver;

use receiver::{Manner, Receiver};

/// More than any healthy machine has, few enough to make.
const ZOMBIES: usize = 60;

pub(crate) async fn call(cluster: &Cluster, method: &str, request: Value) -> Value {
    let method = format!("muster.v1.{method}");
    let answers = grpcurl::call(cluster.channel().await, &method, &request.to_string()).await;
    answers.expect("answers").remove(0)
}

/// Processes that ended and that nobody asked about.
fn zombies() -> Vec<Child> {
    let zombie = |_| {
        let mut command = Command::new("true");
        command.stdin(Stdio::null()).spawn().expect("starts")
    };
    (0..ZOMBIES).map(zombie).collect()
}

async fn told(receiver: &Receiver, count: usize) {
    eventually(PATIENCE, || async {
        let got = receiver.got().len();
        (got >= count).then_some(()).ok_or(format!("{got} messages, not {count}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_made_by_grpcurl_fires_is_told_once_across_a_crash_and_is_resolved() {
    let receiver = Receiver::start(Manner::Status(200)).await;
    let mut cluster =
        Cluster::start("up", &[("MUSTER_ALERTS__NOTIFY__GROUP_INTERVAL", "0s")]).await;
    let hook = json!({ "channel": { "name": "hook", "webhook": { "url": receiver.url } } });
    call(&cluster, "AlertConfigService/CreateChannel", hook).await;
    let rule = json!({ "rule": {
        "name": "zombies",
        "threshold": {
            "metric": "system.process.count",
            "labels": [{ "name": "process.state", "value": "zombie" }],
            "warning": ZOMBIES / 2,
            "recover": ZOMBIES / 4,
        },
        "summary": "{{ machine.name }} has {{ value }} zombies",
        "channels": ["hook"],
    }});
    call(&cluster, "AlertConfigService/CreateRule", rule).await;
    assert!(receiver.got().is_empty(), "nothing is wrong yet");

    let mut dead = zombies();
    told(&receiver, 1).await;
    let text = receiver.got()[0].json()["text"].as_str().expect("text").to_owned();
    assert!(text.ends_with(" zombies"), "{text}");
    let active = call(&cluster, "AlertService/ListActive", json!({})).await;
    let of_rule = |alert: &&Value| alert["ruleName"] == "zombies";
    let alerts = active["alerts"].as_array().expect("alerts").clone();
    assert_eq!(alerts.iter().find(of_rule).expect("is active")["phase"], "ALERT_PHASE_FIRING");

    // The answer of the receiver is noted a moment after it came.
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.server.kill();
    cluster.restart().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(receiver.got().len(), 1, "it goes on, and is not told again");

    for child in &mut dead {
        child.wait().expect("is ours to wait for");
    }
    told(&receiver, 2).await;
    assert_eq!(receiver.got()[1].json()["status"], "resolved");
    let history = call(&cluster, "AlertService/ListHistory", json!({ "ruleId": "zombies" })).await;
    let incidents = history["incidents"].as_array().expect("incidents");
    assert_eq!(incidents.len(), 1, "{history}");
    assert!(incidents[0]["resolved"].is_string(), "{history}");
    assert_eq!(receiver.got().len(), 2);

    // The same rule on what is now in history would have done the same.
    let rule = json!({ "rule": {
        "threshold": {
            "metric": "system.process.count",
            "labels": [{ "name": "process.state", "value": "zombie" }],
            "warning": ZOMBIES / 2,
            "recover": ZOMBIES / 4,
        },
    }});
    let tested = call(&cluster, "AlertConfigService/TestRule", rule).await;
    assert_eq!(tested["incidents"].as_array().map(Vec::len), Some(1), "{tested}");
}

/// POST of a form, as a browser on a page of `origin` sends it: status and `location`.
pub(crate) async fn post(cluster: &Cluster, path: &str, origin: &str, body: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = cluster.address;
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\norigin: {origin}\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await.expect("sends");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("answers");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|code| code.parse().ok()).expect("a status line");
    let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
    (status, location.unwrap_or("").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_made_tested_switched_and_deleted_on_the_dashboard() {
    let cluster = Cluster::up().await;
    let own = cluster.url();
    let (status, page) = cluster.get("/alerts").await;
    assert!(status == 200 && page.contains("disk nearly full"), "the default rules are there");
    assert_eq!(cluster.get("/alerts/new").await.0, 200);

    let rule = "name=Busy&metric=system.cpu.utilization&signal=mean&window=1m&side=above&warning=0.9&for=30s";
    let (status, _) = post(&cluster, "/alerts/save", "http://evil.example", rule).await;
    assert_eq!(status, 403, "a page of another site cannot use this browser");
    let (status, location) = post(&cluster, "/alerts/save", &own, rule).await;
    assert_eq!((status, location.as_str()), (303, "../alerts"));
    let (_, page) = cluster.get("/alerts").await;
    assert!(page.contains("system.cpu.utilization, mean over 1m, above 90 %, for 30s"), "{page}");
    let (status, editor) = cluster.get("/alerts/rules/busy").await;
    assert!(status == 200 && editor.contains("value=\"90 %\""), "{editor}");

    let wrong = rule.replace("0.9", "lots");
    let (status, _) = post(&cluster, "/alerts/save", &own, &wrong).await;
    assert_eq!(status, 200, "the form is shown again");
    assert_eq!(post(&cluster, "/alerts/test", &own, rule).await.0, 200);
    let (status, _) = post(&cluster, "/alerts/rules/busy/switch", &own, "enabled=false").await;
    assert_eq!(status, 303);
    assert!(cluster.get("/alerts").await.1.contains("Switch on"));
    assert_eq!(post(&cluster, "/alerts/rules/busy/delete", &own, "").await.0, 303);
    assert!(!cluster.get("/alerts").await.1.contains("Busy"));
    let silence = "matchers=host.name%3Dx&length=2h&author=ann&comment=why+not";
    assert_eq!(post(&cluster, "/alerts/silences", &own, silence).await.0, 303);
    assert!(cluster.get("/alerts").await.1.contains("why not"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rules_file_is_checked_without_starting_anything() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let check = |text: &str| {
        let file = dir.path().join("rules.toml");
        std::fs::write(&file, text).expect("written");
        let output = crate::process::muster().args(["alerts", "check"]).arg(&file).output();
        let output = output.expect("runs");
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said.into_owned())
    };
    let good =
        "[[rules]]\nname = 'cpu'\nmetric = 'system.cpu.utilization'\nabove = { warning = 0.8 }\n";
    let (ok, said) = check(good);
    assert!(ok && said.contains("ok, 1 rules"), "{said}");
    let (ok, said) = check(&format!("{good}for = 'five'\n"));
    assert!(!ok && said.contains("rules.toml:5: ") && said.contains("five"), "{said}");
}
