//! The whole service over real stores, as its neighbours see it: events in, gRPC, messages out.

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
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Code;

mod receiver;

use receiver::{Manner, Receiver};

/// One service over a directory, which outlives it.
struct Service {
    stores: Stores,
    rules: AlertConfigServiceClient<Link>,
    alerts: AlertServiceClient<Link>,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

fn now() -> UnixMillis {
    SystemTime::now().into()
}

fn machine(n: u128) -> MachineId {
    MachineId::from_u128(n).expect("not zero")
}

fn quick() -> Config {
    let mut config = Config::default();
    config.notify.group_wait = Span::from_millis(100);
    config.notify.group_interval = Span::from_millis(0);
    config
}

impl Service {
    async fn start(dir: &std::path::Path, config: Config) -> Self {
        let stores = storage::open(&storage::Config::default(), dir).await.expect("stores");
        Self::over(stores, config).await
    }

    async fn over(stores: Stores, config: Config) -> Self {
        let opened = Alerts::open(config, stores.clone(), &mut Registry::default()).await;
        let alerts = opened.expect("opened");
        let link = Link::new(alerts.routes().prepare());
        let stop = CancellationToken::new();
        let running = tokio::spawn(alerts.run(stop.clone()));
        Self {
            stores,
            rules: AlertConfigServiceClient::new(link.clone()),
            alerts: AlertServiceClient::new(link),
            stop,
            running,
        }
    }

    /// Ends as `kill -9` would: nothing is told, written or waited for.
    async fn kill(self) {
        self.running.abort();
        let _ = self.running.await;
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.expect("no panic").expect("a clean end");
    }

    async fn machine(&self, n: u128, host_name: &str) {
        let record = MachineRecord {
            id: machine(n),
            facts: MachineFacts { host_name: host_name.into(), ..MachineFacts::default() },
            labels: Labels::of([("env", "dev")]),
            first_seen: now(),
            last_seen: now(),
            status: MachineStatus::Online,
            status_since: now(),
        };
        self.stores.registry.put_machine(record).await.expect("kept");
        self.status(n, MachineStatus::Online).await;
    }

    async fn status(&self, n: u128, status: MachineStatus) {
        self.publish(n, EventKind::Status { status, since: now() }).await;
    }

    async fn cpu(&self, n: u128, value: f64) {
        let layout =
            Layout::new(vec![Series::gauge("system.cpu.utilization", "1", Labels::empty())]);
        let layout = layout.expect("valid");
        let frame = Arc::new(Frame { time: now(), layout: layout.id(), values: vec![value] });
        self.publish(n, EventKind::Frame { frame: LiveFrame { layout, frame }, late: false }).await;
        // The next frame must be a later one.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    async fn publish(&self, n: u128, kind: EventKind) {
        let event = Event { machine: machine(n), kind };
        self.stores.events.publish(event).await.expect("published");
    }

    async fn webhook(&mut self, receiver: &Receiver) -> v1::Channel {
        let webhook = v1::WebhookChannel { url: receiver.url.clone(), secret: "s3cret".into() };
        let kind = Some(v1::channel::Kind::Webhook(webhook));
        let channel = Some(v1::Channel { name: "hook".into(), kind, ..v1::Channel::default() });
        let created = self.rules.create_channel(v1::CreateChannelRequest { channel }).await;
        created.expect("created").into_inner().channel.expect("a channel")
    }

    async fn create(&mut self, rule: v1::AlertRule) -> Result<v1::AlertRule, tonic::Status> {
        let request = v1::CreateRuleRequest { rule: Some(rule) };
        Ok(self.rules.create_rule(request).await?.into_inner().rule.expect("a rule"))
    }

    async fn active(&mut self) -> Vec<v1::ActiveAlert> {
        let listed = self.alerts.list_active(v1::ListActiveRequest::default()).await;
        listed.expect("listed").into_inner().alerts
    }

