//! One source of what programs push: what of it this process must know, and its way to the writer.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{
    Labels, LogEvent, MachineFacts, MachineId, Payload, Seq, SeqRanges, SpoolEpoch, UnixMillis,
    limits, pushed,
};
use storage::events::{Event, EventKind as News};
use storage::live::{Lease, LiveFrame};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::super::log_counts::LogCounts;
use super::super::{Dock, LogFilter, Outbox};
use super::read::{Point, Pushed, SOURCE};
use super::tally::{Refused, Taken, Tally};
use crate::clock::Now;
use crate::metrics::Kind;
use crate::roll::{Heard, Opening};
use crate::writer::{Budget, Content, Submission};

/// How long to wait for what history has.
const STORED_TIMEOUT: Duration = Duration::from_secs(2);
/// Keys of requests that were taken in here, of which history may not know yet.
const KEYS_MAX: usize = 10_000;
/// A frame older than this says nothing about now.
const FRESH_MS: i64 = 5_000;
/// Numbers within the epoch of a key. The events are named by what they are, so that they are stored once;
/// the last item of a request shows that all of it is stored.
const EVENTS: Seq = 1;
const LAST: Seq = 2;

/// The right to speak for a source, with what was summed up since it was taken.
pub(super) struct Source {
    machine: MachineId,
    lease: Lease,
    fenced: CancellationToken,
    budget: Budget,
    tally: Tally,
    log_counts: LogCounts,
    /// For items that nobody waits for.
    own_outbox: Arc<Outbox>,
    /// Of requests without a key.
    epoch: SpoolEpoch,
    items: Seq,
    keys: Keys,
    /// The latest time that was given to something.
    last: UnixMillis,
    pub(super) used: Instant,
}

/// The latest keys.
#[derive(Debug, Default)]
struct Keys {
    known: HashSet<SpoolEpoch>,
    order: VecDeque<SpoolEpoch>,
}

/// What became of a request.
pub(super) enum Begun {
    Duplicate,
    /// Handed to the writer: so many items, which the outbox tells of.
    Waits(usize),
}

impl Source {
    /// Takes the source over from whoever had it, another aggregator perhaps: what that one summed up ends,
    /// and counts begin again with 0.
    pub(super) async fn open(dock: &Dock, name: &str, now: Now) -> Result<Self, Status> {
        let machine = pushed::source_machine(name);
        let lease = dock.live.acquire(machine).await.map_err(unavailable)?;
        let opening = Opening {
            machine,
            token: lease.token,
            facts: MachineFacts { host_name: name.to_owned(), ..MachineFacts::default() },
            labels: Labels::of([("source", SOURCE)]),
            interval: Duration::from_millis(limits::INTERVAL_MS_MAX),
            clock_skew_ms: 0,
        };
        let (fenced, _) = dock.roll.opened(opening, now);
        Ok(Self {
            machine,
            fenced,
            budget: dock.queue.budget(),
            tally: Tally::new(limits::PUSH_SERIES_PER_SOURCE_MAX),
            log_counts: LogCounts::new(now.wall, lease.token),
            own_outbox: Arc::new(Outbox::new()),
            // As random as it must be: beside those of keys, and of earlier turns.
            epoch: pushed::epoch_of_key(&format!("\0{}\0{}", now.wall.0, lease.token)),
            items: 0,
            keys: Keys::default(),
            last: UnixMillis(0),
            used: now.mono,
            lease,
        })
    }

    /// Whether nobody else speaks for the source since.
    pub(super) async fn is_current(&self, dock: &Dock) -> bool {
        // Where live state does not answer, nobody can have taken over.
        !self.fenced.is_cancelled() && dock.live.is_current(&self.lease).await.unwrap_or(true)
    }

    pub(super) fn close(&self, dock: &Dock) {
        dock.roll.closed(self.machine, self.lease.token);
    }

