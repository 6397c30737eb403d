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
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use model::{Labels, UnixMillis};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Room;
use super::config::{Plan, Section};
use super::limit::Limit;
use super::lines::Mark;
use super::outbox::{Closed, Outbox};
use super::parse::{Known, Parser};
use super::reader::Reader;
use crate::spool::Bookmark;
use find::{FileId, Modified, Place};
use followed::Followed;

pub(super) mod container;
mod find;
mod followed;
mod scan;
#[cfg(test)]
mod tests;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const SCAN_EVERY: Duration = Duration::from_secs(1);
/// A file that no glob leads to any more is let go when it was quiet for this long.
const LET_GO_AFTER: Duration = Duration::from_secs(60);
/// How long a file waits at most for the end of the one that had its path before.
const TAKES_ITS_TURN_AFTER: Duration = Duration::from_secs(10);
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
    /// By the clock of files.
    scan_began: Option<Modified>,
    /// What is to be read changed since the last look for files.
    is_changed: bool,
    /// At the first look: whatever is there was there before us.
    is_first_scan: bool,
    refused: BTreeSet<PathBuf>,
    clock: fn() -> UnixMillis,
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
            scan_began: None,
            is_changed: false,
            is_first_scan: true,
            refused: BTreeSet::new(),
            clock: || UnixMillis::from(SystemTime::now()),
        }
    }

    /// Reads until `stop` is cancelled or the delivery is gone. To be called on a thread of its own.
    pub(super) fn run(
        mut self,
        mut plans: watch::Receiver<Plan>,
        mut outbox: Outbox,
        stop: &CancellationToken,
    ) {
        while !stop.is_cancelled() && !outbox.is_closed() {
            if plans.has_changed().unwrap_or(false) {
                let sections = plans.borrow_and_update().sections.clone();
                if sections != self.setup.files {
                    self.change(sections, &mut outbox);
                }
            }
            match self.look(&mut outbox, Instant::now()) {
                Ok(true) => {}
                Ok(false) => std::thread::sleep(LOOK_EVERY),
                Err(Closed) => return,
            }
        }
        for followed in &mut self.followed {
            tell_dropped(followed, (self.clock)(), &mut outbox);
        }
        let _ = outbox.flush();
    }

    /// Looks at every file once. True when there is more to read at once.
    fn look(&mut self, outbox: &mut Outbox, now: Instant) -> Result<bool, Closed> {
        let is_due = |at| now.duration_since(at) >= SCAN_EVERY;
        let due = self.is_changed || self.scanned_at.is_none_or(is_due);
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
            now.duration_since(followed.waits_since) >= TAKES_ITS_TURN_AFTER
                || self.followed.iter().all(|other| other.id != id || is_done(other))
        };
        let has_room = self.setup.room.is_there();
        if !has_room || !followed.after.is_none_or(is_next) {
            // What is written while it waits is no burst when it is read.
            let waiting = &mut self.followed[*at];
            waiting.is_at_end = false;
            if !has_room {
                // Nor had the one before it a chance to be read.
                waiting.waits_since = now;
            }
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
                anew.waits_since = now;
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
            // Those that have its path now tell after a restart that it was read. In one batch with its end.
            let let_go = find::modified(&followed.file).unwrap_or_default().max(followed.let_go);
            for other in self.followed.iter_mut().filter(|other| other.path == followed.path) {
                other.let_go = other.let_go.max(let_go);
                outbox.mark(other.bookmark());
            }
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
        let (path, section) = (followed.path.clone(), followed.section);
        let found = Found { path, file, id, section, is_rotated: true };
        let mut archive = self.follow(found, place.mark, now, true);
        archive.after = followed.after;
        Some(archive)
    }

    /// Reads by another plan from now on. What is read by both goes on; what is no longer wanted ends at once.
    fn change(&mut self, sections: Vec<Section>, outbox: &mut Outbox) {
        let before = std::mem::replace(&mut self.setup.files, sections);
        let after = &self.setup.files;
        let section_now = |section: usize| after.iter().position(|new| *new == before[section]);
        let mut kept = Vec::new();
        for mut followed in std::mem::take(&mut self.followed) {
            if let Some(section) = section_now(followed.section) {
                followed.section = section;
                kept.push(followed);
                continue;
            }
            tell_dropped(&mut followed, (self.clock)(), outbox);
            // Another section may lead to it, and go on here.
            self.places.insert(followed.id, followed.place());
        }
        self.followed = kept;
        self.is_changed = true;
    }

    /// Reads on in a file that was found at `path`, or beside it when it is detached.
    fn follow(&self, found: Found, mark: Mark, now: Instant, is_detached: bool) -> Followed {
        let section = &self.setup.files[found.section];
        let before = self.followed.iter().rfind(|other| other.path == found.path);
        // A file that is rotated all the time has one limit, not one for each rotation.
        let limit = match before {
            Some(before) => before.reader.limit().passed_on(),
            None => Limit::new(self.setup.events_per_second_max),
        };
        let limited_from = match before {
            Some(_) if !self.is_first_scan => 0,
            _ => found.file.metadata().map_or(0, |metadata| metadata.len()),
        };
        // What was written since the one before was read is no burst.
        let read_at = before.map_or(now, |before| before.read_at);
        let after = before.map(|other| other.id);
        let places = self.places.values().filter(|place| place.path == found.path);
        let let_go = places.map(|place| place.let_go).chain(before.map(|other| other.let_go)).max();
        let reader = reader_of(section, &found.path, mark).limited(limit, limited_from);
        let mut followed = Followed::new(found, reader, now);
        followed.after = after;
        followed.let_go = let_go.unwrap_or_default();
        followed.is_detached = is_detached;
        followed.read_at = read_at;
        if is_detached {
            followed.was_written_before(now, (self.clock)());
        }
        followed
    }
}

/// What the limit dropped of a file and nobody was told yet.
fn tell_dropped(followed: &mut Followed, now: UnixMillis, outbox: &mut Outbox) {
    if let Some((dropped, notice)) = followed.reader.dropped(now) {
        outbox.add_dropped(dropped);
        outbox.add(&mut vec![notice]);
        outbox.mark(followed.bookmark());
    }
}

/// A file that is open and not followed yet.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    file: File,
    id: FileId,
    /// Which of the configured files it is.
    section: usize,
    /// It had another name when it was read before.
    is_rotated: bool,
}

fn reader_of(section: &Section, path: &Path, mark: Mark) -> Reader {
    let Section { files, of_containers, .. } = section;
    let text = path.to_string_lossy();
    let text = &text[..text.floor_char_boundary(model::limits::LABEL_VALUE_BYTES_MAX)];
    let mut attributes = vec![("log.file.path".to_owned(), text.to_owned())];
    let (source, service_otherwise) = match of_containers.then(|| container::of(path)) {
        Some(container) => {
            attributes.push(("container.id".to_owned(), container.id));
            ("container", container.name)
        }
        None => ("file", find::service_of(path)),
    };
    let service = files.service.clone();
    let attributes_always = Labels::new(attributes).unwrap_or_default();
    let known = Known { service, service_otherwise, attributes_always, source, ..Known::default() };
    Reader::new(mark, files.multiline, *of_containers, known)
}
