//! Several services on one database.

use std::collections::{BTreeMap, BTreeSet};

use model::MachineId;

use super::*;
use crate::alerting::Errand;
use crate::testing;

async fn open() -> Option<TimescaleAlerting> {
    Some(TimescaleAlerting::new(testing::timescale().await?))
}

async fn attend(store: &TimescaleAlerting, service: &str) -> Attendance {
    store.attend(service, &BTreeMap::new()).await.expect("answers")
}

/// As if the service had not been heard of for longer than the lease.
async fn go_silent(store: &TimescaleAlerting, service: &str) {
    let mut tx = store.timescale.write().await.expect("begins");
    for statement in [
        "update alert_lease set until = 'epoch' where owner = $1",
        "update alert_service set seen = 'epoch' where id = $1",
    ] {
        sqlx::query(statement).bind(service).execute(&mut *tx).await.expect("updated");
    }
    tx.commit().await.expect("committed");
}

fn batch(claim: Claim, number: i64, state: &str) -> Batch {
    let states = vec![AlertState { id: state.into(), document: "{}".into() }];
    Batch { claim, number, changes: AlertChanges { states, ..AlertChanges::default() } }
}

async fn states(store: &TimescaleAlerting) -> BTreeSet<String> {
    store.states().await.expect("read").into_iter().map(|state| state.id).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn shards_are_divided_evenly_and_move_when_services_come_and_go() {
    let Some(store) = open().await else { return };
    let alone = attend(&store, "a").await;
    assert_eq!((alone.claims.len(), alone.surplus), (64, 0));
    assert_eq!(attend(&store, "b").await.claims, [], "nobody takes what another holds");
    let both = attend(&store, "a").await;
    assert_eq!((both.claims.len(), both.surplus), (64, 32));
    store.release(&both.claims[32..]).await.expect("released");
    let theirs = attend(&store, "b").await;
    assert_eq!((theirs.claims.len(), theirs.surplus), (32, 0));
    let ours = attend(&store, "a").await;
    assert_eq!((ours.claims, ours.surplus), (both.claims[..32].to_vec(), 0), "the same as before");
    for (before, after) in both.claims[32..].iter().zip(&theirs.claims) {
        assert!(before.shard == after.shard && before.fence < after.fence, "{before:?} {after:?}");
    }
    // Released again by somebody who does not hold it any more: it stays.
    store.release(&both.claims[32..]).await.expect("answers");
    assert_eq!(attend(&store, "b").await.claims, theirs.claims);
    store.leave("b").await.expect("left");
    assert_eq!(attend(&store, "a").await.claims.len(), 64);
}

#[tokio::test]
async fn what_a_silent_service_held_goes_to_the_others_and_is_its_own_when_nobody_took_it() {
    let Some(store) = open().await else { return };
    let before = attend(&store, "a").await.claims;
    go_silent(&store, "a").await;
    assert_eq!(attend(&store, "a").await.claims, before, "late, but nobody else was there");
    go_silent(&store, "a").await;
    let taken = attend(&store, "b").await;
    assert_eq!(taken.claims.len(), 64);
    let back = attend(&store, "a").await;
    assert_eq!((back.claims, back.surplus), (Vec::new(), 0));
}

#[tokio::test]
async fn no_shard_has_two_owners_however_many_come_at_once() {
    let Some(store) = open().await else { return };
    for _ in 0..3 {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..8 {
            let store = store.clone();
            tasks.spawn(async move { attend(&store, &format!("s{n}")).await });
        }
        let mut seen = BTreeMap::new();
        for attendance in tasks.join_all().await {
            for claim in attendance.claims {
                let earlier = seen.insert(claim.shard, claim.fence);
                // What was seen twice was given on in between.
                assert!(earlier.is_none_or(|fence| fence != claim.fence), "{claim:?}");
            }
        }
        for n in 0..8 {
            let attendance = attend(&store, &format!("s{n}")).await;
            let over = attendance.claims.len() - attendance.surplus;
            store.release(&attendance.claims[over..]).await.expect("released");
        }
    }
    let mut all = BTreeSet::new();
    let mut count = 0;
    for n in 0..8 {
        let claims = attend(&store, &format!("s{n}")).await.claims;
        assert!(claims.len() <= 8, "{}", claims.len());
        count += claims.len();
        all.extend(claims.iter().map(|claim| claim.shard));
    }
    assert_eq!((count, all.len()), (64, 64));
}

#[tokio::test]
async fn what_is_recorded_under_a_lost_claim_is_refused_and_the_rest_is_kept() {
    let Some(store) = open().await else { return };
    let claims = attend(&store, "a").await.claims;
    store.release(&claims[..1]).await.expect("released");
    let batches = vec![batch(claims[0], 1, "late"), batch(claims[1], 1, "good")];
    assert_eq!(store.record_under(batches).await.expect("answers"), [claims[0]]);
    assert_eq!(states(&store).await, set(&["good"]));
    go_silent(&store, "a").await;
    let taken = attend(&store, "b").await.claims;
    let late = store.record_under(vec![batch(claims[1], 2, "late")]).await.expect("answers");
    assert_eq!(late, [claims[1]]);
    let kept = store.record_under(vec![batch(taken[1], 1, "next")]).await.expect("answers");
    assert_eq!(kept, []);
    assert_eq!(states(&store).await, set(&["good", "next"]));
}

#[tokio::test]
async fn a_batch_that_comes_twice_takes_effect_once() {
    let Some(store) = open().await else { return };
    let claims = attend(&store, "a").await.claims;
    let told = |number, incident: &str| {
        let notice = Notice {
            channel: "hook".into(),
            grouping: "g".into(),
            incident: incident.into(),
            kind: "firing".into(),
            document: "{}".into(),
            created: UnixMillis(1),
            due: UnixMillis(2),
        };
        let changes = AlertChanges { notices: vec![notice], ..AlertChanges::default() };
        vec![Batch { claim: claims[0], number, changes }]
    };
    for batches in [told(1, "1"), told(1, "1"), told(2, "2"), told(1, "1"), told(2, "2")] {
        assert_eq!(store.record_under(batches).await.expect("answers"), []);
    }
    let queued = store.queued("hook", 10).await.expect("read");
    assert_eq!(queued.iter().map(|q| &*q.notice.incident).collect::<Vec<_>>(), ["1", "2"]);
    let ids: Vec<i64> = queued.iter().map(|q| q.id).collect();
    store.told(&ids).await.expect("told");
    store.record_under(told(2, "2")).await.expect("answers");
    assert_eq!(store.queue_len("hook").await.expect("read"), 0, "also when it was told meanwhile");
}

#[tokio::test]
async fn a_channel_is_served_by_one_and_the_others_hear_how_it_does() {
    let Some(store) = open().await else { return };
    let attend = async |service: &str, note: &str| {
        let channels = ["hook", "mail", "chat"].map(|id| (id.to_owned(), note.to_owned()));
        let attendance = store.attend(service, &channels.into()).await.expect("answers");
        let mine = attendance.channels.iter().filter(|(_, serving)| serving.mine);
        let mine: BTreeSet<String> = mine.map(|(id, _)| id.clone()).collect();
        (mine, attendance.channels)
    };
    let (first, _) = attend("a", "").await;
    assert_eq!(first, set(&["hook", "mail", "chat"]));
    let (second, _) = attend("b", "not mine to say").await;
    assert_eq!(second, set(&[]));
    assert_eq!(attend("a", "fine").await.0, first, "channels stay where they are");
    let (_, seen) = attend("b", "").await;
    assert!(seen.values().all(|serving| serving.note == "fine"), "{seen:?}");
    go_silent(&store, "a").await;
    let (second, seen) = attend("b", "").await;
    assert_eq!(second, first);
    assert!(seen.values().all(|serving| serving.note == "fine"), "{seen:?}");
    assert_eq!(attend("a", "").await.0, set(&[]));
}

#[tokio::test]
async fn an_errand_is_heard_by_whoever_watches_until_it_was_done() {
    let Some(store) = open().await else { return };
    let claims = attend(&store, "a").await.claims;
    store.release(&claims[32..]).await.expect("released");
    attend(&store, "b").await;
    let id = store.ask(claims[0].shard, "{\"n\":1}").await.expect("asked");
    assert_eq!(attend(&store, "b").await.errands, []);
    let errand = Errand { id, shard: claims[0].shard, document: "{\"n\":1}".into() };
    for _ in 0..2 {
        assert_eq!(attend(&store, "a").await.errands, std::slice::from_ref(&errand));
        assert!(store.is_asked(id).await.expect("read"));
    }
    let changes = AlertChanges { done: vec![id], ..AlertChanges::default() };
    let done = vec![Batch { claim: claims[0], number: 1, changes }];
    assert_eq!(store.record_under(done).await.expect("recorded"), []);
    assert!(!store.is_asked(id).await.expect("read"));
    assert_eq!(attend(&store, "a").await.errands, []);
}

#[tokio::test]
async fn every_change_of_a_setting_is_seen_by_its_edition() {
    let Some(store) = open().await else { return };
    let mut last = attend(&store, "a").await.edition;
    let mut grew = async || {
        let edition = attend(&store, "b").await.edition;
        edition > std::mem::replace(&mut last, edition)
    };
    let setting = Setting {
        kind: SettingKind::Rule,
        id: "a".into(),
        revision: 1,
        name: "one".into(),
        origin: "rpc".into(),
        document: "{}".into(),
        updated: UnixMillis(1),
        updated_by: "ann".into(),
    };
    let audit = Audit {
        time: UnixMillis(1),
        actor: "ann".into(),
        action: "create".into(),
        kind: SettingKind::Rule,
        subject: "a".into(),
        before: String::new(),
        after: "{}".into(),
    };
    assert!(!grew().await);
    store.save(setting, audit.clone()).await.expect("saved");
    assert!(grew().await);
    store.remove(SettingKind::Rule, "a", 1, audit).await.expect("removed");
    assert!(grew().await && !grew().await);
}

#[test]
fn machines_are_spread_over_all_shards() {
    let machine = |n: u128| MachineId::from_u128(n).expect("not zero");
    let shards: BTreeSet<Shard> = (1..=64).map(|n| Shard::of(machine(n), 64)).collect();
    assert_eq!(shards.len(), 64);
    assert_eq!(Shard::of(machine(u128::MAX), 1), Shard(0));
}