    /// All of it goes on its way, or nothing does.
    pub(super) async fn push(
        &mut self,
        dock: &Dock,
        pushed: Pushed,
        outbox: &Arc<Outbox>,
        now: Now,
    ) -> Result<Begun, Status> {
        let key = pushed.key.as_deref().map(pushed::epoch_of_key);
        if let Some(epoch) = key
            && self.stored(dock, epoch).await?.contains(LAST)
        {
            return Ok(Begun::Duplicate);
        }
        let anew = !key.is_some_and(|epoch| self.keys.known.contains(&epoch));
        let taken = self.take_in(&pushed.points, anew, now)?;
        let contents = contents(&pushed.events, &taken, &dock.log_filter);
        let room = |(bytes, content)| Some((dock.queue.try_room(&self.budget, bytes)?, content));
        let Some(contents) = contents.into_iter().map(room).collect::<Option<Vec<_>>>() else {
            self.tally.undo(taken);
            return Err(Status::resource_exhausted("the queue to history is full"));
        };
        // Nothing waits from here until all of it is on its way: whoever asked may go away while this waits, and what
        // was added to totals would be added again.
        if let Some(epoch) = key {
            self.keys.put(epoch);
        }
        let count = contents.len();
        for (i, (room, content)) in contents.into_iter().enumerate() {
            let (epoch, seq) = match key {
                Some(epoch) if i + 1 == count => (epoch, LAST),
                Some(epoch) if matches!(content, Content::Other(_)) => (epoch, EVENTS),
                Some(epoch) => (epoch, (now.wall.0 as u64) << 16 | (i as u64 & 0xffff)),
                None => {
                    self.items += 1;
                    (self.epoch, self.items)
                }
            };
            outbox.submitted();
            let submission = Submission {
                outbox: outbox.clone(),
                machine: self.machine,
                epoch,
                received: now.wall,
                received_mono: now.mono,
                seq,
                content,
                // In one commit: killed between two, what was added would be added again.
                follow: count - 1 - i,
                room,
            };
            let submitted = dock.queue.submit(submission);
            submitted.map_err(|_| super::super::session::shutting_down())?;
        }
        self.used = now.mono;
        let heard = Heard { fresh: true, ..Heard::default() };
        dock.roll.heard(self.machine, self.lease.token, heard, now);
        if anew {
            self.show(dock, &pushed, &taken, now).await;
        }
        Ok(Begun::Waits(count))
    }

    async fn stored(&self, dock: &Dock, epoch: SpoolEpoch) -> Result<SeqRanges, Status> {
        let asked = dock.history.acknowledged(self.machine, epoch);
        match tokio::time::timeout(STORED_TIMEOUT, asked).await {
            Ok(stored) => stored.map_err(unavailable),
            Err(_) => Err(Status::unavailable("history does not answer")),
        }
    }

    fn take_in(&mut self, points: &[Point], anew: bool, now: Now) -> Result<Taken, Status> {
        // No two instants of a series are the same, however quickly they come.
        let time = now.wall.max(self.last + 1);
        let taken = self.tally.take_in(points, anew, time, now.mono);
        self.last = time + 1;
        taken.map_err(|refused| match refused {
            Refused::Invalid(error) => error.into(),
            Refused::Full(problem) => Status::resource_exhausted(problem),
        })
    }

