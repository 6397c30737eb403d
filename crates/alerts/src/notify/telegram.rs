//! Telegram, by a bot.

use serde_json::json;

use super::Message;
use super::discord::cut;
use super::send::Request;

/// Telegram refuses more.
const TEXT_CHARS_MAX: usize = 4096;

/// Plain text, no markup: nothing in it can be taken for a command or a link.
pub(super) fn requests(
    api_url: &str,
    bot_token: &str,
    chat_id: &str,
    message: &Message,
) -> Vec<Request> {
    let url = format!("{}/bot{bot_token}/sendMessage", api_url.trim_end_matches('/'));
    let mut text = format!("{}\n{}", message.title(), message.text());
    if let Some(url) = message.runbook_url() {
        text.push_str(&format!("\n{url}"));
    }
    let body = json!({
        "chat_id": chat_id,
        "text": cut(&text, TEXT_CHARS_MAX),
        "disable_web_page_preview": true,
        "disable_notification": message.is_resolved(),
    });
    vec![Request::post(&url, body.to_string())]
}
