//! Log files, whatever is done to them while they are written: renamed, copied and truncated, truncated,
//! deleted, replaced, linked to, created later.
//!
//! A file is known by device and inode, and by what it held at its beginning and right before the place
//! that was reached: so a copy is known as a copy, a file that was written anew as new, and an inode that
//! was used again as another file. It stays open until it is gone and quiet, so what is written to it
//! after it was renamed or deleted is read. Where a file was truncated before its end was read, the rest
//! is looked for in the copy that rotation left beside it.
//!
//! One thread looks at all files a few times a second. Files wait: while the spool is half full, or the
//! delivery is behind, nothing is read, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use model::{LogEvent, UnixMillis};
use tokio_util::sync::CancellationToken;

use super::Room;
use super::config::{Section, Start};
use super::limit::{Limit, Teller};
use super::lines::{Mark, TAIL_BYTES_MAX};
use super::outbox::{Closed, Outbox};
use super::parse::{Known, Parser};
use super::reader::Reader;
use crate::spool::Bookmark;
use find::{FileId, HEAD_BYTES_MAX, Place};

mod container;
mod find;
#[cfg(test)]
mod tests;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const SCAN_EVERY: Duration = Duration::from_secs(1);
/// Lines that may still get a continuation wait this long for it.
const SETTLE_AFTER: Duration = Duration::from_millis(500);
/// A file that no glob leads to any more is let go when it was quiet for this long.
const LET_GO_AFTER: Duration = Duration::from_secs(60);
/// How long a file waits at most for the end of the one that had its path before.
const TAKES_ITS_TURN_AFTER: Duration = Duration::from_secs(10);
/// One read. Also bounds the events that come at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// What is read of one file before the others have their turn.
const TURN_BYTES: usize = 1024 * 1024;
const FILES_MAX: usize = 1024;
/// Bookmark that says that a glob was in use before: what is new to it since was written since.
const GLOB_SOURCE: &str = "glob:";

/// What a reader of files works with.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) files: Vec<Section>,
    /// Where reading goes on, by source.
    pub(super) places: BTreeMap<String, String>,
    pub(super) room: Room,
    pub(super) events_per_second_max: u32,
}

#[derive(Debug)]
pub(super) struct Files {
    setup: Setup,
    parser: Parser,
    /// In the order in which they are read.
    followed: Vec<Followed>,
    /// From before the start, and not found again yet.
    places: BTreeMap<FileId, Place>,
    scanned_at: Option<Instant>,
    /// At the first look: whatever is there was there before us.
    is_first_scan: bool,
    refused: BTreeSet<PathBuf>,
    clock: fn() -> UnixMillis,
}

#[derive(Debug)]
struct Followed {
    id: FileId,
    file: File,
    /// Where it was found first.
    path: PathBuf,
    /// Which of the configured files it is.
    section: usize,
    reader: Reader,
    /// The first bytes that were read.
    head: Vec<u8>,
    /// The last bytes that were read.
    tail: Vec<u8>,
    seen: Seen,
    /// When it last grew.
    grew_at: Instant,
    /// No glob leads to it any more.
    is_detached: bool,
    is_at_end: bool,
    /// The file that had its path before; its lines come first.
    after: Option<FileId>,
    read_at: Instant,
    teller: Teller,
}

/// By what a change is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    length: u64,
    modified: (i64, i64),
}

impl Files {
    pub(super) fn new(mut setup: Setup, parser: Parser) -> Self {
        let places = std::mem::take(&mut setup.places);
        let known = |source: &String| {
            let (device, inode) = source.strip_prefix("file:")?.split_once(':')?;
            Some(FileId { device: device.parse().ok()?, inode: inode.parse().ok()? })
        };
        let files = places
            .iter()
            .filter_map(|(source, place)| Some((known(source)?, serde_json::from_str(place).ok()?)))
            .collect();
        setup.places = places.into_iter().filter(|(s, _)| s.starts_with(GLOB_SOURCE)).collect();
        Self {
            setup,
            parser,
            followed: Vec::new(),
            places: files,
            scanned_at: None,
            is_first_scan: true,
            refused: BTreeSet::new(),
            clock: || UnixMillis::from(SystemTime::now()),
        }
    }

