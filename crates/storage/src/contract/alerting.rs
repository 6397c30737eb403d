//! The contract of [`Alerting`](crate::Alerting). Every function takes a closure that opens an empty store.

use std::sync::Arc;

use model::{Labels, MachineId, TimeRange, UnixMillis};

use crate::alerting::{
    AlertChanges, AlertState, Alerting, Audit, Incident, IncidentFilter, Notice, Saved, Setting,
    SettingKind,
};

/// Runs the whole suite: `alerting_contract!(async || -> Arc<dyn Alerting> { … })`.
#[macro_export]
macro_rules! alerting_contract {
    ($($open:tt)+) => {
        $crate::contract_tests!(alerting, { $($open)+ },
            settings_change_only_from_the_revision_in_force
            of_many_who_change_a_setting_at_once_one_succeeds
            of_many_who_take_a_name_at_once_one_succeeds
            every_change_is_in_the_audit_and_nothing_else
            a_channel_takes_its_notices_with_it
            changes_take_effect_as_a_whole
            many_changes_are_recorded_together
            every_text_comes_back_as_it_was
            incidents_are_found_by_what_they_are
            notices_are_told_once_or_buried
            of_each_channel_the_latest_thousand_dead_notices_are_kept
            what_is_old_is_pruned
        );
    };
}

fn rule(id: &str, revision: u64, name: &str) -> Setting {
    Setting {
        kind: SettingKind::Rule,
        id: id.into(),
        revision,
        name: name.into(),
        origin: "rpc".into(),
        document: format!("{{\"revision\":{revision}}}"),
        updated: UnixMillis(revision as i64),
        updated_by: "ann".into(),
    }
}

fn audit(subject: &str, time: i64) -> Audit {
    Audit {
        time: UnixMillis(time),
        actor: "ann".into(),
        action: "update".into(),
        kind: SettingKind::Rule,
        subject: subject.into(),
        before: "{}".into(),
        after: "{\"a\":1}".into(),
    }
}

fn incident(id: &str, started: i64) -> Incident {
    Incident {
        id: id.into(),
        alert: "a".into(),
        rule: "r".into(),
        rule_name: "cpu".into(),
        machine: MachineId::from_u128(7).expect("not zero"),
        host_name: "web".into(),
        metric: "m".into(),
        labels: Labels::of([("device", "sda")]),
        level: "warning".into(),
        started: UnixMillis(started),
        resolved: None,
        peak: Some(0.9),
        summary: "web is \"busy\"".into(),
        cause: String::new(),
        acknowledged: None,
        acknowledged_by: String::new(),
        comment: String::new(),
    }
}

fn notice(channel: &str, incident: &str) -> Notice {
    Notice {
        channel: channel.into(),
        grouping: "g".into(),
        incident: incident.into(),
        kind: "firing".into(),
        document: "{}".into(),
        created: UnixMillis(1),
        due: UnixMillis(2),
    }
}

fn changes() -> AlertChanges {
    AlertChanges::default()
}

async fn save(store: &Arc<dyn Alerting>, setting: Setting) -> Saved {
    let audit = audit(&setting.id, setting.revision as i64);
    store.save(setting, audit).await.expect("answers")
}

pub async fn settings_change_only_from_the_revision_in_force(
    open: impl AsyncFn() -> Arc<dyn Alerting>,
) {
    let store = open().await;
    let save = async |setting| save(&store, setting).await;
    assert_eq!(save(rule("a", 1, "one")).await, Saved::Done);
    assert_eq!(save(rule("a", 1, "one")).await, Saved::Conflict { current: Some(1) });
    assert_eq!(save(rule("b", 2, "two")).await, Saved::Conflict { current: None });
    assert_eq!(save(rule("b", 1, "one")).await, Saved::NameTaken);
    assert_eq!(save(rule("b", 1, "two")).await, Saved::Done);
    assert_eq!(save(rule("a", 2, "uno")).await, Saved::Done);
    assert_eq!(save(rule("a", 3, "two")).await, Saved::NameTaken);
    assert_eq!(
        store.settings(SettingKind::Rule).await.expect("read"),
        [rule("b", 1, "two"), rule("a", 2, "uno")]
    );
    assert!(store.settings(SettingKind::Channel).await.expect("read").is_empty());
    let remove = async |revision| {
        store.remove(SettingKind::Rule, "b", revision, audit("b", 9)).await.expect("answers")
    };
    assert_eq!(remove(2).await, Saved::Conflict { current: Some(1) });
    assert_eq!(remove(1).await, Saved::Done);
    assert_eq!(remove(1).await, Saved::Conflict { current: None });
    assert_eq!(store.settings(SettingKind::Rule).await.expect("read"), [rule("a", 2, "uno")]);
}

