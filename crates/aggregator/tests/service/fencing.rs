//! One stream speaks for a machine.

use proto::v1;
use tonic::Code;

use crate::cluster::{Cluster, eventually};
use crate::collector::layout;

#[tokio::test]
async fn a_second_stream_for_the_same_machine_fences_the_first() {
    let cluster = Cluster::start().await;
    let mut first = cluster.collector(1, "web-1").await;
    first.layout(&layout()).await;
    let seq = first.frame(&layout(), &[0.1, 0.0, 0.0]).await;
    first.acknowledged(seq).await;
    let mut second = cluster.collector(1, "web-1").await;
    let status = first.end().await.expect("not a good end");
    assert_eq!(status.code(), Code::Aborted, "{status}");
    second.layout(&layout()).await;
    let seq = second.frame(&layout(), &[0.2, 0.0, 0.0]).await;
    second.acknowledged(seq).await;
    // The end of the first stream says nothing about the machine.
    eventually("the headline of the second stream", || async {
        let machine = cluster.becomes("web-1", v1::MachineStatus::Online).await;
        (machine.headline?.cpu_utilization == Some(0.2)).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn streams_of_different_machines_do_not_touch_each_other() {
    let cluster = Cluster::start().await;
    let mut a = cluster.collector(1, "web-1").await;
    let mut b = cluster.collector(2, "web-1").await;
    for collector in [&mut a, &mut b] {
        collector.layout(&layout()).await;
        let seq = collector.frame(&layout(), &[0.1, 0.0, 0.0]).await;
        collector.acknowledged(seq).await;
    }
    cluster.stop().await;
}