    /// Reads until `stop` is cancelled or the delivery is gone. To be called on a thread of its own.
    pub(super) fn run(mut self, mut outbox: Outbox, stop: &CancellationToken) {
        while !stop.is_cancelled() && !outbox.is_closed() {
            match self.look(&mut outbox, Instant::now()) {
                Ok(true) => {}
                Ok(false) => std::thread::sleep(LOOK_EVERY),
                Err(Closed) => return,
            }
        }
        for followed in &mut self.followed {
            if let Some((dropped, notice)) = followed.reader.dropped((self.clock)()) {
                outbox.add_dropped(dropped);
                outbox.add(&mut vec![notice]);
                outbox.mark(followed.bookmark());
            }
        }
        let _ = outbox.flush();
    }

    /// Looks at every file once. True when there is more to read at once.
    fn look(&mut self, outbox: &mut Outbox, now: Instant) -> Result<bool, Closed> {
        let due = self.scanned_at.is_none_or(|at| now.duration_since(at) >= SCAN_EVERY);
        let mut more = false;
        let mut at = 0;
        while at < self.followed.len() {
            more |= self.look_at(&mut at, outbox, now)?;
        }
        if due {
            self.scan(outbox, now);
        }
        outbox.flush()?;
        self.setup.room.stats.set_log_files(self.followed.len() as u64);
        Ok(more)
    }

    /// Reads on in one file and steps to the next.
    fn look_at(
        &mut self,
        at: &mut usize,
        outbox: &mut Outbox,
        now: Instant,
    ) -> Result<bool, Closed> {
        let followed = &self.followed[*at];
        // A writer that goes on in the file before for ever must not hold this one up.
        let is_next = |id| {
            let is_done = |other: &Followed| other.is_at_end && !other.reader.holds_lines();
            now.duration_since(followed.grew_at) >= TAKES_ITS_TURN_AFTER
                || self.followed.iter().all(|other| other.id != id || is_done(other))
        };
        if !self.setup.room.is_there() || !followed.after.is_none_or(is_next) {
            // What is written while it waits is no burst when it is read.
            self.followed[*at].is_at_end = false;
            *at += 1;
            return Ok(false);
        }
        let Ok(metadata) = followed.file.metadata() else {
            *at += 1;
            return Ok(false);
        };
        if followed.was_written_anew(&metadata) {
            if let Some(archive) = self.archive_of(*at, now) {
                // What was left to read of it comes before what it holds now.
                let anew = &mut self.followed[*at];
                anew.start_anew();
                anew.after = Some(archive.id);
                // In one batch: after a kill it is found again as it was before, or as it is now.
                outbox.mark(archive.bookmark());
                outbox.mark(anew.bookmark());
                self.followed.insert(*at, archive);
                return Ok(true);
            } else {
                let (parser, clock) = (&self.parser, self.clock);
                let followed = &mut self.followed[*at];
                let mut events = Vec::new();
                followed.reader.finish(parser, clock(), &mut events);
                followed.start_anew();
                outbox.put(&mut events, followed.bookmark())?;
            }
        }
        let clock = self.clock;
        let followed = &mut self.followed[*at];
        let more = followed.read(&self.parser, clock, outbox, now)?;
        let quiet = now.duration_since(followed.grew_at);
        if followed.is_detached && followed.is_at_end && quiet >= LET_GO_AFTER {
            let mut followed = self.followed.remove(*at);
            let mut events = Vec::new();
            followed.reader.finish(&self.parser, clock(), &mut events);
            outbox.put(&mut events, Bookmark { source: followed.id.source(), place: None })?;
            return Ok(more);
        }
        *at += 1;
        Ok(more)
    }

    /// The copy that was made of a file before it was truncated, when there is more in it than was read.
    fn archive_of(&self, at: usize, now: Instant) -> Option<Followed> {
        let followed = &self.followed[at];
        let place = followed.place();
        if place.mark.offset == 0 && followed.reader.offset() == 0 {
            return None;
        }
        let is_followed = |id: FileId| self.followed.iter().any(|other| other.id == id);
        let (file, id) = find::beside(&followed.path, |file, id| {
            !is_followed(id) && place.mark.offset > 0 && place.is_in(file)
        })?;
        let section = followed.section;
        let mut archive = self.follow(file, id, &followed.path, section, place.mark, now, true);
        archive.after = followed.after;
        Some(archive)
    }

