//! One loop that owns the spool and the line: takes in what was read, keeps it, sends it, and forgets it
//! when it is acknowledged. Never waits for the network before it takes in the next readings.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{EventKind, Labels, Layout, MachineFacts, MachineId, Payload, UnixMillis};
use prost::Message as _;
use proto::v1;
use proto::v1::aggregator_message::Kind as Answer;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::Status;

use crate::CollectorStats;
use crate::logs::LogBatch;
use crate::power::Outlook;
use crate::session::{Session, ranges};
use crate::settings::Settings;
use crate::spool::{Spool, Synced};
use crate::uplink::{Event, Target, Uplink};

#[cfg(test)]
mod tests;

/// Twice within the second that a power cut may cost.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// How long the end waits for the last acknowledgements.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long sources of logs have to hand over what they hold.
const LAST_LOGS: Duration = Duration::from_secs(1);

/// What one tick has to deliver.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Every layout that the frames use.
    pub(crate) layouts: Vec<Layout>,
    pub(crate) payloads: Vec<Payload>,
    /// Who waits until it is in the spool.
    pub(crate) kept: Option<oneshot::Sender<()>>,
}

/// Who says hello.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub(crate) machine_id: MachineId,
    pub(crate) labels: Labels,
    pub(crate) facts: fn() -> MachineFacts,
    /// Wall clock, for the skew that the aggregator computes.
    pub(crate) clock: fn() -> UnixMillis,
}

#[derive(Debug)]
pub(crate) struct Delivery {
    introduction: Introduction,
    spool: Spool,
    uplink: Uplink,
    stream: Option<Stream>,
    settings: watch::Sender<Settings>,
    outlook: watch::Receiver<Outlook>,
    stats: Arc<CollectorStats>,
    syncing: Option<JoinHandle<Synced>>,
}

/// A stream that was welcomed.
#[derive(Debug)]
struct Stream {
    /// Absent when this side has said all that it has to say.
    outgoing: Option<mpsc::Sender<Bytes>>,
    session: Session,
    /// Whether asking the session for the next message may find one.
    may_send: bool,
}

impl Delivery {
    pub(crate) fn new(
        introduction: Introduction,
        spool: Spool,
        target: Target,
        settings: watch::Sender<Settings>,
        outlook: watch::Receiver<Outlook>,
        stats: Arc<CollectorStats>,
    ) -> Self {
        let uplink = Uplink::new(target, Instant::now());
        Self { introduction, spool, uplink, stream: None, settings, outlook, stats, syncing: None }
    }

