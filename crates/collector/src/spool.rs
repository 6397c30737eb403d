//! What was read and is not acknowledged yet: a bounded log on disk that survives being killed.
//!
//! - An item is in the hands of the operating system before anything else sees it: a kill loses nothing
//!   that was appended. What nobody acknowledged within half a sync interval is synced to the disk, so a
//!   power cut costs at most the last second. What is acknowledged at once never costs a sync.
//! - Numbers are never used twice within an epoch (see `numbers.rs`).
//! - When the bound is reached, the oldest segment goes. What of it was not acknowledged is named by a
//!   gap. The same holds for what is damaged, and for what the aggregator refused.
//! - When the disk takes nothing, a bounded piece of memory stands in until it does.
//! - Segments go from the oldest on, after what is acknowledged was written down, and where reading
//!   goes on in what they were read from (see `bookmarks.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model::{
    Gap, GapReason, Layout, LayoutId, Payload, Seq, SeqRange, SeqRanges, SpoolEpoch, UnixMillis,
};
use proto::convert::Unnumbered;

use crate::CollectorStats;

mod acknowledged;
mod backlog;
mod bookmarks;
mod done;
mod gaps;
mod layouts;
mod loss;
mod memory;
mod numbers;
mod record;
mod recovery;
mod segment;
mod sync;
#[cfg(test)]
mod tests;
mod write;

use done::{covers, overlap, undone};

pub(crate) use backlog::{Cursor, Waiting};
pub(crate) use bookmarks::Bookmark;
pub(crate) use record::{Record, RecordKind};
pub(crate) use sync::{SyncJob, Synced};

/// An active segment that is wholly acknowledged is only replaced when it is longer than this: a
/// collector whose items are acknowledged at once hardly touches the disk.
const RECYCLED_BYTES_MIN: u64 = 256 * 1024;
/// Room for the heads of a record and of its segment.
const RECORD_ROOM: u64 = 128;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// All segments and what stands in for them in memory.
    pub(crate) bytes_max: u64,
    pub(crate) segment_bytes_max: u64,
    pub(crate) memory_bytes_max: u64,
}

impl Limits {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            // Small enough to be read whole, and for a dropped one to be a small loss.
            segment_bytes_max: (bytes_max / 8).clamp(4 * 1024, 1024 * 1024),
            memory_bytes_max: (bytes_max / 4).min(4 * 1024 * 1024),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    limits: Limits,
    stats: Arc<CollectorStats>,
    numbers: numbers::Numbers,
    /// Every number that need not be sent (again): acknowledged, lost, refused or superseded.
    done: SeqRanges,
    acknowledged: acknowledged::Acknowledged,
    acknowledged_is_stale: bool,
    bookmarks: bookmarks::Bookmarks,
    /// Oldest first.
    sealed: VecDeque<segment::Segment>,
    active: Option<segment::Active>,
    memory: memory::Memory,
    layouts: layouts::Layouts,
    gaps: gaps::Gaps,
    /// Gaps for which no number could be reserved yet.
    gaps_waiting: Vec<Gap>,
    latest_time: UnixMillis,
    /// Sealed files that a sync has not seen.
    unsynced: Vec<Arc<File>>,
    /// Whether segments were created since the last sync.
    dir_is_unsynced: bool,
    synced_to: Seq,
    /// Last number at the housekeeping before.
    marked: Seq,
    writes_fail: bool,
}

impl Spool {
    /// Opens the spool in `state_dir`, or starts one. What is damaged is stepped over and told; a spool
    /// that cannot be used at all is put aside.
    ///
    /// # Errors
    /// When nothing can be written in `state_dir`.
    pub(crate) fn open(
        state_dir: &Path,
        limits: Limits,
        stats: Arc<CollectorStats>,
    ) -> anyhow::Result<Self> {
        recovery::open(state_dir, limits, stats)
    }

    pub(crate) fn epoch(&self) -> SpoolEpoch {
        self.numbers.epoch()
    }

    /// The oldest number that is still kept; the next number when there is none.
    pub(crate) fn oldest_unacknowledged(&self) -> Seq {
        let kept = self.kept().find_map(|seqs| undone(&self.done, seqs).first().copied());
        kept.map_or(self.numbers.next(), SeqRange::first)
    }

    pub(crate) fn is_done(&self, seq: Seq) -> bool {
        self.done.contains(seq)
    }

    /// Makes a layout known, before the first frame that uses it.
    pub(crate) fn learn(&mut self, layout: &Layout) {
        self.layouts.insert(layout);
    }

