//! Several services on one TimescaleDB and one event stream, as their neighbours see them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use alerts::{Alerts, Config};
use daemon::config::Span;
use model::{Frame, Labels, Layout, MachineFacts, MachineId, MachineStatus, Series, UnixMillis};
use prometheus_client::registry::Registry;
use proto::Link;
use proto::v1;
use proto::v1::alert_config_service_client::AlertConfigServiceClient;
use proto::v1::alert_service_client::AlertServiceClient;
use storage::Stores;
use storage::events::{Event, EventKind};
use storage::live::LiveFrame;
use storage::registry::MachineRecord;
use storage::testing;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

mod receiver;

use receiver::{Manner, Receiver};

const MACHINES: u128 = 20;

/// One service with connections of its own.
struct Service {
    rules: AlertConfigServiceClient<Link>,
    alerts: AlertServiceClient<Link>,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

/// Where they meet.
struct Place {
    config: storage::Config,
    dir: tempfile::TempDir,
}

fn now() -> UnixMillis {
    SystemTime::now().into()
}

fn machine(n: u128) -> MachineId {
    MachineId::from_u128(n).expect("not zero")
}

impl Place {
    async fn new() -> Option<Self> {
        let redis = testing::server("MUSTER_TEST_REDIS_URL")?;
        let timescale = testing::timescale_url().await?;
        let prefix = testing::unique("alerts");
        let variables = [
            ("MUSTER_STORAGE__EVENTS__REDIS__URL", redis),
            ("MUSTER_STORAGE__EVENTS__REDIS__PREFIX", prefix),
            ("MUSTER_STORAGE__HISTORY__KIND__TIMESCALE__URL", timescale.clone()),
            ("MUSTER_STORAGE__ALERTS__TIMESCALE__URL", timescale),
        ];
        #[derive(Debug, Default, serde::Deserialize)]
        struct Whole {
            storage: storage::Config,
        }
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let whole: Whole = daemon::config::load_with(None, variables).expect("accepted");
        Some(Self { config: whole.storage, dir: tempfile::tempdir().expect("a directory") })
    }

    async fn stores(&self) -> Stores {
        storage::open(&self.config, self.dir.path()).await.expect("stores")
    }

    async fn service(&self) -> Service {
        let stores = self.stores().await;
        let mut config = Config::default();
        config.notify.group_wait = Span::from_millis(100);
        config.notify.group_interval = Span::from_millis(0);
        let opened = Alerts::open(config, stores, &mut Registry::default()).await;
        let alerts = opened.expect("opened");
        let link = Link::new(alerts.routes().prepare());
        let stop = CancellationToken::new();
        let running = tokio::spawn(alerts.run(stop.clone()));
        Service {
            rules: AlertConfigServiceClient::new(link.clone()),
            alerts: AlertServiceClient::new(link),
            stop,
            running,
        }
    }
}

impl Service {
    /// Ends as `kill -9` would: nothing is told, written or handed over.
    async fn kill(self) {
        self.running.abort();
        let _ = self.running.await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.expect("no panic").expect("a clean end");
    }

    async fn active(&self) -> Vec<v1::ActiveAlert> {
        let mut alerts = self.alerts.clone();
        let listed = alerts.list_active(v1::ListActiveRequest::default()).await;
        let mut active = listed.expect("listed").into_inner().alerts;
        active.retain(|alert| alert.rule_name == "CPU high");
        active
    }

