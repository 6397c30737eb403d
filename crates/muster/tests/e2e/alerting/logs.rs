//! A service logs trouble: what it logged raises an alert, as it would on what is stored.

use serde_json::json;

use super::receiver::{Manner, Receiver};
use super::{call, told};
use crate::cluster::{Cluster, post_json};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_logs_is_told_and_tested_alike() {
    let receiver = Receiver::start(Manner::Status(200)).await;
    let cluster = Cluster::start("up", &[("MUSTER_ALERTS__NOTIFY__GROUP_INTERVAL", "0s")]).await;
    let hook = json!({ "channel": { "name": "hook", "webhook": { "url": receiver.url } } });
    call(&cluster, "AlertConfigService/CreateChannel", hook).await;
    let rule = json!({ "rule": {
        "name": "refused",
        "log": { "query": "level:>=error \"connection refused\"", "window": "4s", "warning": 2 },
        "summary": "{{ labels.service.name }}: {{ value }}",
        "channels": ["hook"],
    }});
    let made = call(&cluster, "AlertConfigService/CreateRule", rule.clone()).await;
    assert_eq!(made["rule"]["log"]["warning"], 2.0, "{made}");

    let push = async |service: &str, severity: &str, count: usize| {
        let event = json!({ "message": "db: Connection refused", "severity": severity });
        let events = vec![event; count];
        let path = format!("/api/v1/push/events?source=shop&service={service}");
        let body = serde_json::Value::from(events).to_string();
        let (status, said) = post_json(cluster.address, &path, &body).await.expect("answers");
        assert_eq!(status, 200, "{said}");
    };
    push("web", "error", 2).await;
    push("api", "warn", 5).await;
    push("api", "fatal", 1).await;
    push("api", "error", 2).await;
    told(&receiver, 1).await;
    let message = receiver.got()[0].json();
    assert_eq!(message["text"], "api: 3", "{message}");
    told(&receiver, 2).await;
    assert_eq!(receiver.got()[1].json()["status"], "resolved");

    let tested = call(&cluster, "AlertConfigService/TestRule", rule).await;
    let incidents = tested["incidents"].as_array().expect("incidents");
    assert_eq!(incidents.len(), 1, "{tested}");
    assert_eq!(incidents[0]["labels"]["service.name"], "api", "{tested}");
    assert!(incidents[0]["resolved"].is_string() && incidents[0]["peak"] == 3.0, "{tested}");
    let (status, page) = cluster.get("/alerts").await;
    assert!(status == 200 && page.contains("refused"), "the page shows it");
}
