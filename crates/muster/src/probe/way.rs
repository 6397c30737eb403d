//! The way of a sample: a collector's stream on one end; an acknowledgement, a stream and an open page on the other.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use axum::http::header::{AUTHORIZATION, ORIGIN};
use axum::http::{HeaderValue, Version};
use daemon::tls::{Client, Stream};
use futures::{SinkExt as _, StreamExt as _};
use model::probe::{self, Stage};
use model::{Layout, MachineId, UnixMillis, metric};
use proto::v1::aggregator_message::Kind as Down;
use proto::v1::alert_service_client::AlertServiceClient;
use proto::v1::collector_message::Kind as Up;
use proto::v1::collector_service_client::CollectorServiceClient;
use proto::v1::state_service_client::StateServiceClient;
use proto::{Link, convert, v1};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tonic::Streaming;

/// How long a way may take to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A dashboard that can be opened.
#[derive(Clone)]
pub(super) struct Page {
    pub(super) url: String,
    pub(super) token: Option<HeaderValue>,
    pub(super) tls: Client,
}

/// How long one sample took to each stage that it reached.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Took([Option<Duration>; Stage::ALL.len()]);

impl Took {
    pub(super) fn of(&self, stage: Stage) -> Option<Duration> {
        self.0[stage as usize]
    }

    fn reached(&mut self, stage: Stage, sent: Instant) {
        self.0[stage as usize].get_or_insert(sent.elapsed());
    }

    /// The first that is missing.
    fn missing(&self, mut stages: impl Iterator<Item = Stage>) -> Option<Stage> {
        stages.find(|stage| self.of(*stage).is_none())
    }
}

/// Where a sample goes in and comes out.
#[derive(Clone)]
pub(super) struct Ends {
    /// May report.
    pub(super) collector: Link,
    /// May read.
    pub(super) reader: Link,
    /// May read. Without it no sample is watched.
    pub(super) alerts: Option<Link>,
    /// Without it no sample is shown.
    pub(super) page: Option<Page>,
}

/// Everything open that a sample goes through.
pub(super) struct Way {
    machine: MachineId,
    layout: Layout,
    up: mpsc::Sender<v1::CollectorMessage>,
    down: Streaming<v1::AggregatorMessage>,
    stream: Streaming<v1::StreamMetricsResponse>,
    alerts: Option<Streaming<v1::FollowProbeResponse>>,
    page: Option<WebSocketStream<Stream>>,
    seq: u64,
    before: Took,
}

