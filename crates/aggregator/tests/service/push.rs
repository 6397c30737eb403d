//! What programs push.

use aggregator::{Config, WriterConfig};
use daemon::config::Bytes;
use model::{TimeRange, pushed};
use proto::v1;
use proto::v1::push_service_client::PushServiceClient;
use storage::history::{LogSearch, Samples, SeriesSelector};
use storage::live::Presence;
use tonic::Code;
use tonic::transport::Channel;

use crate::cluster::{Cluster, eventually, now};

async fn client(cluster: &Cluster) -> PushServiceClient<Channel> {
    PushServiceClient::new(cluster.channel().await)
}

fn orders(value: f64, key: &str) -> v1::PushRequest {
    let series = v1::SeriesDescriptor {
        metric: "orders".to_owned(),
        labels: [("service.name".to_owned(), "shop".to_owned())].into(),
        kind: v1::MetricKind::Counter.into(),
        unit: "1".to_owned(),
    };
    let point = v1::PushedPoint { series: Some(series), value, delta: true, time_unix_ms: 0 };
    v1::PushRequest {
        source: "shop".to_owned(),
        idempotency_key: key.to_owned(),
        events: Vec::new(),
        points: vec![point],
    }
}

fn event(body: &str, key: &str) -> v1::PushRequest {
    let event = v1::LogEvent {
        severity_number: 17,
        service: "shop".to_owned(),
        body: body.to_owned(),
        ..Default::default()
    };
    v1::PushRequest { events: vec![event], points: Vec::new(), ..orders(0.0, key) }
}

async fn values(cluster: &Cluster, metric: &str) -> Vec<f64> {
    let history = &cluster.stores.history;
    let selector = SeriesSelector { metric: metric.into(), ..Default::default() };
    let series = history.find_series(&selector, 100).await.unwrap();
    let samples: Vec<Samples> = history.read_raw(&series, TimeRange::ALL).await.unwrap();
    samples.into_iter().flat_map(|samples| samples.values).collect()
}

async fn bodies(cluster: &Cluster) -> Vec<String> {
    let range = TimeRange { start: now() - 60_000, end: now() + 60_000 };
    let search = LogSearch::of(pushed::source_machine("shop"), range, 100);
    let page = cluster.stores.history.search_logs(search).await.unwrap();
    page.events.into_iter().map(|found| found.event.body).collect()
}

#[tokio::test]
async fn what_was_answered_is_in_history_and_what_is_added_up_begins_with_zero() {
    let cluster = Cluster::start().await;
    let mut client = client(&cluster).await;
    for value in [3.0, 2.0] {
        let answer = client.push(orders(value, "")).await.unwrap().into_inner();
        assert!(!answer.duplicate);
    }
    assert_eq!(values(&cluster, "orders").await, [0.0, 3.0, 5.0]);
    client.push(event("no stock", "")).await.unwrap();
    assert_eq!(bodies(&cluster).await, ["no stock"]);
    // Counted as the lines of every other service are.
    eventually("the event is counted", || async {
        values(&cluster, "muster.log.events").await.contains(&1.0).then_some(())
    })
    .await;
    let machine = cluster.becomes("shop", v1::MachineStatus::Online).await;
    assert_eq!(machine.id, pushed::source_machine("shop").to_string());
    assert_eq!(machine.labels["source"], "push");
    cluster.stop().await;
}