    async fn history(&mut self) -> Vec<v1::Incident> {
        let listed = self.alerts.list_history(v1::ListHistoryRequest::default()).await;
        listed.expect("listed").into_inner().incidents
    }

    /// Waits until the active alerts are in these phases.
    async fn phases(&mut self, expected: &[v1::AlertPhase]) -> Vec<v1::ActiveAlert> {
        for _ in 0..500 {
            let active = self.active().await;
            if active.iter().map(|a| a.phase()).eq(expected.iter().copied()) {
                return active;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("expected {expected:?}, found {:?}", self.active().await);
    }
}

fn cpu_rule() -> v1::AlertRule {
    let threshold = v1::ThresholdCondition {
        metric: "system.cpu.utilization".into(),
        warning: Some(0.8),
        recover: Some(0.7),
        ..v1::ThresholdCondition::default()
    };
    v1::AlertRule {
        name: "CPU high".into(),
        condition: Some(v1::alert_rule::Condition::Threshold(threshold)),
        summary: "{{ machine.name }} is at {{ value | percent }}".into(),
        ..v1::AlertRule::default()
    }
}

fn statuses(got: &[receiver::Got]) -> Vec<String> {
    got.iter().map(|g| g.json()["status"].as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn a_rule_made_by_rpc_fires_is_told_and_is_told_to_be_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start(Manner::Status(200)).await;
    let mut service = Service::start(dir.path(), quick()).await;
    service.webhook(&receiver).await;
    service.machine(1, "web-1").await;
    let rule = service.create(cpu_rule()).await.expect("created");
    assert_eq!((rule.id.as_str(), rule.revision), ("cpu-high", 1));

    service.cpu(1, 0.5).await;
    service.cpu(1, 0.95).await;
    let got = receiver.wait_for(1).await;
    assert_eq!(got[0].json()["text"], "web-1 is at 95 %");
    let active = service.phases(&[v1::AlertPhase::Firing]).await;
    assert_eq!((active[0].host_name.as_str(), active[0].value), ("web-1", Some(0.95)));
    assert_eq!(service.history().await[0].resolved, None);

    service.cpu(1, 0.75).await;
    service.cpu(1, 0.99).await;
    service.cpu(1, 0.2).await;
    let got = receiver.wait_for(2).await;
    assert_eq!(statuses(&got), ["firing", "resolved"], "between the thresholds nothing is told");
    assert!(service.phases(&[]).await.is_empty());
    let incident = service.history().await.remove(0);
    assert_eq!((incident.peak, incident.cause.as_str()), (Some(0.99), "value"));
    assert!(incident.resolved.is_some());
    service.end().await;
}

#[tokio::test]
async fn the_service_goes_on_when_whoever_opened_its_stores_lets_go_of_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let stores = storage::open(&storage::Config::default(), dir.path()).await.expect("stores");
    let opened = Alerts::open(quick(), stores, &mut Registry::default()).await;
    let alerts = opened.expect("opened");
    let mut client = AlertServiceClient::new(Link::new(alerts.routes().prepare()));
    let stop = CancellationToken::new();
    let mut running = tokio::spawn(alerts.run(stop.clone()));
    let ended = tokio::time::timeout(Duration::from_millis(1200), &mut running).await;
    assert!(ended.is_err(), "it ended by itself: {ended:?}");
    client.list_active(v1::ListActiveRequest::default()).await.expect("listed");
    stop.cancel();
    running.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn nothing_is_lost_or_told_twice_when_it_is_killed_at_any_stage() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start(Manner::Status(200)).await;
    let mut service = Service::start(dir.path(), quick()).await;
    service.webhook(&receiver).await;
    service.machine(1, "web-1").await;
    let mut rule = cpu_rule();
    rule.r#for = Some(proto::convert::duration_from_ms(200));
    service.create(rule).await.expect("created");
    let stores = service.stores.clone();

    service.cpu(1, 0.95).await;
    service.phases(&[v1::AlertPhase::Pending]).await;
    kept(&stores, 1).await;
    service.kill().await;

    let mut service = Service::over(stores.clone(), quick()).await;
    service.phases(&[v1::AlertPhase::Pending]).await;
    tokio::time::sleep(Duration::from_millis(220)).await;
    service.cpu(1, 0.95).await;
    service.phases(&[v1::AlertPhase::Firing]).await;
    receiver.wait_for(1).await;
    told(&stores).await;
    service.kill().await;

    let mut service = Service::over(stores.clone(), quick()).await;
    let active = service.phases(&[v1::AlertPhase::Firing]).await;
    assert_eq!(active[0].value, Some(0.95));
    service.cpu(1, 0.96).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.got().len(), 1, "not told again");
    // Away while it is killed once more.
    service.status(1, MachineStatus::Offline).await;
    service.phases(&[v1::AlertPhase::Unknown, v1::AlertPhase::Pending]).await;
    kept(&stores, 2).await;
    service.kill().await;

    // The receiver is down while the alert ends and the service is killed: the end is told later.
    receiver.behave(Manner::Status(503));
    let mut service = Service::over(stores.clone(), quick()).await;
    service.phases(&[v1::AlertPhase::Unknown, v1::AlertPhase::Pending]).await;
    service.status(1, MachineStatus::Online).await;
    service.cpu(1, 0.1).await;
    service.phases(&[]).await;
    receiver.wait_for(2).await;
    service.kill().await;
    receiver.behave(Manner::Status(200));
    let mut service = Service::over(stores, quick()).await;
    let got = receiver.wait_for(3).await;
    assert_eq!(statuses(&got), ["firing", "resolved", "resolved"], "the second was refused");
    let history = service.history().await;
    assert_eq!(history.len(), 1);
    assert!(history[0].resolved.is_some());
    service.end().await;
}

#[tokio::test]
async fn who_was_told_of_an_alert_is_told_that_it_is_over_also_when_its_rule_went_meanwhile() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start(Manner::Status(200)).await;
    let mut service = Service::start(dir.path(), quick()).await;
    service.webhook(&receiver).await;
    service.machine(1, "web-1").await;
    let rule = service.create(cpu_rule()).await.expect("created");
    service.cpu(1, 0.95).await;
    receiver.wait_for(1).await;
    let stores = service.stores.clone();
    told(&stores).await;
    service.kill().await;
    let audit = storage::alerting::Audit {
        time: now(),
        actor: "ann".into(),
        action: "delete".into(),
        kind: storage::alerting::SettingKind::Rule,
        subject: rule.id.clone(),
        before: String::new(),
        after: String::new(),
    };
    let kind = storage::alerting::SettingKind::Rule;
    stores.alerting.remove(kind, &rule.id, rule.revision, audit).await.expect("removed");

