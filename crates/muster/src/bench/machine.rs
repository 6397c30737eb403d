//! One made-up machine: speaks the collector's protocol over a connection of its own.

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
use super::outstanding::{self, Carries, Item, Outstanding, Verdict};
use super::pace::Pace;
use super::values::{Values, layout};

impl Fleet {
    /// Connects, sends what there is to send, waits for what is outstanding, says goodbye.
    pub(super) async fn stream(&self, index: usize) -> Result<Outcome> {
        let channel = self.target.connect().await.context("failed to connect")?;
        let mut client = CollectorServiceClient::new(channel);
        let (up, queue) = mpsc::channel(outstanding::MAX + 4);
        // Has no number: is no item.
        let say = async |kind| up.send(v1::CollectorMessage { seq: 0, kind: Some(kind) }).await;
        say(self.hello(index)).await?;
        let mut down = client.connect(ReceiverStream::new(queue)).await?.into_inner();
        let Some(Down::Welcome(_)) = down.message().await?.and_then(|m| m.kind) else {
            bail!("the first answer was not a welcome");
        };
        self.connected.fetch_add(1, Ordering::Relaxed);

        let plan = &self.plan;
        let mut generation = 0;
        let mut layout = layout(plan.series, generation);
        say(Up::Layout(proto::convert::layout_to_proto(&layout))).await?;
        let mut values = Values::new(plan.seed ^ index as u64, layout.len());
        let mut pace = Pace::new(plan, index as f64 * 0.618 % 1.0);
        let mut logs = super::logs::Source::new(plan, index);
        let mut outcome = Outcome::default();
        let mut outstanding = Outstanding::default();
        let (mut seq, mut sending) = (0, true);
        let mut item = |carries, kind| {
            seq += 1;
            let message = v1::CollectorMessage { seq, kind: Some(kind) };
            Item { message, carries, sent: Instant::now(), put_off: false }
        };
        let mut answered = Instant::now();
        while sending || !outstanding.is_empty() {
            if outstanding.is_empty() {
                answered = Instant::now();
            }
            let again = outstanding.again_at();
            tokio::select! {
                answer = down.message() => {
                    let Some(message) = answer? else { bail!("the server ended the stream") };
                    let Some((ranges, verdict)) = settle(message)? else { continue };
                    answered = Instant::now();
                    for item in outstanding.settle(&ranges, verdict, answered) {
                        self.count(&mut outcome, &item, verdict);
                    }
                }
                due = pace.next(), if sending && outstanding.has_room() => {
                    let Some(time) = due else {
                        sending = false;
                        continue;
                    };
                    let wanted = plan.generation(outcome.frames_sent);
                    if wanted != generation {
                        generation = wanted;
                        layout = super::values::layout(plan.series, generation);
                        say(Up::Layout(proto::convert::layout_to_proto(&layout))).await?;
                    }
                    outcome.frames_sent += 1;
                    let frame = v1::Frame {
                        time_unix_ms: time.0,
                        layout_id: layout.id().0.to_vec(),
                        values: values.advance().to_vec(),
                    };
                    let frame = item(Carries::Frame, Up::Frame(frame));
                    outstanding.sent(frame.clone());
                    up.send(frame.message).await?;
                    let events = logs.due(time);
                    if !events.is_empty() {
                        let count = events.len() as u64;
                        outcome.logs_sent += count;
                        let batch = Up::LogBatch(v1::LogBatch { events });
                        let batch = item(Carries::Logs(count), batch);
                        outstanding.sent(batch.clone());
                        up.send(batch.message).await?;
                    }
                }
                () = until(again), if again.is_some() => {
                    for message in outstanding.again() {
                        up.send(message).await?;
                    }
                }
                () = until(Some(answered + plan.patience)), if !outstanding.is_empty() => break,
            }
        }
        let reason = v1::goodbye::Reason::Stopped.into();
        say(Up::Goodbye(v1::Goodbye { reason })).await.ok();
        drop(up);
        while let Ok(Ok(Some(_))) =
            tokio::time::timeout(Duration::from_secs(2), down.message()).await
        {}
        Ok(outcome)
    }

    fn count(&self, outcome: &mut Outcome, item: &Item, verdict: Verdict) {
        match (item.carries, verdict == Verdict::Acknowledged) {
            (Carries::Frame, true) => {
                outcome.frames_acknowledged += 1;
                self.frames_acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            (Carries::Frame, false) => outcome.frames_rejected += 1,
            (Carries::Logs(events), true) => outcome.logs_acknowledged += events,
            (Carries::Logs(_), false) => {}
        }
        if item.carries == Carries::Frame && item.put_off {
            outcome.frames_put_off += 1;
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

/// Which items a message is about, and what it says of them; `None` when it is about none.
fn settle(message: v1::AggregatorMessage) -> Result<Option<(SeqRanges, Verdict)>> {
    let (ranges, verdict) = match message.kind {
        Some(Down::Ack(ack)) => (ack.ranges, Verdict::Acknowledged),
        Some(Down::Reject(reject)) if reject.retry => (reject.ranges, Verdict::PutOff),
        Some(Down::Reject(reject)) => {
            tracing::warn!(reason = reject.message, "the server refused items");
            (reject.ranges, Verdict::Refused)
        }
        _ => return Ok(None),
    };
    Ok(Some((proto::convert::ranges_from_proto("ranges", &ranges)?, verdict)))
}

/// Never, without a time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