#[tokio::test]
async fn a_request_that_is_sent_again_with_its_key_is_stored_once_even_after_a_restart() {
    let cluster = Cluster::start().await;
    let mut client = client(&cluster).await;
    for (request, again) in [
        (orders(3.0, "a"), false),
        (orders(3.0, "a"), true),
        (event("no stock", "b"), false),
        (event("no stock", "b"), true),
    ] {
        assert_eq!(client.push(request).await.unwrap().into_inner().duplicate, again);
    }
    let cluster = cluster.restart().await;
    let mut client = self::client(&cluster).await;
    assert!(client.push(orders(3.0, "a")).await.unwrap().into_inner().duplicate);
    // A restart begins with 0 again: a rise that is seen, not a fall that hides it.
    client.push(orders(4.0, "c")).await.unwrap();
    assert_eq!(values(&cluster, "orders").await, [0.0, 3.0, 0.0, 4.0]);
    assert_eq!(bodies(&cluster).await, ["no stock"]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_request_that_was_not_answered_is_added_once_when_it_is_sent_again() {
    let cluster = Cluster::start().await;
    let mut client = client(&cluster).await;
    client.push(orders(1.0, "")).await.unwrap();
    cluster.gate.shut();
    let mut waiting = client.clone();
    let unanswered = tokio::spawn(async move { waiting.push(orders(5.0, "k")).await });
    eventually("it was taken in", || async {
        (cluster.metric("muster_aggregator_frames_total") == 3.0).then_some(())
    })
    .await;
    unanswered.abort();
    // Sent again while the first still waits for its commit.
    let mut waiting = client.clone();
    let again = tokio::spawn(async move { waiting.push(orders(5.0, "k")).await });
    eventually("both wait", || async {
        (cluster.metric("muster_aggregator_queue_items") >= 2.0).then_some(())
    })
    .await;
    cluster.gate.reopen();
    again.await.unwrap().unwrap();
    let third = client.push(orders(5.0, "k")).await.unwrap().into_inner();
    assert!(third.duplicate, "it is durable, and known to be");
    let values = values(&cluster, "orders").await;
    assert_eq!(values.last(), Some(&6.0), "{values:?}");
    assert!(values.is_sorted(), "{values:?}");
    cluster.stop().await;
}

#[tokio::test]
async fn all_of_a_request_is_in_one_commit_however_small_commits_are() {
    let writer = WriterConfig { commit_bytes_max: Bytes(1), ..WriterConfig::default() };
    let cluster = Cluster::start_with(Config { writer, ..Config::default() }).await;
    let mut client = client(&cluster).await;
    // Where the counter was before, and where it is now: two items.
    client.push(orders(3.0, "a")).await.unwrap();
    assert_eq!(cluster.metric("muster_aggregator_frames_total"), 2.0);
    assert_eq!(cluster.metric("muster_aggregator_commit_duration_seconds_count"), 1.0);
    assert_eq!(values(&cluster, "orders").await, [0.0, 3.0]);
    cluster.stop().await;
}

#[tokio::test]
async fn two_aggregators_take_a_source_from_each_other_and_no_rise_is_hidden() {
    let cluster = Cluster::start().await;
    let other = cluster.beside().await;
    let (mut here, mut there) = (client(&cluster).await, client(&other).await);
    here.push(orders(5.0, "")).await.unwrap();
    there.push(orders(7.0, "")).await.unwrap();
    here.push(orders(6.0, "")).await.unwrap();
    here.push(orders(1.0, "")).await.unwrap();
    assert_eq!(values(&cluster, "orders").await, [0.0, 5.0, 0.0, 7.0, 0.0, 6.0, 7.0]);
    other.stop().await;
    cluster.stop().await;
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_whole_and_a_collector_cannot_be_a_source() {
    let cluster = Cluster::start().await;
    let mut client = client(&cluster).await;
    let mut request = orders(1.0, "");
    let mut bad = request.points[0].clone();
    bad.value = -1.0;
    request.points.push(bad);
    let refused = client.push(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("points[1].value: "), "{}", refused.message());
    assert!(values(&cluster, "orders").await.is_empty());
    assert_eq!(cluster.metric("muster_aggregator_push_requests_total{outcome=\"refused\"}"), 1.0);
    let presences: Vec<(_, Presence)> = cluster.stores.live.presences().await.unwrap();
    assert!(presences.is_empty(), "{presences:?}");
    let id = pushed::source_machine("shop").as_u128();
    let mut collector = cluster.silent_collector(id, "web-1").await;
    collector.hello().await;
    let status = collector.end().await.unwrap();
    assert!(status.message().starts_with("hello.machine_id: "), "{}", status.message());
    cluster.stop().await;
}
