//! Machines that are removed, and those that come back.

use model::UnixMillis;
use proto::v1;
use proto::v1::MachineStatus::{Online, Stopped};
use proto::v1::goodbye::Reason;
use tonic::{Code, Status};

use crate::cluster::{Cluster, eventually, machine_id};
use crate::collector::layout;

async fn remove(cluster: &Cluster, machine: &str) -> Result<v1::RemoveMachineResponse, Status> {
    let request = v1::RemoveMachineRequest { machine: machine.into() };
    Ok(cluster.state().await.remove_machine(request).await?.into_inner())
}

/// A machine that reported and was stopped.
async fn stopped(cluster: &Cluster, id: u128, host_name: &str) {
    let mut collector = cluster.collector(id, host_name).await;
    collector.layout(&layout()).await;
    let seq = collector.frame(&layout(), &[0.7, 0.3, 0.0]).await;
    collector.acknowledged(seq).await;
    cluster.becomes(host_name, Online).await;
    collector.goodbye(Reason::Stopped).await;
    collector.finish();
    assert!(collector.end().await.is_none());
    cluster.becomes(host_name, Stopped).await;
}

/// Values of its CPU that history has.
async fn values(cluster: &Cluster, id: u128) -> usize {
    let now = UnixMillis::from(std::time::SystemTime::now());
    let time = |time| Some(proto::convert::timestamp_to_proto(time));
    let request = v1::QueryRangeRequest {
        metric: "system.cpu.utilization".into(),
        machines: vec![v1::LabelMatcher {
            name: "machine.id".into(),
            value: machine_id(id).to_string(),
            ..Default::default()
        }],
        start: time(now - 60_000),
        end: time(now + 60_000),
        ..Default::default()
    };
    let answer = cluster.state().await.query_range(request).await.unwrap().into_inner();
    answer.series.iter().flat_map(|s| &s.values).filter(|value| !value.is_nan()).count()
}

#[tokio::test]
async fn a_machine_that_was_removed_is_gone_and_comes_back_as_a_new_one() {
    let cluster = Cluster::start().await;
    stopped(&cluster, 1, "web-1").await;
    stopped(&cluster, 2, "web-2").await;
    assert!(values(&cluster, 1).await > 0);
    let mut watch = cluster.state().await.watch(v1::WatchRequest::default()).await.unwrap();
    let first = watch.get_mut().message().await.unwrap().unwrap();
    assert_eq!(first.machines.len(), 2);

    let removed = remove(&cluster, "web-1").await.unwrap();
    assert_eq!(removed.machine_id, machine_id(1).to_string());
    assert_eq!(removed.host_name, "web-1");
    let news = watch.get_mut().message().await.unwrap().unwrap();
    assert_eq!(news.removed_machine_ids, [machine_id(1).to_string()]);
    let again = remove(&cluster, "web-1").await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound, "{again}");
    assert_eq!(values(&cluster, 1).await, 0);
    let (registry, live) = (&cluster.stores.registry, &cluster.stores.live);
    assert_eq!(registry.machine(machine_id(1)).await.unwrap(), None);
    assert_eq!(live.presence(machine_id(1)).await.unwrap(), None);

    // A restart does not bring it back, and it may come back by itself.
    let cluster = cluster.restart().await;
    let known = cluster.state().await.list_machines(v1::ListMachinesRequest::default()).await;
    assert_eq!(known.unwrap().into_inner().machines.len(), 1);
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    let seq = web.frame(&layout(), &[0.7, 0.3, 0.0]).await;
    web.acknowledged(seq).await;
    let back = cluster.becomes("web-1", Online).await;
    let other = cluster.machine("web-2").await;
    let since = |machine: &v1::Machine| {
        let time = machine.first_seen.unwrap();
        (time.seconds, time.nanos)
    };
    assert!(since(&back) > since(&other), "it was seen before web-2 once, and is new now");
    assert!(values(&cluster, 1).await > 0);
    assert_eq!(cluster.machine("web-2").await.status(), Stopped);
    cluster.stop().await;
}

#[tokio::test]
async fn a_machine_that_reports_is_not_removed() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    let seq = web.frame(&layout(), &[0.7, 0.3, 0.0]).await;
    web.acknowledged(seq).await;
    let refused = remove(&cluster, "web-1").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(
        refused.message().contains("web-1") && refused.message().contains("hint: "),
        "{refused}"
    );
    assert!(values(&cluster, 1).await > 0);
    cluster.stop().await;
}

#[tokio::test]
async fn every_aggregator_forgets_a_machine_that_one_of_them_removed() {
    let cluster = Cluster::start().await;
    let other = cluster.beside().await;
    stopped(&cluster, 1, "web-1").await;
    other.becomes("web-1", Stopped).await;
    remove(&other, "web-1").await.unwrap();
    for aggregator in [&cluster, &other] {
        eventually("it is gone", || async {
            let request = v1::GetMachineRequest { machine: "web-1".into() };
            let answer = aggregator.state().await.get_machine(request).await;
            answer.err().filter(|status| status.code() == Code::NotFound)
        })
        .await;
    }
    other.stop().await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_collector_that_comes_while_its_machine_is_removed_keeps_its_stream_and_the_present_goes_on()
 {
    let cluster = Cluster::start().await;
    stopped(&cluster, 1, "web-1").await;
    cluster.registry_gate.shut();
    let mut state = cluster.state().await;
    let removal = tokio::spawn(async move {
        let request = v1::RemoveMachineRequest { machine: "web-1".into() };
        state.remove_machine(request).await
    });
    eventually("its present is gone", || async {
        cluster.stores.live.presence(machine_id(1)).await.unwrap().is_none().then_some(())
    })
    .await;
    // The registry makes the removal wait, and nobody else.
    let mut db = cluster.collector(2, "db-1").await;
    db.layout(&layout()).await;
    db.frame(&layout(), &[0.7, 0.3, 0.0]).await;
    cluster.becomes("db-1", Online).await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    let seq = web.frame(&layout(), &[0.7, 0.3, 0.0]).await;
    web.acknowledged(seq).await;
    assert!(!removal.is_finished());

    cluster.registry_gate.reopen();
    let refused = removal.await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    eventually("it is in the register again", || async {
        cluster.stores.registry.machine(machine_id(1)).await.unwrap()
    })
    .await;
    let seq = web.frame(&layout(), &[0.8, 0.3, 0.0]).await;
    web.acknowledged(seq).await;
    cluster.becomes("web-1", Online).await;
    assert_eq!(cluster.metric("muster_aggregator_fenced_streams_total"), 0.0);
    cluster.stop().await;
}

#[tokio::test]
async fn what_was_removed_in_part_is_still_listed_and_removed_by_asking_again() {
    let cluster = Cluster::start().await;
    stopped(&cluster, 1, "web-1").await;
    cluster.registry_gate.away();
    let failed = remove(&cluster, "web-1").await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable, "{failed}");
    assert_eq!(cluster.machine("web-1").await.host_name, "web-1");
    cluster.registry_gate.reopen();
    remove(&cluster, "web-1").await.unwrap();
    assert_eq!(cluster.stores.registry.machine(machine_id(1)).await.unwrap(), None);
    cluster.stop().await;
}
