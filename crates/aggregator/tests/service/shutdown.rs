//! An aggregator that ends.

use std::time::Duration;

use proto::v1;
use tonic::Code;

use crate::cluster::Cluster;
use crate::collector::layout;

#[tokio::test]
async fn what_was_taken_in_is_acknowledged_before_the_end() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    cluster.gate.shut();
    for _ in 0..10 {
        web.frame(&layout(), &[0.5, 0.0, 0.0]).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    crate::cluster::eventually("ten items in the queue", || async {
        (cluster.metric("muster_aggregator_queue_items") == 10.0).then_some(())
    })
    .await;
    cluster.begin_shutdown();
    web.hears_nothing_for(Duration::from_millis(300)).await;
    cluster.gate.reopen();
    let status = web.end().await.expect("not a good end");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(web.acknowledged_so_far().to_string(), "1-10");
    cluster.stop().await;
}

#[tokio::test]
async fn a_collector_that_is_done_gets_its_last_acknowledgements() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    for _ in 0..10 {
        web.frame(&layout(), &[0.5, 0.0, 0.0]).await;
    }
    web.goodbye(v1::goodbye::Reason::Stopped).await;
    web.finish();
    assert!(web.end().await.is_none());
    assert_eq!(web.acknowledged_so_far().to_string(), "1-10");
    cluster.stop().await;
}

#[tokio::test]
async fn readers_do_not_hold_up_the_end() {
    let cluster = Cluster::start().await;
    let _web = cluster.collector(1, "web-1").await;
    let mut state = cluster.state().await;
    let request = v1::StreamMetricsRequest { machine: "web-1".into(), ..Default::default() };
    let mut frames = state.stream_metrics(request).await.unwrap().into_inner();
    let mut fleet = state.watch(v1::WatchRequest::default()).await.unwrap().into_inner();
    assert!(fleet.message().await.unwrap().unwrap().snapshot);
    tokio::time::timeout(Duration::from_secs(5), cluster.stop()).await.unwrap();
    let status = frames.message().await.expect_err("still open");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    while let Ok(Some(_)) = fleet.message().await {}
}
