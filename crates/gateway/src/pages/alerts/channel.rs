//! Where messages go: made, changed, tried and deleted. A secret only goes in: it never comes back to a page.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::Uri;
use axum::response::{IntoResponse as _, Redirect, Response};
use proto::convert::duration_to_ms;
use proto::v1;
use proto::v1::channel::Kind as Wire;
use serde::Deserialize;
use tonic::{Code, Status};

use super::act::{Fields, done};
use super::problems::{Paths, Problems};
use super::{Page, show as show_alerts};
use crate::format;
use crate::gateway::Shared;
use crate::pages::page::html;
use crate::view::seconds;

/// One kind of channel: what it is called, and which fields it has.
pub(super) struct Kind {
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    /// Label and example of its address; the label is empty where there is none.
    address: (&'static str, &'static str),
    /// Who knows the address can send: it is as secret as a password.
    address_is_secret: bool,
    /// Label of its secret; empty where there is none.
    secret: &'static str,
    note: &'static str,
}

const ELSEWHERE: &str = "the address is another: type the secret again, or say that there is none";
const TYPE_AGAIN: &str = "please type it again: a secret is never shown";
const HOOK: &str = "Address of the incoming webhook";

pub(super) const KINDS: [Kind; 9] = [
    Kind {
        key: "webhook",
        title: "webhook",
        address: ("Address", "https://example.org/hook"),
        address_is_secret: false,
        secret: "Secret for signatures",
        note: "With a secret, each message is signed in the header Muster-Signature.",
    },
    hook("slack", "Slack", "https://hooks.slack.com/services/…"),
    hook("discord", "Discord", "https://discord.com/api/webhooks/…"),
    hook("teams", "Teams", "https://….logic.azure.com/workflows/…"),
    Kind {
        key: "ntfy",
        title: "ntfy",
        address: ("Address, ending with the topic", "https://ntfy.sh/my-topic"),
        address_is_secret: false,
        secret: "Access token",
        note: "The token may be left out where the topic is open.",
    },
    Kind {
        key: "pagerduty",
        title: "PagerDuty",
        address: ("Address of the API", "https://events.pagerduty.com"),
        address_is_secret: false,
        secret: "Routing key",
        note: "The key of an Events API v2 integration. The address may stay empty.",
    },
    Kind {
        key: "alertmanager",
        title: "Alertmanager",
        address: ("Address", "http://127.0.0.1:9093"),
        address_is_secret: false,
        secret: "",
        note: "Alertmanager then groups, silences and sends.",
    },
    Kind {
        key: "telegram",
        title: "Telegram",
        address: ("Address of the API", "https://api.telegram.org"),
        address_is_secret: false,
        secret: "Token of the bot",
        note: "The address may stay empty.",
    },
    Kind {
        key: "email",
        title: "e-mail",
        address: ("Mail server", "mail.example.org:587"),
        address_is_secret: false,
        secret: "Password",
        note: "",
    },
];

const fn hook(key: &'static str, title: &'static str, example: &'static str) -> Kind {
    let note = "Whoever knows the address can write there: it is kept as a secret.";
    Kind { key, title, address: (HOOK, example), address_is_secret: true, secret: "", note }
}

/// The alert service's names of fields, and the form's.
const PATHS: &Paths = &[
    ("name", "name"),
    ("repeat_interval", "repeat"),
    ("webhook.url", "address"),
    ("webhook.secret", "secret"),
    ("slack.url", "address"),
    ("discord.url", "address"),
    ("teams.url", "address"),
    ("telegram.bot_token", "secret"),
    ("telegram.chat_id", "chat"),
    ("telegram.api_url", "address"),
    ("ntfy.server_url", "address"),
    ("ntfy.topic", "address"),
    ("ntfy.token", "secret"),
    ("pagerduty.routing_key", "secret"),
    ("pagerduty.api_url", "address"),
    ("alertmanager.url", "address"),
    ("email.host", "address"),
    ("email.port", "address"),
    ("email.tls", "tls"),
    ("email.username", "username"),
    ("email.password", "secret"),
    ("email.from", "from"),
    ("email.to", "to"),
];

/// Texts as they were typed.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ChannelForm {
    id: String,
    revision: u64,
    name: String,
    kind: String,
    /// `on` or `off`; as it was when empty.
    state: String,
    address: String,
    /// Goes in only. Empty: as it was.
    secret: String,
    /// Somebody who moves a channel says so: it shall have no secret any more.
    no_secret: String,
    chat: String,
    from: String,
    to: String,
    username: String,
    tls: String,
    repeat: String,
}

