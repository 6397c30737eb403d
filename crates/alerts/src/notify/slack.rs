//! Slack, by an incoming webhook.

use serde_json::json;

use super::Message;
use super::send::Request;

pub(super) fn requests(url: &str, message: &Message) -> Vec<Request> {
    let colour = match (message.is_resolved(), message.is_critical()) {
        (true, _) => "#2e7d32",
        (_, true) => "#c62828",
        _ => "#f9a825",
    };
    let mut text = escape(&message.text());
    if let Some(url) = message.runbook_url() {
        text.push_str(&format!("\n<{}|Runbook>", escape(url).replace('|', "%7C")));
    }
    let body = json!({
        "text": escape(&message.title()),
        "attachments": [{ "color": colour, "text": text, "fallback": message.title() }],
    });
    vec![Request::post(url, body.to_string())]
}

/// Only these three mean something; without them nobody is mentioned and nothing is a link.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
