//! What every adapter of the alert service's memory must do.

use super::*;

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

pub(super) async fn check(store: &dyn Alerting) {
    settings_change_only_from_the_revision_in_force(store).await;
    changes_take_effect_as_a_whole(store).await;
    incidents_are_found_by_what_they_are(store).await;
    notices_are_told_once_or_buried(store).await;
    what_is_old_is_pruned(store).await;
}

async fn settings_change_only_from_the_revision_in_force(store: &dyn Alerting) {
    let save = async |setting: Setting| {
        let audit = audit(&setting.id, setting.revision as i64);
        store.save(setting, audit).await.expect("saved")
    };
    assert_eq!(save(rule("a", 1, "one")).await, Saved::Done);
    assert_eq!(save(rule("a", 1, "one")).await, Saved::Conflict { current: Some(1) });
    assert_eq!(save(rule("b", 2, "two")).await, Saved::Conflict { current: None });
    assert_eq!(save(rule("b", 1, "one")).await, Saved::NameTaken);
    assert_eq!(save(rule("b", 1, "two")).await, Saved::Done);
    assert_eq!(save(rule("a", 2, "uno")).await, Saved::Done);
    assert_eq!(
        store.settings(SettingKind::Rule).await.expect("read"),
        [rule("b", 1, "two"), rule("a", 2, "uno")]
    );
    assert!(store.settings(SettingKind::Channel).await.expect("read").is_empty());
    let remove = async |revision| {
        store.remove(SettingKind::Rule, "b", revision, audit("b", 9)).await.expect("removed")
    };
    assert_eq!(remove(2).await, Saved::Conflict { current: Some(1) });
    assert_eq!(remove(1).await, Saved::Done);
    assert_eq!(remove(1).await, Saved::Conflict { current: None });
    let audits = store.audits(SettingKind::Rule, None, 10).await.expect("read");
    let seen: Vec<_> = audits.iter().map(|a| (a.subject.as_str(), a.time.0)).collect();
    assert_eq!(seen, [("b", 9), ("a", 2), ("b", 1), ("a", 1)], "what failed is not in the audit");
    assert_eq!(store.audits(SettingKind::Rule, Some("a"), 1).await.expect("read"), [audit("a", 2)]);
}

async fn changes_take_effect_as_a_whole(store: &dyn Alerting) {
    let state = |id: &str, document: &str| AlertState { id: id.into(), document: document.into() };
    let record = async |states: Vec<AlertState>, gone: Vec<String>| {
        store.record(AlertChanges { states, gone, ..Default::default() }).await.expect("recorded");
    };
    record(vec![state("x", "1"), state("y", "1")], vec![]).await;
    record(vec![state("x", "2")], vec!["y".into()]).await;
    assert_eq!(store.states().await.expect("read"), [state("x", "2")]);
}

async fn incidents_are_found_by_what_they_are(store: &dyn Alerting) {
    let mut over = incident("over", 100);
    over.resolved = Some(UnixMillis(200));
    over.peak = None;
    over.acknowledged = Some(UnixMillis(150));
    let incidents = vec![incident("over", 100), over.clone(), incident("open", 300)];
    store.record(AlertChanges { incidents, ..Default::default() }).await.expect("recorded");
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

async fn notices_are_told_once_or_buried(store: &dyn Alerting) {
    let notices = vec![notice("hook", "1"), notice("mail", "1"), notice("hook", "2")];
    store.record(AlertChanges { notices, ..Default::default() }).await.expect("recorded");
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

async fn what_is_old_is_pruned(store: &dyn Alerting) {
    store.prune(UnixMillis(5)).await.expect("pruned");
    let audits = store.audits(SettingKind::Rule, None, 10).await.expect("read");
    assert_eq!(audits.len(), 1, "only the one at 9 is newer than 5");
    store.prune(UnixMillis(1000)).await.expect("pruned");
    let left = store.incidents(&IncidentFilter::default(), 10).await.expect("read");
    assert_eq!(left, [incident("open", 300)], "what goes on is never pruned");
}

pub(super) async fn check_after_reopening(store: &dyn Alerting) {
    assert_eq!(store.settings(SettingKind::Rule).await.expect("read"), [rule("a", 2, "uno")]);
    assert_eq!(store.states().await.expect("read").len(), 1);
    assert_eq!(store.queue_len("hook").await.expect("read"), 1);
}
