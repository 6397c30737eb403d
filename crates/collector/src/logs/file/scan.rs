//! Looking for files: those that a glob leads to by now, and those that rotation put aside before they were read.
//!
//! Whatever is followed has a place from when it was found, read or not: so what comes after it can be told from what
//! was there before, whenever the reader is killed.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::find::{self, FileId, Modified, Place};
use super::followed::{end_of, same_until};
use super::{FILES_MAX, Files, Found, GLOB_SOURCE};
use crate::logs::asked::Gate;
use crate::logs::config::{Section, Start};
use crate::logs::lines::Mark;
use crate::logs::outbox::Outbox;
use crate::spool::Bookmark;

impl Files {
    /// Looks for files that are new, or that no glob leads to any more.
    pub(super) fn scan(&mut self, outbox: &mut Outbox, now: Instant) {
        let is_first = self.scanned_at.replace(now).is_none();
        self.is_first_scan = is_first;
        let scan_before = self.scan_began.replace(find::modified_now());
        let mut found = self.list();
        for followed in &mut self.followed {
            followed.is_detached = found.iter().all(|found| found.id != followed.id);
        }
        let listed: BTreeSet<FileId> = found.iter().map(|found| found.id).collect();
        let mut paths: BTreeSet<PathBuf> = BTreeSet::new();
        if is_first {
            paths.extend(self.places.values().map(|place| place.path.clone()));
            // What was renamed or copied while nobody looked comes before what has its name now.
            self.find_again(&found, now, outbox);
        }
        paths.extend(self.followed.iter().map(|followed| followed.path.clone()));
        for path in paths.iter().filter(|path| found.iter().all(|found| found.path != **path)) {
            let rotated = self.rotated_since_last(path, &listed, None);
            self.follow_rotated(path, rotated, now, outbox);
        }
        self.older_first(&mut found);
        self.open_found(found, scan_before, now, outbox);
        self.mark_globs(outbox);
        if is_first || std::mem::take(&mut self.is_changed) {
            // Unless they are on a disk that is not mounted yet.
            let gone = |place: &Place| place.path.parent().is_some_and(Path::is_dir);
            for (id, _) in self.places.extract_if(.., |_, place| gone(place)) {
                outbox.mark(Bookmark { source: id.source(), place: None });
            }
        }
    }

    /// Follows what was found, and what was rotated away from there unseen.
    pub(super) fn open_found(
        &mut self,
        found: Vec<Found>,
        scan_before: Option<Modified>,
        now: Instant,
        outbox: &mut Outbox,
    ) {
        let listed: BTreeSet<FileId> = found.iter().map(|found| found.id).collect();
        for found in found {
            let path = found.path.clone();
            if self.followed.iter().any(|followed| followed.id == found.id) {
                continue;
            }
            if self.followed.len() >= FILES_MAX {
                if self.refused.len() < FILES_MAX && self.refused.insert(path.clone()) {
                    tracing::warn!(path = %path.display(), files = FILES_MAX, "too many log files; this one is not read");
                }
                continue;
            }
            self.follow_copy_of(&found, now, outbox);
            let scan_before = scan_before.filter(|_| self.is_in_use(found.section));
            let rotated = self.rotated_since_last(&path, &listed, scan_before);
            // It may have been rotated away itself since it was listed.
            let modified = find::modified(&found.file);
            let is_older = |(file, _): &(File, FileId)| find::modified(file) <= modified;
            let (older, newer): (Vec<_>, Vec<_>) = rotated.into_iter().partition(is_older);
            self.follow_rotated(&path, older, now, outbox);
            if self.followed.len() >= FILES_MAX {
                continue;
            }
            self.discover(found, now, outbox);
            self.follow_rotated(&path, newer, now, outbox);
        }
    }