    let mut service = Service::over(stores, quick()).await;
    let got = receiver.wait_for(2).await;
    assert_eq!(statuses(&got), ["firing", "resolved"]);
    let (fired, over) = (got[0].json(), got[1].json());
    assert_eq!(fired["alerts"][0]["incident_id"], over["alerts"][0]["incident_id"]);
    assert!(over["title"].as_str().is_some_and(|title| title.contains("web-1")), "{over}");
    assert!(service.history().await[0].resolved.is_some());
    service.end().await;
}

async fn kept(stores: &Stores, states: usize) {
    for _ in 0..500 {
        if stores.alerting.states().await.expect("read").len() == states {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{states} alerts were not kept");
}

async fn told(stores: &Stores) {
    for _ in 0..500 {
        if stores.alerting.queue_len("hook").await.expect("read") == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it was not noted that it was told");
}

#[tokio::test]
async fn rules_are_changed_only_from_the_revision_in_force_and_every_change_is_in_the_audit() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut service = Service::start(dir.path(), quick()).await;
    let rules = service.rules.list_rules(v1::ListRulesRequest {}).await.expect("listed");
    let rules = rules.into_inner().rules;
    assert!(rules.len() >= 6 && rules.iter().all(|rule| rule.origin == "default"));

    let rule = service.create(cpu_rule()).await.expect("created");
    let taken = service.create(cpu_rule()).await.expect_err("the name is taken");
    assert_eq!(taken.code(), Code::AlreadyExists);
    let mut changed = rule.clone();
    changed.name = "CPU very high".into();
    let mut request = tonic::Request::new(v1::UpdateRuleRequest { rule: Some(changed.clone()) });
    request.metadata_mut().insert("muster-actor", "ann".parse().expect("ASCII"));
    let updated = service.rules.update_rule(request).await.expect("updated").into_inner();
    let updated = updated.rule.expect("a rule");
    assert_eq!(
        (updated.revision, updated.id, updated.updated_by),
        (2, rule.id.clone(), "ann".into())
    );
    let stale = service.rules.update_rule(v1::UpdateRuleRequest { rule: Some(changed) }).await;
    let stale = stale.expect_err("revision 1 is not in force");
    assert_eq!(stale.code(), Code::Aborted);
    assert!(stale.message().starts_with("rule.revision: "), "{}", stale.message());

    let off = v1::SetRuleEnabledRequest { id: rule.id.clone(), enabled: false };
    service.rules.set_rule_enabled(off).await.expect("switched off");
    let delete = v1::DeleteRuleRequest { id: rule.id.clone(), revision: 3 };
    service.rules.delete_rule(delete).await.expect("deleted");
    let gone = service.rules.get_rule(v1::GetRuleRequest { id: rule.id.clone() }).await;
    assert_eq!(gone.expect_err("gone").code(), Code::NotFound);
    let changes = v1::ListRuleChangesRequest { id: rule.id, limit: 0 };
    let changes = service.rules.list_rule_changes(changes).await.expect("listed").into_inner();
    let story: Vec<_> =
        changes.changes.iter().map(|c| (c.action.as_str(), c.actor.as_str())).collect();
    let expected = [("delete", "rpc"), ("update", "rpc"), ("update", "ann"), ("create", "rpc")];
    assert_eq!(story, expected);
    assert!(changes.changes[2].after.contains("CPU very high"));
    service.end().await;
}

#[tokio::test]
async fn a_bad_rule_is_refused_with_its_field() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { series_per_rule_max: 3, ..quick() };
    let mut service = Service::start(dir.path(), config).await;
    for n in 1..=4 {
        service.machine(n, &format!("web-{n}")).await;
        service.cpu(n, 0.1).await;
    }
    let mut refused = async |spoil: &dyn Fn(&mut v1::AlertRule), expected: &str| {
        let mut rule = cpu_rule();
        spoil(&mut rule);
        let error = service.create(rule).await.expect_err(expected);
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().starts_with(expected), "{}", error.message());
    };
    fn threshold(rule: &mut v1::AlertRule) -> &mut v1::ThresholdCondition {
        match &mut rule.condition {
            Some(v1::alert_rule::Condition::Threshold(threshold)) => threshold,
            _ => unreachable!("the rule has a threshold"),
        }
    }
    refused(&|r| threshold(r).metric = "system.cpu.utilisation".into(), "rule.threshold.metric: ")
        .await;
    refused(&|r| r.channels = vec!["nowhere".into()], "rule.channels[0]: ").await;
    refused(&|_| {}, "rule.threshold.labels: matches 4 series").await;
    refused(&|r| r.name = " ".into(), "rule.name: ").await;
    service.end().await;
}

#[tokio::test]
async fn a_channels_secret_is_never_shown_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start(Manner::Status(204)).await;
    let mut service = Service::start(dir.path(), quick()).await;
    let mut channel = service.webhook(&receiver).await;
    assert!(!format!("{channel:?}").contains("s3cret"));
    // Changed without the secret, which stays.
    channel.name = "renamed".into();
    let request = v1::UpdateChannelRequest { channel: Some(channel.clone()) };
    service.rules.update_channel(request).await.expect("updated");
    let tested = service.rules.test_channel(v1::TestChannelRequest { id: channel.id }).await;
    let tested = tested.expect("tested").into_inner();
    assert!(tested.delivered && tested.detail.starts_with("204"), "{tested:?}");
    assert!(receiver.got()[0].header("muster-signature").is_some(), "still signed");
    let listed = service.rules.list_channels(v1::ListChannelsRequest {}).await.expect("listed");
    assert!(!format!("{listed:?}").contains("s3cret"));
    service.end().await;
}

