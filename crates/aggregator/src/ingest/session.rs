//! One collector's stream, from hello to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use model::{Caller, Headline, MachineId, SeqRanges, SpoolEpoch, limits, probe};
use proto::v1::collector_message::Kind as Message;
use proto::v1::goodbye::Reason as GoodbyeReason;
use proto::{convert, v1};
use storage::StorageError;
use storage::live::Lease;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::admission::{self, Layouts, Refusal};
use super::hello::{self, Greeting};
use super::log_counts::LogCounts;
use super::outbox::{End, Outbox};
use super::skew::Skew;
use super::{Dock, claim, intake};
use crate::clock::Now;
use crate::metrics::Reason;
use crate::roll::pulse::Goodbye;
use crate::roll::{Heard, Opening};
use crate::settings::Followed;
use crate::writer::Budget;

/// A stream that does not say hello in this time is ended.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a hello waits for history.
const STORED_TIMEOUT: Duration = Duration::from_secs(2);
/// How often to ask whether another aggregator took the machine over.
const LEASE_CHECK_EVERY: Duration = Duration::from_secs(1);

/// An open stream.
pub(super) struct Session {
    pub(super) dock: Arc<Dock>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) machine: MachineId,
    pub(super) epoch: SpoolEpoch,
    pub(super) lease: Lease,
    /// What history had of this epoch when the stream opened.
    pub(super) stored: SeqRanges,
    pub(super) layouts: Layouts,
    pub(super) skew: Skew,
    /// In force: what the settings say, else the collector's own.
    pub(super) interval: Duration,
    own_interval: Duration,
    pub(super) headline: Headline,
    pub(super) budget: Budget,
    /// Heard, and not yet told to the roll.
    pub(super) heard: Option<Heard>,
    pub(super) headline_changed: bool,
    /// History has not kept up for long: items are shown and not kept.
    pub(super) not_keeping: bool,
    pub(super) log_counts: LogCounts,
    /// For items of our own: nobody reads it.
    pub(super) own_outbox: Arc<Outbox>,
    /// Highest item number so far.
    pub(super) seq_max: u64,
    settings: Followed,
    fenced: CancellationToken,
    lease_checked: Now,
}

/// Takes in one stream until it ends, and sees to it that its end is told.
pub(super) async fn run(
    dock: Arc<Dock>,
    caller: Option<Caller>,
    mut inbound: Streaming<v1::CollectorMessage>,
    outbox: Arc<Outbox>,
) {
    dock.metrics.streams.inc();
    let end = match open(&dock, caller, &mut inbound, &outbox).await {
        Ok(mut session) => {
            let end = session.take_in(&mut inbound).await;
            session.tell_roll();
            dock.roll.closed(session.machine, session.lease.token);
            end
        }
        Err(status) => {
            tracing::warn!(error = %status.message(), "refused a collector");
            dock.metrics.refused_streams.inc();
            End::Now(status)
        }
    };
    outbox.end(end);
    dock.metrics.streams.dec();
}

async fn open(
    dock: &Arc<Dock>,
    caller: Option<Caller>,
    inbound: &mut Streaming<v1::CollectorMessage>,
    outbox: &Arc<Outbox>,
) -> Result<Session, Status> {
    let first = tokio::select! {
        first = tokio::time::timeout(HELLO_TIMEOUT, inbound.message()) => first,
        () = dock.stopping.cancelled() => return Err(shutting_down()),
    };
    let first = first
        .map_err(|_| Status::deadline_exceeded("expected a hello within 10 s, found nothing"))??;
    let Some(Message::Hello(hello)) = first.and_then(|message| message.kind) else {
        return Err(Status::invalid_argument("kind: expected hello as the first message"));
    };
    let now = Now::read();
    let greeting = hello::read(hello)?;
    let unavailable = |error: StorageError| Status::unavailable(error.to_string());
    let machine = greeting.machine;
    claim::check(&*dock.credentials, caller, machine).await?;
    forget_future(dock, &greeting).await.map_err(unavailable)?;
    let lease = dock.live.acquire(machine).await.map_err(unavailable)?;
    let stored = stored(dock, &greeting).await;
    let settings = dock.settings.follow(machine);
    let interval = settings.current().interval_ms().map(Duration::from_millis);
    let interval = interval.unwrap_or(greeting.interval);
    let skew = Skew::new(greeting.time.since(now.wall), now.mono);
    outbox.welcome(v1::Welcome {
        protocol_version: proto::PROTOCOL_VERSION,
        acknowledged: convert::ranges_to_proto(&stored),
        settings: Some(settings.current().to_proto()),
        aggregator: dock.name.clone(),
    });
    let opening = Opening {
        machine,
        token: lease.token,
        facts: greeting.facts,
        labels: greeting.labels,
        interval,
        clock_skew_ms: skew.ms(),
    };
    if !probe::is_probe(machine) {
        tracing::info!(machine.id = %machine, host.name = opening.facts.host_name, "collector connected");
    }
    // A probe is no machine: nobody is to find it among them.
    let (fenced, headline) = match probe::is_probe(machine) {
        true => (CancellationToken::new(), Headline::default()),
        false => dock.roll.opened(opening, now),
    };
    let lease_token = lease.token;
    Ok(Session {
        dock: dock.clone(),
        outbox: outbox.clone(),
        machine,
        epoch: greeting.epoch,
        lease,
        stored,
        layouts: Layouts::default(),
        skew,
        interval,
        own_interval: greeting.interval,
        headline,
        budget: dock.queue.budget(),
        heard: None,
        headline_changed: false,
        not_keeping: false,
        log_counts: LogCounts::new(now.wall, lease_token),
        own_outbox: Arc::new(Outbox::new()),
        seq_max: 0,
        settings,
        fenced,
        lease_checked: now,
    })
}

