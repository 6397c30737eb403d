//! JSON to an address, signed.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;

use super::Message;
use super::channel::Secret;
use super::message::rfc3339;
use super::send::Request;
use crate::notice::Notice;

/// `unix_seconds` goes into the signature, so that an old request cannot be played again for ever.
pub(super) fn requests(
    url: &str,
    secret: &Secret,
    message: &Message,
    unix_seconds: i64,
) -> Vec<Request> {
    let body = json!({
        "version": 1,
        "status": if message.is_resolved() { "resolved" } else { "firing" },
        "test": message.test,
        "title": message.title(),
        "text": message.text(),
        "alerts": message.notices.iter().map(alert).collect::<Vec<_>>(),
    })
    .to_string();
    let mut request = Request::post(url, body);
    if !secret.is_empty() {
        let signature = signature(secret, unix_seconds, &request.body);
        request.headers.push(("muster-signature", format!("t={unix_seconds},v1={signature}")));
    }
    vec![request]
}

fn alert(notice: &Notice) -> serde_json::Value {
    let mut alert = serde_json::to_value(notice).unwrap_or_default();
    alert["started"] = rfc3339(notice.started_unix_ms).into();
    alert["resolved"] = notice.resolved_unix_ms.map(rfc3339).into();
    alert
}

fn signature(secret: &Secret, unix_seconds: i64, body: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.0.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("{unix_seconds}.{body}").as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_other_tools_compute() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'key'
        let signature = signature(&Secret("key".into()), 1_700_000_000, r#"{"a":1}"#);
        assert_eq!(signature, EXPECTED);
    }

    const EXPECTED: &str = "a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03";
}
