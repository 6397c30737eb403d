//! Readers of what is live: how long a value takes from its reading to who looks at it.

use std::convert::Infallible;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use futures::{SinkExt as _, StreamExt as _};
use model::UnixMillis;
use proto::v1;
use proto::v1::state_service_client::StateServiceClient;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::timeout_at;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tonic::transport::Channel;

use super::fleet::{Plan, id};
use super::latency::Latency;
use super::values::MARKER;

/// Machines that are watched, each by a reader of its own.
const WATCHED: usize = 8;

/// A page that gets no values of its machine for so long is opened again.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// One way to follow a machine.
#[derive(Clone, Debug)]
pub(super) enum Reader {
    /// `StreamMetrics`.
    Stream(StateServiceClient<Channel>),
    /// The WebSocket of the dashboard at this address, as an open page of the machine uses it.
    Page(String),
}

/// Follows a few machines of the fleet. Empty when nothing answers.
pub(super) async fn follow(plan: &Plan, reader: Reader, until: Instant) -> Latency {
    let mut followers = JoinSet::new();
    let step = plan.machines.div_ceil(WATCHED).max(1);
    for index in (0..plan.machines).step_by(step) {
        let machine = id(plan.seed, index).to_string();
        followers.spawn(follow_one(reader.clone(), machine, until));
    }
    let mut all = Latency::default();
    while let Some(latency) = followers.join_next().await {
        all.add(&latency.unwrap_or_default());
    }
    all
}

async fn follow_one(reader: Reader, machine: String, until: Instant) -> Latency {
    let mut latency = Latency::default();
    // Again and again: the machine appears a moment after its reader.
    let again = async {
        loop {
            let _ended = match &reader {
                Reader::Stream(state) => stream(state.clone(), &machine, &mut latency).await,
                Reader::Page(target) => page(target, &machine, &mut latency).await,
            };
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let _: Result<Infallible, _> = timeout_at(until.into(), again).await;
    latency
}

async fn stream(
    mut state: StateServiceClient<Channel>,
    machine: &str,
    latency: &mut Latency,
) -> Result<()> {
    let request = v1::StreamMetricsRequest {
        machine: machine.to_owned(),
        metrics: vec![MARKER.into()],
        format: v1::stream_metrics_request::Format::Columns.into(),
        lookback: None,
    };
    let mut updates = state.stream_metrics(request).await?.into_inner();
    while let Some(update) = updates.message().await? {
        if let Some(read) = update.time.filter(|_| !update.past) {
            latency.record(age(proto::convert::timestamp_from_proto("time", &read)?));
        }
    }
    Ok(())
}

/// The part of a message to an open page that matters here.
#[derive(Deserialize)]
struct Frames {
    /// Time, layout, values.
    frames: Vec<(i64, u32, Vec<Option<f64>>)>,
}

async fn page(target: &str, machine: &str, latency: &mut Latency) -> Result<()> {
    let address = target.strip_prefix("http").context("expected an http address")?;
    let mut request = format!("ws{}/ws", address.trim_end_matches('/')).into_client_request()?;
    request.headers_mut().insert("origin", target.parse()?);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
    let show = serde_json::json!({ "machine": machine, "after": 0 });
    socket.send(Message::text(show.to_string())).await?;
    let mut begun = false;
    // A page that was opened before its machine was known may show nothing of it for ever.
    let mut silent_until = Instant::now() + SILENT_MAX;
    while let Some(message) = timeout_at(silent_until.into(), socket.next()).await? {
        let Message::Text(text) = message? else { continue };
        if !text.contains(r#""t":"frames""#) {
            continue;
        }
        silent_until = Instant::now() + SILENT_MAX;
        let Frames { frames } = serde_json::from_str(&text)?;
        // The first message fills the page with what was.
        if std::mem::replace(&mut begun, true) {
            frames.iter().for_each(|(time, ..)| latency.record(age(UnixMillis(*time))));
        }
    }
    Ok(())
}

fn age(read: UnixMillis) -> Duration {
    Duration::from_millis(UnixMillis::from(SystemTime::now()).since(read).max(0).unsigned_abs())
}