    /// Runs until `batches` ends; then says goodbye and closes the spool. What comes of `logs` does not
    /// keep readings waiting.
    pub(crate) async fn run(
        mut self,
        mut batches: mpsc::Receiver<Batch>,
        mut logs: mpsc::Receiver<LogBatch>,
    ) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                batch = batches.recv() => match batch {
                    Some(batch) => self.take_in(batch),
                    None => break,
                },
                Some(batch) = logs.recv() => self.take_in_logs(batch),
                event = self.uplink.event() => self.on_event(event),
                permit = permit(self.stream.as_ref()) => send_next(permit, &mut self.stream, &mut self.spool),
                synced = finished(&mut self.syncing) => self.on_synced(synced),
                _ = housekeeping.tick() => self.keep_house(),
            }
        }
        // What cannot be read again: what programs sent, and the end of a pipe.
        let rest = async {
            while let Some(batch) = logs.recv().await {
                self.take_in_logs(batch);
            }
        };
        let _ = tokio::time::timeout(LAST_LOGS, rest).await;
        let reason = goodbye_reason(*self.outlook.borrow());
        self.say_goodbye(reason).await;
        self.stream = None;
        if self.syncing.is_some() {
            let synced = finished(&mut self.syncing).await;
            self.on_synced(synced);
        }
        self.spool.close();
    }

    fn take_in(&mut self, batch: Batch) {
        for layout in &batch.layouts {
            self.spool.learn(layout);
        }
        for payload in batch.payloads {
            let woke = matches!(&payload, Payload::Event(event) if event.kind == EventKind::Resume);
            let record = self.spool.append(payload);
            if woke {
                tracing::info!("woke up; connecting anew");
                self.stream = None;
                self.uplink.reconnect_now(Instant::now());
            }
            if let (Some(record), Some(stream)) = (record, &mut self.stream) {
                stream.session.offer(record);
                stream.may_send = true;
            }
        }
        tell_kept(batch.kept);
    }

    fn take_in_logs(&mut self, batch: LogBatch) {
        if batch.events.is_empty() {
            self.spool.mark(&batch.bookmarks);
            return tell_kept(batch.kept);
        }
        let record = self.spool.append_marked(Payload::Logs(batch.events), &batch.bookmarks);
        let Some(record) = record else { return };
        if let Some(stream) = &mut self.stream {
            stream.session.offer(record);
            stream.may_send = true;
        }
        tell_kept(batch.kept);
    }

    fn on_event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Due => {
                let hello = self.hello();
                self.uplink.connect(hello);
            }
            Event::Connected(connection) => {
                let (outgoing, welcome) = self.uplink.opened(*connection, now);
                self.stats.add_connect();
                self.spool.acknowledge(ranges(&welcome.acknowledged));
                self.apply(welcome.settings.unwrap_or_default());
                let session = Session::new(Arc::clone(&self.stats), now);
                self.stream = Some(Stream { outgoing: Some(outgoing), session, may_send: true });
            }
            Event::Message(message) => self.on_answer(message, now),
            Event::Ended(status) => self.lose_stream(&status, now),
        }
    }

    fn on_answer(&mut self, message: v1::AggregatorMessage, now: Instant) {
        let Some(stream) = &mut self.stream else { return };
        stream.may_send = true;
        match message.kind {
            Some(Answer::Ack(ack)) => {
                stream.session.acknowledged(&ranges(&ack.ranges), &mut self.spool, now);
            }
            Some(Answer::Reject(reject)) if reject.ranges.is_empty() => {
                tracing::error!(message = %reject.message, "the aggregator refused a layout");
            }
            Some(Answer::Reject(reject)) => stream.session.rejected(
                reject.reason(),
                &reject.message,
                reject.retry,
                &ranges(&reject.ranges),
                &mut self.spool,
                now,
            ),
            Some(Answer::Settings(settings)) => self.apply(settings),
            // A second welcome says nothing; an unknown kind is from a newer aggregator.
            Some(Answer::Welcome(_)) | None => {}
        }
    }

    fn apply(&mut self, settings: v1::Settings) {
        let own_interval = self.settings.borrow().own_interval;
        let settings = Settings::from_proto(settings, own_interval);
        self.settings.send_if_modified(|current| {
            let changed = *current != settings;
            // To ask for nothing is no news after nobody was heard.
            let asks = |settings: &Settings| Settings {
                log_sources: Some(settings.log_sources.clone().unwrap_or_default()),
                ..settings.clone()
            };
            if asks(current) != asks(&settings) {
                tracing::info!(?settings, "the aggregator changed the settings");
            }
            *current = settings;
            changed
        });
    }

    fn lose_stream(&mut self, status: &Status, now: Instant) {
        let was_of_use = self.stream.take().is_some_and(|s| s.session.acknowledged_any());
        self.uplink.ended(status, was_of_use, now);
    }

    fn keep_house(&mut self) {
        let now = Instant::now();
        if self.syncing.is_none()
            && let Some(job) = self.spool.keep_house()
        {
            // Seconds may pass on a busy disk.
            self.syncing = Some(tokio::task::spawn_blocking(|| job.run()));
        }
        if let Some(stream) = &mut self.stream {
            stream.may_send |= stream.session.retry_at().is_some_and(|at| at <= now);
            if stream.session.is_stalled(now) {
                let status = Status::deadline_exceeded("nothing was acknowledged for a minute");
                self.lose_stream(&status, now);
            }
        }
    }

    fn on_synced(&mut self, synced: Option<Synced>) {
        match synced {
            Some(synced) => self.spool.synced(synced),
            None => tracing::error!("syncing the spool panicked"),
        }
    }

    fn hello(&self) -> v1::Hello {
        // Not what an aggregator asked for before: this one may ask for nothing.
        let interval = self.settings.borrow().own_interval;
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        v1::Hello {
            protocol_version: proto::PROTOCOL_VERSION,
            machine_id: self.introduction.machine_id.to_string(),
            facts: Some(proto::convert::facts_to_proto(&(self.introduction.facts)())),
            labels: proto::convert::labels_to_proto(&self.introduction.labels),
            spool_epoch: self.spool.epoch().0,
            oldest_unacknowledged_seq: self.spool.oldest_unacknowledged(),
            time_unix_ms: (self.introduction.clock)().0,
            interval: Some(proto::convert::duration_from_ms(interval_ms)),
        }
    }

    /// Sends what is fresh, then goodbye, and waits a moment for the last acknowledgements and for the
    /// aggregator to end the stream. Before it does, hanging up could overtake the goodbye. What is not
    /// acknowledged by then stays in the spool.
    async fn say_goodbye(&mut self, reason: v1::goodbye::Reason) {
        let goodbye = v1::Goodbye { reason: reason.into() };
        let kind = Some(v1::collector_message::Kind::Goodbye(goodbye));
        let mut goodbye = Some(Bytes::from(v1::CollectorMessage { seq: 0, kind }.encode_to_vec()));
        let deadline = tokio::time::sleep(FAREWELL);
        tokio::pin!(deadline);
        while let Some(stream) = &mut self.stream {
            stream.may_send = true;
            if goodbye.is_none() {
                stream.outgoing = None;
            }
            tokio::select! {
                () = &mut deadline => return,
                permit = permit(self.stream.as_ref()) => {
                    let (Some(stream), Some(permit)) = (&mut self.stream, permit) else { return };
                    let fresh = stream.session.next_fresh(&mut self.spool, Instant::now());
                    if let Some(message) = fresh.or_else(|| goodbye.take()) {
                        permit.send(message);
                    }
                }
                event = self.uplink.event() => match event {
                    Event::Message(message) => self.on_answer(message, Instant::now()),
                    _ => return,
                },
            }
        }
    }
}