impl Way {
    pub(super) async fn open(name: &str, ends: Ends) -> Result<Self> {
        let opening = Self::opened(name, ends);
        match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
            Ok(opened) => opened,
            Err(_) => bail!("the server did not answer within {} s", OPEN_TIMEOUT.as_secs()),
        }
    }

    async fn opened(name: &str, ends: Ends) -> Result<Self> {
        let machine = probe::machine(name);
        let layout = Layout::new(probe::series()).context("the probe's layout")?;
        let (up, queue) = mpsc::channel(8);
        let say = |kind| v1::CollectorMessage { seq: 0, kind: Some(kind) };
        let now = UnixMillis::from(SystemTime::now());
        let hello = v1::Hello {
            protocol_version: proto::PROTOCOL_VERSION,
            machine_id: machine.to_string(),
            facts: Some(v1::MachineFacts { host_name: name.to_owned(), ..Default::default() }),
            // Each way is a spool of its own.
            spool_epoch: now.0.unsigned_abs().max(1),
            oldest_unacknowledged_seq: 1,
            time_unix_ms: now.0,
            ..v1::Hello::default()
        };
        up.send(say(Up::Hello(hello))).await?;
        let mut collector = CollectorServiceClient::new(ends.collector);
        let mut down = collector.connect(ReceiverStream::new(queue)).await?.into_inner();
        let welcome = down.message().await?.and_then(|message| message.kind);
        let Some(Down::Welcome(_)) = welcome else { bail!("the first answer was not a welcome") };
        up.send(say(Up::Layout(convert::layout_to_proto(&layout)))).await?;
        let request = v1::StreamMetricsRequest {
            machine: machine.to_string(),
            metrics: vec![metric::PROBE_SAMPLES.name.to_owned()],
            format: v1::stream_metrics_request::Format::Columns.into(),
            lookback: None,
        };
        let mut reader = StateServiceClient::new(ends.reader);
        let stream = reader.stream_metrics(request).await?.into_inner();
        let alerts = match ends.alerts {
            Some(link) => {
                let request = v1::FollowProbeRequest { machine_id: machine.to_string() };
                let followed = AlertServiceClient::new(link).follow_probe(request).await;
                Some(followed.context("the alert service")?.into_inner())
            }
            None => None,
        };
        let page = match ends.page {
            Some(page) => Some(page.open(machine).await.context("the dashboard")?),
            None => None,
        };
        let before = Took::default();
        Ok(Self { machine, layout, up, down, stream, alerts, page, seq: 0, before })
    }

    /// Those that there are on this way.
    pub(super) fn stages(&self) -> impl Iterator<Item = Stage> + use<> {
        let (has_alerts, has_page) = (self.alerts.is_some(), self.page.is_some());
        Stage::ALL.into_iter().filter(move |stage| match stage {
            Stage::Stored | Stage::Streamed => true,
            Stage::Watched => has_alerts,
            Stage::Shown => has_page,
        })
    }

    /// One sample, which says what the one before it took.
    ///
    /// # Errors
    /// When something of the way ended. A stage that is not reached in time is none of the sample's.
    pub(super) async fn once(&mut self, patience: Duration) -> Result<Took> {
        self.seq += 1;
        let seconds = |stage| self.before.of(stage).map_or(f64::NAN, |took| took.as_secs_f64());
        let values = std::iter::once(self.seq as f64).chain(Stage::ALL.map(seconds)).collect();
        let time = UnixMillis::from(SystemTime::now());
        let frame =
            v1::Frame { time_unix_ms: time.0, layout_id: self.layout.id().0.to_vec(), values };
        let sent = Instant::now();
        let message = v1::CollectorMessage { seq: self.seq, kind: Some(Up::Frame(frame)) };
        self.up.send(message).await.context("the server ended the stream")?;
        let mut took = Took::default();
        let deadline = tokio::time::sleep(patience);
        tokio::pin!(deadline);
        while took.missing(self.stages()).is_some() {
            tokio::select! {
                answer = self.down.message() => {
                    let answer = answer?.context("the server ended the stream")?;
                    if is_acknowledged(answer, self.seq)? {
                        took.reached(Stage::Stored, sent);
                    }
                }
                update = self.stream.message() => {
                    let update = update?.context("the server ended StreamMetrics")?;
                    if is_at(update.time, time)? {
                        took.reached(Stage::Streamed, sent);
                    }
                }
                watched = told(self.alerts.as_mut()) => {
                    if is_at(watched?.time, time)? {
                        took.reached(Stage::Watched, sent);
                    }
                }
                shown = next(self.page.as_mut()) => {
                    if has_frame(&shown?, self.machine, time) {
                        took.reached(Stage::Shown, sent);
                    }
                }
                () = &mut deadline => break,
            }
        }
        self.before = took;
        Ok(took)
    }

    /// As [`Self::once`].
    ///
    /// # Errors
    /// When a stage was not reached in time, too.
    pub(super) async fn whole(&mut self, patience: Duration) -> Result<()> {
        let took = self.once(patience).await?;
        match took.missing(self.stages()) {
            None => Ok(()),
            Some(stage) => {
                bail!("a sample was not {} within {} s", stage.name(), patience.as_secs())
            }
        }
    }

    pub(super) async fn close(self) {
        let reason = v1::goodbye::Reason::Stopped.into();
        let kind = Some(Up::Goodbye(v1::Goodbye { reason }));
        self.up.send(v1::CollectorMessage { seq: 0, kind }).await.ok();
        if let Some(mut page) = self.page {
            page.close(None).await.ok();
        }
    }
}