    /// The encoded layout, when it is among those in use.
    pub(crate) fn layout(&mut self, id: LayoutId) -> Option<Bytes> {
        self.layouts.get(id).map(|layout| layout.body)
    }

    /// Where reading goes on, by source.
    pub(crate) fn places(&self) -> &BTreeMap<String, String> {
        self.bookmarks.places()
    }

    /// Sets bookmarks for which there is no item. They are written down a moment later.
    pub(crate) fn mark(&mut self, bookmarks: &[Bookmark]) {
        self.bookmarks.set(bookmarks);
    }

    /// Numbers an item and keeps it. `None` when it cannot be delivered, ever: that is counted, and
    /// told by a gap.
    pub(crate) fn append(&mut self, payload: Payload) -> Option<Record> {
        self.append_marked(payload, &[])
    }

    /// As [`Spool::append`]; the item and its bookmarks survive a kill together, or neither does.
    pub(crate) fn append_marked(
        &mut self,
        payload: Payload,
        bookmarks: &[Bookmark],
    ) -> Option<Record> {
        let time = payload.time().unwrap_or(self.latest_time);
        let kind = match &payload {
            Payload::Frame(frame) => RecordKind::Frame(frame.layout),
            Payload::Gap(_) => RecordKind::Gap,
            Payload::Logs(_) => RecordKind::Logs,
            Payload::Processes(_) | Payload::Event(_) => RecordKind::Other,
        };
        let message = Unnumbered::new(payload);
        let encoded_bookmarks = self.bookmarks.encode(bookmarks);
        let bytes = message.bytes_max() + encoded_bookmarks.len();
        let layout = match kind {
            RecordKind::Frame(id) => Some((id, self.layouts.get(id))),
            _ => None,
        };
        // With its layout, in case it begins a segment.
        let room = bytes as u64
            + RECORD_ROOM
            + layout.iter().flat_map(|(_, known)| known).map(Record::disk_bytes).sum::<u64>();
        let problem = match layout {
            Some((id, None)) => Some(format!("frame of layout {id}, which is not known")),
            _ if bytes > record::BODY_BYTES_MAX => {
                Some(format!("item of {bytes} bytes is more than {}", record::BODY_BYTES_MAX))
            }
            _ if !self.make_room(room) => {
                Some(format!("item of {bytes} bytes does not fit into the spool"))
            }
            _ => None,
        };
        let Some(seq) = self.numbers.take() else {
            self.stats.add_spool_dropped(1);
            self.failed("failed to reserve item numbers", &io::Error::other("disk takes no write"));
            self.bookmarks.set(bookmarks);
            return None;
        };
        // What is lost is told; it is not read again.
        self.bookmarks.kept(seq, bookmarks);
        if let Some(detail) = problem {
            tracing::error!(item.seq = seq, %detail, "an item cannot be delivered");
            let seqs = SeqRange::one(seq);
            let gap = Gap { seqs, times: Some((time, time)), reason: GapReason::Rejected, detail };
            self.stats.add_items_rejected(1);
            self.done.insert(seq);
            self.tell(vec![gap]);
            return None;
        }
        self.latest_time = time;
        let body = message.numbered(seq);
        let record = Record { seq, time, kind, body, bookmarks: encoded_bookmarks };
        self.write(record.clone());
        self.refresh_stats();
        Some(record)
    }

    /// These items are durable elsewhere: forgets them.
    pub(crate) fn acknowledge(&mut self, ranges: impl IntoIterator<Item = SeqRange>) {
        // Nobody can have stored what was not yet numbered.
        let last = self.numbers.next().saturating_sub(1);
        for range in ranges {
            if let Some(range) = SeqRange::new(range.first(), range.last().min(last)) {
                self.done.insert_range(range);
            }
        }
        self.forget_done();
    }

    /// These items will never be taken: forgets them and tells so by gaps. Those that were acknowledged
    /// before are left out.
    pub(crate) fn refuse(
        &mut self,
        range: SeqRange,
        times: Option<(UnixMillis, UnixMillis)>,
        why: &str,
    ) {
        let last = self.numbers.next().saturating_sub(1);
        let Some(range) = SeqRange::new(range.first(), range.last().min(last)) else { return };
        // A refused gap is not told by another gap: that could go on for ever.
        let refused_gaps = self.gaps.take_within(range);
        self.stats.add_items_rejected(refused_gaps.len() as u64);
        self.done.extend(refused_gaps.iter().map(|(seq, _)| SeqRange::one(*seq)));
        let refused = undone(&self.done, range);
        self.stats.add_items_rejected(refused.iter().map(|seqs| seqs.count()).sum());
        self.done.insert_range(range);
        let (reason, detail) = (GapReason::Rejected, why.to_owned());
        let gap = |seqs| Gap { seqs, times, reason, detail: detail.clone() };
        self.tell(refused.into_iter().map(gap).collect());
        self.forget_done();
    }

