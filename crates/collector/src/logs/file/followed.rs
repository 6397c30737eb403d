//! One file that is followed: how far it was read, by what that place is known again, and reading on in it.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::{LogEvent, UnixMillis};

use super::Found;
use super::find::{self, FileId, HEAD_BYTES_MAX, Modified, Place};
use crate::logs::limit::Teller;
use crate::logs::lines::{Mark, TAIL_BYTES_MAX};
use crate::logs::outbox::{Closed, Outbox};
use crate::logs::parse::Parser;
use crate::logs::reader::Reader;
use crate::spool::Bookmark;

/// Lines that may still get a continuation wait this long for it.
const SETTLE_AFTER: Duration = Duration::from_millis(500);
/// One read. Also bounds the events that come at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// What is read of one file before the others have their turn.
const TURN_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Followed {
    pub(super) id: FileId,
    pub(super) file: File,
    /// Where it was found first.
    pub(super) path: PathBuf,
    /// Which of the configured files it is.
    pub(super) section: usize,
    pub(super) reader: Reader,
    /// The first bytes that were read.
    head: Vec<u8>,
    /// The last bytes that were read.
    tail: Vec<u8>,
    seen: Seen,
    /// When it was last written to, as of what was read.
    modified: Modified,
    /// When what had its path before and was let go was last written to.
    pub(super) let_go: Modified,
    /// When it last grew.
    pub(super) grew_at: Instant,
    /// Since when it waits for the one before it, or was read on.
    pub(super) waits_since: Instant,
    /// No glob leads to it any more.
    pub(super) is_detached: bool,
    pub(super) is_at_end: bool,
    /// The file that had its path before; its lines come first.
    pub(super) after: Option<FileId>,
    pub(super) read_at: Instant,
    teller: Teller,
}

/// By what a change is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    length: u64,
    modified: Modified,
}

impl Followed {
    /// Goes on where `reader` does.
    pub(super) fn new(found: Found, reader: Reader, now: Instant) -> Self {
        let Found { path, file, id, section, .. } = found;
        let offset = reader.offset();
        let mut head = vec![0; HEAD_BYTES_MAX.min(offset as usize)];
        let read = file.read_at(&mut head, 0).unwrap_or(0);
        head.truncate(read);
        let mut tail = vec![0; TAIL_BYTES_MAX.min(offset as usize)];
        let tail_at = offset - tail.len() as u64;
        let read = file.read_at(&mut tail, tail_at).unwrap_or(0);
        tail.truncate(read);
        let modified = find::modified(&file).unwrap_or_default();
        Self {
            id,
            file,
            path,
            section,
            reader,
            head,
            tail,
            seen: Seen::default(),
            modified,
            let_go: Modified::default(),
            grew_at: now,
            waits_since: now,
            is_detached: false,
            is_at_end: false,
            after: None,
            read_at: now,
            teller: Teller::default(),
        }
    }

    pub(super) fn place(&self) -> Place {
        let mark = self.reader.mark();
        let head = &self.head[..self.head.len().min(mark.offset as usize)];
        let head_crc = crc32c::crc32c(head);
        let (path, modified, let_go) = (self.path.clone(), self.modified, self.let_go);
        Place { path, mark, head_bytes: head.len() as u16, head_crc, modified, let_go }
    }

    pub(super) fn bookmark(&self) -> Bookmark {
        Bookmark { source: self.id.source(), place: serde_json::to_string(&self.place()).ok() }
    }

    /// Whether what was read of it is no longer what it holds.
    pub(super) fn was_written_anew(&self, metadata: &std::fs::Metadata) -> bool {
        let offset = self.reader.offset();
        if metadata.len() < offset {
            return true;
        }
        let changed = Seen::of(metadata) != self.seen;
        changed && !find::is_at(&self.file, &Mark::after(&self.tail, offset))
    }

    pub(super) fn start_anew(&mut self) {
        self.reader.start_anew();
        self.head.clear();
        self.tail.clear();
        self.is_at_end = false;
    }