fn is_acknowledged(answer: v1::AggregatorMessage, seq: u64) -> Result<bool> {
    match answer.kind {
        Some(Down::Ack(ack)) => {
            Ok(convert::ranges_from_proto("ranges", &ack.ranges)?.contains(seq))
        }
        Some(Down::Reject(reject)) => bail!("the sample was refused: {}", reject.message),
        _ => Ok(false),
    }
}

fn is_at(read: Option<prost_types::Timestamp>, time: UnixMillis) -> Result<bool> {
    let read = read.map(|at| convert::timestamp_from_proto("time", &at)).transpose()?;
    Ok(read == Some(time))
}

/// Never, without an alert service.
async fn told(
    alerts: Option<&mut Streaming<v1::FollowProbeResponse>>,
) -> Result<v1::FollowProbeResponse> {
    let Some(alerts) = alerts else { return std::future::pending().await };
    alerts.message().await?.context("the alert service ended FollowProbe")
}

/// Never, without a page.
async fn next(page: Option<&mut WebSocketStream<Stream>>) -> Result<String> {
    let Some(page) = page else { return std::future::pending().await };
    loop {
        match page.next().await.context("the dashboard closed its WebSocket")?? {
            Message::Text(text) => return Ok(text.to_string()),
            Message::Close(_) => bail!("the dashboard closed its WebSocket"),
            _ => {}
        }
    }
}

/// The parts of a message to an open page that matter here.
#[derive(Deserialize)]
struct Frames {
    machine: String,
    /// Time, layout, values.
    frames: Vec<(i64, u32, Vec<Option<f64>>)>,
}

fn has_frame(text: &str, machine: MachineId, time: UnixMillis) -> bool {
    let Ok(Frames { machine: of, frames }) = serde_json::from_str(text) else { return false };
    of == machine.to_string() && frames.iter().any(|(at, ..)| *at == time.0)
}

impl Page {
    /// As a browser opens the page of a machine.
    async fn open(&self, machine: MachineId) -> Result<WebSocketStream<Stream>> {
        let url = self.url.trim_end_matches('/');
        let address = url.strip_prefix("http").context("expected an http address")?;
        let mut request = format!("ws{address}/ws").into_client_request()?;
        request.headers_mut().insert(ORIGIN, url.parse()?);
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        let stream = self.tls.connect(&url.parse()?, Version::HTTP_11).await?;
        let (mut page, _) = tokio_tungstenite::client_async(request, stream).await?;
        let show = serde_json::json!({ "machine": machine.to_string(), "after": 0 });
        page.send(Message::text(show.to_string())).await?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_found_among_what_a_page_is_told() {
        let machine = probe::machine("here");
        let told = |machine: &str| {
            format!(
                r#"{{"t":"frames","machine":"{machine}","frames":[[5,1,[1,null]],[9,1,[2,0.5]]]}}"#
            )
        };
        let text = told(&machine.to_string());
        assert!(has_frame(&text, machine, UnixMillis(9)));
        assert!(!has_frame(&text, machine, UnixMillis(8)));
        assert!(!has_frame(&told("other"), machine, UnixMillis(9)));
        assert!(!has_frame(r#"{"t":"tick","now":9}"#, machine, UnixMillis(9)));
    }

    #[test]
    fn a_stage_that_there_is_none_of_is_not_missed() {
        let mut took = Took::default();
        let without_page = || Stage::ALL.into_iter().filter(|stage| *stage != Stage::Shown);
        assert_eq!(took.missing(without_page()), Some(Stage::Stored));
        for stage in without_page() {
            took.reached(stage, Instant::now());
        }
        assert_eq!(took.missing(without_page()), None);
        assert_eq!(took.missing(Stage::ALL.into_iter()), Some(Stage::Shown));
    }
}
