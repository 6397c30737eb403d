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

use model::UnixMillis;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Room;
use super::asked::Gate;
use super::config::{Plan, Section, Start};
use super::limit::Limit;
use super::lines::Mark;
use super::outbox::{Closed, Outbox};
use super::parse::{Known, Parser};
use super::reader::Reader;
use crate::spool::Bookmark;
use find::{FileId, Place};
use followed::{Followed, end_of, same_until};

pub(super) mod container;
mod find;
mod followed;
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
        let (path, section) = (followed.path.clone(), followed.section);
        let found = Found { path, file, id, section, is_rotated: true };
        let mut archive = self.follow(found, place.mark, now, true);
        archive.after = followed.after;
        Some(archive)
    }

    /// Looks for files that are new, or that no glob leads to any more.
    fn scan(&mut self, outbox: &mut Outbox, now: Instant) {
        let is_first = self.scanned_at.replace(now).is_none();
        self.is_first_scan = is_first;
        let mut found: Vec<Found> = Vec::new();
        for (section, Section { files, gate, .. }) in self.setup.files.iter().enumerate() {
            for path in files.include.iter().flat_map(|pattern| find::glob(pattern)) {
                let text = path.to_string_lossy();
                if files.exclude.iter().any(|pattern| model::glob::matches(pattern, &text)) {
                    continue;
                }
                match find::open(&path) {
                    Ok((file, id)) if found.iter().all(|known| known.id != id) => {
                        self.refused.remove(&path);
                        if gate.admits(&path, &file) {
                            found.push(Found { path, file, id, section, is_rotated: false });
                        }
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
            followed.is_detached = found.iter().all(|found| found.id != followed.id);
        }
        if is_first {
            // What was renamed or copied while nobody looked comes before what has its name now.
            self.find_again(&found, now, outbox);
        }
        let listed: Vec<FileId> = found.iter().map(|found| found.id).collect();
        self.older_first(&mut found);
        for found in found {
            let path = &found.path;
            if self.followed.iter().any(|followed| followed.id == found.id) {
                continue;
            }
            if self.followed.len() >= FILES_MAX {
                if self.refused.len() < FILES_MAX && self.refused.insert(path.clone()) {
                    tracing::warn!(path = %path.display(), files = FILES_MAX, "too many log files; this one is not read");
                }
                continue;
            }
            self.follow_between(path, &listed, now, outbox);
            self.discover(found, now, outbox);
        }
        self.mark_globs(outbox);
        if is_first || std::mem::take(&mut self.is_changed) {
            // Unless they are on a disk that is not mounted yet.
            let gone = |place: &Place| place.path.parent().is_some_and(Path::is_dir);
            for (id, _) in self.places.extract_if(.., |_, place| gone(place)) {
                outbox.mark(Bookmark { source: id.source(), place: None });
            }
        }
    }

    /// What was read under another name before the start was rotated away from there: it has that name still, and
    /// its lines come before those of what has the name now.
    fn older_first(&self, found: &mut [Found]) {
        for found in found.iter_mut() {
            let known = self.places.get(&found.id).filter(|place| place.is_in(&found.file));
            if let Some(place) = known
                && place.mark.offset > 0
                && place.path != found.path
            {
                found.path.clone_from(&place.path);
                found.is_rotated = true;
            }
        }
        let modified = |found: &Found| found.file.metadata().and_then(|m| m.modified()).ok();
        found.sort_by_cached_key(|found| {
            (!found.is_rotated, found.is_rotated.then(|| modified(found)))
        });
    }

    /// Keeps which globs are in use. One that is so no more begins anew when it comes again.
    fn mark_globs(&mut self, outbox: &mut Outbox) {
        let in_use: BTreeSet<String> = self.setup.files.iter().flat_map(glob_sources).collect();
        let places = &mut self.setup.places;
        for (source, _) in places.extract_if(.., |source, _| !in_use.contains(source)) {
            outbox.mark(Bookmark { source, place: None });
        }
        for source in in_use {
            if !places.contains_key(&source) {
                places.insert(source.clone(), String::new());
                outbox.mark(Bookmark { source, place: Some(String::new()) });
            }
        }
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

    /// Files that were read before the start and that no glob leads to now.
    fn find_again(&mut self, found: &[Found], now: Instant, outbox: &mut Outbox) {
        let mut again: Vec<(FileId, Place, File, FileId)> = Vec::new();
        for (id, place) in &self.places {
            let current = found.iter().find(|found| found.id == *id);
            if current.is_some_and(|found| place.is_in(&found.file)) {
                continue;
            }
            let is_new = |file: &File, other: FileId| {
                place.mark.offset > 0
                    && !self.was_read(file, other)
                    && again.iter().all(|(_, _, _, known)| *known != other)
            };
            let renamed =
                find::beside(&place.path, |file, other| other == *id && place.is_in(file));
            let archive = renamed.or_else(|| {
                find::beside(&place.path, |file, other| is_new(file, other) && place.is_in(file))
            });
            again.extend(archive.map(|(file, other)| (*id, place.clone(), file, other)));
        }
        again.sort_by_key(|(_, _, file, _)| file.metadata().and_then(|m| m.modified()).ok());
        for (id, place, file, other) in again {
            self.places.remove(&id);
            outbox.mark(Bookmark { source: id.source(), place: None });
            self.follow_again(&place.path, (file, other), place.mark, now, outbox);
        }
    }

    /// Whether it is this file that has a place from before the start: the number of one that was deleted meanwhile
    /// may be that of another now.
    fn was_read(&self, file: &File, id: FileId) -> bool {
        self.places.get(&id).is_some_and(|place| place.mark.offset > 0 && place.is_in(file))
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
                && !self.was_read(file, id)
                && self.followed.iter().all(|other| other.id != id)
                && (place.mark.offset == 0 || !place.is_in(file))
        };
        let mut rotated = find::rotated_after(path, &last.file);
        rotated.retain(|(file, id)| is_new(file, *id));
        for (file, id) in rotated {
            self.follow_again(path, (file, id), Mark::default(), now, outbox);
        }
    }

    fn follow_again(
        &mut self,
        path: &Path,
        (file, id): (File, FileId),
        mark: Mark,
        now: Instant,
        outbox: &mut Outbox,
    ) {
        let Some(section) = self.section_of(path, &file) else { return };
        let found = Found { path: path.to_owned(), file, id, section, is_rotated: true };
        self.places.remove(&id);
        let followed = self.follow(found, mark, now, true);
        outbox.mark(followed.bookmark());
        self.followed.push(followed);
    }

    /// The section that `path` belongs to; what lies beside it by now must be allowed there too.
    fn section_of(&self, path: &Path, file: &File) -> Option<usize> {
        let text = path.to_string_lossy();
        let matches = |pattern: &String| model::glob::matches(&pattern.replace("**/", "*"), &text);
        self.setup.files.iter().position(|section| {
            section.files.include.iter().any(matches) && section.gate.admits(path, file)
        })
    }

    /// Decides where to start in a file that is new to us.
    fn discover(&mut self, found: Found, now: Instant, outbox: &mut Outbox) {
        let Found { path, file, id, section, .. } = &found;
        let id = *id;
        let known = self.places.get(&id).filter(|place| place.is_in(file)).cloned();
        // Device numbers may change when a machine starts.
        let known = known.or_else(|| {
            let named = |place: &&Place| place.path == *path && place.mark.offset > 0;
            self.places.values().filter(named).find(|place| place.is_in(file)).cloned()
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
            let followed = self.follow(found, place.mark, now, false);
            outbox.mark(Bookmark { source, place: followed.bookmark().place });
            self.followed.push(followed);
            return;
        }
        let section = &self.setup.files[*section];
        let mut sources = glob_sources(section);
        let is_first_look = !sources.all(|source| self.setup.places.contains_key(&source));
        let mark = if is_first_look && section.files.start == Start::End {
            end_of(file)
        } else if let Some(original) = self.original_of(path, file) {
            // Copied before it is truncated: whatever we miss of the original will be read from here.
            match original {
                Original::StillThere => return,
                Original::Read(mark) => mark,
            }
        } else {
            Mark::default()
        };
        self.places.remove(&id);
        let followed = self.follow(found, mark, now, false);
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
        let reader = reader_of(section, &found.path, mark).limited(limit, limited_from);
        let mut followed = Followed::new(found, reader, now);
        followed.after = after;
        followed.is_detached = is_detached;
        followed.read_at = read_at;
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

/// Names of the bookmarks of a section's globs.
fn glob_sources(section: &Section) -> impl Iterator<Item = String> {
    let whose = match &section.gate {
        Gate::Containers { asked, .. } => format!("?container={asked}"),
        Gate::Open | Gate::Paths(_) => String::new(),
    };
    section.files.include.iter().map(move |pattern| format!("{GLOB_SOURCE}{pattern}{whose}"))
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
    let known = Known { service, service_otherwise, attributes, source, ..Known::default() };
    Reader::new(mark, files.multiline, *of_containers, known)
}

/// What a copy is to be read of.
enum Original {
    /// Nothing yet: the file that it was made of has it all.
    StillThere,
    /// What comes after this.
    Read(Mark),
}