#[derive(Template)]
#[template(path = "alerts/channel.html")]
struct ChannelPage {
    page: Page,
    form: ChannelForm,
    kind: &'static Kind,
    /// Only then does it change anything to say that there is no secret.
    elsewhere: bool,
    problems: Problems,
}

/// `None`: made by something newer than this.
pub(super) fn kind_of(channel: &v1::Channel) -> Option<&'static Kind> {
    let key = match channel.kind.as_ref()? {
        Wire::Webhook(_) => "webhook",
        Wire::Slack(_) => "slack",
        Wire::Discord(_) => "discord",
        Wire::Teams(_) => "teams",
        Wire::Telegram(_) => "telegram",
        Wire::Ntfy(_) => "ntfy",
        Wire::Pagerduty(_) => "pagerduty",
        Wire::Alertmanager(_) => "alertmanager",
        Wire::Email(_) => "email",
    };
    KINDS.iter().find(|kind| kind.key == key)
}

impl ChannelForm {
    fn of(channel: &v1::Channel) -> Self {
        let repeat = channel.repeat_interval.as_ref();
        let repeat = repeat.and_then(|d| duration_to_ms("", d).ok());
        let repeat = repeat.and_then(|ms| u64::try_from(ms).ok());
        let mut form = Self {
            id: channel.id.clone(),
            revision: channel.revision,
            name: channel.name.clone(),
            kind: kind_of(channel).map_or("", |kind| kind.key).to_owned(),
            state: if channel.disabled { "off" } else { "on" }.to_owned(),
            repeat: repeat
                .map_or(String::new(), |ms| daemon::config::Span::from_millis(ms).to_string()),
            ..Self::default()
        };
        match channel.kind.clone() {
            Some(Wire::Webhook(webhook)) => form.address = webhook.url,
            Some(Wire::Alertmanager(alertmanager)) => form.address = alertmanager.url,
            Some(Wire::Pagerduty(pagerduty)) => form.address = pagerduty.api_url,
            Some(Wire::Ntfy(ntfy)) => {
                form.address = format!("{}/{}", ntfy.server_url, ntfy.topic);
            }
            Some(Wire::Telegram(telegram)) => {
                (form.address, form.chat) = (telegram.api_url, telegram.chat_id);
            }
            Some(Wire::Email(email)) => {
                form.tls = match email.tls() {
                    v1::email_channel::Tls::Implicit => "implicit",
                    v1::email_channel::Tls::None => "none",
                    _ => "starttls",
                }
                .to_owned();
                form.address = match email.port {
                    0 => email.host,
                    port => format!("{}:{port}", email.host),
                };
                (form.username, form.from) = (email.username, email.from);
                form.to = email.to.join(", ");
            }
            // Their addresses are secrets.
            Some(Wire::Slack(_) | Wire::Discord(_) | Wire::Teams(_)) | None => {}
        }
        form
    }

    /// `before`: the channel as it is, when there is one.
    fn to_channel(&self, before: Option<&v1::Channel>) -> Result<v1::Channel, Problems> {
        let mut problems = Problems::default();
        let kind = self.wire(&mut problems);
        let repeat = problems.or_note("repeat", self.repeat_interval());
        let channel = v1::Channel {
            id: self.id.clone(),
            revision: self.revision,
            name: self.name.trim().to_owned(),
            disabled: match self.state.as_str() {
                "on" => false,
                "off" => true,
                _ => before.is_some_and(|before| before.disabled),
            },
            kind,
            repeat_interval: repeat,
            health: None,
        };
        if let Some(before) = before
            && self.secret.is_empty()
            && self.no_secret.is_empty()
            && moved(before, &channel)
        {
            problems.note("secret", ELSEWHERE.to_owned());
        }
        if problems.is_empty() { Ok(channel) } else { Err(problems) }
    }

