//! Discord, by a webhook.

use serde_json::json;

use super::Message;
use super::send::Request;

/// Discord refuses more.
const TITLE_CHARS_MAX: usize = 256;
const TEXT_CHARS_MAX: usize = 4096;

pub(super) fn requests(url: &str, message: &Message) -> Vec<Request> {
    let colour = match (message.is_resolved(), message.is_critical()) {
        (true, _) => 0x002e_7d32,
        (_, true) => 0x00c6_2828,
        _ => 0x00f9_a825,
    };
    let mut embed = json!({
        "title": cut(&message.title(), TITLE_CHARS_MAX),
        "description": cut(&message.text(), TEXT_CHARS_MAX),
        "color": colour,
    });
    if let Some(url) = message.runbook_url() {
        embed["url"] = url.into();
    }
    // Text that comes from machines must not call everyone.
    let body = json!({ "embeds": [embed], "allowed_mentions": { "parse": [] } });
    vec![Request::post(url, body.to_string())]
}

pub(super) fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(chars_max - 1).chain(['…']).collect(),
    }
}
