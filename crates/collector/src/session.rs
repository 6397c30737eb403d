//! What goes on one stream, and in which order: fresh items first, the backlog beside.
//!
//! Plain decisions, without a socket: it is asked what to send next and told what came back. An item is
//! *in flight* from when it was handed out until it is acknowledged or refused. Whatever is in flight
//! when the stream ends is simply still in the spool, and is backlog for the next stream.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{LayoutId, Seq, SeqRange, SeqRanges, UnixMillis};
use proto::v1;
use proto::v1::reject::Reason;
use tokio::time::Instant;

use crate::CollectorStats;
use crate::backoff::Backoff;
use crate::spool::{Cursor, Record, RecordKind, Spool, Waiting};
use window::Window;

#[cfg(test)]
mod tests;
mod window;

/// Fresh items that wait for the stream; beyond it, the oldest become backlog.
const FRESH_ITEMS_MAX: usize = 1024;
const FRESH_BYTES_MAX: usize = 1024 * 1024;
/// Fresh bytes in flight. The backlog has its own window.
const FRESH_IN_FLIGHT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Fresh logs that wait for the stream, and how much may be in flight before they wait; what is more is
/// backlog at once. However much a machine logs, its frames find room.
const LOGS_BYTES_MAX: usize = 512 * 1024;
const LOGS_IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024;
/// Items in flight, fresh or not.
const IN_FLIGHT_ITEMS_MAX: usize = 16 * 1024;
/// Without any answer for this long while items are in flight, the stream is given up. Dead
/// connections are noticed far earlier; this is for a peer that is alive and stuck.
const STALLED_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Session {
    in_flight: BTreeMap<Seq, Sent>,
    fresh: VecDeque<Record>,
    fresh_bytes: usize,
    /// Fresh logs, which everything else that is fresh overtakes.
    fresh_logs: VecDeque<Record>,
    fresh_logs_bytes: usize,
    fresh_in_flight_bytes: usize,
    backlog_in_flight_bytes: usize,
    cursor: Cursor,
    layouts_sent: HashSet<LayoutId>,
    /// An item whose layout was just handed out.
    after_layout: Option<Bytes>,
    window: Window,
    retry: Backoff,
    retry_at: Option<Instant>,
    /// Items that were refused once because their layout was not known.
    layout_retried: SeqRanges,
    /// Reasons for which items of this stream were refused, each logged once.
    refusals_told: Vec<Reason>,
    answered_at: Instant,
    acknowledged_any: bool,
    stats: Arc<CollectorStats>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    bytes: usize,
    fresh: bool,
    time: UnixMillis,
}

impl Session {
    pub(crate) fn new(stats: Arc<CollectorStats>, now: Instant) -> Self {
        Self {
            in_flight: BTreeMap::new(),
            fresh: VecDeque::new(),
            fresh_bytes: 0,
            fresh_logs: VecDeque::new(),
            fresh_logs_bytes: 0,
            fresh_in_flight_bytes: 0,
            backlog_in_flight_bytes: 0,
            cursor: Cursor::new(),
            layouts_sent: HashSet::new(),
            after_layout: None,
            window: Window::new(),
            retry: Backoff::doubling(Duration::from_secs(1), Duration::from_secs(30)),
            retry_at: None,
            layout_retried: SeqRanges::new(),
            refusals_told: Vec::new(),
            answered_at: now,
            acknowledged_any: false,
            stats,
        }
    }

    /// An item that was appended to the spool a moment ago.
    pub(crate) fn offer(&mut self, record: Record) {
        if record.kind == RecordKind::Logs {
            let bytes = self.fresh_logs_bytes + record.body.len();
            // Logs are read in their order: when there are too many, the cursor finds them in turn.
            if bytes <= LOGS_BYTES_MAX && self.fresh_logs.len() < FRESH_ITEMS_MAX {
                self.fresh_logs_bytes = bytes;
                self.fresh_logs.push_back(record);
            }
            return;
        }
        self.fresh_bytes += record.body.len();
        self.fresh.push_back(record);
        // The stream is slower than the machine: the newest matter most, the cursor finds the others.
        while self.fresh.len() > FRESH_ITEMS_MAX || self.fresh_bytes > FRESH_BYTES_MAX {
            self.pop_fresh();
        }
    }

    /// The next message to send; `None` until something else happens. Everything returned counts as
    /// sent.
    pub(crate) fn next(&mut self, spool: &mut Spool, now: Instant) -> Option<Bytes> {
        if let Some(item) = self.after_layout.take() {
            return Some(item);
        }
        if self.in_flight.len() >= IN_FLIGHT_ITEMS_MAX {
            return None;
        }
        self.next_fresh(spool, now).or_else(|| self.next_of_backlog(spool, now))
    }

    /// As [`Session::next`], without the backlog.
    pub(crate) fn next_fresh(&mut self, spool: &mut Spool, now: Instant) -> Option<Bytes> {
        if let Some(item) = self.after_layout.take() {
            return Some(item);
        }
        while self.fresh_in_flight_bytes < FRESH_IN_FLIGHT_BYTES_MAX {
            let record = self.pop_fresh().or_else(|| self.pop_fresh_logs())?;
            let layout = match record.kind {
                RecordKind::Frame(id) => match spool.layout(id) {
                    Some(body) => Some((id, body)),
                    // No longer at hand: its segment has it, so the cursor will send both.
                    None => continue,
                },
                _ => None,
            };
            self.cursor.step_over(record.seq);
            if !spool.is_done(record.seq) {
                return Some(self.send(record, layout, true, now));
            }
        }
        None
    }

