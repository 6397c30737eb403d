//! One item on its way in: checked, shown to the present at once, then handed to the writer.

use std::sync::Arc;
use std::time::Instant;

use model::probe::{self, Stage};
use model::{EventKind, Frame, Item, Layout, LogEvent, Payload, SeqRanges, limits};
use proto::{convert, v1};
use storage::StorageError;
use storage::events::{Event, EventKind as News};
use storage::live::LiveFrame;

use super::admission::{self, Refusal};
use super::log_times;
use super::session::Session;
use crate::clock::Now;
use crate::metrics::{Kind, Metrics, Reason};
use crate::writer::{Content, Room, Submission};

/// Why an item did not get in.
pub(super) enum Stopped {
    Refused(Refusal),
    /// The stream is to end.
    Ended,
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A frame that is older than this, or older than three intervals, is backlog: it fills the past and says
/// nothing about now.
const FRESH_MS: i64 = 5_000;

pub(super) async fn item(
    session: &mut Session,
    message: v1::CollectorMessage,
    bytes: usize,
    now: Now,
) -> Result<(), Stopped> {
    let item = convert::item_from_proto(message).map_err(Refusal::invalid)?;
    let Some(Item { seq, mut payload }) = item else { return Ok(()) };
    if let Payload::Logs(events) = &mut payload {
        session.dock.metrics.log_events.inc_by(events.len() as u64);
        session.dock.metrics.log_times_replaced.inc_by(log_times::replace_impossible(events, now));
    }
    check_times(&payload, now)?;
    let metrics = &session.dock.metrics;
    metrics.items.get_or_create(&Kind { kind: kind(&payload) }).inc();
    let newest = seq > session.seq_max;
    session.seq_max = session.seq_max.max(seq);
    let content = match payload {
        Payload::Frame(frame) => {
            metrics.frames.inc();
            metrics.samples.inc_by(frame.values.len() as u64);
            self::frame(session, frame, now).await?
        }
        Payload::Logs(events) => logs(session, seq, events, now).await,
        payload => {
            other(session, &payload, newest, now).await;
            Content::Other(Arc::new(payload))
        }
    };
    if session.stored.contains(seq) {
        session.dock.metrics.resent_items.inc();
        let seqs: SeqRanges = [seq].into_iter().collect();
        session.outbox.durable(&seqs, 0);
        return Ok(());
    }
    submit(session, seq, content, bytes, now).await
}

fn kind(payload: &Payload) -> &'static str {
    match payload {
        Payload::Frame(_) => "frame",
        Payload::Logs(_) => "logs",
        Payload::Processes(_) => "processes",
        Payload::Event(_) => "event",
        Payload::Gap(_) => "gap",
    }
}

/// A gap tells of what is lost, however long ago; everything else must be of these days.
fn check_times(payload: &Payload, now: Now) -> Result<(), Refusal> {
    let field = match payload {
        Payload::Frame(_) => "frame.time_unix_ms",
        Payload::Logs(_) => "log_batch.events.time_unix_ms",
        Payload::Processes(_) => "process_report.time_unix_ms",
        Payload::Event(_) => "machine_event.time_unix_ms",
        Payload::Gap(_) => return Ok(()),
    };
    payload.time().map_or(Ok(()), |time| admission::check_time(field, time, now.wall))
}

/// Shows a frame to live state, to whoever watches, and to the headline.
async fn frame(session: &mut Session, frame: Frame, now: Now) -> Result<Content, Refusal> {
    let frame = Arc::new(frame);
    let known = session.layouts.of(&frame, now.mono)?;
    if probe::is_probe(session.machine) {
        tell_latencies(&session.dock.metrics, &known.layout, &frame);
    }
    let layout = known.layout.clone();
    let content = Content::Frame(layout.clone(), frame.clone());
    let age_ms = session.skew.age_ms(frame.time, now.wall);
    let fresh_ms = FRESH_MS.max(3 * session.interval.as_millis() as i64);
    let metrics = &session.dock.metrics;
    if age_ms > limits::LIVE_WINDOW_MS {
        metrics.backlog_items.inc();
        return Ok(content);
    }
    let live = LiveFrame { layout, frame: frame.clone() };
    count_failure(
        &session.dock.metrics,
        session.dock.live.put_frame(session.machine, live.clone()).await,
    );
    if age_ms > fresh_ms {
        metrics.backlog_items.inc();
        return Ok(content);
    }
    session.skew.saw(frame.time.since(now.wall), now.mono);
    let newer = known.newest.as_ref().is_none_or(|newest| newest.time < frame.time);
    if newer {
        let before = known.newest.as_deref();
        session.headline_changed |= known.projection.apply(&frame, before, &mut session.headline);
        known.newest = Some(frame);
    }
    session.heard.get_or_insert_default().fresh = true;
    let late = !newer || age_ms > FRESH_MS;
    if late {
        metrics.late_frames.inc();
    }
    publish(session, News::Frame { frame: live, late }).await;
    Ok(content)
}

/// What a probe says of its sample before this one.
fn tell_latencies(metrics: &Metrics, layout: &Layout, frame: &Frame) {
    for (series, seconds) in layout.series().iter().zip(&frame.values) {
        let stage = Stage::from_name(series.labels.get(probe::STAGE));
        if let Some(stage) = stage.filter(|_| seconds.is_finite()) {
            metrics.probe_latency[stage as usize].observe(*seconds);
        }
    }
}