#[tokio::test]
async fn a_hundred_machines_that_go_offline_are_one_message_and_a_restart_sends_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start(Manner::Status(200)).await;
    let mut service = Service::start(dir.path(), quick()).await;
    service.webhook(&receiver).await;
    // The default rule waits a minute; this one half a second.
    let offline = v1::OfflineCondition::default();
    let rule = v1::AlertRule {
        name: "gone".into(),
        condition: Some(v1::alert_rule::Condition::Offline(offline)),
        r#for: Some(proto::convert::duration_from_ms(500)),
        ..v1::AlertRule::default()
    };
    service.create(rule).await.expect("created");
    for n in 1..=100 {
        service.machine(n, &format!("web-{n}")).await;
        service.cpu(n, 0.1).await;
    }
    let stores = service.stores.clone();
    service.kill().await;
    let service = Service::over(stores, quick()).await;
    for n in 1..=100 {
        service.cpu(n, 0.1).await;
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(receiver.got().is_empty(), "a restart sends nothing");
    for n in 1..=100 {
        service.status(n, MachineStatus::Offline).await;
    }
    let got = receiver.wait_for(1).await;
    assert_eq!(got[0].json()["alerts"].as_array().map(Vec::len), Some(100));
    assert_eq!(got[0].json()["title"], "CRITICAL: gone (100)");
    service.end().await;
}