    /// Looks for files that are new, or that no glob leads to any more.
    fn scan(&mut self, outbox: &mut Outbox, now: Instant) {
        let is_first = self.scanned_at.replace(now).is_none();
        self.is_first_scan = is_first;
        let mut found: Vec<(PathBuf, File, FileId, usize)> = Vec::new();
        for (section, Section { files, .. }) in self.setup.files.iter().enumerate() {
            for path in files.include.iter().flat_map(|pattern| find::glob(pattern)) {
                let text = path.to_string_lossy();
                if files.exclude.iter().any(|pattern| model::glob::matches(pattern, &text)) {
                    continue;
                }
                match find::open(&path) {
                    Ok((file, id)) if found.iter().all(|(_, _, known, _)| *known != id) => {
                        self.refused.remove(&path);
                        found.push((path, file, id, section));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        if self.refused.len() < FILES_MAX && self.refused.insert(path.clone()) {
                            tracing::warn!(%error, path = %path.display(), "failed to open a log file; it is tried again");
                        }
                    }
                }
            }
        }
        for followed in &mut self.followed {
            followed.is_detached = found.iter().all(|(_, _, id, _)| *id != followed.id);
        }
        if is_first {
            // What was renamed or copied while nobody looked comes before what has its name now.
            self.find_again(&found, now, outbox);
        }
        let listed: Vec<FileId> = found.iter().map(|(_, _, id, _)| *id).collect();
        for (path, file, id, section) in found {
            if self.followed.iter().any(|followed| followed.id == id) {
                continue;
            }
            if self.followed.len() >= FILES_MAX {
                if self.refused.len() < FILES_MAX && self.refused.insert(path.clone()) {
                    tracing::warn!(path = %path.display(), files = FILES_MAX, "too many log files; this one is not read");
                }
                continue;
            }
            self.follow_between(&path, &listed, now, outbox);
            self.discover(&path, file, id, section, now, outbox);
        }
        for Section { files, .. } in &self.setup.files {
            for pattern in &files.include {
                let source = format!("{GLOB_SOURCE}{pattern}");
                if !self.setup.places.contains_key(&source) {
                    self.setup.places.insert(source.clone(), String::new());
                    outbox.mark(Bookmark { source, place: Some(String::new()) });
                }
            }
        }
        if is_first {
            // Unless they are on a disk that is not mounted yet.
            let gone = |place: &Place| place.path.parent().is_some_and(Path::is_dir);
            for (id, _) in self.places.extract_if(.., |_, place| gone(place)) {
                outbox.mark(Bookmark { source: id.source(), place: None });
            }
        }
    }

    /// Files that were read before the start and that no glob leads to now.
    fn find_again(
        &mut self,
        found: &[(PathBuf, File, FileId, usize)],
        now: Instant,
        outbox: &mut Outbox,
    ) {
        let mut again: Vec<(FileId, Place, File, FileId)> = Vec::new();
        for (id, place) in &self.places {
            let current = found.iter().find(|(_, _, known, _)| known == id);
            if current.is_some_and(|(_, file, _, _)| place.is_in(file)) {
                continue;
            }
            let is_new = |other: FileId| {
                place.mark.offset > 0
                    && !self.places.contains_key(&other)
                    && again.iter().all(|(_, _, _, known)| *known != other)
            };
            let renamed =
                find::beside(&place.path, |file, other| other == *id && place.is_in(file));
            let archive = renamed.or_else(|| {
                find::beside(&place.path, |file, other| is_new(other) && place.is_in(file))
            });
            again.extend(archive.map(|(file, other)| (*id, place.clone(), file, other)));
        }
        again.sort_by_key(|(_, _, file, _)| file.metadata().and_then(|m| m.modified()).ok());
        for (id, place, file, other) in again {
            self.places.remove(&id);
            outbox.mark(Bookmark { source: id.source(), place: None });
            self.follow_again(&place.path, file, other, place.mark, now, outbox);
        }
    }

    /// What was rotated in and out at `path` since its last file, without being seen there.
    fn follow_between(
        &mut self,
        path: &Path,
        listed: &[FileId],
        now: Instant,
        outbox: &mut Outbox,
    ) {
        let Some(last) = self.followed.iter().rfind(|other| other.path == path) else { return };
        let place = last.place();
        let is_new = |file: &File, id: FileId| {
            !listed.contains(&id)
                && !self.places.contains_key(&id)
                && self.followed.iter().all(|other| other.id != id)
                && (place.mark.offset == 0 || !place.is_in(file))
        };
        let mut rotated = find::rotated_after(path, &last.file);
        rotated.retain(|(file, id)| is_new(file, *id));
        for (file, id) in rotated {
            self.follow_again(path, file, id, Mark::default(), now, outbox);
        }
    }