    /// The files that globs lead to now, each once.
    pub(super) fn list(&mut self) -> Vec<Found> {
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
                    // Renamed since it was listed: it is found at the next look.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => {
                        if self.refused.len() < FILES_MAX && self.refused.insert(path.clone()) {
                            tracing::warn!(%error, path = %path.display(), "failed to open a log file; it is tried again");
                        }
                    }
                }
            }
        }
        found
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
        found.sort_by_cached_key(|found| {
            (!found.is_rotated, found.is_rotated.then(|| find::modified(&found.file)))
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

    /// Files that were followed before the start and that no glob leads to now.
    pub(super) fn find_again(&mut self, found: &[Found], now: Instant, outbox: &mut Outbox) {
        let is_current = |id: FileId, place: &Place| {
            found.iter().any(|found| found.id == id && place.is_in(&found.file))
        };
        let mut lost = self.places.clone();
        lost.retain(|id, place| !is_current(*id, place));
        let mut again: Vec<(FileId, File, FileId)> = Vec::new();
        let paths: BTreeSet<&Path> = lost.values().map(|place| &*place.path).collect();
        for path in paths {
            let is_of_path =
                |id: FileId, _: Modified| lost.get(&id).is_some_and(|place| place.path == path);
            let renamed = find::open_beside(path, find::is_rotated, FILES_MAX, is_of_path);
            let is_it = |(file, id): &(File, FileId)| lost[id].is_in(file);
            again.extend(renamed.into_iter().filter(is_it).map(|(file, id)| (id, file, id)));
        }
        for (id, place) in &lost {
            let is_new = |file: &File, other: FileId| {
                !self.was_read(file, other) && again.iter().all(|(_, _, known)| *known != other)
            };
            if place.mark.offset > 0 && again.iter().all(|(known, _, _)| known != id) {
                let is_copy = |file: &File, other| is_new(file, other) && place.is_in(file);
                let copy = find::beside(&place.path, is_copy);
                again.extend(copy.map(|(file, other)| (*id, file, other)));
            }
        }
        again.sort_by_cached_key(|(_, file, _)| find::modified(file));
        for (id, file, other) in again {
            outbox.mark(Bookmark { source: id.source(), place: None });
            let Place { path, mark, .. } = &lost[&id];
            self.follow_again(path, (file, other), *mark, now, outbox);
            self.places.remove(&id);
        }
    }

    /// Whether it is this file that has a place from before the start: the number of one that was deleted meanwhile
    /// may be that of another now.
    fn was_read(&self, file: &File, id: FileId) -> bool {
        self.places.get(&id).is_some_and(|place| place.mark.offset > 0 && place.is_in(file))
    }

    /// What was rotated in and out at `path` since its last file was read, without being seen there; oldest first.
    /// Without a last file, since the scan before: whatever is there was not there then.
    fn rotated_since_last(
        &self,
        path: &Path,
        listed: &BTreeSet<FileId>,
        scan_before: Option<Modified>,
    ) -> Vec<(File, FileId)> {
        let last = self.followed.iter().rfind(|other| other.path == path);
        let place = last.map(|last| last.place());
        // It is gone, but not what came after it.
        let gone = || self.places.values().filter(|place| place.path == path);
        let since = match &place {
            Some(place) => Some(place.modified),
            None => gone().filter_map(Place::modified).max().or(scan_before),
        };
        let Some(since) = since else { return Vec::new() };
        let let_go = match &place {
            Some(place) => place.let_go,
            None => gone().map(|place| place.let_go).max().unwrap_or_default(),
        };
        let is_candidate = |id: FileId, modified: Modified| {
            modified >= since
                && modified > let_go
                && !listed.contains(&id)
                && self.followed.iter().all(|other| other.id != id)
        };
        let mut rotated = find::open_beside(path, find::is_numbered, FILES_MAX, is_candidate);
        // A copy of what was read before the start is no news: it goes on there once the original is cut.
        let is_copy = |file: &File| {
            let mut read = self.places.values().filter(|place| place.path == path);
            read.any(|place| place.mark.offset > 0 && place.is_in(file))
        };
        rotated.retain(|(file, id)| {
            !self.was_read(file, *id)
                && !is_copy(file)
                && place.as_ref().is_none_or(|last| last.mark.offset == 0 || !last.is_in(file))
        });
        rotated
    }

    /// As many as there is room for; the others are found when there is more.
    fn follow_rotated(
        &mut self,
        path: &Path,
        rotated: Vec<(File, FileId)>,
        now: Instant,
        outbox: &mut Outbox,
    ) {
        for file in rotated.into_iter().take(FILES_MAX.saturating_sub(self.followed.len())) {
            self.follow_again(path, file, Mark::default(), now, outbox);
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
        let followed = self.follow(found, mark, now, true);
        self.places.remove(&id);
        outbox.mark(followed.bookmark());
        self.followed.push(followed);
    }

    /// The section that `path` belongs to; what lies beside it by now must be allowed there too.
    fn section_of(&self, path: &Path, file: &File) -> Option<usize> {
        let text = path.to_string_lossy();
        let matches = |pattern: &String| {
            // As the paths are that it leads to: without `.` and doubled slashes.
            let pattern: PathBuf = Path::new(pattern).components().collect();
            model::glob::matches(&pattern.to_string_lossy().replace("**/", "*"), &text)
        };
        self.setup.files.iter().position(|section| {
            section.files.include.iter().any(matches) && section.gate.admits(path, file)
        })
    }

    /// Whether what is new to a section was written since it was first read.
    fn is_in_use(&self, section: usize) -> bool {
        let section = &self.setup.files[section];
        glob_sources(section).all(|source| self.setup.places.contains_key(&source))
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
            let followed = self.follow(found, place.mark, now, false);
            self.places.retain(|other, known| {
                let is_it = *known == place;
                if is_it && *other != id {
                    outbox.mark(Bookmark { source: other.source(), place: None });
                }
                !is_it
            });
            outbox.mark(Bookmark { source, place: followed.bookmark().place });
            self.followed.push(followed);
            return;
        }
        let starts_at_end = self.setup.files[*section].files.start == Start::End;
        let mark = if starts_at_end && !self.is_in_use(*section) {
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
        let followed = self.follow(found, mark, now, false);
        self.places.remove(&id);
        // Before anything of it is read: what comes after it may be marked sooner than it has its turn.
        outbox.mark(followed.bookmark());
        self.followed.push(followed);
    }

    /// What was read before the start and is truncated since [`Self::find_again`] looked goes on in its copy.
    fn follow_copy_of(&mut self, found: &Found, now: Instant, outbox: &mut Outbox) {
        let Found { path, file, id, .. } = found;
        let was_cut =
            |place: &&Place| place.path == *path && place.mark.offset > 0 && !place.is_in(file);
        let Some(place) = self.places.get(id).filter(was_cut).cloned() else { return };
        let is_new = |file: &File, other: FileId| {
            !self.was_read(file, other) && self.followed.iter().all(|known| known.id != other)
        };
        let is_copy = |file: &File, other: FileId| is_new(file, other) && place.is_in(file);
        if let Some(copy) = find::beside(path, is_copy) {
            self.follow_again(path, copy, place.mark, now, outbox);
        }
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
}

/// Names of the bookmarks of a section's globs.
fn glob_sources(section: &Section) -> impl Iterator<Item = String> {
    let whose = match &section.gate {
        Gate::Containers { asked, .. } => format!("?container={asked}"),
        Gate::Open | Gate::Paths(_) => String::new(),
    };
    section.files.include.iter().map(move |pattern| format!("{GLOB_SOURCE}{pattern}{whose}"))
}

/// What a copy is to be read of.
enum Original {
    /// Nothing yet: the file that it was made of has it all.
    StillThere,
    /// What comes after this.
    Read(Mark),
}