#[tokio::test]
async fn a_maintenance_window_of_yesterday_is_in_force_today_until_it_is_ended() {
    const HOUR_MS: i64 = 3_600_000;
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start(Manner::Status(200)).await;
    let mut service = Service::start(dir.path(), quick()).await;
    service.webhook(&receiver).await;
    service.machine(1, "web-1").await;
    service.create(cpu_rule()).await.expect("created");
    let first = now() - 25 * HOUR_MS;
    let silence = |every: v1::recurrence::Every, time_zone: &str| v1::Silence {
        matchers: vec![v1::LabelMatcher { name: "env".into(), op: 1, value: "dev".into() }],
        start: Some(proto::convert::timestamp_to_proto(first)),
        end: Some(proto::convert::timestamp_to_proto(first + 2 * HOUR_MS)),
        recurrence: Some(v1::Recurrence {
            every: every.into(),
            time_zone: time_zone.to_owned(),
            until: None,
        }),
        ..v1::Silence::default()
    };
    for (every, zone, expected) in [
        (v1::recurrence::Every::Unspecified, "", "silence.recurrence.every: expected EVERY_DAY"),
        (v1::recurrence::Every::Day, "Atlantis", "silence.recurrence.time_zone: expected a time"),
    ] {
        let request = v1::CreateSilenceRequest { silence: Some(silence(every, zone)) };
        let refused = service.alerts.create_silence(request).await.expect_err("is refused");
        assert!(refused.message().starts_with(expected), "{refused}");
    }
    let daily = silence(v1::recurrence::Every::Day, "UTC");
    let request = v1::CreateSilenceRequest { silence: Some(daily.clone()) };
    let created = service.alerts.create_silence(request).await.expect("created").into_inner();
    let id = created.silence.expect("a silence").id;
    service.cpu(1, 0.95).await;
    let active = service.phases(&[v1::AlertPhase::Firing]).await;
    assert_eq!(active[0].silenced_by, id);
    let request = v1::ListSilencesRequest::default();
    let listed = service.alerts.list_silences(request).await.expect("listed").into_inner();
    assert_eq!(listed.silences[0].recurrence, daily.recurrence);
    service.alerts.end_silence(v1::EndSilenceRequest { id }).await.expect("ended");
    receiver.wait_for(1).await;
    let listed = service.alerts.list_silences(request).await.expect("listed").into_inner();
    assert_eq!(listed.silences, []);
    service.end().await;
}

