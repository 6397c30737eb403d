//! Several aggregators on the same stores.

use proto::v1;
use proto::v1::MachineStatus::{Online, Stopped};
use proto::v1::collector_message::Kind as Message;
use tonic::Code;

use crate::cluster::{Cluster, eventually, machine_id};
use crate::collector::layout;

#[tokio::test]
async fn any_aggregator_answers_for_every_machine() {
    let cluster = Cluster::start().await;
    // So slow that it is not stale before the other one is up, however busy this machine is.
    let mut web = cluster.silent_collector(1, "web-1").await;
    let interval = Some(proto::convert::duration_from_ms(60_000));
    web.say(0, Message::Hello(v1::Hello { interval, ..web.greeting() })).await;
    web.welcome().await;
    web.layout(&layout()).await;
    web.frame(&layout(), &[0.5, 0.0, 0.0]).await;
    cluster.becomes("web-1", Online).await;

    let other = cluster.beside().await;
    other.becomes("web-1", Online).await;
    // It follows what the first one says, and does not speak for the machine itself.
    for i in 0..30 {
        web.frame(&layout(), &[f64::from(i), 0.0, 0.0]).await;
        assert_eq!(other.machine("web-1").await.status(), Online);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let request = v1::GetCurrentStateRequest { machine: "web-1".into(), ..Default::default() };
    eventually("the latest frame", || async {
        let state = other.state().await.get_current_state(request.clone()).await.unwrap();
        (state.into_inner().samples[0].value == 29.0).then_some(())
    })
    .await;
    web.goodbye(v1::goodbye::Reason::Stopped).await;
    other.becomes("web-1", Stopped).await;
    other.stop().await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_machine_that_moves_to_another_aggregator_is_fenced_at_the_first() {
    let cluster = Cluster::start().await;
    let other = cluster.beside().await;
    let mut web = cluster.collector(1, "web-1").await;
    web.layout(&layout()).await;
    web.frame(&layout(), &[0.5, 0.0, 0.0]).await;
    cluster.becomes("web-1", Online).await;
    let mut moved = other.collector(1, "web-1").await;
    moved.layout(&layout()).await;
    let talking = async {
        loop {
            web.frame(&layout(), &[0.5, 0.0, 0.0]).await;
            moved.frame(&layout(), &[0.75, 0.0, 0.0]).await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            if cluster.metric("muster_aggregator_fenced_streams_total") > 0.0 {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), talking).await.unwrap();
    let status = web.end().await.expect("not a good end");
    assert_eq!(status.code(), Code::Aborted, "{status}");
    // Both say the same of it, and the first does not take it for lost.
    let seq = moved.frame(&layout(), &[0.75, 0.0, 0.0]).await;
    moved.acknowledged(seq).await;
    for aggregator in [&cluster, &other] {
        aggregator.becomes("web-1", Online).await;
        let id = machine_id(1).to_string();
        assert_eq!(aggregator.machine(&id).await.host_name, "web-1");
    }
    other.stop().await;
    cluster.stop().await;
}