    fn follow_again(
        &mut self,
        path: &Path,
        file: File,
        id: FileId,
        mark: Mark,
        now: Instant,
        outbox: &mut Outbox,
    ) {
        let Some(section) = self.section_of(path) else { return };
        let followed = self.follow(file, id, path, section, mark, now, true);
        outbox.mark(followed.bookmark());
        self.followed.push(followed);
    }

    fn section_of(&self, path: &Path) -> Option<usize> {
        let text = path.to_string_lossy();
        let matches = |pattern: &String| model::glob::matches(&pattern.replace("**/", "*"), &text);
        self.setup.files.iter().position(|section| section.files.include.iter().any(matches))
    }

    /// Decides where to start in a file that is new to us.
    fn discover(
        &mut self,
        path: &Path,
        file: File,
        id: FileId,
        section: usize,
        now: Instant,
        outbox: &mut Outbox,
    ) {
        let known = self.places.get(&id).filter(|place| place.is_in(&file)).cloned();
        // Device numbers may change when a machine starts.
        let known = known.or_else(|| {
            let named = |place: &&Place| place.path == path && place.mark.offset > 0;
            self.places.values().filter(named).find(|place| place.is_in(&file)).cloned()
        });
        let source = id.source();
        if let Some(place) = known {
            self.places.retain(|other, known| {
                let is_it = *known == place;
                if is_it && *other != id {
                    outbox.mark(Bookmark { source: other.source(), place: None });
                }
                !is_it
            });
            let followed = self.follow(file, id, path, section, place.mark, now, false);
            outbox.mark(Bookmark { source, place: followed.bookmark().place });
            self.followed.push(followed);
            return;
        }
        let files = &self.setup.files[section].files;
        let was_in_use =
            |pattern: &String| self.setup.places.contains_key(&format!("{GLOB_SOURCE}{pattern}"));
        let is_first_look = !files.include.iter().all(was_in_use);
        let mark = if is_first_look && files.start == Start::End {
            end_of(&file)
        } else if let Some(original) = self.original_of(path, &file) {
            // Copied before it is truncated: whatever we miss of the original will be read from here.
            match original {
                Original::StillThere => return,
                Original::Read(mark) => mark,
            }
        } else {
            Mark::default()
        };
        self.places.remove(&id);
        let followed = self.follow(file, id, path, section, mark, now, false);
        if mark.offset > 0 || is_first_look {
            outbox.mark(followed.bookmark());
        }
        self.followed.push(followed);
    }

    /// The file that `copy` is a copy of, if it is one.
    fn original_of(&self, path: &Path, copy: &File) -> Option<Original> {
        let name = path.file_name()?.to_str()?;
        let length = copy.metadata().ok()?.len();
        self.followed.iter().find_map(|other| {
            let other_name = other.path.file_name()?.to_str()?;
            let is_beside = other.path.parent() == path.parent();
            if !is_beside || !find::is_rotated(other_name, name) {
                return None;
            }
            if length > 0 && same_until(&other.file, copy, length) {
                return Some(Original::StillThere);
            }
            // Truncated a moment ago; that will be noticed, and this copy found, at the next look.
            let place = other.place();
            let is_copy = place.mark.offset > 0 && place.is_in(copy);
            let truncated = other.file.metadata().is_ok_and(|m| other.was_written_anew(&m));
            match is_copy {
                true if truncated => Some(Original::StillThere),
                true => Some(Original::Read(place.mark)),
                // Perhaps the copy is being made.
                false => (length == 0 && other.reader.offset() > 0).then_some(Original::StillThere),
            }
        })
    }

