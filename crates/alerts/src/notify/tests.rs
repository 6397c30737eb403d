//! What each kind of channel sends, against a real receiver; and how the workers behave when it misbehaves.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use storage::alerting::{AlertChanges, Alerting, Notice as Stored, Setting, SettingKind};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::attendant::Attendant;
use crate::book::{Book, now};
use crate::metrics::Metrics;
use crate::notice::{Kind, Notice};

#[path = "../../tests/receiver.rs"]
mod receiver;

use receiver::{Manner, Receiver};

fn notice(kind: Kind, incident: &str) -> Notice {
    let labels = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    Notice {
        kind,
        alert_id: "a".repeat(32),
        incident_id: incident.to_owned(),
        rule_id: "disk".into(),
        rule_name: "disk nearly full".into(),
        level: "critical".into(),
        machine_id: "b".repeat(32),
        host_name: "web-1".into(),
        machine_labels: labels(&[("env", "prod")]),
        metric: "system.filesystem.utilization".into(),
        labels: labels(&[("system.device", "sda1")]),
        rule_labels: labels(&[("team", "infra")]),
        value: Some(0.97),
        peak: Some(0.98),
        threshold: Some(0.95),
        summary: "web-1: <b> & /var is 97 % full".into(),
        runbook_url: "https://example.org/disk".into(),
        started_unix_ms: 1_700_000_000_000,
        resolved_unix_ms: (kind == Kind::Resolved).then_some(1_700_000_090_000),
    }
}

fn secret(text: &str) -> Secret {
    Secret(text.into())
}

/// Sends to a real receiver and returns what came.
async fn sent(address: impl Fn(String) -> Address, message: &Message) -> Vec<receiver::Got> {
    let receiver = Receiver::start(Manner::Status(200)).await;
    let sender = Sender::new(Duration::from_secs(5)).expect("a client");
    let answer = sender.send(&address(receiver.url.clone()), message).await;
    assert!(matches!(answer, Answer::Delivered { .. }), "{answer:?}");
    receiver.got()
}

#[tokio::test]
async fn every_kind_of_channel_says_it_in_its_own_way() {
    type Make = fn(String) -> Address;
    type Look = fn(&Value) -> Value;
    let cases: [(Make, &str, Look, Value); 8] = [
        (
            |url| Address::Webhook { url: format!("{url}/hook"), secret: secret("") },
            "/hook",
            |b| {
                json!([
                    b["status"],
                    b["title"],
                    b["alerts"][0]["started"],
                    b["alerts"][0]["labels"]["system.device"]
                ])
            },
            json!([
                "firing",
                "CRITICAL: disk nearly full on web-1",
                "2023-11-14T22:13:20Z",
                "sda1"
            ]),
        ),
        (
            |url| Address::Slack { url: secret(&format!("{url}/s")) },
            "/s",
            |b| json!([b["text"], b["attachments"][0]["text"]]),
            json!([
                "CRITICAL: disk nearly full on web-1",
                "web-1: &lt;b&gt; &amp; /var is 97 % full\n<https://example.org/disk|Runbook>"
            ]),
        ),
        (
            |url| Address::Discord { url: secret(&format!("{url}/d")) },
            "/d",
            |b| {
                json!([
                    b["embeds"][0]["title"],
                    b["embeds"][0]["url"],
                    b["allowed_mentions"]["parse"]
                ])
            },
            json!(["CRITICAL: disk nearly full on web-1", "https://example.org/disk", []]),
        ),
        (
            |url| Address::Teams { url: secret(&format!("{url}/t")) },
            "/t",
            |b| {
                let card = &b["attachments"][0]["content"];
                json!([b["type"], card["type"], card["body"][1]["text"], card["actions"][0]["url"]])
            },
            json!([
                "message",
                "AdaptiveCard",
                "web-1: <b> & /var is 97 % full",
                "https://example.org/disk"
            ]),
        ),
        (
            |url| Address::Telegram {
                bot_token: secret("1:A"),
                chat_id: "-42".into(),
                api_url: url,
            },
            "/bot1:A/sendMessage",
            |b| json!([b["chat_id"], b["text"], b["parse_mode"]]),
            json!([
                "-42",
                "CRITICAL: disk nearly full on web-1\nweb-1: <b> & /var is 97 % full\nhttps://example.org/disk",
                null
            ]),
        ),
        (
            |url| Address::Ntfy { server_url: url, topic: "ops".into(), token: secret("tk") },
            "/",
            |b| json!([b["topic"], b["priority"], b["click"]]),
            json!(["ops", 5, "https://example.org/disk"]),
        ),
        (
            |url| Address::PagerDuty { routing_key: secret("key"), api_url: url },
            "/v2/enqueue",
            |b| {
                json!([
                    b["routing_key"],
                    b["event_action"],
                    b["dedup_key"],
                    b["payload"]["severity"]
                ])
            },
            json!(["key", "trigger", "i1", "critical"]),
        ),
        (
            |url| Address::Alertmanager { url },
            "/api/v2/alerts",
            |b| json!([b[0]["labels"], b[0]["startsAt"]]),
            json!([
                {
                    "alertname": "disk nearly full", "instance": "web-1", "machine_id": "b".repeat(32),
                    "env": "prod", "system_device": "sda1", "team": "infra"
                },
                "2023-11-14T22:13:20Z"
            ]),
        ),
    ];
    let message = Message::new(vec![notice(Kind::Firing, "i1")]);
    for (make, path, look, expected) in cases {
        let got = sent(make, &message).await.remove(0);
        let kind = make(String::new()).kind();
        assert_eq!(got.path, path, "{kind}");
        assert_eq!(look(&got.json()), expected, "{kind}");
        assert_eq!(got.header("content-type"), Some("application/json"), "{kind}");
    }
}

