//! PagerDuty, by Events API v2: one event per alert, so that each incident there lives as long as here.

use serde_json::json;

use super::Message;
use super::discord::cut;
use super::message::rfc3339;
use super::send::Request;
use crate::notice::{Kind, Notice};

/// PagerDuty cuts more.
const SUMMARY_CHARS_MAX: usize = 1024;

pub(super) fn requests(api_url: &str, routing_key: &str, message: &Message) -> Vec<Request> {
    let url = format!("{}/v2/enqueue", api_url.trim_end_matches('/'));
    let event = |notice| Request::post(&url, event(routing_key, notice).to_string());
    message.notices.iter().map(event).collect()
}

fn event(routing_key: &str, notice: &Notice) -> serde_json::Value {
    // The same key for all that is told of one incident: sending twice does nothing the second time.
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": if notice.kind == Kind::Resolved { "resolve" } else { "trigger" },
        "dedup_key": notice.incident_id,
        "client": "Muster",
        "payload": {
            "summary": cut(&notice.summary, SUMMARY_CHARS_MAX),
            "source": notice.host_name,
            "severity": notice.level,
            "timestamp": rfc3339(notice.started_unix_ms),
            "component": notice.metric,
            "group": notice.rule_name,
            "custom_details": {
                "value": notice.value,
                "threshold": notice.threshold,
                "labels": notice.labels,
                "machine_labels": notice.machine_labels,
            },
        },
    });
    if !notice.runbook_url.is_empty() {
        event["links"] = json!([{ "href": notice.runbook_url, "text": "Runbook" }]);
    }
    event
}
