//! Where messages go.

use std::fmt;

use proto::convert::FieldError;
use serde::{Deserialize, Serialize};

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(pub(crate) String);

impl Secret {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret(empty)" } else { "Secret(***)" })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Channel {
    pub(crate) id: String,
    pub(crate) revision: u64,
    pub(crate) name: String,
    pub(crate) enabled: bool,
    pub(crate) repeat_ms: Option<i64>,
    pub(crate) address: Address,
}

/// A kind of channel, with what it needs. Kept as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Address {
    Webhook { url: String, secret: Secret },
    Slack { url: Secret },
    Discord { url: Secret },
    Teams { url: Secret },
    Telegram { bot_token: Secret, chat_id: String, api_url: String },
    Ntfy { server_url: String, topic: String, token: Secret },
    PagerDuty { routing_key: Secret, api_url: String },
    Alertmanager { url: String },
    Email(Mail),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mail {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Tls,
    pub(crate) username: String,
    pub(crate) password: Secret,
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tls {
    Starttls,
    Implicit,
    None,
}

const NAME_BYTES_MAX: usize = 120;

#[derive(Serialize, Deserialize)]
struct Document {
    enabled: bool,
    repeat_ms: Option<i64>,
    address: Address,
}

impl Channel {
    /// With its secrets: for the store alone.
    pub(crate) fn to_json(&self) -> String {
        let document = Document {
            enabled: self.enabled,
            repeat_ms: self.repeat_ms,
            address: self.address.clone(),
        };
        serde_json::to_string(&document).expect("texts and numbers are always JSON")
    }

    /// For the audit.
    pub(crate) fn to_json_without_secrets(&self) -> String {
        let mut public = self.clone();
        for secret in public.address.secrets_mut() {
            secret.0 = if secret.is_empty() { String::new() } else { "***".to_owned() };
        }
        public.to_json()
    }

    pub(crate) fn from_json(id: &str, revision: u64, name: &str, json: &str) -> Option<Self> {
        let Document { enabled, repeat_ms, address } = serde_json::from_str(json).ok()?;
        Some(Self { id: id.into(), revision, name: name.into(), enabled, repeat_ms, address })
    }

    pub(crate) fn check(&self) -> Result<(), FieldError> {
        let name = self.name.trim();
        if name.is_empty() || name != self.name || name.len() > NAME_BYTES_MAX {
            let problem =
                format!("expected 1 to {NAME_BYTES_MAX} bytes without blanks around them");
            return Err(FieldError::new("name", problem));
        }
        if self.repeat_ms.is_some_and(|ms| ms < 60_000) {
            return Err(FieldError::new("repeat_interval", "expected at least 1 minute"));
        }
        self.address.check()
    }
}

impl Address {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Slack { .. } => "slack",
            Self::Discord { .. } => "discord",
            Self::Teams { .. } => "teams",
            Self::Telegram { .. } => "telegram",
            Self::Ntfy { .. } => "ntfy",
            Self::PagerDuty { .. } => "pagerduty",
            Self::Alertmanager { .. } => "alertmanager",
            Self::Email(_) => "email",
        }
    }

    fn secrets_mut(&mut self) -> Vec<&mut Secret> {
        match self {
            Self::Webhook { secret, .. } => vec![secret],
            Self::Slack { url } | Self::Discord { url } | Self::Teams { url } => vec![url],
            Self::Telegram { bot_token, .. } => vec![bot_token],
            Self::Ntfy { token, .. } => vec![token],
            Self::PagerDuty { routing_key, .. } => vec![routing_key],
            Self::Alertmanager { .. } => vec![],
            Self::Email(mail) => vec![&mut mail.password],
        }
    }

    /// Takes over the secrets that were left empty. Only while everything else stays the same place: a
    /// secret must not be sent to an address that somebody else chose later.
    pub(crate) fn keep_secrets_of(&mut self, before: &Self) {
        let mut before = before.clone();
        if self.destination() != before.destination() {
            return;
        }
        for (mine, theirs) in self.secrets_mut().into_iter().zip(before.secrets_mut()) {
            if mine.is_empty() {
                *mine = std::mem::take(theirs);
            }
        }
    }

    /// Kind and host: who would come to know the secret.
    fn destination(&self) -> (&'static str, String) {
        let place = match self {
            Self::Webhook { url, .. } | Self::Alertmanager { url } => url.clone(),
            Self::Telegram { api_url, .. } | Self::PagerDuty { api_url, .. } => api_url.clone(),
            Self::Ntfy { server_url, .. } => server_url.clone(),
            Self::Email(mail) => {
                format!("{}:{}:{:?}:{}", mail.host, mail.port, mail.tls, mail.username)
            }
            Self::Slack { .. } | Self::Discord { .. } | Self::Teams { .. } => String::new(),
        };
        (self.kind(), place)
    }

    fn check(&self) -> Result<(), FieldError> {
        match self {
            Self::Webhook { url, .. } => url_field("webhook.url", url),
            Self::Slack { url } => url_field("slack.url", &url.0),
            Self::Discord { url } => url_field("discord.url", &url.0),
            Self::Teams { url } => url_field("teams.url", &url.0),
            Self::Telegram { bot_token, chat_id, api_url } => {
                let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_');
                if bot_token.is_empty() || !bot_token.0.chars().all(allowed) {
                    let expected = "expected a token such as 123456:ABC-DEF";
                    return Err(FieldError::new("telegram.bot_token", expected));
                }
                text_field("telegram.chat_id", chat_id)?;
                url_field("telegram.api_url", api_url)
            }
            Self::Ntfy { server_url, topic, .. } => {
                let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
                if topic.is_empty() || topic.len() > 64 || !topic.chars().all(allowed) {
                    let expected = "expected 1 to 64 letters, digits, '-' and '_'";
                    return Err(FieldError::new("ntfy.topic", expected));
                }
                url_field("ntfy.server_url", server_url)
            }
            Self::PagerDuty { routing_key, api_url } => {
                text_field("pagerduty.routing_key", &routing_key.0)?;
                url_field("pagerduty.api_url", api_url)
            }
            Self::Alertmanager { url } => url_field("alertmanager.url", url),
            Self::Email(mail) => super::email::check(mail),
        }
    }
}

pub(super) fn text_field(field: &str, text: &str) -> Result<(), FieldError> {
    if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
        return Err(FieldError::new(field, "expected 1 to 1024 bytes without control characters"));
    }
    Ok(())
}

/// The value is not repeated in the message: it may be a secret.
fn url_field(field: &str, url: &str) -> Result<(), FieldError> {
    let refuse = |problem: &str| Err(FieldError::new(field, problem));
    let Ok(parsed) = reqwest::Url::parse(url) else {
        return refuse("expected an address such as https://example.org/hook");
    };
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return refuse("expected an address that starts with https:// or http://");
    }
    // The addresses of cloud metadata services: nothing to tell there, and much to learn.
    let link_local = match parsed.host_str().and_then(|h| h.trim_matches(['[', ']']).parse().ok()) {
        Some(std::net::IpAddr::V4(ip)) => ip.is_link_local(),
        Some(std::net::IpAddr::V6(ip)) => ip.is_unicast_link_local(),
        None => false,
    };
    if link_local {
        return refuse("link-local addresses are not allowed");
    }
    Ok(())
}
