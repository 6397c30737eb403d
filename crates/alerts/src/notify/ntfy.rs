//! ntfy, by its JSON form.

use serde_json::json;

use super::Message;
use super::send::Request;

pub(super) fn requests(
    server_url: &str,
    topic: &str,
    token: &str,
    message: &Message,
) -> Vec<Request> {
    let (priority, tag) = match (message.is_resolved(), message.is_critical()) {
        (true, _) => (2, "white_check_mark"),
        (_, true) => (5, "rotating_light"),
        _ => (4, "warning"),
    };
    let mut body = json!({
        "topic": topic,
        "title": message.title(),
        "message": message.text(),
        "priority": priority,
        "tags": [tag],
    });
    if let Some(url) = message.runbook_url() {
        body["click"] = url.into();
    }
    let mut request = Request::post(server_url, body.to_string());
    if !token.is_empty() {
        request.headers.push(("authorization", format!("Bearer {token}")));
    }
    vec![request]
}
