//! A hundred machines at once: a server that starts again is no reason to tell anybody, and all of them gone
//! is one message for each channel.

use std::time::{Duration, SystemTime};

use model::{Layout, MachineId, UnixMillis, metric};
use proto::v1::aggregator_message::Kind as Down;
use proto::v1::collector_message::Kind as Up;
use proto::v1::collector_service_client::CollectorServiceClient;
use proto::{convert, v1};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::call;
use super::receiver::{Manner, Receiver};
use crate::cluster::{Cluster, PATIENCE, machines};
use crate::eventually::eventually;

const MACHINES: usize = 100;
/// After a start of the server no machine is offline for this long.
const GRACE: Duration = Duration::from_secs(60);
const ID_BASE: u128 = 0xf1ee7 << 32;

fn now() -> i64 {
    UnixMillis::from(SystemTime::now()).0
}

/// One made-up collector on a connection of its own. It comes back whenever the server does.
async fn report(url: String, number: usize) {
    let epoch = now().unsigned_abs();
    let mut seq = 0;
    loop {
        // However it ended, it begins again.
        let _ = stream(&url, number, epoch, &mut seq).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn stream(url: &str, number: usize, epoch: u64, seq: &mut u64) -> Option<()> {
    let channel = Endpoint::from_shared(url.to_owned()).ok()?.connect().await.ok()?;
    let (up, queue) = mpsc::channel(4);
    let say = async |seq, kind| up.send(v1::CollectorMessage { seq, kind: Some(kind) }).await.ok();
    let id = MachineId::from_u128(ID_BASE + number as u128).expect("not zero");
    let hello = v1::Hello {
        protocol_version: proto::PROTOCOL_VERSION,
        machine_id: id.to_string(),
        facts: Some(v1::MachineFacts {
            host_name: format!("web-{number:03}"),
            ..v1::MachineFacts::default()
        }),
        spool_epoch: epoch,
        oldest_unacknowledged_seq: *seq + 1,
        time_unix_ms: now(),
        interval: Some(convert::duration_from_ms(1000)),
        ..v1::Hello::default()
    };
    say(0, Up::Hello(hello)).await?;
    let queue = ReceiverStream::new(queue);
    let mut down = CollectorServiceClient::new(channel).connect(queue).await.ok()?.into_inner();
    let Some(Down::Welcome(_)) = down.message().await.ok()??.kind else { return None };
    let layout = Layout::new(vec![metric::CPU_UTILIZATION.alone()]).expect("valid");
    say(0, Up::Layout(convert::layout_to_proto(&layout))).await?;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            // Acknowledgements are not looked at: what is lost with the server is lost.
            answer = down.message() => drop(answer.ok()??),
            _ = second.tick() => {
                *seq += 1;
                let frame = v1::Frame {
                    time_unix_ms: now(),
                    layout_id: layout.id().0.to_vec(),
                    values: vec![0.1],
                };
                say(*seq, Up::Frame(frame)).await?;
            }
        }
    }
}

async fn are(cluster: &Cluster, status: v1::MachineStatus) {
    eventually(2 * PATIENCE, || async {
        let all = machines(cluster.channel().await).await;
        let ours = all.iter().filter(|machine| machine.host_name.starts_with("web-"));
        let (are, others): (Vec<_>, Vec<_>) = ours.partition(|m| m.status() == status);
        let others = others.iter().map(|m| (&m.host_name, m.status())).collect::<Vec<_>>();
        (are.len() == MACHINES).then_some(()).ok_or(format!("{} are, {others:?}", are.len()))
    })
    .await;
}

/// Messages about the rule: how many alerts each has.
fn told(receiver: &Receiver) -> Vec<usize> {
    let bodies: Vec<Value> = receiver.got().iter().map(|got| got.json()).collect();
    let of_rule = bodies.iter().filter(|body| body["alerts"][0]["rule_name"] == "gone");
    of_rule.map(|body| body["alerts"].as_array().expect("alerts").len()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_a_hundred_collectors_tells_nobody_and_their_end_is_one_message_a_channel() {
    let mut cluster = Cluster::start("up", &[]).await;
    let receivers =
        [Receiver::start(Manner::Status(200)).await, Receiver::start(Manner::Status(200)).await];
    for (name, receiver) in ["one", "two"].iter().zip(&receivers) {
        let hook = json!({ "channel": { "name": name, "webhook": { "url": receiver.url } } });
        call(&cluster, "AlertConfigService/CreateChannel", hook).await;
    }
    let rule = json!({ "rule": { "name": "gone", "offline": {}, "for": "12s" } });
    call(&cluster, "AlertConfigService/CreateRule", rule).await;
    let mut fleet = JoinSet::new();
    for number in 0..MACHINES {
        fleet.spawn(report(cluster.url(), number));
    }
    are(&cluster, v1::MachineStatus::Online).await;

    cluster.server.kill();
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.restart().await;
    are(&cluster, v1::MachineStatus::Online).await;
    // As long as it takes to tell of a machine that did not come back.
    tokio::time::sleep(GRACE + Duration::from_secs(20)).await;
    assert!(receivers.iter().all(|receiver| told(receiver).is_empty()), "after a restart");

    fleet.shutdown().await;
    are(&cluster, v1::MachineStatus::Offline).await;
    for receiver in &receivers {
        eventually(PATIENCE, || async {
            let told = told(receiver);
            (told.iter().sum::<usize>() >= MACHINES).then_some(()).ok_or(format!("{told:?}"))
        })
        .await;
    }
    assert_eq!(receivers.each_ref().map(told), [vec![MACHINES], vec![MACHINES]]);
}
