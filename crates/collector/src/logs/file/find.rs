//! Which files there are: globs over paths, and the traces that rotation leaves beside a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::logs::lines::Mark;

/// Directories are searched this deep at most below the place of a `**`.
const DEPTH_MAX: usize = 8;
/// Paths that one glob may lead to.
const PATHS_MAX: usize = 4096;
/// Bytes at the beginning of a file that tell it from others.
pub(super) const HEAD_BYTES_MAX: usize = 512;

/// What tells one file from another while both exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileId {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// Name of its bookmark.
    pub(super) fn source(self) -> String {
        format!("file:{}:{}", self.device, self.inode)
    }
}

/// How far a file was read, and enough of what was read to know it again: after a restart, or in a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    #[serde(flatten)]
    pub(super) mark: Mark,
    pub(super) head_bytes: u16,
    pub(super) head_crc: u32,
    /// When the file was last written to as it was read; zero from versions that did not keep it.
    #[serde(default)]
    pub(super) modified: Modified,
    /// When the last file that had its path before was written to, of those that were read to their end and let go.
    #[serde(default)]
    pub(super) let_go: Modified,
}

/// When a file was written to: seconds since 1970, and nanoseconds.
pub(super) type Modified = (i64, i64);

/// Listings of a directory in which files are renamed all the time.
const LISTINGS_MAX: usize = 8;

impl Place {
    pub(super) fn modified(&self) -> Option<Modified> {
        (self.modified != Modified::default()).then_some(self.modified)
    }

    /// Whether this file begins with what was read, all of it.
    pub(super) fn is_in(&self, file: &File) -> bool {
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        length >= self.mark.offset
            && crc_at(file, 0, self.head_bytes) == Some(self.head_crc)
            && is_at(file, &self.mark)
    }
}

/// Whether the bytes before the mark are still those that were read.
pub(super) fn is_at(file: &File, mark: &Mark) -> bool {
    let from = mark.offset.saturating_sub(u64::from(mark.tail_bytes));
    crc_at(file, from, mark.tail_bytes) == Some(mark.tail_crc)
}

fn crc_at(file: &File, offset: u64, length: u16) -> Option<u32> {
    let mut bytes = vec![0; usize::from(length)];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(crc32c::crc32c(&bytes))
}

/// Opens a regular file for reading; never waits for a pipe that stands in its place.
pub(super) fn open(path: &Path) -> io::Result<(File, FileId)> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, FileId::of(&metadata)))
}

/// The regular files that a glob leads to, in the order of their names. What cannot be read is left out.
pub(super) fn glob(pattern: &str) -> Vec<PathBuf> {
    let parts: Vec<&str> = Path::new(pattern)
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    let mut out = Vec::new();
    walk(Path::new("/"), &parts, DEPTH_MAX, &mut out);
    out.sort();
    out.dedup();
    out
}

fn walk(dir: &Path, parts: &[&str], depth: usize, out: &mut Vec<PathBuf>) {
    let Some((part, rest)) = parts.split_first() else { return };
    if out.len() >= PATHS_MAX {
        return;
    }
    if *part == "**" {
        walk(dir, rest, depth, out);
        if depth > 0 {
            for (path, _) in entries(dir).filter(|(path, _)| !path.is_symlink() && path.is_dir()) {
                walk(&path, parts, depth - 1, out);
            }
        }
        return;
    }
    let mut enter = |path: PathBuf| match rest {
        [] if is_candidate(&path) => out.push(path),
        [] => {}
        rest => walk(&path, rest, depth, out),
    };
    if !part.contains(['*', '?']) {
        return enter(dir.join(part));
    }
    for (path, name) in entries(dir) {
        // As in a shell, a star does not stand for hidden files.
        if model::glob::matches(part, &name) && (part.starts_with('.') || !name.starts_with('.')) {
            enter(path);
        }
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = (PathBuf, String)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.file_name().into_string().ok()?)))
}

/// A file of text, as far as its name says.
fn is_candidate(path: &Path) -> bool {
    const PACKED: [&str; 8] = ["gz", "xz", "bz2", "zst", "lz4", "zip", "Z", "swp"];
    let packed = path.extension().is_some_and(|end| PACKED.iter().any(|packed| end == *packed));
    !packed && path.is_file()
}

/// A file beside `path` whose name goes on where that of `path` ends, as rotation leaves one.
pub(super) fn beside(path: &Path, is_it: impl Fn(&File, FileId) -> bool) -> Option<(File, FileId)> {
    let (dir, name) = (path.parent()?, path.file_name()?.to_str()?);
    let mut found: Vec<_> = entries(dir)
        .filter(|(other, other_name)| is_rotated(name, other_name) && is_candidate(other))
        .filter_map(|(other, _)| open(&other).ok())
        .filter(|(file, id)| is_it(file, *id))
        .collect();
    found.pop()
}