    fn next_of_backlog(&mut self, spool: &mut Spool, now: Instant) -> Option<Bytes> {
        // While fresh items wait, nothing may come before them, and the cursor may not pass them.
        let fresh_waits = !self.fresh.is_empty() || !self.fresh_logs.is_empty();
        if fresh_waits || !self.window.is_open(self.backlog_in_flight_bytes) {
            return None;
        }
        if let Some(at) = self.retry_at {
            if now < at {
                return None;
            }
            self.retry_at = None;
            self.cursor.rewind();
        }
        let in_flight = &self.in_flight;
        let waiting = spool.next_waiting(&mut self.cursor, |seq| in_flight.contains_key(&seq))?;
        let Waiting { record, layout } = waiting;
        Some(self.send(record, layout, false, now))
    }

    fn send(
        &mut self,
        record: Record,
        layout: Option<(LayoutId, Bytes)>,
        fresh: bool,
        now: Instant,
    ) -> Bytes {
        if self.in_flight.is_empty() {
            self.answered_at = now;
        }
        let bytes = record.body.len();
        self.in_flight.insert(record.seq, Sent { at: now, bytes, fresh, time: record.time });
        *self.bytes_of(fresh) += bytes;
        match layout {
            Some((id, layout)) if self.layouts_sent.insert(id) => {
                self.after_layout = Some(record.body);
                layout
            }
            _ => record.body,
        }
    }

    /// Items that are durable elsewhere. They need not have been sent on this stream.
    pub(crate) fn acknowledged(&mut self, ranges: &[SeqRange], spool: &mut Spool, now: Instant) {
        self.answered_at = now;
        for range in ranges {
            for (_, sent) in self.land(*range) {
                let latency = now.saturating_duration_since(sent.at);
                if sent.fresh {
                    self.stats.set_ack_latency(latency);
                } else {
                    self.window.acknowledged(sent.bytes, latency, now);
                }
                self.acknowledged_any = true;
                self.retry.reset();
            }
        }
        spool.acknowledge(ranges.iter().copied());
    }

    /// Items that are not taken. Only what is in flight counts: a peer cannot refuse what it never got.
    pub(crate) fn rejected(
        &mut self,
        reason: Reason,
        message: &str,
        retry: bool,
        ranges: &[SeqRange],
        spool: &mut Spool,
        now: Instant,
    ) {
        self.answered_at = now;
        for range in ranges {
            let landed = self.land(*range);
            let (mut again, mut never) = (false, Vec::new());
            for (seq, sent) in landed {
                let final_now = match reason {
                    // Once more with its layout; twice means that the layout itself is refused.
                    Reason::UnknownLayout => !self.layout_retried.insert(seq),
                    _ => !retry,
                };
                match final_now {
                    true => never.push((seq, sent.time)),
                    false => again = true,
                }
            }
            if again && reason == Reason::UnknownLayout {
                self.layouts_sent.clear();
                self.retry_at = Some(now);
            } else if again && self.retry_at.is_none() {
                self.retry_at = Some(now + self.retry.next());
            }
            for run in never.chunk_by(|a, b| a.0 + 1 == b.0) {
                let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
                if let Some(seqs) = SeqRange::new(first.0, last.0) {
                    self.tell_refusal(reason, seqs, message);
                    spool.refuse(seqs, Some((first.1, last.1)), message);
                }
            }
        }
    }

    /// One line for the first of a kind; a clock that is wrong has every item refused, all day.
    fn tell_refusal(&mut self, reason: Reason, seqs: SeqRange, message: &str) {
        let items = seqs.count();
        if self.refusals_told.contains(&reason) {
            tracing::debug!(items, item.seq = seqs.first(), %message, "items were refused");
            return;
        }
        self.refusals_told.push(reason);
        tracing::warn!(
            items, item.seq = seqs.first(), %message,
            "items were refused; more of them for the same reason are only counted"
        );
    }

    /// When there may be something to send although nothing happened.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        !self.in_flight.is_empty()
            && now.saturating_duration_since(self.answered_at) >= STALLED_AFTER
    }

    /// Whether the stream was of use.
    pub(crate) fn acknowledged_any(&self) -> bool {
        self.acknowledged_any
    }

    fn pop_fresh(&mut self) -> Option<Record> {
        let record = self.fresh.pop_front()?;
        self.fresh_bytes -= record.body.len();
        Some(record)
    }

    fn pop_fresh_logs(&mut self) -> Option<Record> {
        if self.fresh_in_flight_bytes >= LOGS_IN_FLIGHT_BYTES_MAX {
            return None;
        }
        let record = self.fresh_logs.pop_front()?;
        self.fresh_logs_bytes -= record.body.len();
        Some(record)
    }

    /// Takes what lies in `range` out of flight.
    fn land(&mut self, range: SeqRange) -> Vec<(Seq, Sent)> {
        let within = range.first()..=range.last();
        let landed: Vec<_> = self.in_flight.extract_if(within, |_, _| true).collect();
        for (_, sent) in &landed {
            *self.bytes_of(sent.fresh) -= sent.bytes;
        }
        landed
    }

    fn bytes_of(&mut self, fresh: bool) -> &mut usize {
        match fresh {
            true => &mut self.fresh_in_flight_bytes,
            false => &mut self.backlog_in_flight_bytes,
        }
    }
}

/// The ranges of a message. Those that are upside down are left out.
pub(crate) fn ranges(ranges: &[v1::SeqRange]) -> Vec<SeqRange> {
    ranges.iter().filter_map(|range| SeqRange::new(range.first, range.last)).collect()
}