/// Twenty at once, each with an answer.
async fn at_once(
    store: &Arc<dyn Alerting>,
    setting: impl Fn(usize) -> Setting,
) -> Vec<(usize, Saved)> {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let (store, setting) = (store.clone(), setting(n));
        tasks.spawn(async move { (n, save(&store, setting).await) });
    }
    tasks.join_all().await
}

pub async fn of_many_who_change_a_setting_at_once_one_succeeds(
    open: impl AsyncFn() -> Arc<dyn Alerting>,
) {
    let store = open().await;
    for revision in 1..=3 {
        let by = |n| Setting { updated_by: format!("{n}"), ..rule("a", revision, "one") };
        let answers = at_once(&store, by).await;
        let done: Vec<_> = answers.iter().filter(|(_, saved)| *saved == Saved::Done).collect();
        assert_eq!(done.len(), 1, "{answers:?}");
        let lost = Saved::Conflict { current: Some(revision) };
        assert!(answers.iter().all(|(_, s)| *s == lost || *s == Saved::Done), "{answers:?}");
        let kept = store.settings(SettingKind::Rule).await.expect("read");
        assert_eq!(kept, [by(done[0].0)]);
    }
    let audits = store.audits(SettingKind::Rule, None, 100).await.expect("read");
    assert_eq!(audits.len(), 3, "what failed is not in the audit");
}

pub async fn of_many_who_take_a_name_at_once_one_succeeds(
    open: impl AsyncFn() -> Arc<dyn Alerting>,
) {
    let store = open().await;
    let answers = at_once(&store, |n| rule(&n.to_string(), 1, "one")).await;
    let done = answers.iter().filter(|(_, saved)| *saved == Saved::Done).count();
    let taken = answers.iter().filter(|(_, saved)| *saved == Saved::NameTaken).count();
    assert_eq!((done, taken), (1, 19), "{answers:?}");
}

pub async fn every_change_is_in_the_audit_and_nothing_else(
    open: impl AsyncFn() -> Arc<dyn Alerting>,
) {
    let store = open().await;
    for setting in [rule("a", 1, "one"), rule("b", 1, "two"), rule("b", 1, "no"), rule("a", 2, "x")]
    {
        save(&store, setting).await;
    }
    let channel = Setting { kind: SettingKind::Channel, ..rule("c", 1, "three") };
    let of_channel = Audit { kind: SettingKind::Channel, ..audit("c", 5) };
    store.save(channel, of_channel.clone()).await.expect("saved");
    for revision in [7, 1] {
        store.remove(SettingKind::Rule, "b", revision, audit("b", 9)).await.expect("answers");
    }
    let audits = store.audits(SettingKind::Rule, None, 10).await.expect("read");
    let seen: Vec<_> = audits.iter().map(|a| (a.subject.as_str(), a.time.0)).collect();
    assert_eq!(seen, [("b", 9), ("a", 2), ("b", 1), ("a", 1)], "what failed is not in the audit");
    assert_eq!(store.audits(SettingKind::Rule, Some("a"), 1).await.expect("read"), [audit("a", 2)]);
    let of_channels = store.audits(SettingKind::Channel, None, 10).await.expect("read");
    assert_eq!(of_channels, [of_channel]);
}

pub async fn a_channel_takes_its_notices_with_it(open: impl AsyncFn() -> Arc<dyn Alerting>) {
    let store = open().await;
    let channel = Setting { kind: SettingKind::Channel, ..rule("hook", 1, "hook") };
    save(&store, channel).await;
    let notices = vec![notice("hook", "1"), notice("hook", "2"), notice("mail", "1")];
    store.record(AlertChanges { notices, ..changes() }).await.expect("recorded");
    let first = store.queued("hook", 1).await.expect("read")[0].id;
    store.bury(&[first], "refused", UnixMillis(50)).await.expect("buried");
    let removed = store.remove(SettingKind::Channel, "hook", 1, audit("hook", 9)).await;
    assert_eq!(removed.expect("answers"), Saved::Done);
    assert_eq!(store.queue_len("hook").await.expect("read"), 0);
    assert_eq!(store.queue_len("mail").await.expect("read"), 1);
    assert!(store.dead(10).await.expect("read").is_empty());
}

fn state(id: &str, document: &str) -> AlertState {
    AlertState { id: id.into(), document: document.into() }
}

