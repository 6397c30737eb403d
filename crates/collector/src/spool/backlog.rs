//! Reading back what waits, oldest first.

use std::collections::HashMap;

use bytes::Bytes;
use model::{LayoutId, Seq, SeqRange};

use super::record::{Found, Record, RecordKind, Scan};
use super::segment::{HEAD_BYTES, Segment};
use super::{Spool, undone};

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
}

impl Cursor {
    pub(crate) fn new() -> Self {
        Self { next: 1, loaded: None }
    }

    pub(crate) fn at(&self) -> Seq {
        self.next
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
                // Caught up: what is loaded is of no more use.
                cursor.loaded = None;
                return None;
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
                Some(Found::Record(record)) => match record.kind {
                    RecordKind::Layout(id) => {
                        loaded.layouts.insert(id, record.body);
                    }
                    _ => {
                        let missing = record.seq.checked_sub(1);
                        let missing = missing.and_then(|last| SeqRange::new(loaded.expected, last));
                        loaded.expected = record.seq.saturating_add(1);
                        if record.seq >= cursor.next {
                            let passed = cursor.next;
                            cursor.next = record.seq + 1;
                            if !skip(record.seq) && !self.is_done(record.seq) {
                                let layouts = cursor.loaded.as_ref().map(|l| &l.layouts);
                                let layout = self.layout_of(&record, layouts);
                                let whole = layout.is_some()
                                    || !matches!(record.kind, RecordKind::Frame(_));
                                self.damaged(missing, passed);
                                if whole {
                                    return Some(Waiting { record, layout });
                                }
                                self.damaged(Some(SeqRange::one(record.seq)), record.seq);
                                continue;
                            }
                            self.damaged(missing, passed);
                        }
                    }
                },
                None => self.load_rest(cursor),
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

    fn step_over_done(&self, cursor: &mut Cursor) {
        let Some(last) = self.numbers.next().checked_sub(1) else { return };
        let Some(range) = SeqRange::new(cursor.next, last) else { return };
        cursor.next = undone(&self.done, range).first().map_or(last + 1, |first| first.first());
        if let Some(loaded) = &cursor.loaded
            && cursor.next > loaded.segment.seqs.last()
            && self.segment_from(cursor.next).is_none_or(|s| s.path != loaded.segment.path)
        {
            cursor.loaded = None;
        }
    }

    /// Loads the first segment that reaches to the cursor. False when there is none on disk.
    fn load(&mut self, cursor: &mut Cursor) -> bool {
        let Some(segment) = self.segment_from(cursor.next) else { return false };
        match segment.read_from(HEAD_BYTES) {
            Ok(bytes) => {
                cursor.loaded = Some(Loaded {
                    rest_from: HEAD_BYTES + bytes.len() as u64,
                    scan: Scan::new(bytes.into(), self.numbers.epoch()),
                    layouts: HashMap::new(),
                    expected: segment.seqs.first(),
                    segment,
                });
            }
            Err(error) => {
                tracing::error!(%error, path = %segment.path.display(), "failed to read the spool");
                cursor.next = segment.seqs.last() + 1;
                self.damaged(Some(segment.seqs), segment.seqs.first());
            }
        }
        true
    }

    /// Goes on in what was appended to the segment meanwhile, or leaves it.
    fn load_rest(&mut self, cursor: &mut Cursor) {
        let Some(loaded) = &mut cursor.loaded else { return };
        let now = self
            .sealed
            .iter()
            .find(|segment| segment.path == loaded.segment.path)
            .cloned()
            .or_else(|| self.active.as_ref().and_then(|active| active.snapshot()))
            .filter(|segment| segment.path == loaded.segment.path);
        if let Some(segment) = now.filter(|segment| segment.bytes > loaded.rest_from)
            && let Ok(more) = segment.read_from(loaded.rest_from)
            && !more.is_empty()
        {
            loaded.rest_from += more.len() as u64;
            loaded.scan = Scan::new(more.into(), self.numbers.epoch());
            loaded.segment = segment;
            return;
        }
        let missing = SeqRange::new(loaded.expected, loaded.segment.seqs.last());
        let passed = cursor.next;
        cursor.next = cursor.next.max(loaded.segment.seqs.last() + 1);
        cursor.loaded = None;
        self.damaged(missing, passed);
    }

    /// Tells what is missing and still waited for. What lies before `from` was looked at before.
    fn damaged(&mut self, missing: Option<SeqRange>, from: Seq) {
        let missing = missing.and_then(|m| SeqRange::new(m.first().max(from), m.last()));
        let Some(missing) = missing.filter(|m| !undone(&self.done, *m).is_empty()) else { return };
        self.lose(missing);
        self.report_damage(format!("items {} to {} cannot be read back", missing.first(), missing.last()));
        self.forget_done();
    }

    fn segment_from(&self, seq: Seq) -> Option<Segment> {
        let sealed = self.sealed.iter().find(|segment| segment.seqs.last() >= seq).cloned();
        let active = || self.active.as_ref().and_then(|active| active.snapshot());
        sealed.or_else(|| active().filter(|segment| segment.seqs.last() >= seq))
    }
}
