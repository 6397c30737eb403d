//! One made-up machine: speaks the collector's protocol over a connection of its own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use model::{Layout, MachineId, SeqRanges, UnixMillis};
use proto::v1;
use proto::v1::aggregator_message::Kind as Down;
use proto::v1::collector_message::Kind as Up;
use proto::v1::collector_service_client::CollectorServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::latency::Latency;
use super::values::Values;

/// What all machines share.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) target: Endpoint,
    pub(super) layout: Layout,
    pub(super) interval: Duration,
    /// As fast as it is acknowledged, instead of at the interval.
    pub(super) max: bool,
    pub(super) frames_acknowledged: AtomicU64,
    pub(super) connected: AtomicU64,
}

/// What one machine sent, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) frames_sent: u64,
    pub(super) frames_acknowledged: u64,
    pub(super) frames_rejected: u64,
    pub(super) latency: Latency,
}

/// Frames on their way at once with `max`; beyond it the machine waits for acknowledgements.
const IN_FLIGHT_MAX: usize = 64;

/// How long the last acknowledgements may take.
const DRAIN: Duration = Duration::from_secs(30);

pub(super) fn id(seed: u64, index: usize) -> MachineId {
    MachineId::from_u128((u128::from(seed) << 64 | 0xbe7c << 32) + index as u128 + 1)
        .expect("not zero")
}

pub(super) fn name(index: usize) -> String {
    format!("bench-{index:04}")
}

impl Fleet {
    /// Connects, sends until `deadline`, waits for what is outstanding, says goodbye.
    pub(super) async fn run(&self, seed: u64, index: usize, deadline: Instant) -> Result<Outcome> {
        let channel = self.target.connect().await.context("failed to connect")?;
        let mut client = CollectorServiceClient::new(channel);
        let (up, queue) = mpsc::channel(IN_FLIGHT_MAX + 4);
        up.send(self.hello(seed, index)).await?;
        let mut down = client.connect(ReceiverStream::new(queue)).await?.into_inner();
        let Some(Down::Welcome(_)) = down.message().await?.and_then(|m| m.kind) else {
            bail!("the first answer was not a welcome");
        };
        self.connected.fetch_add(1, Ordering::Relaxed);
        let layout = proto::convert::layout_to_proto(&self.layout);
        up.send(v1::CollectorMessage { seq: 0, kind: Some(Up::Layout(layout)) }).await?;

        let mut values = Values::new(seed ^ index as u64, self.layout.len());
        let mut outcome = Outcome::default();
        let mut in_flight: VecDeque<(u64, Instant)> = VecDeque::new();
        let mut settled = SeqRanges::new();
        let mut ticks = tokio::time::interval_at(
            (Instant::now() + self.interval.mul_f64(index as f64 * 0.618 % 1.0)).into(),
            self.interval,
        );
        // A late frame is sent late, not left out: what is measured is the server.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut drain_until = deadline + DRAIN;
        loop {
            let sending = Instant::now() < deadline;
            if !sending && in_flight.is_empty() {
                break;
            }
            let may_send = sending && (!self.max || in_flight.len() < IN_FLIGHT_MAX);
            tokio::select! {
                answer = down.message() => {
                    let Some(message) = answer? else { bail!("the server ended the stream") };
                    self.settle(message, &mut outcome, &mut settled)?;
                    let now = Instant::now();
                    in_flight.retain(|(seq, sent)| {
                        let done = settled.contains(*seq);
                        if done {
                            outcome.latency.record(now - *sent);
                        }
                        !done
                    });
                }
                () = async { if !self.max { ticks.tick().await; } }, if may_send => {
                    outcome.frames_sent += 1;
                    let frame = v1::Frame {
                        time_unix_ms: UnixMillis::from(SystemTime::now()).0,
                        layout_id: self.layout.id().0.to_vec(),
                        values: values.advance().to_vec(),
                    };
                    in_flight.push_back((outcome.frames_sent, Instant::now()));
                    up.send(v1::CollectorMessage { seq: outcome.frames_sent, kind: Some(Up::Frame(frame)) }).await?;
                    drain_until = drain_until.max(Instant::now() + DRAIN);
                }
                () = tokio::time::sleep_until(drain_until.into()) => break,
            }
        }
        let reason = v1::goodbye::Reason::Stopped.into();
        up.send(v1::CollectorMessage { seq: 0, kind: Some(Up::Goodbye(v1::Goodbye { reason })) })
            .await
            .ok();
        drop(up);
        while let Ok(Ok(Some(_))) =
            tokio::time::timeout(Duration::from_secs(2), down.message()).await
        {}
        Ok(outcome)
    }

    fn hello(&self, seed: u64, index: usize) -> v1::CollectorMessage {
        let labels = [("env", "bench"), ("rack", ["a", "b", "c", "d"][index % 4])];
        let hello = v1::Hello {
            protocol_version: proto::PROTOCOL_VERSION,
            machine_id: id(seed, index).to_string(),
            facts: Some(v1::MachineFacts {
                host_name: name(index),
                os_type: "linux".into(),
                logical_cpus: 4,
                memory_bytes: 16_000_000_000,
                ..Default::default()
            }),
            labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            // Each run is a spool of its own.
            spool_epoch: UnixMillis::from(SystemTime::now()).0.unsigned_abs().max(1),
            oldest_unacknowledged_seq: 1,
            time_unix_ms: UnixMillis::from(SystemTime::now()).0,
            interval: Some(proto::convert::duration_from_ms(self.interval.as_millis() as i64)),
        };
        v1::CollectorMessage { seq: 0, kind: Some(Up::Hello(hello)) }
    }

    fn settle(
        &self,
        message: v1::AggregatorMessage,
        outcome: &mut Outcome,
        settled: &mut SeqRanges,
    ) -> Result<()> {
        let (ranges, rejected) = match message.kind {
            Some(Down::Ack(ack)) => (ack.ranges, false),
            Some(Down::Reject(reject)) => {
                tracing::warn!(reason = reject.message, "the server refused items");
                (reject.ranges, true)
            }
            _ => return Ok(()),
        };
        let ranges = proto::convert::ranges_from_proto("ranges", &ranges)?;
        let frames = ranges.count();
        settled.extend(ranges.iter());
        match rejected {
            true => outcome.frames_rejected += frames,
            false => {
                outcome.frames_acknowledged += frames;
                self.frames_acknowledged.fetch_add(frames, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}