    /// What was rotated away grew when it was written, not when it was read: files that wait for each other would
    /// wait for each other's last lines too.
    pub(super) fn was_written_before(&mut self, now: Instant, clock: UnixMillis) {
        let Some((seconds, nanos)) = find::modified(&self.file) else { return };
        let ago_ms = clock.0.saturating_sub(seconds.saturating_mul(1_000) + nanos / 1_000_000);
        let ago = Duration::from_millis(u64::try_from(ago_ms).unwrap_or(0));
        self.grew_at = now.checked_sub(ago).unwrap_or(now);
    }

    /// Reads its share. True when there is more.
    pub(super) fn read(
        &mut self,
        parser: &Parser,
        clock: fn() -> UnixMillis,
        outbox: &mut Outbox,
        now: Instant,
    ) -> Result<bool, Closed> {
        self.reader.refill(now.duration_since(self.read_at), self.is_at_end);
        self.read_at = now;
        let mut events: Vec<LogEvent> = Vec::new();
        let mut chunk = [0; CHUNK_BYTES];
        let mut turn = 0;
        if let Ok(metadata) = self.file.metadata() {
            self.seen = Seen::of(&metadata);
            self.modified = self.seen.modified;
        }
        self.is_at_end = false;
        while turn < TURN_BYTES {
            let offset = self.reader.offset();
            // A failing disk is not at its end; it is tried again at the next look.
            let Ok(length) = self.file.read_at(&mut chunk, offset) else { return Ok(false) };
            if length == 0 {
                self.is_at_end = true;
                break;
            }
            turn += length;
            let bytes = &chunk[..length];
            let room = HEAD_BYTES_MAX.saturating_sub(self.head.len());
            self.head.extend_from_slice(&bytes[..length.min(room)]);
            self.tail.extend_from_slice(&bytes[length.saturating_sub(TAIL_BYTES_MAX)..]);
            self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES_MAX));
            self.reader.feed(bytes, parser, clock(), &mut events);
            if !events.is_empty() {
                outbox.put(&mut events, self.bookmark())?;
            }
        }
        if turn > 0 {
            self.grew_at = now;
            self.waits_since = now;
            if self.is_detached {
                self.was_written_before(now, clock());
            }
        }
        if self.is_at_end
            && self.reader.holds_lines()
            && now.duration_since(self.grew_at) >= SETTLE_AFTER
        {
            self.reader.settle(parser, clock(), &mut events);
            outbox.put(&mut events, self.bookmark())?;
        }
        if self.reader.limit().is_exceeded() && self.teller.is_due(now) {
            let told = self.reader.dropped(clock());
            let (dropped, mut notice) = told.map(|(n, event)| (n, vec![event])).unwrap_or_default();
            outbox.add_dropped(dropped);
            outbox.put(&mut notice, self.bookmark())?;
        }
        Ok(!self.is_at_end)
    }
}

impl Seen {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self { length: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

/// Right after the last byte.
pub(super) fn end_of(file: &File) -> Mark {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut tail = vec![0; TAIL_BYTES_MAX.min(length as usize)];
    let tail_at = length - tail.len() as u64;
    match file.read_exact_at(&mut tail, tail_at) {
        Ok(()) => Mark::after(&tail, length),
        Err(_) => Mark::default(),
    }
}

/// Whether both hold the same up to `length`, as far as their beginning and what lies before it say.
pub(super) fn same_until(one: &File, other: &File, length: u64) -> bool {
    let longer = one.metadata().map_or(0, |metadata| metadata.len());
    let piece = length.min(TAIL_BYTES_MAX as u64) as usize;
    let read = |file: &File, at: u64| {
        let mut bytes = vec![0; piece];
        file.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
    };
    let same = |at: u64| read(one, at).is_some_and(|bytes| Some(bytes) == read(other, at));
    longer >= length && same(0) && same(length - piece as u64)
}