    #[expect(clippy::too_many_arguments, reason = "what a followed file is made of")]
    fn follow(
        &self,
        file: File,
        id: FileId,
        path: &Path,
        section: usize,
        mark: Mark,
        now: Instant,
        is_detached: bool,
    ) -> Followed {
        let Section { files, of_containers } = &self.setup.files[section];
        let mut attributes = vec![("log.file.path".to_owned(), attribute(path))];
        let container = of_containers.then(|| container::of(path));
        let (source, service_otherwise) = match container {
            Some(container) => {
                attributes.push(("container.id".to_owned(), container.id));
                ("container", container.name)
            }
            None => ("file", find::service_of(path)),
        };
        let service = files.service.clone();
        let known = Known { service, service_otherwise, attributes, source, ..Known::default() };
        let mut head = vec![0; HEAD_BYTES_MAX.min(mark.offset as usize)];
        let read = file.read_at(&mut head, 0).unwrap_or(0);
        head.truncate(read);
        let mut tail = vec![0; TAIL_BYTES_MAX.min(mark.offset as usize)];
        let tail_at = mark.offset - tail.len() as u64;
        let read = file.read_at(&mut tail, tail_at).unwrap_or(0);
        tail.truncate(read);
        let before = self.followed.iter().rfind(|other| other.path == path);
        // A file that is rotated all the time has one limit, not one for each rotation.
        let limit = match before {
            Some(before) => before.reader.limit().passed_on(),
            None => Limit::new(self.setup.events_per_second_max),
        };
        let limited_from = match before {
            Some(_) if !self.is_first_scan => 0,
            _ => file.metadata().map_or(0, |metadata| metadata.len()),
        };
        let reader = Reader::new(mark, files.multiline, *of_containers, known);
        Followed {
            after: before.map(|other| other.id),
            id,
            file,
            path: path.to_owned(),
            section,
            reader: reader.limited(limit, limited_from),
            head,
            tail,
            seen: Seen::default(),
            grew_at: now,
            is_detached,
            is_at_end: false,
            // What was written since the one before was read is no burst.
            read_at: before.map_or(now, |before| before.read_at),
            teller: Teller::default(),
        }
    }
}

/// What a copy is to be read of.
enum Original {
    /// Nothing yet: the file that it was made of has it all.
    StillThere,
    /// What comes after this.
    Read(Mark),
}

impl Followed {
    fn place(&self) -> Place {
        let mark = self.reader.mark();
        let head = &self.head[..self.head.len().min(mark.offset as usize)];
        let head_crc = crc32c::crc32c(head);
        Place { path: self.path.clone(), mark, head_bytes: head.len() as u16, head_crc }
    }

    fn bookmark(&self) -> Bookmark {
        Bookmark { source: self.id.source(), place: serde_json::to_string(&self.place()).ok() }
    }

    /// Whether what was read of it is no longer what it holds.
    fn was_written_anew(&self, metadata: &std::fs::Metadata) -> bool {
        let offset = self.reader.offset();
        if metadata.len() < offset {
            return true;
        }
        let changed = Seen::of(metadata) != self.seen;
        changed && !find::is_at(&self.file, &Mark::after(&self.tail, offset))
    }

    fn start_anew(&mut self) {
        self.reader.start_anew();
        self.head.clear();
        self.tail.clear();
        self.is_at_end = false;
    }

    /// Reads its share. True when there is more.
    fn read(
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
        } else if self.reader.holds_lines() && now.duration_since(self.grew_at) >= SETTLE_AFTER {
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
fn end_of(file: &File) -> Mark {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut tail = vec![0; TAIL_BYTES_MAX.min(length as usize)];
    let tail_at = length - tail.len() as u64;
    match file.read_exact_at(&mut tail, tail_at) {
        Ok(()) => Mark::after(&tail, length),
        Err(_) => Mark::default(),
    }
}

/// Whether both hold the same up to `length`, as far as their beginning and what lies before it say.
fn same_until(one: &File, other: &File, length: u64) -> bool {
    let longer = one.metadata().map_or(0, |metadata| metadata.len());
    let piece = length.min(TAIL_BYTES_MAX as u64) as usize;
    let read = |file: &File, at: u64| {
        let mut bytes = vec![0; piece];
        file.read_exact_at(&mut bytes, at).ok().map(|()| bytes)
    };
    let same = |at: u64| read(one, at).is_some_and(|bytes| Some(bytes) == read(other, at));
    longer >= length && same(0) && same(length - piece as u64)
}

fn attribute(path: &Path) -> String {
    let text = path.to_string_lossy();
    text[..text.floor_char_boundary(model::limits::LABEL_VALUE_BYTES_MAX)].to_owned()
}
