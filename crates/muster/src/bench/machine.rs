//! One made-up machine: speaks the collector's protocol over a connection of its own.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use model::{SeqRanges, UnixMillis};
use proto::v1;
use proto::v1::aggregator_message::Kind as Down;
use proto::v1::collector_message::Kind as Up;
use proto::v1::collector_service_client::CollectorServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::fleet::{Fleet, Outcome, id, name};
use super::pace::Pace;
use super::values::{Values, layout};

/// Items on their way at once; beyond it the machine waits for acknowledgements.
const IN_FLIGHT_MAX: usize = 64;

/// How long acknowledgements may fail to come before the machine gives up on them.
const PATIENCE: Duration = Duration::from_secs(30);

/// An item on its way.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    seq: u64,
    sent: Instant,
    carries: Carries,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    Frame,
    Logs(u64),
}

impl Fleet {
    /// Connects, sends what there is to send, waits for what is outstanding, says goodbye.
    pub(super) async fn stream(&self, index: usize) -> Result<Outcome> {
        let channel = self.target.connect().await.context("failed to connect")?;
        let mut client = CollectorServiceClient::new(channel);
        let (up, queue) = mpsc::channel(IN_FLIGHT_MAX + 4);
        let say = async |seq, kind| up.send(v1::CollectorMessage { seq, kind: Some(kind) }).await;
        say(0, self.hello(index)).await?;
        let mut down = client.connect(ReceiverStream::new(queue)).await?.into_inner();
        let Some(Down::Welcome(_)) = down.message().await?.and_then(|m| m.kind) else {
            bail!("the first answer was not a welcome");
        };
        self.connected.fetch_add(1, Ordering::Relaxed);

        let plan = &self.plan;
        let mut generation = 0;
        let mut layout = layout(plan.series, generation);
        say(0, Up::Layout(proto::convert::layout_to_proto(&layout))).await?;
        let mut values = Values::new(plan.seed ^ index as u64, layout.len());
        let mut pace = Pace::new(plan, index as f64 * 0.618 % 1.0);
        let mut logs = super::logs::Source::new(plan, index);
        let mut outcome = Outcome::default();
        let mut in_flight: VecDeque<InFlight> = VecDeque::new();
        let mut settled = SeqRanges::new();
        let (mut seq, mut sending) = (0, true);
        let mut answered = Instant::now();
        while sending || !in_flight.is_empty() {
            if in_flight.is_empty() {
                answered = Instant::now();
            }
            tokio::select! {
                answer = down.message() => {
                    let Some(message) = answer? else { bail!("the server ended the stream") };
                    let Some((ranges, accepted)) = settle(message)? else { continue };
                    settled.extend(ranges.iter());
                    answered = Instant::now();
                    in_flight.retain(|item| {
                        let done = settled.contains(item.seq);
                        if done {
                            self.count(&mut outcome, *item, accepted);
                        }
                        !done
                    });
                }
                due = pace.next(), if sending && in_flight.len() < IN_FLIGHT_MAX => {
                    let Some(time) = due else {
                        sending = false;
                        continue;
                    };
                    let wanted = plan.generation(outcome.frames_sent);
                    if wanted != generation {
                        generation = wanted;
                        layout = super::values::layout(plan.series, generation);
                        say(0, Up::Layout(proto::convert::layout_to_proto(&layout))).await?;
                    }
                    outcome.frames_sent += 1;
                    seq += 1;
                    let frame = v1::Frame {
                        time_unix_ms: time.0,
                        layout_id: layout.id().0.to_vec(),
                        values: values.advance().to_vec(),
                    };
                    in_flight.push_back(InFlight { seq, sent: Instant::now(), carries: Carries::Frame });
                    say(seq, Up::Frame(frame)).await?;
                    let events = logs.due(time);
                    if !events.is_empty() {
                        let count = events.len() as u64;
                        outcome.logs_sent += count;
                        seq += 1;
                        in_flight.push_back(InFlight { seq, sent: Instant::now(), carries: Carries::Logs(count) });
                        say(seq, Up::LogBatch(v1::LogBatch { events })).await?;
                    }
                }
                () = tokio::time::sleep_until((answered + PATIENCE).into()), if !in_flight.is_empty() => break,
            }
        }
        let reason = v1::goodbye::Reason::Stopped.into();
        say(0, Up::Goodbye(v1::Goodbye { reason })).await.ok();
        drop(up);
        while let Ok(Ok(Some(_))) =
            tokio::time::timeout(Duration::from_secs(2), down.message()).await
        {}
        Ok(outcome)
    }

    fn count(&self, outcome: &mut Outcome, item: InFlight, accepted: bool) {
        match (item.carries, accepted) {
            (Carries::Frame, true) => {
                outcome.frames_acknowledged += 1;
                self.frames_acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            (Carries::Frame, false) => outcome.frames_rejected += 1,
            (Carries::Logs(events), true) => outcome.logs_acknowledged += events,
            (Carries::Logs(_), false) => {}
        }
        outcome.latency.record(item.sent.elapsed());
    }

    fn hello(&self, index: usize) -> Up {
        let labels = [("env", "bench"), ("rack", ["a", "b", "c", "d"][index % 4])];
        Up::Hello(v1::Hello {
            protocol_version: proto::PROTOCOL_VERSION,
            machine_id: id(self.plan.seed, index).to_string(),
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
            interval: Some(proto::convert::duration_from_ms(self.plan.interval.as_millis() as i64)),
        })
    }
}

/// What a message settles, and whether it was accepted; `None` when it settles nothing.
fn settle(message: v1::AggregatorMessage) -> Result<Option<(SeqRanges, bool)>> {
    let (ranges, accepted) = match message.kind {
        Some(Down::Ack(ack)) => (ack.ranges, true),
        Some(Down::Reject(reject)) => {
            tracing::warn!(reason = reject.message, "the server refused items");
            (reject.ranges, false)
        }
        _ => return Ok(None),
    };
    Ok(Some((proto::convert::ranges_from_proto("ranges", &ranges)?, accepted)))
}
