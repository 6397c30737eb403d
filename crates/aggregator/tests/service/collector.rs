//! A collector that says what a test tells it to.

use std::time::Duration;

use model::{Frame, Kind, Labels, Layout, MachineId, SeqRanges, Series, UnixMillis, metric};
use proto::v1::aggregator_message::Kind as Answer;
use proto::v1::collector_message::Kind as Message;
use proto::v1::collector_service_client::CollectorServiceClient;
use proto::{convert, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::cluster::now;

pub(crate) struct Collector {
    pub(crate) machine: MachineId,
    pub(crate) epoch: u64,
    host_name: String,
    /// Number of the latest item.
    pub(crate) seq: u64,
    pub(crate) out: mpsc::Sender<v1::CollectorMessage>,
    answers: Streaming<v1::AggregatorMessage>,
    acknowledged: SeqRanges,
    rejects: Vec<v1::Reject>,
}

/// Total CPU, memory, bytes received by one interface.
pub(crate) fn layout() -> Layout {
    let labels = [("network.interface.name", "eth0"), ("network.io.direction", "receive")];
    let series = vec![
        metric::CPU_UTILIZATION.alone(),
        metric::MEMORY_UTILIZATION.alone(),
        metric::NETWORK_IO.with(Labels::of(labels)),
    ];
    Layout::new(series).unwrap()
}

/// Many series, to fill queues.
pub(crate) fn wide_layout(series: usize) -> Layout {
    let one = |i: usize| Series {
        metric: "wide".into(),
        labels: Labels::of([("i", i.to_string().as_str())]),
        kind: Kind::Gauge,
        unit: "1".into(),
    };
    Layout::new((1..=series).map(one).collect()).unwrap()
}

pub(crate) fn frame(layout: &Layout, time: UnixMillis, values: &[f64]) -> v1::Frame {
    let frame = Frame { time, layout: layout.id(), values: values.to_vec() };
    convert::frame_to_proto(&frame)
}

impl Collector {
    pub(crate) async fn connect(channel: Channel, machine: MachineId, host_name: &str) -> Self {
        let (out, messages) = mpsc::channel(16);
        let mut client = CollectorServiceClient::new(channel);
        let answers = client.connect(ReceiverStream::new(messages)).await.unwrap().into_inner();
        Self {
            machine,
            epoch: 1,
            host_name: host_name.into(),
            seq: 0,
            out,
            answers,
            acknowledged: SeqRanges::new(),
            rejects: Vec::new(),
        }
    }

    pub(crate) fn greeting(&self) -> v1::Hello {
        v1::Hello {
            protocol_version: proto::PROTOCOL_VERSION,
            machine_id: self.machine.to_string(),
            facts: Some(v1::MachineFacts {
                host_name: self.host_name.clone(),
                os_type: "linux".into(),
                logical_cpus: 4,
                ..Default::default()
            }),
            labels: [("env".to_owned(), "dev".to_owned())].into(),
            spool_epoch: self.epoch,
            oldest_unacknowledged_seq: 1,
            time_unix_ms: now().0,
            interval: Some(convert::duration_from_ms(1000)),
        }
    }

    pub(crate) async fn hello(&mut self) {
        let hello = self.greeting();
        self.say(0, Message::Hello(hello)).await;
    }

    pub(crate) async fn say(&mut self, seq: u64, kind: Message) {
        self.out.send(v1::CollectorMessage { seq, kind: Some(kind) }).await.unwrap();
    }

    /// Sends an item under the next number and returns that.
    pub(crate) async fn item(&mut self, kind: Message) -> u64 {
        self.seq += 1;
        self.say(self.seq, kind).await;
        self.seq
    }

    pub(crate) async fn layout(&mut self, layout: &Layout) {
        self.say(0, Message::Layout(convert::layout_to_proto(layout))).await;
    }

    /// A frame of now.
    pub(crate) async fn frame(&mut self, layout: &Layout, values: &[f64]) -> u64 {
        self.frame_at(layout, now(), values).await
    }

    pub(crate) async fn frame_at(
        &mut self,
        layout: &Layout,
        time: UnixMillis,
        values: &[f64],
    ) -> u64 {
        self.item(Message::Frame(frame(layout, time, values))).await
    }

    pub(crate) async fn goodbye(&mut self, reason: v1::goodbye::Reason) {
        self.say(0, Message::Goodbye(v1::Goodbye { reason: reason.into() })).await;
    }

    /// The next answer of any kind.
    pub(crate) async fn answer(&mut self) -> Result<Option<Answer>, Status> {
        let answer = tokio::time::timeout(Duration::from_secs(20), self.answers.message());
        let answer = answer.await.expect("an answer within 20 s");
        answer.map(|message| message.map(|message| message.kind.expect("a known kind")))
    }

    pub(crate) async fn welcome(&mut self) -> v1::Welcome {
        match self.answer().await {
            Ok(Some(Answer::Welcome(welcome))) => welcome,
            other => panic!("expected a welcome, found {other:?}"),
        }
    }

    pub(crate) async fn settings(&mut self) -> v1::Settings {
        loop {
            match self.answer().await {
                Ok(Some(Answer::Settings(settings))) => return settings,
                Ok(Some(Answer::Ack(_))) => {}
                other => panic!("expected settings, found {other:?}"),
            }
        }
    }

    /// Reads answers until the item is acknowledged.
    pub(crate) async fn acknowledged(&mut self, seq: u64) {
        while !self.acknowledged.contains(seq) {
            match self.answer().await {
                Ok(Some(Answer::Ack(ack))) => {
                    let ranges = convert::ranges_from_proto("ranges", &ack.ranges).unwrap();
                    self.acknowledged.extend(ranges.iter());
                }
                Ok(Some(Answer::Reject(reject))) => self.rejects.push(reject),
                Ok(Some(_)) => {}
                other => panic!("expected an acknowledgement of {seq}, found {other:?}"),
            }
        }
    }

    /// Reads answers until the item is acknowledged (true), or refused (false).
    pub(crate) async fn settled(&mut self, seq: u64) -> bool {
        while !self.acknowledged.contains(seq) {
            match self.answer().await {
                Ok(Some(Answer::Ack(ack))) => {
                    let ranges = convert::ranges_from_proto("ranges", &ack.ranges).unwrap();
                    self.acknowledged.extend(ranges.iter());
                }
                Ok(Some(Answer::Reject(reject))) => {
                    let ranges = convert::ranges_from_proto("ranges", &reject.ranges).unwrap();
                    if ranges.contains(seq) {
                        return false;
                    }
                }
                Ok(Some(_)) => {}
                other => panic!("expected {seq} to be settled, found {other:?}"),
            }
        }
        true
    }

    /// What is acknowledged so far, as far as it was read.
    pub(crate) fn acknowledged_so_far(&self) -> &SeqRanges {
        &self.acknowledged
    }

    /// The next refusal.
    pub(crate) async fn reject(&mut self) -> v1::Reject {
        loop {
            if !self.rejects.is_empty() {
                return self.rejects.remove(0);
            }
            match self.answer().await {
                Ok(Some(Answer::Reject(reject))) => return reject,
                Ok(Some(Answer::Ack(ack))) => {
                    let ranges = convert::ranges_from_proto("ranges", &ack.ranges).unwrap();
                    self.acknowledged.extend(ranges.iter());
                }
                Ok(Some(_)) => {}
                other => panic!("expected a refusal, found {other:?}"),
            }
        }
    }

    /// Reads until the stream ends: the status it ends with, or `None` when it ends well.
    pub(crate) async fn end(&mut self) -> Option<Status> {
        loop {
            match self.answer().await {
                Ok(None) => return None,
                Err(status) => return Some(status),
                Ok(Some(Answer::Ack(ack))) => {
                    let ranges = convert::ranges_from_proto("ranges", &ack.ranges).unwrap();
                    self.acknowledged.extend(ranges.iter());
                }
                Ok(Some(_)) => {}
            }
        }
    }

    /// Nothing comes within this time.
    pub(crate) async fn hears_nothing_for(&mut self, time: Duration) {
        if let Ok(answer) = tokio::time::timeout(time, self.answers.message()).await {
            panic!("expected nothing, found {answer:?}");
        }
    }

    /// Says that there is nothing more to say, and keeps listening.
    pub(crate) fn finish(&mut self) {
        self.out = mpsc::channel(1).0;
    }
}