    /// A secret does not come back, not even to who just typed it.
    fn forget_secrets(&mut self, problems: &mut Problems) {
        let mut forget = |field: &'static str, value: &mut String| {
            let typed = !std::mem::take(value).is_empty();
            if typed && problems.of(field).is_empty() {
                problems.note(field, TYPE_AGAIN.to_owned());
            }
        };
        forget("secret", &mut self.secret);
        if KINDS.iter().any(|kind| kind.key == self.kind && kind.address_is_secret) {
            forget("address", &mut self.address);
        }
    }

    fn repeat_interval(&self) -> Result<Option<prost_types::Duration>, String> {
        if self.repeat.trim().is_empty() {
            return Ok(None);
        }
        let span: daemon::config::Span = self.repeat.parse().map_err(|e| format!("{e}"))?;
        let ms = i64::try_from(span.get().as_millis()).unwrap_or(i64::MAX);
        Ok(Some(proto::convert::duration_from_ms(ms)))
    }

    fn wire(&self, problems: &mut Problems) -> Option<Wire> {
        let trimmed = |text: &str| text.trim().to_owned();
        let (url, secret) = (trimmed(&self.address), self.secret.clone());
        Some(match self.kind.as_str() {
            "webhook" => Wire::Webhook(v1::WebhookChannel { url, secret }),
            "slack" => Wire::Slack(v1::SlackChannel { url }),
            "discord" => Wire::Discord(v1::DiscordChannel { url }),
            "teams" => Wire::Teams(v1::TeamsChannel { url }),
            "alertmanager" => Wire::Alertmanager(v1::AlertmanagerChannel { url }),
            "pagerduty" => {
                Wire::Pagerduty(v1::PagerDutyChannel { routing_key: secret, api_url: url })
            }
            "ntfy" => {
                let (server, topic) = url.rsplit_once('/').unwrap_or(("", &url));
                let (server_url, topic) = (server.to_owned(), topic.to_owned());
                Wire::Ntfy(v1::NtfyChannel { server_url, topic, token: secret })
            }
            "telegram" => {
                let chat_id = trimmed(&self.chat);
                Wire::Telegram(v1::TelegramChannel { bot_token: secret, chat_id, api_url: url })
            }
            "email" => {
                let (host, port) = problems.or_note("address", mail_server(&url));
                let tls = match self.tls.as_str() {
                    "implicit" => v1::email_channel::Tls::Implicit,
                    "none" => v1::email_channel::Tls::None,
                    _ => v1::email_channel::Tls::Starttls,
                };
                let to = self.to.split([',', ' ', '\n']).map(str::trim);
                Wire::Email(v1::EmailChannel {
                    host,
                    port,
                    tls: tls.into(),
                    username: trimmed(&self.username),
                    password: secret,
                    from: trimmed(&self.from),
                    to: to.filter(|to| !to.is_empty()).map(str::to_owned).collect(),
                })
            }
            _ => return None,
        })
    }
}

/// Whether an optional secret would be dropped without a word, because it is sent elsewhere now.
fn moved(before: &v1::Channel, after: &v1::Channel) -> bool {
    match (&before.kind, &after.kind) {
        (Some(Wire::Webhook(before)), Some(Wire::Webhook(after))) => before.url != after.url,
        (Some(Wire::Ntfy(before)), Some(Wire::Ntfy(after))) => {
            before.server_url != after.server_url
        }
        (Some(Wire::Email(before)), Some(Wire::Email(after))) => {
            let place = |mail: &v1::EmailChannel| {
                (mail.host.clone(), mail.port, mail.tls, mail.username.clone())
            };
            !after.username.is_empty() && place(before) != place(after)
        }
        // The others have no message without their secret, so the service asks for it.
        _ => false,
    }
}

/// `mail.example.org` or `mail.example.org:465`; the port is 0 where none is named.
fn mail_server(address: &str) -> Result<(String, u32), String> {
    let Some((host, port)) = address.rsplit_once(':') else { return Ok((address.to_owned(), 0)) };
    let port = port.parse::<u16>().map_err(|_| {
        format!("expected a mail server such as mail.example.org:587, found {address:?}")
    })?;
    Ok((host.to_owned(), port.into()))
}

fn show(shared: &Shared, uri: &Uri, mut form: ChannelForm, problems: Problems) -> Response {
    let kind = KINDS.iter().find(|kind| kind.key == form.kind).unwrap_or(&KINDS[0]);
    kind.key.clone_into(&mut form.kind);
    let elsewhere = problems.of("secret") == ELSEWHERE;
    html(&ChannelPage { page: Page::new(shared, uri, "alerts"), form, kind, elsewhere, problems })
}

