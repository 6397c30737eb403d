//! A server that is told to stop does, in time, whoever is connected.

use std::time::Duration;

use proto::v1;
use proto::v1::state_service_client::StateServiceClient;
use tokio_stream::StreamExt as _;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::cluster::{Cluster, PATIENCE, machines};
use crate::eventually::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_and_pages_do_not_hold_up_the_end() {
    let mut cluster = Cluster::up().await;
    let channel = cluster.channel().await;
    let machine = eventually(PATIENCE, || async {
        machines(channel.clone()).await.into_iter().next().map(|m| m.id).ok_or("none".to_owned())
    })
    .await;
    let mut client = StateServiceClient::new(channel);
    let request = v1::StreamMetricsRequest { machine, ..Default::default() };
    let mut stream = client.stream_metrics(request).await.expect("streams").into_inner();
    let mut watch = client.watch(v1::WatchRequest::default()).await.expect("watches").into_inner();
    assert!(watch.message().await.expect("a picture").expect("a picture").snapshot);
    assert!(stream.message().await.expect("a frame").is_some());

    let mut page = format!("ws://{}/ws", cluster.address).into_client_request().expect("a url");
    let origin = cluster.url().parse().expect("a header value");
    page.headers_mut().insert("origin", origin);
    let (mut socket, _) = tokio_tungstenite::connect_async(page).await.expect("upgrades");

    let stopping = tokio::task::spawn_blocking(move || {
        let status = cluster.server.stop(Duration::from_secs(10));
        (status, cluster)
    });
    let mut goodbye = None;
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Close(frame) = message {
            goodbye = Some(frame);
        }
    }
    let (status, cluster) = stopping.await.expect("does not panic");
    assert!(status.success(), "{status}: {}", cluster.server.output());
    assert!(goodbye.is_some(), "an open page is told goodbye");
    while let Ok(Some(_)) = stream.message().await {}
    while let Ok(Some(_)) = watch.message().await {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_collector_is_stopped_and_a_killed_one_is_not() {
    let cluster = Cluster::aggregator().await;
    let mut polite = cluster.collector("polite", &cluster.url());
    let mut killed = cluster.collector("killed", &cluster.url());
    let channel = cluster.channel().await;
    let status_of = async |name: &str| {
        let all = machines(channel.clone()).await;
        let found = all.into_iter().find(|m| m.labels.get("name").is_some_and(|n| n == name));
        found.map(|m| m.status())
    };
    for name in ["polite", "killed"] {
        eventually(PATIENCE, async || match status_of(name).await {
            Some(v1::MachineStatus::Online) => Ok(()),
            other => Err(format!("{name} is {other:?}")),
        })
        .await;
    }
    assert!(polite.stop(PATIENCE).success());
    killed.kill();
    eventually(PATIENCE, async || match status_of("polite").await {
        Some(v1::MachineStatus::Stopped) => Ok(()),
        other => Err(format!("polite is {other:?}")),
    })
    .await;
    eventually(PATIENCE, async || match status_of("killed").await {
        Some(v1::MachineStatus::Stale | v1::MachineStatus::Offline) => Ok(()),
        other => Err(format!("killed is {other:?}")),
    })
    .await;
}
