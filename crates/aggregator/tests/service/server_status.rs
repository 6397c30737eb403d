//! What an aggregator says about itself.

use proto::v1;
use proto::v1::collector_message::Kind as Message;

use crate::cluster::{Cluster, eventually, now};
use crate::collector::{frame, layout};

async fn status(cluster: &Cluster) -> v1::GetServerStatusResponse {
    let request = v1::GetServerStatusRequest {};
    cluster.state().await.get_server_status(request).await.unwrap().into_inner()
}

fn total(counts: &[v1::ServerCount], name: &str) -> u64 {
    counts.iter().find(|count| count.name == name).unwrap_or_else(|| panic!("no {name}")).total
}

#[tokio::test]
async fn what_came_in_what_was_refused_and_how_long_it_took_is_told() {
    let cluster = Cluster::start().await;
    let before = status(&cluster).await;
    assert_eq!(total(&before.flows, "frames"), 0);
    assert_eq!(total(&before.troubles, "rejected_items.too_old"), 0);
    let acknowledgement = &before.timings[0];
    assert_eq!((acknowledgement.count, acknowledgement.p99), (0, None));

    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    for _ in 0..5 {
        web.frame(&layout(), &[0.5, 0.5, 1.0]).await;
    }
    let old = frame(&layout(), now() - 8 * 86_400_000, &[0.5, 0.5, 1.0]);
    web.item(Message::Frame(old)).await;
    web.reject().await;
    web.acknowledged(5).await;
    cluster.shed.inc_by(3);

    let after = status(&cluster).await;
    assert_eq!(total(&after.flows, "frames"), 5);
    assert_eq!(total(&after.flows, "samples"), 15);
    assert_eq!(total(&after.flows, "acknowledged_items"), 5);
    assert_eq!(total(&after.troubles, "rejected_items.too_old"), 1);
    assert_eq!(total(&after.troubles, "requests_shed"), 3);
    assert!(after.flows[0].per_second > 0.0, "{:?}", after.flows);
    let acknowledgement = &after.timings[0];
    assert_eq!((acknowledgement.name.as_str(), acknowledgement.count), ("acknowledgement", 5));
    assert!(acknowledgement.p50.is_some() && acknowledgement.p99.is_some());
    assert_eq!(after.streams, 1);
    let kept: Vec<_> = after.stores.iter().map(|s| (s.holds.as_str(), s.name.as_str())).collect();
    assert!(kept.contains(&("live state", "memory")), "{kept:?}");
    assert!(kept.contains(&("history", "SQLite")), "{kept:?}");
    assert!(after.stores.iter().all(|store| store.down.is_empty()));
}

#[tokio::test]
async fn what_waits_for_its_commit_is_told_with_its_bound() {
    let cluster = Cluster::start().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    cluster.gate.shut();
    for _ in 0..4 {
        web.frame(&layout(), &[0.5, 0.5, 1.0]).await;
    }
    let writer = eventually("four items wait", || async {
        let queue = status(&cluster).await.queues.into_iter().find(|q| q.name == "writer").unwrap();
        (queue.items == 4).then_some(queue)
    })
    .await;
    assert!(writer.bytes > 0 && writer.bytes_max > writer.bytes);
    cluster.gate.reopen();
    web.acknowledged(4).await;
    assert_eq!(status(&cluster).await.queues[0].items, 0);
}