pub(crate) async fn channel_new(
    State(shared): State<Shared>,
    uri: Uri,
    Query(form): Query<ChannelForm>,
) -> Response {
    // Of what an address can bring, only the kind counts: nobody should be sent a prepared channel.
    let form = ChannelForm { kind: form.kind, ..ChannelForm::default() };
    show(&shared, &uri, form, Problems::default())
}

pub(crate) async fn channel_edit(
    State(shared): State<Shared>,
    uri: Uri,
    Path(id): Path<String>,
) -> Response {
    match stored(&shared, &id).await {
        Ok(channel) => show(&shared, &uri, ChannelForm::of(&channel), Problems::default()),
        Err(status) => show_alerts(&shared, &uri, status.message().to_owned()).await,
    }
}

async fn stored(shared: &Shared, id: &str) -> Result<v1::Channel, Status> {
    let all = shared.alerts.list_channels(v1::ListChannelsRequest {}).await?.channels;
    let found = all.into_iter().find(|channel| channel.id == id);
    found.ok_or_else(|| Status::not_found("There is no such channel; it may have been deleted."))
}

pub(crate) async fn channel_save(
    State(shared): State<Shared>,
    uri: Uri,
    Fields(mut form): Fields<ChannelForm>,
) -> Response {
    let mut problems = match save(&shared, &form).await {
        Ok(()) => return Redirect::to("../alerts#channels").into_response(),
        Err(Refusal::Wrong(problems)) => problems,
        Err(Refusal::Overtaken) => {
            if let Ok(now) = stored(&shared, &form.id).await {
                form.revision = now.revision;
            }
            Problems::whole(
                "Somebody saved this channel meanwhile. Saving again replaces what they did.",
            )
        }
    };
    form.forget_secrets(&mut problems);
    show(&shared, &uri, form, problems)
}

/// Why a form was not saved.
enum Refusal {
    Wrong(Problems),
    Overtaken,
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        Self::Wrong(problems)
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Aborted => Self::Overtaken,
            _ => Self::Wrong(Problems::refused(status.message(), "channel.", PATHS)),
        }
    }
}

async fn save(shared: &Shared, form: &ChannelForm) -> Result<(), Refusal> {
    if form.id.is_empty() {
        let request = v1::CreateChannelRequest { channel: Some(form.to_channel(None)?) };
        shared.alerts.create_channel(request).await?;
    } else {
        let before = stored(shared, &form.id).await?;
        let request = v1::UpdateChannelRequest { channel: Some(form.to_channel(Some(&before))?) };
        shared.alerts.update_channel(request).await?;
    }
    Ok(())
}

pub(crate) async fn channel_delete(
    State(shared): State<Shared>,
    uri: Uri,
    Path(id): Path<String>,
) -> Response {
    let request = v1::DeleteChannelRequest { id, revision: 0 };
    done(&shared, &uri, "../../../", shared.alerts.delete_channel(request).await).await
}