    /// The present does not wait for the past.
    async fn show(&mut self, dock: &Dock, pushed: &Pushed, taken: &Taken, now: Now) {
        let metrics = &dock.metrics;
        for (layout, frame) in &taken.frames {
            metrics.items.get_or_create(&Kind { kind: "frame" }).inc();
            metrics.frames.inc();
            metrics.samples.inc_by(frame.values.iter().filter(|v| !v.is_nan()).count() as u64);
            let age_ms = now.wall.since(frame.time);
            if age_ms > limits::LIVE_WINDOW_MS {
                continue;
            }
            let live = LiveFrame { layout: layout.clone(), frame: frame.clone() };
            let mut failed = dock.live.put_frame(self.machine, live.clone()).await.is_err();
            if age_ms <= FRESH_MS {
                let kind = News::Frame { frame: live, late: false };
                failed |= dock.events.publish(Event { machine: self.machine, kind }).await.is_err();
            }
            metrics.live_failures.inc_by(failed.into());
        }
        if pushed.events.is_empty() {
            return;
        }
        metrics.items.get_or_create(&Kind { kind: "logs" }).inc();
        metrics.log_events.inc_by(pushed.events.len() as u64);
        self.log_counts.add(&pushed.events, now);
        let kept = pushed.events.iter().filter(|event| dock.log_filter.keeps(event)).count();
        metrics.log_events_filtered.inc_by((pushed.events.len() - kept) as u64);
        let recent = |e: &&LogEvent| now.wall.since(e.time) <= limits::LIVE_WINDOW_MS;
        let recent: Vec<LogEvent> = pushed.events.iter().filter(recent).cloned().collect();
        if !recent.is_empty() {
            let kind = News::Logs(recent.into());
            let told = dock.events.publish(Event { machine: self.machine, kind }).await;
            metrics.live_failures.inc_by(told.is_err().into());
        }
    }

    /// Shows and keeps how many events came, when it is time. What the queue has no room for is part of what
    /// is told next.
    pub(super) async fn tell_log_counts(&mut self, dock: &Dock, now: Now) {
        if self.log_counts.due().is_none_or(|due| due > now.mono) {
            return;
        }
        let first = self.log_counts.told + 1;
        for (seq, (layout, frame)) in (first..).zip(self.log_counts.tell(now, now.wall)) {
            let live = LiveFrame { layout: layout.clone(), frame: frame.clone() };
            let mut failed = dock.live.put_frame(self.machine, live.clone()).await.is_err();
            let kind = News::Frame { frame: live, late: false };
            failed |= dock.events.publish(Event { machine: self.machine, kind }).await.is_err();
            dock.metrics.live_failures.inc_by(failed.into());
            let bytes = frame_bytes(&frame);
            let Some(room) = dock.queue.try_room(&self.budget, bytes) else { continue };
            let submission = Submission {
                outbox: self.own_outbox.clone(),
                machine: self.machine,
                epoch: self.log_counts.epoch,
                received: now.wall,
                received_mono: now.mono,
                seq,
                content: Content::Frame(layout, frame),
                follow: 0,
                room,
            };
            // Without a writer there is no past to keep it in.
            let _ = dock.queue.submit(submission);
        }
    }
}

/// Items with what they weigh; events first, as far as they are kept.
fn contents(events: &[LogEvent], taken: &Taken, filter: &LogFilter) -> Vec<(usize, Content)> {
    let logs = (!events.is_empty()).then(|| {
        let kept: Vec<LogEvent> = events.iter().filter(|e| filter.keeps(e)).cloned().collect();
        let bytes = kept.iter().map(event_bytes).sum();
        (bytes, Content::Other(Arc::new(Payload::Logs(kept))))
    });
    let frames = taken
        .frames
        .iter()
        .map(|(layout, frame)| (frame_bytes(frame), Content::Frame(layout.clone(), frame.clone())));
    logs.into_iter().chain(frames).collect()
}

fn frame_bytes(frame: &model::Frame) -> usize {
    64 + 8 * frame.values.len()
}

fn event_bytes(event: &LogEvent) -> usize {
    let attributes = event.attributes.iter().map(|(name, value)| name.len() + value.len() + 32);
    128 + event.body.len() + event.service.len() + attributes.sum::<usize>()
}

impl Keys {
    fn put(&mut self, key: SpoolEpoch) {
        if !self.known.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

pub(super) fn unavailable(error: storage::StorageError) -> Status {
    Status::unavailable(error.to_string())
}
