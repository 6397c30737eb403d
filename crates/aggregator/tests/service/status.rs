//! What a machine is said to be, seen from outside. The rules are tested where they stand.

use std::time::Duration;

use aggregator::{Config, StatusConfig};
use daemon::config::Span;
use model::MachineStatus;
use proto::v1;
use proto::v1::MachineStatus::{Asleep, Offline, Online, Stale, Stopped};
use proto::v1::collector_message::Kind as Message;
use proto::v1::goodbye::Reason;

use crate::cluster::{Cluster, eventually, machine_id, now};
use crate::collector::layout;

#[tokio::test]
async fn frames_of_the_present_bring_a_machine_online_and_the_backlog_does_not() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    for i in 0..50 {
        web.frame_at(&layout(), now() - 3_600_000 + i * 1000, &[0.1, 0.0, 0.0]).await;
    }
    web.acknowledged(50).await;
    let machine = cluster.becomes("web-1", Stale).await;
    assert_eq!(machine.headline, None);
    web.frame(&layout(), &[0.7, 0.3, 0.0]).await;
    let machine = cluster.becomes("web-1", Online).await;
    assert_eq!(machine.headline.unwrap().cpu_utilization, Some(0.7));
    assert_eq!(machine.labels["env"], "dev");
    assert_eq!(machine.facts.unwrap().logical_cpus, 4);
    cluster.stop().await;
}

#[tokio::test]
async fn a_machine_that_goes_silent_becomes_stale_and_then_offline() {
    let offline_after = Span(Duration::from_secs(6));
    let status = StatusConfig { offline_after, ..StatusConfig::default() };
    let cluster = Cluster::start_with(Config { status, ..Config::default() }).await;
    let mut web = cluster.silent_collector(1, "web-1").await;
    let interval = Some(proto::convert::duration_from_ms(500));
    let hello = v1::Hello { interval, ..web.greeting() };
    web.say(0, Message::Hello(hello)).await;
    web.welcome().await;
    web.layout(&layout()).await;
    web.frame(&layout(), &[0.7, 0.3, 0.0]).await;
    cluster.becomes("web-1", Online).await;
    drop(web);
    cluster.becomes("web-1", Stale).await;
    cluster.becomes("web-1", Offline).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_goodbye_is_remembered_across_a_restart() {
    let cluster = Cluster::start().await;
    for (id, host_name, reason, status) in
        [(1, "web-1", Reason::Stopped, Stopped), (2, "laptop", Reason::Suspend, Asleep)]
    {
        let mut collector = cluster.collector(id, host_name).await;
        collector.layout(&layout()).await;
        collector.frame(&layout(), &[0.7, 0.3, 0.0]).await;
        collector.goodbye(reason).await;
        collector.finish();
        assert!(collector.end().await.is_none());
        cluster.becomes(host_name, status).await;
    }
    let mut db = cluster.collector(3, "db-1").await;
    db.layout(&layout()).await;
    db.frame(&layout(), &[0.7, 0.3, 0.0]).await;
    cluster.becomes("db-1", Online).await;
    let record = cluster.stores.registry.machine(machine_id(1)).await.unwrap().unwrap();
    assert_eq!(record.status, MachineStatus::Stopped);

    let cluster = cluster.restart().await;
    assert_eq!(cluster.machine("web-1").await.status(), Stopped);
    assert_eq!(cluster.machine("laptop").await.status(), Asleep);
    // The server was away, not the machine: nobody is declared offline for that.
    assert_eq!(cluster.machine("db-1").await.status(), Stale);
    cluster.stop().await;
}

#[tokio::test]
async fn a_collector_with_a_wrong_clock_is_online_and_its_skew_is_shown() {
    let cluster = Cluster::start().await;
    for (id, skew_ms) in [(1, 240_000), (2, -3_600_000)] {
        let mut web = cluster.silent_collector(id, &format!("web-{id}")).await;
        let hello = v1::Hello { time_unix_ms: now().0 + skew_ms, ..web.greeting() };
        web.say(0, Message::Hello(hello)).await;
        web.welcome().await;
        web.layout(&layout()).await;
        web.frame_at(&layout(), now() + skew_ms, &[0.7, 0.3, 0.0]).await;
        let host_name = format!("web-{id}");
        cluster.becomes(&host_name, Online).await;
        let skew =
            eventually("the skew", || async { cluster.machine(&host_name).await.clock_skew });
        let skew = skew.await.seconds;
        assert!((skew - skew_ms / 1000).abs() <= 2, "{skew} s");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_hide_the_machine() {
    let cluster = Cluster::start().await;
    let mut web = cluster.silent_collector(1, "web-1").await;
    let hello = v1::Hello { time_unix_ms: now().0 + 500_000, ..web.greeting() };
    web.say(0, Message::Hello(hello)).await;
    web.welcome().await;
    web.layout(&layout()).await;
    web.frame_at(&layout(), now() + 500_000, &[0.1, 0.0, 0.0]).await;
    cluster.becomes("web-1", Online).await;
    let step = v1::MachineEvent {
        time_unix_ms: now().0,
        r#type: v1::machine_event::Type::ClockStep.into(),
        ..Default::default()
    };
    web.item(Message::MachineEvent(step)).await;
    let seq = web.frame(&layout(), &[0.2, 0.0, 0.0]).await;
    web.acknowledged(seq).await;
    let request = v1::GetCurrentStateRequest { machine: "web-1".into(), ..Default::default() };
    let state = cluster.state().await.get_current_state(request).await.unwrap().into_inner();
    assert_eq!(state.samples[0].value, 0.2);
    eventually("the skew", || async {
        let skew = cluster.machine("web-1").await.clock_skew?;
        (skew.seconds.abs() <= 1).then_some(())
    })
    .await;
    // The stream is still the one that speaks for the machine.
    let seq = web.frame(&layout(), &[0.3, 0.0, 0.0]).await;
    web.acknowledged(seq).await;
    cluster.stop().await;
}

#[tokio::test]
async fn the_present_does_not_wait_for_the_register_of_machines() {
    let cluster = Cluster::start().await;
    let known = async |id| cluster.stores.registry.machine(machine_id(id)).await.unwrap();
    for (id, away) in [(1, true), (2, false)] {
        match away {
            true => cluster.registry_gate.away(),
            false => cluster.registry_gate.shut(),
        }
        let host_name = format!("web-{id}");
        let mut web = cluster.collector(id, &host_name).await;
        web.layout(&layout()).await;
        web.frame(&layout(), &[0.7, 0.3, 0.0]).await;
        cluster.becomes(&host_name, Online).await;
        assert_eq!(known(id).await, None);
        cluster.registry_gate.reopen();
        eventually("the machine in the register", || async {
            known(id).await.filter(|record| record.status == MachineStatus::Online)
        })
        .await;
    }
    cluster.stop().await;
}
