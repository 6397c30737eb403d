//! Microsoft Teams, by a workflow's webhook: an adaptive card.

use serde_json::json;

use super::Message;
use super::send::Request;

pub(super) fn requests(url: &str, message: &Message) -> Vec<Request> {
    let colour = match (message.is_resolved(), message.is_critical()) {
        (true, _) => "Good",
        (_, true) => "Attention",
        _ => "Warning",
    };
    let mut body = vec![json!({
        "type": "TextBlock", "text": message.title(), "weight": "Bolder", "size": "Medium",
        "color": colour, "wrap": true,
    })];
    let lines = message.lines();
    body.extend(
        lines.iter().map(|line| json!({ "type": "TextBlock", "text": line, "wrap": true })),
    );
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    });
    if let Some(url) = message.runbook_url() {
        card["actions"] = json!([{ "type": "Action.OpenUrl", "title": "Runbook", "url": url }]);
    }
    let content_type = "application/vnd.microsoft.card.adaptive";
    let attachment = json!({ "contentType": content_type, "content": card });
    let body = json!({ "type": "message", "attachments": [attachment] });
    vec![Request::post(url, body.to_string())]
}