#[tokio::test]
async fn a_silenced_alert_is_shown_but_not_told_until_the_silence_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start(Manner::Status(200)).await;
    let mut service = Service::start(dir.path(), quick()).await;
    service.webhook(&receiver).await;
    service.machine(1, "web-1").await;
    service.create(cpu_rule()).await.expect("created");
    let silence = v1::Silence {
        matchers: vec![v1::LabelMatcher { name: "env".into(), op: 1, value: "dev".into() }],
        end: Some(proto::convert::timestamp_to_proto(now() + 3_600_000)),
        comment: "maintenance".into(),
        ..v1::Silence::default()
    };
    let empty = v1::CreateSilenceRequest {
        silence: Some(v1::Silence { matchers: vec![], ..silence.clone() }),
    };
    let refused = service.alerts.create_silence(empty).await.expect_err("no matchers");
    assert!(refused.message().starts_with("silence.matchers: "), "{refused}");
    let request = v1::CreateSilenceRequest { silence: Some(silence) };
    let silence = service.alerts.create_silence(request).await.expect("created").into_inner();
    let id = silence.silence.expect("a silence").id;
    service.cpu(1, 0.95).await;
    let active = service.phases(&[v1::AlertPhase::Firing]).await;
    assert_eq!(active[0].silenced_by, id);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(receiver.got().is_empty());
    service.alerts.end_silence(v1::EndSilenceRequest { id }).await.expect("ended");
    receiver.wait_for(1).await;
    let acknowledge = v1::AcknowledgeRequest {
        alert_id: active[0].id.clone(),
        author: "ann".into(),
        comment: "on it".into(),
    };
    service.alerts.acknowledge(acknowledge).await.expect("acknowledged");
    let active = service.active().await;
    assert_eq!(active[0].acknowledged.as_ref().map(|a| a.author.as_str()), Some("ann"));
    service.end().await;
}