/// Whoever waits may have gone.
fn tell_kept(kept: Option<oneshot::Sender<()>>) {
    if let Some(kept) = kept {
        let _ = kept.send(());
    }
}

/// Why the collector ends, as far as it is known. Sleep ends no process.
fn goodbye_reason(outlook: Outlook) -> v1::goodbye::Reason {
    match outlook {
        Outlook::Stays | Outlook::Sleeps => v1::goodbye::Reason::Stopped,
        Outlook::GoesDown => v1::goodbye::Reason::Shutdown,
        Outlook::Reboots => v1::goodbye::Reason::Reboot,
    }
}

type Permit = mpsc::OwnedPermit<Bytes>;

/// Room for one message; never while there is nothing to send. `None` when the stream is gone.
async fn permit(stream: Option<&Stream>) -> Option<Permit> {
    match stream {
        Some(Stream { outgoing: Some(outgoing), may_send: true, .. }) => {
            outgoing.clone().reserve_owned().await.ok()
        }
        _ => std::future::pending().await,
    }
}

fn send_next(permit: Option<Permit>, stream: &mut Option<Stream>, spool: &mut Spool) {
    let Some(stream) = stream else { return };
    // Without a permit the stream is ending, and the uplink is about to say why.
    let message = permit.and_then(|permit| {
        let message = stream.session.next(spool, Instant::now())?;
        permit.send(message);
        Some(())
    });
    stream.may_send = message.is_some();
}

/// `None` when the job panicked.
async fn finished(syncing: &mut Option<JoinHandle<Synced>>) -> Option<Synced> {
    let Some(handle) = syncing else { return std::future::pending().await };
    let synced = handle.await;
    *syncing = None;
    synced.ok()
}