pub async fn changes_take_effect_as_a_whole(open: impl AsyncFn() -> Arc<dyn Alerting>) {
    let store = open().await;
    let record = async |states: Vec<AlertState>, gone: Vec<String>| {
        store.record(AlertChanges { states, gone, ..changes() }).await.expect("recorded");
    };
    record(vec![state("x", "1"), state("y", "1")], vec![]).await;
    record(vec![state("x", "2")], vec!["y".into()]).await;
    assert_eq!(store.states().await.expect("read"), [state("x", "2")]);
    record(vec![], vec![]).await;
    assert_eq!(store.states().await.expect("read"), [state("x", "2")]);
}

pub async fn many_changes_are_recorded_together(open: impl AsyncFn() -> Arc<dyn Alerting>) {
    let store = open().await;
    let ids: Vec<String> = (0..1000).map(|n| format!("{n:04}")).collect();
    let states = ids.iter().map(|id| state(id, "{}")).collect();
    let incidents = ids.iter().map(|id| incident(id, 100)).collect();
    let notices = ids.iter().map(|id| notice("hook", id)).collect();
    let all = AlertChanges { states, incidents, notices, ..changes() };
    store.record(all).await.expect("recorded");
    assert_eq!(store.states().await.expect("read").len(), 1000);
    let found = store.incidents(&IncidentFilter::default(), 2000).await.expect("read");
    assert_eq!(found.len(), 1000);
    let queued = store.queued("hook", 2000).await.expect("read");
    let order: Vec<&str> = queued.iter().map(|q| q.notice.incident.as_str()).collect();
    assert_eq!(order, ids, "in the order in which they were recorded");
    let told: Vec<i64> = queued.iter().map(|q| q.id).take(999).collect();
    store.told(&told).await.expect("told");
    assert_eq!(store.queue_len("hook").await.expect("read"), 1);
}

pub async fn every_text_comes_back_as_it_was(open: impl AsyncFn() -> Arc<dyn Alerting>) {
    const ODD: &str = "\0 \u{f8ff} \" \\ é ' ${x}";
    let store = open().await;
    let odd = || ODD.to_owned();
    let setting =
        Setting { document: odd(), origin: odd(), updated_by: odd(), ..rule(ODD, 1, ODD) };
    let told = Audit { actor: odd(), before: odd(), after: odd(), ..audit(ODD, 1) };
    store.save(setting.clone(), told.clone()).await.expect("saved");
    assert_eq!(store.settings(SettingKind::Rule).await.expect("read"), [setting]);
    assert_eq!(store.audits(SettingKind::Rule, Some(ODD), 1).await.expect("read"), [told]);
    let fired = Incident {
        rule: odd(),
        summary: odd(),
        host_name: odd(),
        comment: odd(),
        acknowledged_by: odd(),
        labels: Labels::of([("device", ODD)]),
        ..incident("odd", 1)
    };
    let queued = Notice { grouping: odd(), document: odd(), ..notice(ODD, ODD) };
    let all = AlertChanges {
        states: vec![state("x", ODD)],
        incidents: vec![fired.clone()],
        notices: vec![queued.clone()],
        ..changes()
    };
    store.record(all).await.expect("recorded");
    assert_eq!(store.states().await.expect("read"), [state("x", ODD)]);
    let filter = IncidentFilter { rule: Some(odd()), ..IncidentFilter::default() };
    assert_eq!(store.incidents(&filter, 1).await.expect("read"), [fired]);
    let found = store.queued(ODD, 1).await.expect("read").remove(0);
    assert_eq!(found.notice, queued);
    store.bury(&[found.id], ODD, UnixMillis(1)).await.expect("buried");
    let dead = store.dead(1).await.expect("read").remove(0);
    assert_eq!((dead.reason.as_str(), dead.notice.document.as_str()), (ODD, ODD));
}

pub async fn incidents_are_found_by_what_they_are(open: impl AsyncFn() -> Arc<dyn Alerting>) {
    let store = open().await;
    let mut over = incident("over", 100);
    over.resolved = Some(UnixMillis(200));
    over.peak = None;
    over.acknowledged = Some(UnixMillis(150));
    let incidents = vec![incident("over", 100), over.clone(), incident("open", 300)];
    store.record(AlertChanges { incidents, ..changes() }).await.expect("recorded");
    let find = async |filter: IncidentFilter| store.incidents(&filter, 10).await.expect("read");
    let all = find(IncidentFilter::default()).await;
    assert_eq!(all, [incident("open", 300), over.clone()], "newest first, each once");
    let open = find(IncidentFilter { open_only: true, ..Default::default() }).await;
    assert_eq!(open, [incident("open", 300)]);
    let started = Some(TimeRange::new(UnixMillis(100), UnixMillis(300)));
    assert_eq!(find(IncidentFilter { started, ..Default::default() }).await, [over]);
    let rule = Some("other".to_owned());
    assert!(find(IncidentFilter { rule, ..Default::default() }).await.is_empty());
    let machine = MachineId::from_u128(8);
    assert!(find(IncidentFilter { machine, ..Default::default() }).await.is_empty());
}

