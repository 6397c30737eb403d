//! Reading back what waits, oldest first.

use std::collections::HashMap;

use bytes::Bytes;
use model::{LayoutId, Seq, SeqRange, SeqRanges};

use super::Spool;
use super::done::undone;
use super::record::{Found, Record, RecordKind, Scan};
use super::segment::{HEAD_BYTES, Segment};

/// A place in the spool: everything before `next` was looked at.
#[derive(Debug)]
pub(crate) struct Cursor {
    next: Seq,
    loaded: Option<Loaded>,
}

/// An item that waits, and the layout that must be sent before it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) record: Record,
    pub(crate) layout: Option<(LayoutId, Bytes)>,
}

/// One segment in memory. While it is being written, what is new of it is read when this is used up.
#[derive(Debug)]
struct Loaded {
    segment: Segment,
    scan: Scan,
    rest_from: u64,
    layouts: HashMap<LayoutId, Bytes>,
    /// The next number that must come, unless it is damaged.
    expected: Seq,
    missing: SeqRanges,
}

impl Cursor {
    pub(crate) fn new() -> Self {
        Self { next: 1, loaded: None }
    }

    /// Steps over an item that was sent otherwise, if it is the very next.
    pub(crate) fn step_over(&mut self, seq: Seq) {
        if self.next == seq {
            self.next += 1;
        }
    }

    pub(crate) fn rewind(&mut self) {
        *self = Self::new();
    }
}

impl Spool {
    /// The next item after the cursor that waits and that `skip` does not know as sent.
    pub(crate) fn next_waiting(
        &mut self,
        cursor: &mut Cursor,
        skip: impl Fn(Seq) -> bool,
    ) -> Option<Waiting> {
        loop {
            self.step_over_done(cursor);
            if cursor.next >= self.numbers.next() {
                self.leave(cursor);
                // What was found missing there is told by new items.
                if cursor.next >= self.numbers.next() {
                    return None;
                }
                continue;
            }
            let Some(loaded) = &mut cursor.loaded else {
                if self.load(cursor) {
                    continue;
                }
                let record = self.memory.first_from(cursor.next)?.clone();
                cursor.next = record.seq + 1;
                if skip(record.seq) || self.is_done(record.seq) {
                    continue;
                }
                let layout = self.layout_of(&record, None);
                return Some(Waiting { record, layout });
            };
            match loaded.scan.next() {
                Some(Found::Damage) => {}
                Some(Found::Record(record)) => {
                    if let RecordKind::Layout(id) = record.kind {
                        loaded.layouts.insert(id, record.body);
                        continue;
                    }
                    loaded.miss(loaded.expected, record.seq, &skip);
                    loaded.expected = record.seq.saturating_add(1);
                    if record.seq < cursor.next {
                        continue;
                    }
                    cursor.next = record.seq + 1;
                    if skip(record.seq) || self.is_done(record.seq) {
                        continue;
                    }
                    let layout = self.layout_of(&record, Some(&loaded.layouts));
                    if layout.is_none() && matches!(record.kind, RecordKind::Frame(_)) {
                        // Its layout was damaged, so nobody could read it.
                        loaded.miss(record.seq, record.seq + 1, &skip);
                        continue;
                    }
                    return Some(Waiting { record, layout });
                }
                None => self.load_rest(cursor, &skip),
            }
        }
    }

    /// The layout that `record` needs, from its own segment or from those in use.
    fn layout_of(
        &mut self,
        record: &Record,
        layouts: Option<&HashMap<LayoutId, Bytes>>,
    ) -> Option<(LayoutId, Bytes)> {
        let RecordKind::Frame(id) = record.kind else { return None };
        let stored = layouts.and_then(|layouts| layouts.get(&id).cloned());
        let body = stored.or_else(|| self.layouts.get(id).map(|layout| layout.body));
        body.map(|body| (id, body))
    }

    fn step_over_done(&mut self, cursor: &mut Cursor) {
        let Some(last) = self.numbers.next().checked_sub(1) else { return };
        let Some(range) = SeqRange::new(cursor.next, last) else { return };
        cursor.next = undone(&self.done, range).first().map_or(last + 1, |first| first.first());
        let elsewhere = cursor.loaded.as_ref().is_some_and(|loaded| {
            cursor.next > loaded.segment.seqs.last()
                && self.segment_from(cursor.next).is_none_or(|s| s.path != loaded.segment.path)
        });
        if elsewhere {
            self.leave(cursor);
        }
    }

    /// Loads the first segment that reaches to the cursor. False when there is none on disk.
    fn load(&mut self, cursor: &mut Cursor) -> bool {
        let Some(segment) = self.segment_from(cursor.next) else { return false };
        let bytes = segment.read_from(HEAD_BYTES).unwrap_or_else(|error| {
            // Read as empty: everything that it held is missing.
            tracing::error!(%error, path = %segment.path.display(), "failed to read the spool");
            Vec::new()
        });
        cursor.loaded = Some(Loaded {
            rest_from: HEAD_BYTES + bytes.len() as u64,
            scan: Scan::new(bytes.into(), self.numbers.epoch()),
            layouts: HashMap::new(),
            expected: segment.seqs.first(),
            missing: SeqRanges::new(),
            segment,
        });
        true
    }

    /// Goes on in what was appended to the segment meanwhile, or leaves it.
    fn load_rest(&mut self, cursor: &mut Cursor, skip: &impl Fn(Seq) -> bool) {
        let Some(loaded) = &mut cursor.loaded else { return };
        let sealed = self.sealed.iter().find(|segment| segment.path == loaded.segment.path);
        let now = sealed.cloned().or_else(|| {
            let active = self.active.as_ref().and_then(|active| active.snapshot());
            active.filter(|segment| segment.path == loaded.segment.path)
        });
        if let Some(segment) = now.filter(|segment| segment.bytes > loaded.rest_from)
            && let Ok(more) = segment.read_from(loaded.rest_from)
            && !more.is_empty()
        {
            loaded.rest_from += more.len() as u64;
            loaded.scan = Scan::new(more.into(), self.numbers.epoch());
            loaded.segment = segment;
            return;
        }
        let end = loaded.segment.seqs.last() + 1;
        loaded.miss(loaded.expected, end, skip);
        cursor.next = cursor.next.max(end);
        self.leave(cursor);
    }

    /// Tells what was found missing in the segment that is left.
    fn leave(&mut self, cursor: &mut Cursor) {
        let Some(loaded) = cursor.loaded.take() else { return };
        let missing: Vec<SeqRange> =
            loaded.missing.iter().flat_map(|range| undone(&self.done, range)).collect();
        let Some(first) = missing.first() else { return };
        let count: u64 = missing.iter().map(|range| range.count()).sum();
        let first = first.first();
        missing.into_iter().for_each(|range| self.lose(range));
        self.report_damage(format!("{count} items from number {first} on cannot be read back"));
        self.forget_done();
    }

    fn segment_from(&self, seq: Seq) -> Option<Segment> {
        let sealed = self.sealed.iter().find(|segment| segment.seqs.last() >= seq).cloned();
        let active = || self.active.as_ref().and_then(|active| active.snapshot());
        sealed.or_else(|| active().filter(|segment| segment.seqs.last() >= seq))
    }
}

impl Loaded {
    /// Notes that the numbers from `from` to before `to` are not there, but for those already sent.
    fn miss(&mut self, from: Seq, to: Seq, sent: impl Fn(Seq) -> bool) {
        self.missing.extend((from..to).filter(|seq| !sent(*seq)).map(SeqRange::one));
    }
}