    /// To be called a few times a second: writes down what was acknowledged, tries the disk again after
    /// a failure, and says what there is to sync.
    pub(crate) fn keep_house(&mut self) -> Option<SyncJob> {
        self.write_acknowledged();
        let waiting = std::mem::take(&mut self.gaps_waiting);
        self.tell(waiting);
        self.flush_memory();
        self.write_bookmarks();
        self.sync_job()
    }

    /// Leaves everything durable, and the exact next number written down.
    pub(crate) fn close(mut self) {
        self.flush_memory();
        self.seal();
        self.write_acknowledged();
        self.write_bookmarks();
        let unsynced = std::mem::take(&mut self.unsynced);
        let synced = unsynced.iter().try_for_each(|file| file.sync_data());
        if let Err(error) = synced.and_then(|()| self.numbers.close()) {
            tracing::warn!(%error, "failed to close the spool; numbers will be skipped at the next start");
        }
    }

    fn forget_done(&mut self) {
        let oldest = self.oldest_unacknowledged();
        let done = &self.done;
        self.gaps.forget(|seq| done.contains(seq), oldest);
        if !self.memory.is_empty() {
            self.memory.forget(|seq| done.contains(seq));
        }
        self.acknowledged_is_stale = true;
        let mut paths = Vec::new();
        while self.sealed.front().is_some_and(|oldest| covers(&self.done, oldest.seqs)) {
            paths.extend(self.sealed.pop_front().map(|segment| segment.path));
        }
        if self.sealed.is_empty() {
            // Files that are gone need no sync.
            self.unsynced.clear();
            let old = self.active.take_if(|active| {
                let seqs = active.seqs();
                active.bytes() > RECYCLED_BYTES_MIN && seqs.is_some_and(|s| covers(&self.done, s))
            });
            paths.extend(old.map(|active| active.path().to_owned()));
        }
        if let Some(settled) = SeqRange::new(1, oldest.saturating_sub(1)) {
            self.done.insert_range(settled);
        }
        if !paths.is_empty() {
            self.write_acknowledged();
            self.write_bookmarks();
            paths.iter().for_each(|path| remove(path));
        }
        self.refresh_stats();
    }

    fn write_acknowledged(&mut self) {
        if std::mem::take(&mut self.acknowledged_is_stale)
            && let Err(error) = self.acknowledged.write(&self.done)
        {
            self.acknowledged_is_stale = true;
            self.failed("failed to write what is acknowledged; it may be sent again", &error);
        }
    }

    fn write_bookmarks(&mut self) {
        // Those of items that are in memory only must not outlive them.
        if self.memory.is_empty()
            && let Err(error) = self.bookmarks.write()
        {
            self.failed("failed to write where logs go on; some may be read again", &error);
        }
    }

    /// Counts a failure, and logs the first of a row.
    fn failed(&mut self, what: &'static str, error: &io::Error) {
        self.stats.add_spool_write_error();
        if !std::mem::replace(&mut self.writes_fail, true) {
            tracing::error!(%error, dir = %self.dir.display(), "{what}");
        }
    }

    /// Items that are kept, in ascending order.
    fn kept(&self) -> impl Iterator<Item = SeqRange> {
        let sealed = self.sealed.iter().map(|segment| segment.seqs);
        let active = self.active.iter().filter_map(segment::Active::seqs);
        sealed.chain(active).chain(self.memory.seqs().map(SeqRange::one))
    }

    fn bytes(&self) -> u64 {
        let sealed: u64 = self.sealed.iter().map(|segment| segment.bytes).sum();
        sealed + self.active.as_ref().map_or(0, segment::Active::bytes) + self.memory.bytes()
    }

    fn refresh_stats(&self) {
        let items = self.kept().map(|seqs| seqs.count() - overlap(&self.done, seqs)).sum();
        self.stats.set_spool_items(items);
        self.stats.set_spool_bytes(if items == 0 { 0 } else { self.bytes() });
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "failed to remove a segment of the spool");
    }
}