/// What history has already. When it does not answer, nothing: what is then sent again is recognised as it
/// is stored, and the present need not wait.
async fn stored(dock: &Dock, greeting: &Greeting) -> SeqRanges {
    let asked = dock.history.acknowledged(greeting.machine, greeting.epoch);
    match tokio::time::timeout(STORED_TIMEOUT, asked).await {
        Ok(Ok(stored)) => stored,
        Ok(Err(_)) | Err(_) => SeqRanges::new(),
    }
}

/// A machine whose clock went back would stay behind its own former frames; these go.
async fn forget_future(dock: &Dock, greeting: &Greeting) -> Result<(), StorageError> {
    let latest = dock.live.latest(greeting.machine).await?;
    if latest.iter().any(|f| f.frame.time.since(greeting.time) > limits::LIVE_WINDOW_MS / 5) {
        dock.live.remove(greeting.machine).await?;
    }
    Ok(())
}

impl Session {
    /// Until the collector leaves, breaks the contract or is fenced, or the aggregator stops.
    async fn take_in(&mut self, inbound: &mut Streaming<v1::CollectorMessage>) -> End {
        loop {
            if self.dock.stopping.is_cancelled() {
                return End::Drained(Some(shutting_down()));
            }
            // What is there is taken in a row; the roll is told when there is nothing more at once.
            let message = match inbound.message().now_or_never() {
                Some(message) => message,
                None => {
                    self.tell_roll();
                    match self.wait(inbound).await {
                        Ok(message) => message,
                        Err(end) => return end,
                    }
                }
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return End::Drained(None),
                Err(status) => return self.broken(status),
            };
            if let Err(end) = self.message(message).await {
                return end;
            }
            if let Err(end) = self.check_lease().await {
                return end;
            }
            intake::tell_log_counts(self, Now::read()).await;
        }
    }

    /// The next message, while looking out for everything else.
    async fn wait(
        &mut self,
        inbound: &mut Streaming<v1::CollectorMessage>,
    ) -> Result<Result<Option<v1::CollectorMessage>, Status>, End> {
        loop {
            let counts_due = self.log_counts.due();
            tokio::select! {
                () = self.dock.stopping.cancelled() => {
                    return Err(End::Drained(Some(shutting_down())));
                }
                () = until(counts_due) => intake::tell_log_counts(self, Now::read()).await,
                () = self.fenced.cancelled() => return Err(self.is_fenced()),
                () = self.outbox.gone().cancelled() => {
                    return Err(End::Drained(None));
                }
                settings = self.settings.changed() => {
                    self.outbox.settings(settings.to_proto());
                    let asked = settings.interval_ms().map(Duration::from_millis);
                    self.interval = asked.unwrap_or(self.own_interval);
                    self.dock.roll.set_interval(self.machine, self.lease.token, self.interval);
                }
                message = inbound.message() => return Ok(message),
            }
        }
    }

