//! One attempt to send one message, and what came of it. No retries here.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};

use super::{
    Address, Message, alertmanager, discord, email, ntfy, pagerduty, slack, teams, telegram,
    webhook,
};

/// A JSON request that says the message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) url: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Request {
    pub(super) fn post(url: &str, body: String) -> Self {
        Self { url: url.to_owned(), headers: Vec::new(), body }
    }
}

/// What came of an attempt. The texts are for people and contain no secret.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Delivered {
        detail: String,
    },
    /// It may work later; not before `after`, when the receiver said so.
    Retry {
        reason: String,
        after: Option<Duration>,
    },
    /// It will never work.
    Refused {
        reason: String,
    },
}

/// Of an answer's body, this much is kept.
const DETAIL_BYTES_MAX: usize = 512;
/// A receiver may not make us wait for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug)]
pub(crate) struct Sender {
    client: reqwest::Client,
    timeout: Duration,
}

impl Sender {
    pub(crate) fn new(timeout: Duration) -> anyhow::Result<Self> {
        // The one provider of this program. It is an error only when it is there already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(timeout)
            // A redirect would carry the message, and its secrets, to where nobody sent it.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
            .pool_max_idle_per_host(1)
            .build()
            .context("failed to set up the client for notifications")?;
        Ok(Self { client, timeout })
    }

    pub(crate) async fn send(&self, address: &Address, message: &Message) -> Answer {
        let now = crate::book::now();
        let requests = match address {
            Address::Webhook { url, secret } => {
                webhook::requests(url, secret, message, now.0.div_euclid(1000))
            }
            Address::Slack { url } => slack::requests(&url.0, message),
            Address::Discord { url } => discord::requests(&url.0, message),
            Address::Teams { url } => teams::requests(&url.0, message),
            Address::Telegram { bot_token, chat_id, api_url } => {
                telegram::requests(api_url, &bot_token.0, chat_id, message)
            }
            Address::Ntfy { server_url, topic, token } => {
                ntfy::requests(server_url, topic, &token.0, message)
            }
            Address::PagerDuty { routing_key, api_url } => {
                pagerduty::requests(api_url, &routing_key.0, message)
            }
            Address::Alertmanager { url } => alertmanager::requests(url, message, now.0),
            Address::Email(mail) => return email::send(mail, message, self.timeout).await,
        };
        let mut answer = Answer::Refused { reason: "there was nothing to send".to_owned() };
        for request in requests {
            answer = self.post(request).await;
            if !matches!(answer, Answer::Delivered { .. }) {
                break;
            }
        }
        answer
    }

    async fn post(&self, request: Request) -> Answer {
        let mut builder = self.client.post(&request.url).body(request.body);
        builder = builder.header(CONTENT_TYPE, "application/json");
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        let mut response = match builder.send().await {
            Ok(response) => response,
            // The address may be the secret.
            Err(error) => return failed(&error.without_url()),
        };
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let mut body = Vec::new();
        while body.len() < DETAIL_BYTES_MAX
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk);
        }
        judge(status, after, &body)
    }
}

fn failed(error: &reqwest::Error) -> Answer {
    let reason = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "no answer in time".to_owned(),
        (_, true) => format!("cannot connect: {}", root(error)),
        _ => root(error),
    };
    match error.is_builder() {
        true => Answer::Refused { reason },
        false => Answer::Retry { reason, after: None },
    }
}

/// The innermost cause says most.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn judge(status: StatusCode, after: Option<Duration>, body: &[u8]) -> Answer {
    let body = String::from_utf8_lossy(&body[..body.len().min(DETAIL_BYTES_MAX)]);
    let body: String = body.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let detail = format!("{status} {}", body.trim()).trim().to_owned();
    if status.is_success() {
        return Answer::Delivered { detail };
    }
    let later = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    match later {
        true => Answer::Retry { reason: detail, after: after.map(|a| a.min(RETRY_AFTER_MAX)) },
        false => Answer::Refused { reason: detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_work_later_is_tried_again() {
        let check = |status: u16, expected: &str| {
            let status = StatusCode::from_u16(status).expect("a status");
            let answer = match judge(status, Some(Duration::from_secs(1 << 20)), b"a\nb") {
                Answer::Delivered { detail } => format!("delivered {detail}"),
                Answer::Retry { after, .. } => format!("retry {}", after.expect("after").as_secs()),
                Answer::Refused { reason } => format!("refused {reason}"),
            };
            assert_eq!(answer, expected);
        };
        check(200, "delivered 200 OK a b");
        check(302, "refused 302 Found a b");
        check(404, "refused 404 Not Found a b");
        check(429, "retry 3600");
        check(500, "retry 3600");
    }
}
