//! An existing Alertmanager, by its API v2: it takes over grouping, routing and silences.

use std::collections::BTreeMap;

use serde_json::json;

use super::Message;
use super::message::rfc3339;
use super::send::Request;
use crate::notice::Notice;

/// A firing alert that is not told again for this long counts as over there. Longer than any repeat.
const ENDS_AFTER_MS: i64 = 48 * 3600 * 1000;

pub(super) fn requests(url: &str, message: &Message, now_unix_ms: i64) -> Vec<Request> {
    let url = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
    let alerts: Vec<_> = message.notices.iter().map(|n| alert(n, now_unix_ms)).collect();
    vec![Request::post(&url, json!(alerts).to_string())]
}

fn alert(notice: &Notice, now_unix_ms: i64) -> serde_json::Value {
    // Its labels are its identity there: they must be the same from firing to resolved, so the level, which
    // may rise, is an annotation.
    let mut labels = BTreeMap::new();
    let all = notice.machine_labels.iter().chain(&notice.labels).chain(&notice.rule_labels);
    for (name, value) in all {
        labels.insert(model::metric::prometheus_name(name), value.clone());
    }
    labels.insert("alertname".to_owned(), notice.rule_name.clone());
    labels.insert("instance".to_owned(), notice.host_name.clone());
    labels.insert("machine_id".to_owned(), notice.machine_id.clone());
    let ends = notice.resolved_unix_ms.unwrap_or(now_unix_ms + ENDS_AFTER_MS);
    json!({
        "labels": labels,
        "annotations": {
            "summary": notice.summary,
            "severity": notice.level,
            "runbook_url": notice.runbook_url,
        },
        "startsAt": rfc3339(notice.started_unix_ms),
        "endsAt": rfc3339(ends),
    })
}