    /// A bad item is refused and the stream goes on; a broken contract ends it.
    async fn message(&mut self, message: v1::CollectorMessage) -> Result<(), End> {
        let now = Now::read();
        self.heard.get_or_insert_default();
        match message.kind {
            Some(Message::Hello(_)) => {
                let status = Status::invalid_argument("kind: hello was said already");
                return Err(self.broken(status));
            }
            Some(Message::Layout(layout)) => {
                let admitted = convert::layout_from_proto(layout)
                    .map_err(|error| Refusal::invalid(error.within("layout")))
                    .and_then(|layout| {
                        self.layouts.admit(self.dock.layouts.share(layout), now.mono)
                    });
                if let Err(refusal) = admitted {
                    self.refuse(&refusal, 0).await?;
                }
            }
            Some(Message::Goodbye(goodbye)) => {
                self.tell_roll();
                let reason = goodbye.reason();
                let why = reason.as_str_name().trim_start_matches("REASON_").to_lowercase();
                tracing::info!(machine.id = %self.machine, reason = why, "collector said goodbye");
                let goodbye = match reason {
                    GoodbyeReason::Stopped | GoodbyeReason::Shutdown | GoodbyeReason::Reboot => {
                        Goodbye::Stopped
                    }
                    GoodbyeReason::Suspend => Goodbye::Suspended,
                    GoodbyeReason::Moving | GoodbyeReason::Unspecified => Goodbye::Moving,
                };
                self.dock.roll.said_goodbye(self.machine, self.lease.token, goodbye, now);
            }
            _ => {
                let (seq, bytes) = (message.seq, prost::Message::encoded_len(&message));
                if let Err(stopped) = intake::item(self, message, bytes, now).await {
                    match stopped {
                        intake::Stopped::Refused(refusal) => self.refuse(&refusal, seq).await?,
                        intake::Stopped::Ended => return Err(self.interrupted()),
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts and answers; waits for a collector that does not read its answers.
    async fn refuse(&self, refusal: &Refusal, seq: u64) -> Result<(), End> {
        let reason = Reason { reason: refusal.name() };
        self.dock.metrics.rejected.get_or_create(&reason).inc();
        tracing::debug!(machine.id = %self.machine, seq, problem = refusal.message, "refused an item");
        tokio::select! {
            () = self.outbox.reject(admission::reject(refusal, seq)) => Ok(()),
            () = self.unwanted() => Err(self.interrupted()),
        }
    }

    /// Completes when there is no use in going on with this stream.
    pub(super) async fn unwanted(&self) {
        tokio::select! {
            () = self.dock.stopping.cancelled() => {}
            () = self.fenced.cancelled() => {}
            () = self.outbox.gone().cancelled() => {}
        }
    }

    fn interrupted(&self) -> End {
        if self.fenced.is_cancelled() {
            return self.is_fenced();
        }
        End::Drained(Some(shutting_down()))
    }

    fn is_fenced(&self) -> End {
        tracing::warn!(machine.id = %self.machine, "another stream took the machine over");
        self.dock.metrics.fenced_streams.inc();
        End::Now(Status::aborted(
            "another stream for this machine took over; hint: if two machines share this id, delete the collector's state directory on one of them",
        ))
    }

    fn broken(&self, status: Status) -> End {
        // A connection that breaks is daily life; a message that cannot be read is not.
        if matches!(status.code(), tonic::Code::InvalidArgument | tonic::Code::OutOfRange) {
            tracing::warn!(machine.id = %self.machine, error = %status.message(), "ended a broken stream");
            self.dock.metrics.refused_streams.inc();
        }
        End::Now(status)
    }

    async fn check_lease(&mut self) -> Result<(), End> {
        if self.fenced.is_cancelled() {
            return Err(self.is_fenced());
        }
        let now = Now::read();
        if now.since(self.lease_checked.mono) < LEASE_CHECK_EVERY {
            return Ok(());
        }
        self.lease_checked = now;
        // When live state does not answer, the stream goes on: history deduplicates whatever comes twice.
        match self.dock.live.is_current(&self.lease).await {
            Ok(false) => Err(self.is_fenced()),
            Ok(true) | Err(_) => Ok(()),
        }
    }

    /// Tells the roll what was heard since the last time.
    fn tell_roll(&mut self) {
        let Some(mut heard) = self.heard.take() else { return };
        heard.clock_skew_ms = self.skew.ms();
        heard.headline = std::mem::take(&mut self.headline_changed).then(|| self.headline.clone());
        self.dock.roll.heard(self.machine, self.lease.token, heard, Now::read());
    }

    /// The clock of the machine was set: what it says from now on is measured anew.
    pub(super) async fn clock_stepped(&mut self, difference_ms: i64, now: Now) {
        self.skew = Skew::new(difference_ms, now.mono);
        if self.dock.live.remove(self.machine).await.is_ok()
            && let Ok(lease) = self.dock.live.acquire(self.machine).await
        {
            self.dock.roll.renewed(self.machine, self.lease.token, lease.token);
            self.lease = lease;
        }
        self.layouts.forget_newest();
    }
}

/// Without an instant, never.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

pub(super) fn shutting_down() -> Status {
    Status::unavailable("the aggregator is shutting down")
}