/// As [`beside`], those that are wanted, however they are renamed meanwhile; oldest first, and no more than `max`.
pub(super) fn open_beside(
    path: &Path,
    is_named: fn(&str, &str) -> bool,
    max: usize,
    is_wanted: impl Fn(FileId, Modified) -> bool,
) -> Vec<(File, FileId)> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Vec::new();
    };
    // What is not wanted is not opened: there may be thousands, and few files may be open.
    let list = || -> Vec<(Modified, PathBuf, FileId)> {
        let named = entries(dir)
            .filter(|(other, other_name)| is_named(name, other_name) && is_candidate(other));
        let identified = named.filter_map(|(path, _)| {
            let metadata = std::fs::metadata(&path).ok()?;
            let (id, modified) = (FileId::of(&metadata), modified_of(&metadata));
            is_wanted(id, modified).then_some((modified, path, id))
        });
        let mut listed: Vec<_> = identified.collect();
        listed.sort();
        listed
    };
    let mut opened: Vec<(File, FileId)> = Vec::new();
    let mut listed = list();
    for _ in 0..LISTINGS_MAX {
        for (_, path, id) in &listed {
            let is_new = |id, opened: &[(File, FileId)]| {
                opened.len() < max && opened.iter().all(|(_, known)| *known != id)
            };
            // It may be another by now.
            if is_new(*id, &opened)
                && let Ok((file, id)) = open(path)
                && is_new(id, &opened)
                && modified(&file).is_some_and(|modified| is_wanted(id, modified))
            {
                opened.push((file, id));
            }
        }
        // What was renamed while it was listed may have been passed over, as it was there neither before nor after.
        let before = std::mem::replace(&mut listed, list());
        if listed == before {
            break;
        }
    }
    opened.sort_by_cached_key(|(file, _)| modified(file));
    opened
}

pub(super) fn modified(file: &File) -> Option<Modified> {
    let metadata = file.metadata().ok()?;
    Some(modified_of(&metadata))
}

fn modified_of(metadata: &std::fs::Metadata) -> Modified {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// What a file has that is written to now, or a little less: their clock is as coarse as a tick.
pub(super) fn modified_now() -> Modified {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let coarse = now.saturating_sub(Duration::from_millis(20));
    (coarse.as_secs() as i64, i64::from(coarse.subsec_nanos()))
}

/// Whether `other` is what rotation by numbers or dates made of `name`.
pub(super) fn is_numbered(name: &str, other: &str) -> bool {
    let rest = other.strip_prefix(name).unwrap_or_default();
    rest.trim_start_matches(['.', '-', '_']).starts_with(|c: char| c.is_ascii_digit())
}

/// Whether `other` may be what rotation made of `name`: `app.log.1`, `app.log-20261120`, `app-1.log`.
pub(super) fn is_rotated(name: &str, other: &str) -> bool {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    name != other && (other.starts_with(name) || (other.starts_with(stem) && !stem.is_empty()))
}

/// A service's name from where it logs: `/var/log/nginx/error.log` is nginx, `/var/log/dpkg.log` is dpkg.
pub(super) fn service_of(path: &Path) -> String {
    const GENERAL: [&str; 8] = ["log", "logs", "var", "tmp", "opt", "srv", "home", "current"];
    let dirs = path.ancestors().skip(1).take(2).filter_map(|dir| dir.file_name()?.to_str());
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = name.split('.').next().unwrap_or(name);
    let dirs: Vec<&str> = dirs.collect();
    match dirs.first() {
        Some(dir) if !GENERAL.contains(dir) => (*dir).to_owned(),
        Some(_) => match dirs.get(1) {
            Some(dir) if !GENERAL.contains(dir) && dirs[0] != "tmp" => (*dir).to_owned(),
            _ => stem.to_owned(),
        },
        None => stem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_lead_to_regular_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/b")).expect("made");
        std::fs::create_dir_all(at("dir.log")).expect("made");
        for name in ["x.log", "y.log.gz", ".hidden.log", "a/y.log", "a/b/z.log", "z.txt"] {
            std::fs::write(at(name), "").expect("written");
        }
        std::os::unix::fs::symlink("x.log", at("s.log")).expect("linked");
        let check = |pattern: &str, expected: &[&str]| {
            let found = glob(&format!("{}/{pattern}", dir.path().display()));
            assert_eq!(
                found,
                expected.iter().map(|name| at(name)).collect::<Vec<_>>(),
                "{pattern}"
            );
        };
        check("*.log", &["s.log", "x.log"]);
        check("*.log*", &["s.log", "x.log"]);
        check("a/?.log", &["a/y.log"]);
        check("**/*.log", &["a/b/z.log", "a/y.log", "s.log", "x.log"]);
        check("*/*.log", &["a/y.log"]);
        check("x.log", &["x.log"]);
        check(".*.log", &[".hidden.log"]);
        check("nothing/*", &[]);
    }

    #[test]
    fn of_rotated_files_no_more_than_allowed_are_open_and_the_oldest_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |i: u64| dir.path().join(format!("app.log.{i}"));
        for i in 1..=9 {
            let file = File::create(at(i)).expect("made");
            file.set_modified(UNIX_EPOCH + Duration::from_secs(100 - i)).expect("set");
        }
        let check = |max, since: i64, expected: &[i64]| {
            let wanted = |_, modified: Modified| modified.0 >= since;
            let opened = open_beside(&dir.path().join("app.log"), is_numbered, max, wanted);
            let modified = opened.iter().filter_map(|(file, _)| Some(modified(file)?.0));
            assert_eq!(modified.collect::<Vec<_>>(), expected);
        };
        check(3, 95, &[95, 96, 97]);
        check(9, 98, &[98, 99]);
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .expect("made");
        assert!(open(&path).is_err());
    }

    #[test]
    fn services_are_named_after_where_they_log() {
        fn check(path: &str, expected: &str) {
            assert_eq!(service_of(Path::new(path)), expected, "{path}");
        }
        check("/var/log/nginx/error.log", "nginx");
        check("/var/log/dpkg.log", "dpkg");
        check("/opt/api/logs/app.log", "api");
        check("/srv/shop/current.log", "shop");
        check("/x.log", "x");
    }

    #[test]
    fn rotated_names_go_on_where_the_name_ends() {
        assert!(is_rotated("app.log", "app.log.1") && is_rotated("app.log", "app-20261120.log"));
        assert!(!is_rotated("app.log", "app.log") && !is_rotated("app.log", "web.log.1"));
    }
}