#[tokio::test]
async fn what_is_over_is_told_as_over() {
    let message = Message::new(vec![notice(Kind::Resolved, "i1")]);
    assert_eq!(message.title(), "RESOLVED: disk nearly full on web-1");
    assert_eq!(message.text(), "over: web-1: <b> & /var is 97 % full (after 1m30s)");
    let hook = |url| Address::Webhook { url, secret: secret("") };
    let body = sent(hook, &message).await[0].json();
    assert_eq!(body["status"], "resolved");
    assert_eq!(body["alerts"][0]["resolved"], "2023-11-14T22:14:50Z");
    let pager = |api_url| Address::PagerDuty { routing_key: secret("k"), api_url };
    let body = sent(pager, &message).await[0].json();
    assert_eq!((&body["event_action"], &body["dedup_key"]), (&json!("resolve"), &json!("i1")));
    let manager = |url| Address::Alertmanager { url };
    assert_eq!(sent(manager, &message).await[0].json()[0]["endsAt"], "2023-11-14T22:14:50Z");
}

#[tokio::test]
async fn many_notices_are_one_message_but_one_event_each_for_pagerduty() {
    let many: Vec<_> = (0..30).map(|i| notice(Kind::Firing, &i.to_string())).collect();
    let message = Message::new(many);
    assert_eq!(message.title(), "CRITICAL: disk nearly full (30)");
    assert_eq!(message.lines().len(), 21);
    assert!(message.text().ends_with("… and 10 more"));
    let pager = |api_url| Address::PagerDuty { routing_key: secret("k"), api_url };
    assert_eq!(sent(pager, &message).await.len(), 30);
}

