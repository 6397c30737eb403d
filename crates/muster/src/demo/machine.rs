//! A made-up machine on the wire: speaks the collector's protocol, keeps what is not acknowledged, comes back
//! when the server does.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use model::UnixMillis;
use proto::v1::aggregator_message::Kind as Down;
use proto::v1::collector_message::Kind as Up;
use proto::v1::collector_service_client::CollectorServiceClient;
use proto::{Link, convert, v1};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::world::{Machine, Tick, items};

/// Items that are not acknowledged; beyond it nothing of the past is sent, and the present is left out.
const OUTSTANDING_MAX: usize = 256;
/// Of these, the past may have this many.
const PAST_MAX: usize = 128;
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Time between two frames of the past.
const PAST_STEP_MS: i64 = 15_000;

/// What of a machine goes on from one connection to the next.
pub(super) struct Sender {
    now: Machine,
    past: Past,
    interval: Duration,
    epoch: u64,
    seq: u64,
    unacknowledged: BTreeMap<u64, v1::CollectorMessage>,
}

/// The machine as it was, moved on beside it as it is.
struct Past {
    machine: Machine,
    time: UnixMillis,
    ends: UnixMillis,
}

/// How a connection ended.
enum End {
    Stopped,
    /// The machine went down, without a word.
    WentDown,
}

impl Sender {
    /// `begins`: how far back its past goes. `events_per_second` is of the present; the past has a tenth.
    pub(super) fn new(
        machine: Machine,
        past: Machine,
        begins: UnixMillis,
        interval: Duration,
    ) -> Self {
        let ends = UnixMillis::from(SystemTime::now());
        let mut now = machine;
        // What the past came to is where the present begins.
        let mut time = begins;
        while time < ends {
            now.advance(time);
            time = time + PAST_STEP_MS;
        }
        Self {
            past: Past { machine: past, time: begins, ends },
            now,
            interval,
            // Each run is a spool of its own.
            epoch: ends.0.unsigned_abs().max(1),
            seq: 0,
            unacknowledged: BTreeMap::new(),
        }
    }

    /// Until `stop`. Whatever happens to the server, it tries again.
    pub(super) async fn run(mut self, link: Link, stop: CancellationToken) {
        let mut said = false;
        loop {
            match self.connected(link.clone(), &stop).await {
                Ok(End::Stopped) => return,
                Ok(End::WentDown) => said = false,
                Err(error) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(machine = self.now.name(), %error, "a made-up machine lost its server");
                    }
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(AGAIN_AFTER)).await.is_none() {
                return;
            }
        }
    }

    async fn connected(&mut self, link: Link, stop: &CancellationToken) -> Result<End> {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // Down until the first tick that it is there.
        let first = loop {
            if stop.run_until_cancelled(ticks.tick()).await.is_none() {
                return Ok(End::Stopped);
            }
            let tick = self.now.advance(SystemTime::now().into());
            if tick.is_online {
                break tick;
            }
        };
        let mut client = CollectorServiceClient::new(link);
        let (up, queue) = mpsc::channel(OUTSTANDING_MAX + 8);
        let say = |kind| v1::CollectorMessage { seq: 0, kind: Some(kind) };
        up.send(say(self.hello())).await?;
        let mut down = client.connect(ReceiverStream::new(queue)).await?.into_inner();
        let welcome = down.message().await?.and_then(|message| message.kind);
        let Some(Down::Welcome(_)) = welcome else { bail!("the first answer was not a welcome") };
        up.send(say(Up::Layout(convert::layout_to_proto(&self.now.layout)))).await?;
        for message in self.unacknowledged.values() {
            up.send(message.clone()).await?;
        }
        self.send(first, &up).await?;
        let mut again = tokio::time::interval(AGAIN_AFTER);
        let mut put_off = false;
        loop {
            let has_past = self.past.time < self.past.ends && self.unacknowledged.len() < PAST_MAX;
            tokio::select! {
                () = stop.cancelled() => {
                    let reason = v1::goodbye::Reason::Stopped.into();
                    up.send(say(Up::Goodbye(v1::Goodbye { reason }))).await.ok();
                    return Ok(End::Stopped);
                }
                answer = down.message() => {
                    let answer = answer?.context("the server ended the stream")?;
                    put_off |= self.settle(answer)?;
                }
                _ = ticks.tick() => {
                    let tick = self.now.advance(SystemTime::now().into());
                    if !tick.is_online {
                        return Ok(End::WentDown);
                    }
                    self.send(tick, &up).await?;
                }
                _ = again.tick(), if put_off => {
                    put_off = false;
                    for message in self.unacknowledged.values() {
                        up.send(message.clone()).await?;
                    }
                }
                () = std::future::ready(()), if has_past => {
                    let time = self.past.time;
                    self.past.time = time + PAST_STEP_MS;
                    let tick = self.past.machine.advance(time);
                    self.send(tick, &up).await?;
                }
            }
        }
    }

    async fn send(&mut self, tick: Tick, up: &mpsc::Sender<v1::CollectorMessage>) -> Result<()> {
        for item in items(tick.payloads, &mut self.seq) {
            if self.unacknowledged.len() >= OUTSTANDING_MAX {
                return Ok(());
            }
            let message = convert::item_to_proto(&item);
            self.unacknowledged.insert(item.seq, message.clone());
            up.send(message).await?;
        }
        Ok(())
    }

    /// Whether something was put off.
    fn settle(&mut self, answer: v1::AggregatorMessage) -> Result<bool> {
        let ranges = match answer.kind {
            Some(Down::Ack(ack)) => ack.ranges,
            Some(Down::Reject(reject)) if reject.retry => return Ok(true),
            Some(Down::Reject(reject)) => {
                tracing::warn!(reason = reject.message, "the server refused items");
                reject.ranges
            }
            _ => return Ok(false),
        };
        let ranges = convert::ranges_from_proto("ranges", &ranges)?;
        self.unacknowledged.retain(|seq, _| !ranges.contains(*seq));
        Ok(false)
    }

    fn hello(&self) -> Up {
        let oldest = self.unacknowledged.keys().next().copied();
        Up::Hello(v1::Hello {
            protocol_version: proto::PROTOCOL_VERSION,
            machine_id: self.now.id().to_string(),
            facts: Some(convert::facts_to_proto(&self.now.facts())),
            labels: convert::labels_to_proto(&self.now.labels()),
            spool_epoch: self.epoch,
            oldest_unacknowledged_seq: oldest.unwrap_or(self.seq + 1),
            time_unix_ms: UnixMillis::from(SystemTime::now()).0,
            interval: Some(convert::duration_from_ms(self.interval.as_millis() as i64)),
        })
    }
}
