//! Channels on the wire, to what they mean and back. Secrets only come in.

use model::UnixMillis;
use proto::convert::{FieldError, duration_from_ms, duration_to_ms, timestamp_to_proto};
use proto::v1;
use proto::v1::channel::Kind;

use crate::notify::{Address, Channel, Health, Mail, Secret, Tls};

const TELEGRAM_URL: &str = "https://api.telegram.org";
const NTFY_URL: &str = "https://ntfy.sh";
const PAGERDUTY_URL: &str = "https://events.pagerduty.com";
const SUBMISSION_PORT: u16 = 587;

/// Not checked yet: secrets that were left empty may still be filled in.
pub(super) fn channel_from_proto(channel: v1::Channel) -> Result<Channel, FieldError> {
    let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    let kind = channel.kind;
    let kind = kind.ok_or_else(|| FieldError::new("channel.kind", "expected webhook, slack, …"))?;
    let address = match kind {
        Kind::Webhook(w) => Address::Webhook { url: w.url, secret: Secret(w.secret) },
        Kind::Slack(s) => Address::Slack { url: Secret(s.url) },
        Kind::Discord(d) => Address::Discord { url: Secret(d.url) },
        Kind::Teams(t) => Address::Teams { url: Secret(t.url) },
        Kind::Telegram(t) => Address::Telegram {
            bot_token: Secret(t.bot_token),
            chat_id: t.chat_id,
            api_url: or(t.api_url, TELEGRAM_URL),
        },
        Kind::Ntfy(n) => Address::Ntfy {
            server_url: or(n.server_url, NTFY_URL),
            topic: n.topic,
            token: Secret(n.token),
        },
        Kind::Pagerduty(p) => Address::PagerDuty {
            routing_key: Secret(p.routing_key),
            api_url: or(p.api_url, PAGERDUTY_URL),
        },
        Kind::Alertmanager(a) => Address::Alertmanager { url: a.url },
        Kind::Email(e) => Address::Email(mail_from_proto(e)?),
    };
    let repeat = channel.repeat_interval.as_ref();
    Ok(Channel {
        id: channel.id,
        revision: channel.revision,
        name: channel.name,
        enabled: !channel.disabled,
        repeat_ms: repeat.map(|d| duration_to_ms("channel.repeat_interval", d)).transpose()?,
        address,
    })
}

fn mail_from_proto(mail: v1::EmailChannel) -> Result<Mail, FieldError> {
    use v1::email_channel::Tls as Wire;
    let port = match u16::try_from(mail.port) {
        Ok(0) => SUBMISSION_PORT,
        Ok(port) => port,
        Err(_) => {
            let problem = format!("expected at most 65535, found {}", mail.port);
            return Err(FieldError::new("channel.email.port", problem));
        }
    };
    let tls = match Wire::try_from(mail.tls) {
        Ok(Wire::Unspecified | Wire::Starttls) => Tls::Starttls,
        Ok(Wire::Implicit) => Tls::Implicit,
        Ok(Wire::None) => Tls::None,
        Err(_) => {
            let problem = format!("unknown value {}", mail.tls);
            return Err(FieldError::new("channel.email.tls", problem));
        }
    };
    Ok(Mail {
        host: mail.host,
        port,
        tls,
        username: mail.username,
        password: Secret(mail.password),
        from: mail.from,
        to: mail.to,
    })
}

pub(super) fn channel_to_proto(channel: &Channel, health: Health, queued: usize) -> v1::Channel {
    let none = String::new;
    let kind = match channel.address.clone() {
        Address::Webhook { url, .. } => Kind::Webhook(v1::WebhookChannel { url, secret: none() }),
        Address::Slack { .. } => Kind::Slack(v1::SlackChannel { url: none() }),
        Address::Discord { .. } => Kind::Discord(v1::DiscordChannel { url: none() }),
        Address::Teams { .. } => Kind::Teams(v1::TeamsChannel { url: none() }),
        Address::Telegram { chat_id, api_url, .. } => {
            Kind::Telegram(v1::TelegramChannel { bot_token: none(), chat_id, api_url })
        }
        Address::Ntfy { server_url, topic, .. } => {
            Kind::Ntfy(v1::NtfyChannel { server_url, topic, token: none() })
        }
        Address::PagerDuty { api_url, .. } => {
            Kind::Pagerduty(v1::PagerDutyChannel { routing_key: none(), api_url })
        }
        Address::Alertmanager { url } => Kind::Alertmanager(v1::AlertmanagerChannel { url }),
        Address::Email(mail) => Kind::Email(mail_to_proto(mail)),
    };
    let stamp = |time: Option<UnixMillis>| time.map(timestamp_to_proto);
    v1::Channel {
        id: channel.id.clone(),
        revision: channel.revision,
        name: channel.name.clone(),
        disabled: !channel.enabled,
        kind: Some(kind),
        repeat_interval: channel.repeat_ms.map(duration_from_ms),
        health: Some(v1::ChannelHealth {
            queued: u32::try_from(queued).unwrap_or(u32::MAX),
            suspended: health.suspended,
            last_success: stamp(health.last_success),
            last_failure: stamp(health.last_failure),
            last_error: health.last_error,
        }),
    }
}

fn mail_to_proto(mail: Mail) -> v1::EmailChannel {
    use v1::email_channel::Tls as Wire;
    v1::EmailChannel {
        host: mail.host,
        port: mail.port.into(),
        tls: match mail.tls {
            Tls::Starttls => Wire::Starttls,
            Tls::Implicit => Wire::Implicit,
            Tls::None => Wire::None,
        }
        .into(),
        username: mail.username,
        password: String::new(),
        from: mail.from,
        to: mail.to,
    }
}