pub(crate) async fn channel_test(
    State(shared): State<Shared>,
    uri: Uri,
    Path(id): Path<String>,
) -> Response {
    let name = stored(&shared, &id).await.map_or(id.clone(), |channel| channel.name);
    let said = match shared.alerts.test_channel(v1::TestChannelRequest { id }).await {
        Ok(answer) => {
            let arrived = if answer.delivered { "arrived" } else { "did not arrive" };
            let took = seconds(answer.took.as_ref()).map(format::duration);
            let took = took.map_or(String::new(), |took| format!(" after {took}"));
            format!("{name}: the test message {arrived}{took}: {}", answer.detail)
        }
        Err(status) => format!("That did not work: {}", status.message()),
    };
    Box::pin(show_alerts(&shared, &uri, said)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_server_may_name_its_port() {
        let check = |text: &str, host: &str, port| {
            assert_eq!(mail_server(text), Ok((host.to_owned(), port)), "{text}");
        };
        check("mail.example.org", "mail.example.org", 0);
        check("mail.example.org:465", "mail.example.org", 465);
        let problem = mail_server("https://mail.example.org").expect_err("no port");
        assert!(problem.starts_with("expected a mail server"), "{problem}");
    }

    #[test]
    fn an_e_mail_channel_has_its_readers_one_by_one() {
        let form = ChannelForm {
            name: " ops ".to_owned(),
            kind: "email".to_owned(),
            address: "mail.example.org:465".to_owned(),
            from: "muster@example.org".to_owned(),
            to: "ann@example.org, bo@example.org".to_owned(),
            tls: "implicit".to_owned(),
            ..Default::default()
        };
        let channel = form.to_channel(None).expect("valid");
        let Some(Wire::Email(email)) = &channel.kind else { panic!("no e-mail") };
        assert_eq!((channel.name.as_str(), email.port), ("ops", 465));
        assert_eq!(email.to, ["ann@example.org", "bo@example.org"]);
        assert_eq!(email.tls(), v1::email_channel::Tls::Implicit);
    }

    /// As the service tells it: without its secrets.
    fn stored(kind: Wire) -> v1::Channel {
        v1::Channel {
            id: "ops".to_owned(),
            revision: 2,
            name: "ops".to_owned(),
            kind: Some(kind),
            repeat_interval: Some(proto::convert::duration_from_ms(3_600_000)),
            ..Default::default()
        }
    }

    #[test]
    fn every_channel_survives_the_form() {
        let kinds = [
            Wire::Webhook(v1::WebhookChannel {
                url: "https://a/b".to_owned(),
                ..Default::default()
            }),
            Wire::Slack(Default::default()),
            Wire::Discord(Default::default()),
            Wire::Teams(Default::default()),
            Wire::Alertmanager(v1::AlertmanagerChannel { url: "http://a:9093".to_owned() }),
            Wire::Pagerduty(v1::PagerDutyChannel {
                api_url: "https://p".to_owned(),
                ..Default::default()
            }),
            Wire::Ntfy(v1::NtfyChannel {
                server_url: "https://n".to_owned(),
                topic: "t".to_owned(),
                ..Default::default()
            }),
            Wire::Telegram(v1::TelegramChannel {
                chat_id: "-5".to_owned(),
                api_url: "https://t".to_owned(),
                ..Default::default()
            }),
            Wire::Email(v1::EmailChannel {
                host: "m".to_owned(),
                port: 25,
                tls: v1::email_channel::Tls::None.into(),
                username: "u".to_owned(),
                from: "a@b".to_owned(),
                to: vec!["c@d".to_owned()],
                ..Default::default()
            }),
        ];
        assert_eq!(kinds.len(), KINDS.len());
        for kind in kinds {
            let channel = stored(kind);
            assert!(kind_of(&channel).is_some());
            let sent = ChannelForm::of(&channel).to_channel(Some(&channel));
            assert_eq!(sent, Ok(channel));
        }
    }

    #[test]
    fn a_secret_is_not_dropped_without_a_word_when_the_address_changes() {
        let before = stored(Wire::Webhook(v1::WebhookChannel {
            url: "https://a/b".to_owned(),
            ..Default::default()
        }));
        let mut form = ChannelForm::of(&before);
        form.address = "https://elsewhere/b".to_owned();
        let problems = form.to_channel(Some(&before)).expect_err("the secret is missing");
        assert!(problems.of("secret").starts_with("the address is another"));
        form.no_secret = "on".to_owned();
        assert!(form.to_channel(Some(&before)).is_ok());
        (form.no_secret, form.secret) = (String::new(), "s".to_owned());
        assert!(form.to_channel(Some(&before)).is_ok());
    }

    #[test]
    fn what_is_secret_does_not_come_back() {
        let check = |kind: &str, kept: &str, said: &str| {
            let mut form = ChannelForm {
                kind: kind.to_owned(),
                address: "https://a/b".to_owned(),
                secret: "s".to_owned(),
                ..Default::default()
            };
            let mut problems = Problems::default();
            form.forget_secrets(&mut problems);
            assert_eq!((form.address.as_str(), form.secret.as_str()), (kept, ""), "{kind}");
            assert_eq!((problems.of("address"), problems.of("secret")), (said, TYPE_AGAIN));
        };
        check("webhook", "https://a/b", "");
        check("slack", "", TYPE_AGAIN);
        check("discord", "", TYPE_AGAIN);
        check("teams", "", TYPE_AGAIN);
    }

    #[test]
    fn what_the_service_refuses_finds_its_field() {
        let check = |message: &str, field: &str| {
            let problems = Problems::refused(message, "channel.", PATHS);
            assert_ne!(problems.of(field), "", "{message}");
        };
        check("channel.name: expected 1 to 120 bytes", "name");
        check("channel.webhook.url: expected an address", "address");
        check("channel.email.to[0]: expected an address", "to");
        check("channel.pagerduty.routing_key: is missing", "secret");
        check("channel.kind: expected webhook", "");
    }
}