pub async fn notices_are_told_once_or_buried(open: impl AsyncFn() -> Arc<dyn Alerting>) {
    let store = open().await;
    let notices = vec![notice("hook", "1"), notice("mail", "1"), notice("hook", "2")];
    store.record(AlertChanges { notices, ..changes() }).await.expect("recorded");
    let queued = store.queued("hook", 10).await.expect("read");
    assert_eq!(queued.iter().map(|q| q.notice.incident.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(queued[0].notice, notice("hook", "1"));
    assert_eq!(store.queue_len("hook").await.expect("read"), 2);
    store.told(&[queued[0].id]).await.expect("told");
    store.bury(&[queued[1].id], "refused", UnixMillis(50)).await.expect("buried");
    assert_eq!(store.queue_len("hook").await.expect("read"), 0);
    assert_eq!(store.queue_len("mail").await.expect("read"), 1);
    let dead = store.dead(10).await.expect("read");
    assert_eq!((dead.len(), dead[0].reason.as_str()), (1, "refused"));
    assert!(store.revive(dead[0].id, UnixMillis(60)).await.expect("revived"));
    assert!(!store.revive(dead[0].id, UnixMillis(60)).await.expect("not there"));
    let again = store.queued("hook", 10).await.expect("read");
    assert_eq!((again.len(), again[0].notice.due), (1, UnixMillis(60)));
    assert!(again[0].id > queued[1].id, "numbers only grow");
}

pub async fn of_each_channel_the_latest_thousand_dead_notices_are_kept(
    open: impl AsyncFn() -> Arc<dyn Alerting>,
) {
    let store = open().await;
    let mut notices: Vec<Notice> = (0..1005).map(|n| notice("hook", &n.to_string())).collect();
    notices.push(notice("mail", "1"));
    store.record(AlertChanges { notices, ..changes() }).await.expect("recorded");
    let ids = async |channel| -> Vec<i64> {
        store.queued(channel, 2000).await.expect("read").iter().map(|q| q.id).collect()
    };
    store.bury(&ids("mail").await, "refused", UnixMillis(1)).await.expect("buried");
    store.bury(&ids("hook").await, "refused", UnixMillis(2)).await.expect("buried");
    let dead = store.dead(2000).await.expect("read");
    assert_eq!(dead.len(), 1001);
    assert_eq!(dead[0].notice.incident, "1004", "newest first");
    assert_eq!(dead[999].notice.incident, "5", "the oldest went");
    assert_eq!(dead[1000].notice.channel, "mail", "of another channel nothing went");
    assert_eq!(store.dead(3).await.expect("read"), dead[..3]);
}

pub async fn what_is_old_is_pruned(open: impl AsyncFn() -> Arc<dyn Alerting>) {
    let store = open().await;
    for revision in [1, 2, 3] {
        save(&store, rule("a", revision, "one")).await;
    }
    let ended = |id: &str, started, resolved| Incident {
        resolved: Some(UnixMillis(resolved)),
        ..incident(id, started)
    };
    let incidents = vec![
        incident("open", 1),
        ended("long ago", 1, 2),
        ended("until now", 1, 3),
        ended("lately", 4, 5),
    ];
    let notices = vec![notice("hook", "1"), notice("hook", "2")];
    store.record(AlertChanges { incidents, notices, ..changes() }).await.expect("recorded");
    for (queued, died) in store.queued("hook", 2).await.expect("read").iter().zip([2, 3]) {
        store.bury(&[queued.id], "refused", UnixMillis(died)).await.expect("buried");
    }
    store.prune(UnixMillis(3)).await.expect("pruned");
    let audits = store.audits(SettingKind::Rule, None, 10).await.expect("read");
    assert_eq!(audits, [audit("a", 3)]);
    let left = store.incidents(&IncidentFilter::default(), 10).await.expect("read");
    let left: Vec<&str> = left.iter().map(|incident| incident.id.as_str()).collect();
    assert_eq!(left, ["lately", "open", "until now"], "what goes on is never pruned");
    let dead = store.dead(10).await.expect("read");
    assert_eq!(dead.iter().map(|d| d.died.0).collect::<Vec<_>>(), [3]);
    assert_eq!(store.settings(SettingKind::Rule).await.expect("read"), [rule("a", 3, "one")]);
}
