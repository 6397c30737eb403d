//! The server is away for a while: the past arrives late, the present does not.

use std::time::{Duration, Instant, SystemTime};

use proto::v1;
use proto::v1::state_service_client::StateServiceClient;
use tonic::transport::Channel;

use crate::cluster::{Cluster, PATIENCE};
use crate::eventually::eventually;

/// Ten minutes of frames at 1 Hz are as many as a minute at 10 Hz, the shortest interval there is.
const FRAMES: u32 = 600;
const INTERVAL: Duration = Duration::from_millis(100);
/// History is looked at in stretches of this length.
const WINDOW: Duration = Duration::from_secs(5);
const METRIC: &str = model::metric::LOAD_1M.name;

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_of_frames_arrive_after_an_outage_and_the_present_does_not_wait() {
    let mut cluster = Cluster::aggregator().await;
    let _collector = cluster.collector("web-1", &cluster.url());
    let machine = {
        let client = StateServiceClient::new(cluster.channel().await);
        eventually(PATIENCE, || {
            let mut client = client.clone();
            async move { live_age(&mut client, "").await.map(|(machine, _)| machine) }
        })
        .await
    };

    cluster.server.kill();
    let away_from = SystemTime::now();
    tokio::time::sleep(INTERVAL * FRAMES).await;
    let away_to = SystemTime::now();
    cluster.restart().await;

    // As soon as anything of the past has arrived, the present is there too and stays: none of its points is
    // old, as long as the past is still arriving and a while after.
    let mut client = StateServiceClient::new(cluster.channel().await);
    let (began, mut oldest) = (Instant::now(), Duration::ZERO);
    let (mut arriving_after, mut complete_after) = (None, None);
    let whole = windows(away_from, away_to);
    while complete_after.is_none_or(|after| began.elapsed() < after + Duration::from_secs(5)) {
        assert!(
            began.elapsed() < PATIENCE * 2,
            "the backlog did not arrive within {:?}",
            PATIENCE * 2
        );
        let missing = missing(&mut client, &machine, away_from, away_to).await;
        if missing < whole {
            arriving_after.get_or_insert_with(|| began.elapsed());
            let (_, age) = live_age(&mut client, &machine).await.expect("the present is there");
            oldest = oldest.max(age);
        }
        if missing == 0 {
            complete_after.get_or_insert_with(|| began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!(
        "the backlog began to arrive after {arriving_after:?} and was complete after {complete_after:?}; \
         the oldest live point was {oldest:?} old"
    );
    assert!(oldest < Duration::from_secs(2), "a live point was {oldest:?} old");
}

/// The machine that is there, and how old its latest value is. An error as long as there is none.
async fn live_age(
    client: &mut StateServiceClient<Channel>,
    machine: &str,
) -> Result<(String, Duration), String> {
    let machine = match machine {
        "" => {
            let all = client.list_machines(v1::ListMachinesRequest::default()).await;
            let all = all.map_err(|status| status.to_string())?.into_inner().machines;
            all.first().ok_or("no machine yet")?.id.clone()
        }
        known => known.to_owned(),
    };
    let request =
        v1::GetCurrentStateRequest { machine: machine.clone(), metrics: vec![METRIC.to_owned()] };
    let state = client.get_current_state(request).await.map_err(|status| status.to_string())?;
    let sample = state.into_inner().samples.into_iter().next().ok_or("no value yet")?;
    let time = sample.time.ok_or("a value without time")?;
    let time = SystemTime::try_from(time).map_err(|error| error.to_string())?;
    Ok((machine, time.elapsed().unwrap_or_default()))
}

/// Whole windows within the outage.
fn windows(from: SystemTime, to: SystemTime) -> usize {
    let within = to.duration_since(from).expect("ordered") - WINDOW * 2;
    (within.as_secs() / WINDOW.as_secs()) as usize
}

/// Windows of the outage of which fewer values are in history than were read.
async fn missing(
    client: &mut StateServiceClient<Channel>,
    machine: &str,
    from: SystemTime,
    to: SystemTime,
) -> usize {
    let request = v1::QueryRangeRequest {
        metric: METRIC.to_owned(),
        machines: vec![v1::LabelMatcher {
            name: "machine.id".to_owned(),
            value: machine.to_owned(),
            ..Default::default()
        }],
        // Whole windows inside the outage.
        start: Some((from + WINDOW).into()),
        end: Some((to - WINDOW).into()),
        step: Some(prost_types::Duration::try_from(WINDOW).expect("in range")),
        aggregate: v1::Aggregate::Count.into(),
        ..Default::default()
    };
    let answer = client.query_range(request).await.expect("answers").into_inner();
    let full = |counts: &v1::RangeSeries| {
        // A tick may be late by one, when the machine is busy.
        let enough = 0.9 * WINDOW.as_secs_f64() / INTERVAL.as_secs_f64();
        counts.values.iter().filter(|count| **count >= enough).count()
    };
    windows(from, to).saturating_sub(answer.series.first().map_or(0, full))
}