/// Counts log events and shows them, all; has those kept that are to be.
async fn logs(session: &mut Session, seq: u64, events: Vec<LogEvent>, now: Now) -> Content {
    let mut payload = Payload::Logs(events);
    // Logs are counted by whoever watches: those that were stored before were told then.
    if !session.stored.contains(seq) {
        other(session, &payload, false, now).await;
        if let Payload::Logs(events) = &mut payload {
            session.log_counts.add(events, now);
            let filtered = session.dock.log_filter.leave_out(events);
            session.dock.metrics.log_events_filtered.inc_by(filtered);
        }
    }
    // Also when nothing of it is left: its number shows that it was taken in.
    Content::Other(Arc::new(payload))
}

/// Shows everything else. `newest`: its number is above all others, so it happened just now.
async fn other(session: &mut Session, payload: &Payload, newest: bool, now: Now) {
    let age_ms = payload.time().map_or(0, |time| session.skew.age_ms(time, now.wall));
    if let Payload::Event(event) = payload
        && newest
    {
        match event.kind {
            EventKind::ClockStep => {
                session.clock_stepped(event.time.since(now.wall), now).await;
            }
            EventKind::Suspend => session.heard.get_or_insert_default().suspended = true,
            _ => {}
        }
    }
    if age_ms > limits::LIVE_WINDOW_MS {
        session.dock.metrics.backlog_items.inc();
        return;
    }
    let news = match payload {
        Payload::Processes(report) => {
            let report = Arc::new(report.clone());
            let put = session.dock.live.put_processes(session.machine, report.clone()).await;
            count_failure(&session.dock.metrics, put);
            News::Processes(report)
        }
        Payload::Logs(events) => News::Logs(events.as_slice().into()),
        Payload::Event(event) => News::Machine(event.clone()),
        Payload::Gap(gap) => News::Gap(gap.clone()),
        Payload::Frame(_) => return,
    };
    publish(session, news).await;
}

/// Shows and keeps how many log events came, when it is time. What the queue has no room for is part of what is told next.
pub(super) async fn tell_log_counts(session: &mut Session, now: Now) {
    if session.log_counts.due().is_none_or(|due| due > now.mono) {
        return;
    }
    let first = session.log_counts.told + 1;
    let frames = session.log_counts.tell(now, now.wall + session.skew.ms());
    for (seq, (layout, frame)) in (first..).zip(frames) {
        let live = LiveFrame { layout: layout.clone(), frame: frame.clone() };
        let put = session.dock.live.put_frame(session.machine, live.clone()).await;
        count_failure(&session.dock.metrics, put);
        publish(session, News::Frame { frame: live, late: false }).await;
        let bytes = 64 + 8 * frame.values.len();
        let Some(room) = session.dock.queue.try_room(&session.budget, bytes) else { continue };
        let submission = Submission {
            // Nobody waits for its acknowledgement.
            outbox: session.own_outbox.clone(),
            machine: session.machine,
            epoch: session.log_counts.epoch,
            received: now.wall,
            received_mono: now.mono,
            seq,
            content: Content::Frame(layout, frame),
            follow: 0,
            room,
        };
        // Without a writer there is no past to keep it in.
        let _ = session.dock.queue.submit(submission);
    }
}

async fn publish(session: &Session, kind: News) {
    let event = Event { machine: session.machine, kind };
    count_failure(&session.dock.metrics, session.dock.events.publish(event).await);
}

/// The present may fail without harm to the past: it fills again from the next frames.
fn count_failure(metrics: &Metrics, result: Result<(), StorageError>) {
    if result.is_err() {
        metrics.live_failures.inc();
    }
}

async fn submit(
    session: &mut Session,
    seq: u64,
    content: Content,
    bytes: usize,
    now: Now,
) -> Result<(), Stopped> {
    let Some(room) = room(session, bytes).await? else {
        let reason = Reason { reason: "unavailable" };
        session.dock.metrics.rejected.get_or_create(&reason).inc();
        // Once, whichever machine it is that was first.
        if let Some(reason) = session.dock.strain.put_off(Instant::now()) {
            tracing::warn!(
                reason,
                "history does not keep up; items are shown, and asked for again later"
            );
        }
        session.outbox.not_now(&[seq].into_iter().collect(), 0);
        return Ok(());
    };
    let submission = Submission {
        outbox: session.outbox.clone(),
        machine: session.machine,
        epoch: session.epoch,
        received: now.wall,
        received_mono: now.mono,
        seq,
        content,
        follow: 0,
        room,
    };
    session.outbox.submitted();
    // From here on the writer is there until it has taken everything in.
    session.dock.queue.submit(submission).map_err(|_| {
        session.outbox.durable(&SeqRanges::new(), 1);
        Stopped::Ended
    })
}

/// Room in the queue. A queue that is full for a moment slows the stream down. One that stays full does not
/// stop the present: then items are shown and not kept (`None`), until there is room again.
async fn room(session: &mut Session, bytes: usize) -> Result<Option<Room>, Stopped> {
    let queue = &session.dock.queue;
    if let Some(room) = queue.try_room(&session.budget, bytes) {
        session.not_keeping = false;
        return Ok(Some(room));
    }
    if session.not_keeping {
        return Ok(None);
    }
    let patience = session.dock.patience;
    let waited = tokio::select! {
        biased;
        waited = tokio::time::timeout(patience, queue.room(&session.budget, bytes)) => waited,
        () = session.unwanted() => return Err(Stopped::Ended),
    };
    match waited {
        Ok(room) => room.map(Some).map_err(|_| Stopped::Ended),
        Err(_) => {
            session.not_keeping = true;
            Ok(None)
        }
    }
}