    async fn rule_names(&self) -> Vec<String> {
        let mut rules = self.rules.clone();
        let listed = rules.list_rules(v1::ListRulesRequest {}).await.expect("listed");
        listed.into_inner().rules.into_iter().map(|rule| rule.name).collect()
    }
}

async fn register(stores: &Stores) {
    for n in 1..=MACHINES {
        let facts = MachineFacts { host_name: format!("web-{n}"), ..MachineFacts::default() };
        let record = MachineRecord {
            id: machine(n),
            facts,
            labels: Labels::empty(),
            first_seen: now(),
            last_seen: now(),
            status: MachineStatus::Online,
            status_since: now(),
        };
        stores.registry.put_machine(record).await.expect("kept");
    }
}

/// Every machine sends this value.
async fn cpu(stores: &Stores, value: f64) {
    let layout = Layout::new(vec![Series::gauge("system.cpu.utilization", "1", Labels::empty())]);
    let layout = layout.expect("valid");
    for n in 1..=MACHINES {
        let frame = Arc::new(Frame { time: now(), layout: layout.id(), values: vec![value] });
        let frame = LiveFrame { layout: layout.clone(), frame };
        let kind = EventKind::Frame { frame, late: false };
        stores.events.publish(Event { machine: machine(n), kind }).await.expect("published");
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// Sends the value again and again, as machines do, until it is so.
async fn until(stores: &Stores, value: f64, what: &str, done: impl AsyncFn() -> bool) {
    for _ in 0..300 {
        cpu(stores, value).await;
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: not in 30 s");
}

/// Alerts that were told, by `status` and machine, each as often as it was.
fn told(receiver: &Receiver, status: &str) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for got in receiver.got() {
        let body = got.json();
        if body["status"] == status {
            let alerts = body["alerts"].as_array().expect("alerts");
            told.extend(alerts.iter().map(|a| a["incident_id"].to_string()));
        }
    }
    told.sort();
    told
}

fn each_once(told: &[String]) {
    let mut once = told.to_vec();
    once.dedup();
    assert_eq!((told.len(), once.len()), (MACHINES as usize, MACHINES as usize), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_services_one_may_die_and_another_come_and_every_alert_is_told_once() {
    let Some(place) = Place::new().await else { return };
    let outside = place.stores().await;
    register(&outside).await;
    let receiver = Receiver::start(Manner::Status(200)).await;
    let first = place.service().await;
    let second = place.service().await;

    // Made at one, in force at the other.
    let webhook = v1::WebhookChannel { url: receiver.url.clone(), secret: "s3cret".into() };
    let kind = Some(v1::channel::Kind::Webhook(webhook));
    let channel = Some(v1::Channel { name: "hook".into(), kind, ..v1::Channel::default() });
    let request = v1::CreateChannelRequest { channel };
    second.rules.clone().create_channel(request).await.expect("created");
    let threshold = v1::ThresholdCondition {
        metric: "system.cpu.utilization".into(),
        warning: Some(0.8),
        recover: Some(0.7),
        ..v1::ThresholdCondition::default()
    };
    let rule = v1::AlertRule {
        name: "CPU high".into(),
        condition: Some(v1::alert_rule::Condition::Threshold(threshold)),
        ..v1::AlertRule::default()
    };
    let request = v1::CreateRuleRequest { rule: Some(rule) };
    first.rules.clone().create_rule(request).await.expect("created");
    assert!(second.rule_names().await.contains(&"CPU high".to_owned()));

    let all = async |service: &Service| service.active().await.len() == MACHINES as usize;
    until(&outside, 0.95, "all are active at both", async || {
        all(&first).await && all(&second).await
    })
    .await;
    until(&outside, 0.95, "all are told", async || {
        told(&receiver, "firing").len() >= MACHINES as usize
    })
    .await;

    // An alert that either watches is acknowledged at the other.
    for alert in second.active().await {
        let request = v1::AcknowledgeRequest {
            alert_id: alert.id,
            author: "ann".into(),
            ..v1::AcknowledgeRequest::default()
        };
        second.alerts.clone().acknowledge(request).await.expect("acknowledged");
    }
    let active = first.active().await;
    assert!(active.iter().all(|alert| alert.acknowledged.is_some()), "{active:?}");

    first.kill().await;
    until(&outside, 0.95, "the second watches everything", async || {
        let roll = outside.alerting.states().await.expect("read");
        roll.len() >= MACHINES as usize && all(&second).await
    })
    .await;
    // A third one comes, and the machines are divided anew.
    let third = place.service().await;
    for _ in 0..80 {
        cpu(&outside, 0.95).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    each_once(&told(&receiver, "firing"));
    assert!(all(&third).await);

    until(&outside, 0.1, "all are over", async || {
        told(&receiver, "resolved").len() >= MACHINES as usize
    })
    .await;
    // Handed over cleanly: the third goes on alone, and tells nothing anew.
    second.end().await;
    for _ in 0..30 {
        cpu(&outside, 0.1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    each_once(&told(&receiver, "firing"));
    each_once(&told(&receiver, "resolved"));
    assert!(third.active().await.is_empty());
    third.end().await;
}