#[tokio::test]
async fn a_webhook_with_a_secret_is_signed() {
    let hook = |url| Address::Webhook { url, secret: secret("s3cret") };
    let got = sent(hook, &Message::test("ops")).await.remove(0);
    let signature = got.header("muster-signature").expect("signed").to_owned();
    let (time, mac) = signature.split_once(",v1=").expect("both parts");
    let time: i64 = time.strip_prefix("t=").and_then(|t| t.parse().ok()).expect("a time");
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut expected = Hmac::<sha2::Sha256>::new_from_slice(b"s3cret").expect("a key");
    expected.update(format!("{time}.{}", got.body).as_bytes());
    let bytes: Vec<u8> = (0..mac.len() / 2)
        .map(|i| u8::from_str_radix(&mac[2 * i..2 * i + 2], 16).expect("hex"))
        .collect();
    expected.verify_slice(&bytes).expect("the signature of this body");
    assert_eq!(got.json()["test"], true);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_a_secret_address_is_not_told() {
    let receiver = Receiver::start(Manner::Status(302)).await;
    let sender = Sender::new(Duration::from_millis(300)).expect("a client");
    let hook = Address::Slack { url: secret(&format!("{}/services/T0PSECRET", receiver.url)) };
    let answer = sender.send(&hook, &Message::test("x")).await;
    assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
    for manner in [Manner::Hang, Manner::Close] {
        receiver.behave(manner);
        let answer = sender.send(&hook, &Message::test("x")).await;
        assert!(matches!(answer, Answer::Retry { .. }), "{answer:?}");
        assert!(!format!("{answer:?}").contains("T0PSECRET"), "{answer:?}");
    }
    assert!(!format!("{hook:?}").contains("T0PSECRET"));
}

#[test]
fn a_secret_stays_only_as_long_as_its_destination() {
    let hook = |url: &str, s: &str| Address::Webhook { url: url.into(), secret: secret(s) };
    let check = |mut after: Address, before: Address, expected: Address| {
        after.keep_secrets_of(&before);
        assert_eq!(after, expected);
    };
    check(hook("http://a", ""), hook("http://a", "s"), hook("http://a", "s"));
    check(hook("http://b", ""), hook("http://a", "s"), hook("http://b", ""));
    check(hook("http://a", "t"), hook("http://a", "s"), hook("http://a", "t"));
    let slack = |s: &str| Address::Slack { url: secret(s) };
    check(slack(""), slack("http://a/s"), slack("http://a/s"));
    check(slack(""), hook("http://a", "s"), slack(""));
}

#[test]
fn a_bad_address_is_refused_with_its_field_and_without_its_secret() {
    let check = |address: Address, expected: &str| {
        let channel = Channel {
            id: "c".into(),
            revision: 1,
            name: "c".into(),
            enabled: true,
            repeat_ms: None,
            address,
        };
        let error = channel.check().expect_err(expected).to_string();
        assert!(error.starts_with(expected) && !error.contains("T0P"), "{error}");
    };
    let hook = |url: &str| Address::Webhook { url: url.into(), secret: secret("") };
    check(hook(""), "webhook.url: ");
    check(hook("file:///etc/passwd"), "webhook.url: ");
    check(hook("http://169.254.169.254/latest"), "webhook.url: link-local");
    check(hook("http://[fe80::1]/"), "webhook.url: link-local");
    check(Address::Slack { url: secret("T0P not an address") }, "slack.url: ");
    let telegram = |token: &str| Address::Telegram {
        bot_token: secret(token),
        chat_id: "1".into(),
        api_url: "https://x.org".into(),
    };
    check(telegram("T0P/../x"), "telegram.bot_token: ");
    let mail = |tls, from: &str| {
        Address::Email(Mail {
            host: "mx".into(),
            port: 25,
            tls,
            username: "u".into(),
            password: secret("T0P"),
            from: from.into(),
            to: vec!["a@b.org".into()],
        })
    };
    check(mail(Tls::Starttls, "nobody"), "email.from: ");
    check(mail(Tls::None, "a@b.org"), "email.tls: ");
}

/// A store, a directory and workers over it.
struct Scene {
    store: Arc<dyn Alerting>,
    directory: Directory,
    news: watch::Sender<u64>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn new(pacing: Pacing) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let stores = storage::open(&storage::Config::default(), dir.path()).await.expect("stores");
        let store = stores.alerting;
        let directory = Directory::new(store.clone());
        let (news, hear) = watch::channel(0);
        let stop = CancellationToken::new();
        let attendant = Attendant::open(store.clone(), directory.clone()).await.expect("joined");
        let rolls = attendant.rolls();
        tokio::spawn(attendant.run(stop.clone()));
        let workers = Workers {
            store: store.clone(),
            directory: directory.clone(),
            sender: Sender::new(Duration::from_millis(500)).expect("a client"),
            pacing,
            metrics: Metrics::default(),
            news: hear,
            rolls,
        };
        tokio::spawn(workers.run(stop.clone()));
        Self { store, directory, news, stop, _dir: dir }
    }

    async fn channel(&self, id: &str, url: &str) {
        let channel = Channel {
            id: id.into(),
            revision: 1,
            name: id.into(),
            enabled: true,
            repeat_ms: None,
            address: Address::Webhook { url: url.into(), secret: secret("") },
        };
        let setting = Setting {
            kind: SettingKind::Channel,
            id: id.into(),
            revision: 1,
            name: id.into(),
            origin: "rpc".into(),
            document: channel.to_json(),
            updated: now(),
            updated_by: "test".into(),
        };
        Book::new(self.store.clone()).save(setting, "", "").await.expect("saved");
        self.directory.reload().await.expect("read");
    }

    async fn tell(&self, channel: &str, kind: Kind, incident: &str) {
        let stored = Stored {
            channel: channel.into(),
            grouping: "disk".into(),
            incident: incident.into(),
            kind: kind.name().into(),
            document: serde_json::to_string(&notice(kind, incident)).expect("JSON"),
            created: now(),
            due: now(),
        };
        let changes = AlertChanges { notices: vec![stored], ..Default::default() };
        self.store.record(changes).await.expect("kept");
        self.news.send_modify(|n| *n += 1);
    }

    async fn eventually(&self, mut done: impl AsyncFnMut(&Self) -> bool) {
        for _ in 0..1000 {
            if done(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not happen in 10 s");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

const PACING: Pacing = Pacing { group_interval_ms: 0, give_up_after_ms: 3_600_000, queue_max: 100 };

#[tokio::test]
async fn a_beginning_and_an_end_arrive_in_order_and_once() {
    let receiver = Receiver::start(Manner::Status(200)).await;
    let scene = Scene::new(PACING).await;
    scene.channel("hook", &receiver.url).await;
    scene.tell("hook", Kind::Firing, "1").await;
    scene.tell("hook", Kind::Resolved, "1").await;
    let got = receiver.wait_for(2).await;
    let statuses: Vec<_> = got.iter().map(|g| g.json()["status"].clone()).collect();
    assert_eq!(statuses, ["firing", "resolved"]);
    scene.eventually(async |s| s.store.queue_len("hook").await.expect("read") == 0).await;
    assert!(scene.directory.health_of("hook").last_success.is_some());
}

#[tokio::test]
async fn a_receiver_that_hangs_or_closes_delays_no_other() {
    let good = Receiver::start(Manner::Status(200)).await;
    let hangs = Receiver::start(Manner::Hang).await;
    let closes = Receiver::start(Manner::Close).await;
    let scene = Scene::new(PACING).await;
    scene.channel("hangs", &hangs.url).await;
    scene.channel("closes", &closes.url).await;
    scene.channel("good", &good.url).await;
    let begin = std::time::Instant::now();
    for channel in ["hangs", "closes", "good"] {
        scene.tell(channel, Kind::Firing, "1").await;
    }
    good.wait_for(1).await;
    assert!(begin.elapsed() < Duration::from_millis(450), "{:?}", begin.elapsed());
    // They are tried again, and what they missed arrives once they are well.
    scene.eventually(async |_| hangs.got().len() == 1 && closes.got().len() == 1).await;
    hangs.behave(Manner::Status(200));
    closes.behave(Manner::Status(500));
    scene.eventually(async |_| hangs.got().len() == 2 && closes.got().len() == 2).await;
    scene.eventually(async |s| s.store.queue_len("hangs").await.expect("read") == 0).await;
    let health = scene.directory.health_of("closes");
    assert!(health.last_failure.is_some() && health.last_success.is_none(), "{health:?}");
    assert_eq!(scene.store.queue_len("closes").await.expect("read"), 1, "it still waits");
}

#[tokio::test]
async fn what_is_refused_or_does_not_fit_goes_to_the_dead_notices_with_the_reason() {
    let receiver = Receiver::start(Manner::Status(404)).await;
    let scene = Scene::new(Pacing { queue_max: 2, ..PACING }).await;
    for incident in ["1", "2", "3"] {
        scene.tell("hook", Kind::Firing, incident).await;
    }
    scene.channel("hook", &receiver.url).await;
    scene.eventually(async |s| s.store.dead(10).await.expect("read").len() == 3).await;
    let dead = scene.store.dead(10).await.expect("read");
    let reasons: Vec<_> =
        dead.iter().map(|d| (d.notice.incident.as_str(), d.reason.as_str())).collect();
    assert_eq!(reasons[2], ("1", "its channel's queue was full"));
    assert!(reasons[0].1.starts_with("404"), "{reasons:?}");
    receiver.behave(Manner::Status(200));
    assert!(scene.store.revive(dead[0].id, now()).await.expect("revived"));
    scene.news.send_modify(|n| *n += 1);
    receiver.wait_for(2).await;
    scene.eventually(async |s| s.store.queue_len("hook").await.expect("read") == 0).await;
}