#[tokio::test]
async fn rules_from_a_file_follow_it_and_cannot_be_changed_elsewhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("rules.toml");
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    let rule = |name: &str, warning: f64| {
        format!(
            "[[rules]]\nname = '{name}'\nmetric = 'system.cpu.utilization'\nabove = {{ warning = {warning} }}\n"
        )
    };
    write(&rule("from the file", 0.8));
    let config = Config { rules_file: Some(file.clone()), ..quick() };
    let mut service = Service::start(dir.path(), config).await;
    let mut eventually = async |expected: Option<f64>| {
        for _ in 0..800 {
            let found =
                service.rules.get_rule(v1::GetRuleRequest { id: "from-the-file".into() }).await;
            let warning = found.ok().and_then(|found| match found.into_inner().rule?.condition? {
                v1::alert_rule::Condition::Threshold(threshold) => threshold.warning,
                v1::alert_rule::Condition::Offline(_) | v1::alert_rule::Condition::Log(_) => None,
            });
            if warning == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the rule did not become {expected:?}");
    };
    eventually(Some(0.8)).await;
    write("[[rules]]\nname = 'broken'\n");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    eventually(Some(0.8)).await;
    write(&rule("from the file", 0.6));
    eventually(Some(0.6)).await;
    let id = "from-the-file".to_owned();
    let refused = service.rules.delete_rule(v1::DeleteRuleRequest { id, revision: 0 }).await;
    assert_eq!(refused.expect_err("it is the file's").code(), Code::FailedPrecondition);
    write("");
    let mut gone = async || {
        for _ in 0..800 {
            let listed = service.rules.list_rules(v1::ListRulesRequest {}).await.expect("listed");
            if listed.into_inner().rules.iter().all(|rule| rule.origin != "file") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the rule is still there");
    };
    gone().await;
    service.end().await;
}

impl Service {
    async fn dead(&mut self) -> Vec<v1::DeadEvent> {
        let listed = self.alerts.list_dead_events(v1::ListDeadEventsRequest::default()).await;
        listed.expect("listed").into_inner().events
    }

    /// Waits until there is one, other than before.
    async fn dead_after(&mut self, before: &str) -> v1::DeadEvent {
        for _ in 0..500 {
            if let Some(event) = self.dead().await.into_iter().find(|event| event.id != before) {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing is set aside");
    }

    async fn retry(&mut self, id: &str) -> Result<(), tonic::Status> {
        let request = v1::RetryDeadEventRequest { id: id.to_owned() };
        self.alerts.retry_dead_event(request).await.map(|_| ())
    }
}

#[tokio::test]
async fn an_event_that_contradicts_itself_is_set_aside_and_watching_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut service = Service::start(dir.path(), quick()).await;
    service.machine(1, "web-1").await;
    service.create(cpu_rule()).await.expect("created");
    let series = Series::gauge("system.cpu.utilization", "1", Labels::empty());
    let layout = Layout::new(vec![series]).expect("valid");
    let frame = Arc::new(Frame { time: now(), layout: layout.id(), values: vec![0.5, 0.95] });
    let frame = LiveFrame { layout, frame };
    service.publish(1, EventKind::Frame { frame, late: false }).await;
    let dead = service.dead_after("").await;
    assert_eq!((dead.machine_id, dead.kind.as_str()), (machine(1).to_string(), "frame"));
    assert_eq!(dead.reason, "a frame of 2 values, and a layout of 1 series");
    service.cpu(1, 0.95).await;
    service.phases(&[v1::AlertPhase::Firing]).await;

    service.retry(&dead.id).await.expect("retried");
    let again = service.dead_after(&dead.id).await;
    assert_eq!(again.kind, "late-frame", "it is of the past now");
    assert_eq!(service.retry(&dead.id).await.expect_err("is gone").code(), Code::NotFound);
    let request = v1::DiscardDeadEventRequest { id: again.id };
    service.alerts.discard_dead_event(request.clone()).await.expect("discarded");
    let twice = service.alerts.discard_dead_event(request).await.expect_err("is gone");
    assert_eq!(twice.code(), Code::NotFound);
    assert!(service.dead().await.is_empty());
    service.end().await;
}

#[tokio::test]
async fn a_status_that_is_retried_says_what_is_true_now() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut service = Service::start(dir.path(), quick()).await;
    let offline = v1::OfflineCondition::default();
    let rule = v1::AlertRule {
        name: "Away".into(),
        condition: Some(v1::alert_rule::Condition::Offline(offline)),
        ..v1::AlertRule::default()
    };
    service.create(rule).await.expect("created");
    service.machine(1, "web-1").await;
    // It was offline once, which could not be processed then.
    let kind = EventKind::Status { status: MachineStatus::Offline, since: now() };
    let event = Arc::new(Event { machine: machine(1), kind });
    let failed = storage::events::Unprocessed::Event(event, "failed".to_owned());
    service.stores.events.set_aside(&failed).await.expect("set aside");
    let dead = service.dead_after("").await;
    service.retry(&dead.id).await.expect("retried");
    // What comes after it is processed after it.
    service.machine(2, "web-2").await;
    service.status(2, MachineStatus::Offline).await;
    let firing = async |service: &mut Service| {
        let active = service.active().await;
        active.iter().any(|alert| alert.phase() == v1::AlertPhase::Firing).then_some(active)
    };
    let active = loop {
        if let Some(active) = firing(&mut service).await {
            break active;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    // The default rule watches too.
    let away = machine(2).to_string();
    assert!(active.iter().all(|alert| alert.machine_id == away), "{active:?}");
    service.end().await;
}
