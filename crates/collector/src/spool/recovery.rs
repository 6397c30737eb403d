//! Opening a spool, whatever state it was left in.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use daemon::hint::WithHint as _;
use model::{Gap, Payload, Seq, SeqRange, SeqRanges, SpoolEpoch, UnixMillis};
use prost::Message as _;
use proto::v1;

use super::acknowledged::Acknowledged;
use super::bookmarks::Bookmarks;
use super::done::undone;
use super::gaps::Gaps;
use super::layouts::Layouts;
use super::memory::Memory;
use super::numbers::Numbers;
use super::record::{BODY_BYTES_MAX, Found, Record, RecordKind, Scan};
use super::segment::{HEAD_BYTES, Head, Segment, first_of};
use super::{Limits, Spool};
use crate::CollectorStats;

/// Spools that were put aside and are kept for a person to look at.
const ASIDE_KEPT_MAX: u64 = 3;

pub(super) fn open(
    state_dir: &Path,
    limits: Limits,
    stats: Arc<CollectorStats>,
) -> anyhow::Result<Spool> {
    let dir = state_dir.join("spool");
    let opened = open_in(state_dir, &dir, limits, stats);
    opened.with_context(|| format!("failed to open the spool {}", dir.display())).hint(
        "the collector must be able to write there; choose another directory with --state-dir",
    )
}

fn open_in(
    state_dir: &Path,
    dir: &Path,
    limits: Limits,
    stats: Arc<CollectorStats>,
) -> anyhow::Result<Spool> {
    let found = match is_used(dir) {
        Ok(false) => None,
        Ok(true) => match go_on(state_dir, dir, limits, &stats) {
            Ok(spool) => return Ok(spool),
            Err(error) => Some(error),
        },
        Err(error) => Some(error.into()),
    };
    let detail = match found {
        Some(error) => {
            let aside = put_aside(state_dir, dir)?;
            Some(format!("{error:#}; the spool was put aside as {}", aside.display()))
        }
        None => None,
    };
    std::fs::create_dir_all(dir)?;
    let numbers = Numbers::create(dir)?;
    let bookmarks = Bookmarks::open(state_dir, numbers.epoch());
    let kept = (VecDeque::new(), Gaps::default(), bookmarks);
    let mut spool = assemble(dir, limits, stats, numbers, kept)?;
    if let Some(detail) = detail {
        spool.report_damage(detail);
    }
    Ok(spool)
}

fn is_used(dir: &Path) -> io::Result<bool> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// `spool.damaged-1`, `-2`, …; the oldest are removed, so that they cannot fill the disk.
fn put_aside(state_dir: &Path, dir: &Path) -> io::Result<PathBuf> {
    const PREFIX: &str = "spool.damaged-";
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok();
    let mut aside: Vec<(u64, PathBuf)> = std::fs::read_dir(state_dir)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter_map(|path| Some((number(&path)?, path)))
        .collect();
    aside.sort();
    let next = aside.last().map_or(1, |(number, _)| number.saturating_add(1));
    let to = state_dir.join(format!("{PREFIX}{next}"));
    std::fs::rename(dir, &to)?;
    for (_, old) in aside.iter().filter(|(number, _)| number + ASIDE_KEPT_MAX <= next) {
        // What cannot be removed only takes room.
        let _ = std::fs::remove_dir_all(old);
    }
    Ok(to)
}

/// Goes on with the spool in `dir`.
fn go_on(
    state_dir: &Path,
    dir: &Path,
    limits: Limits,
    stats: &Arc<CollectorStats>,
) -> anyhow::Result<Spool> {
    let mut numbers = Numbers::open(dir)?
        .context("the file that holds the epoch and the item numbers cannot be read")?;
    let epoch = numbers.epoch();
    let mut paths: Vec<(Seq, PathBuf)> = std::fs::read_dir(dir)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter_map(|path| Some((first_of(&path)?, path)))
        .collect();
    paths.sort();
    let bytes_max = limits.segment_bytes_max + 2 * BODY_BYTES_MAX as u64;
    let scans: Vec<Scanned> = paths
        .into_iter()
        .map(|(first, path)| Scanned::read(first, path, epoch, bytes_max))
        .collect();

    let mut sealed = VecDeque::new();
    let mut gaps = Gaps::default();
    let mut bookmarks = Bookmarks::open(state_dir, epoch);
    let mut lost = Vec::new();
    let mut damage = Vec::new();
    for (at, scan) in scans.iter().enumerate() {
        let next = scans.get(at + 1);
        damage.extend(scan.damage());
        if next.is_none() {
            scan.cut_off();
        }
        // How far it went is told by the segment after it.
        let told = next.and_then(|next| match next.before {
            None if scan.damage().is_some() => next.first.checked_sub(1),
            before => before,
        });
        let told = told.filter(|last| *last >= scan.first);
        let last = told.max(scan.last());
        if let Some(expected) = last.and_then(|last| SeqRange::new(scan.first, last)) {
            lost.extend(undone(&scan.seen, expected));
            numbers.skip_past(expected.last());
        }
        match scan.segment() {
            Some(segment) => sealed.push_back(segment),
            None => super::remove(&scan.path),
        }
        scan.gaps.iter().for_each(|(seq, gap)| gaps.insert(*seq, gap.clone()));
        scan.bookmarks.iter().for_each(|(seq, encoded)| bookmarks.found(*seq, encoded));
    }

    let kept = (sealed, gaps, bookmarks);
    let mut spool = assemble(dir, limits, Arc::clone(stats), numbers, kept)?;
    // Before anything is forgotten: what lies below the oldest item that is kept counts as settled.
    for range in lost {
        spool.lose(range);
    }
    for detail in damage {
        spool.report_damage(detail);
    }
    spool.forget_done();
    Ok(spool)
}

fn assemble(
    dir: &Path,
    limits: Limits,
    stats: Arc<CollectorStats>,
    mut numbers: Numbers,
    (sealed, gaps, bookmarks): (VecDeque<Segment>, Gaps, Bookmarks),
) -> anyhow::Result<Spool> {
    let (acknowledged, done) = Acknowledged::open(dir, numbers.epoch())?;
    // Only the range that starts the numbers tells that they were used; later ones always follow an
    // item. Both are cheap to honour.
    numbers.skip_past(done.max().unwrap_or(0));
    numbers.reserve_now()?;
    Ok(Spool {
        dir: dir.to_owned(),
        memory: Memory::new(limits.memory_bytes_max),
        limits,
        stats,
        synced_to: numbers.next().saturating_sub(1),
        marked: 0,
        numbers,
        done,
        acknowledged,
        acknowledged_is_stale: false,
        bookmarks,
        sealed,
        active: None,
        layouts: Layouts::default(),
        gaps,
        gaps_waiting: Vec::new(),
        latest_time: UnixMillis(0),
        unsynced: Vec::new(),
        dir_is_unsynced: false,
        writes_fail: false,
    })
}

/// What was found in one segment file.
struct Scanned {
    path: PathBuf,
    /// By the name of the file.
    first: Seq,
    /// Last number of the segment before; `None` when the head is damaged.
    before: Option<Seq>,
    seen: SeqRanges,
    times: Option<(UnixMillis, UnixMillis)>,
    gaps: Vec<(Seq, Gap)>,
    bookmarks: Vec<(Seq, Bytes)>,
    valid_end: u64,
    length: u64,
    damaged_places: u64,
    problem: Option<io::Error>,
}

impl Scanned {
    fn read(first: Seq, path: PathBuf, epoch: SpoolEpoch, bytes_max: u64) -> Self {
        let mut scanned = Self {
            path,
            first,
            before: None,
            seen: SeqRanges::new(),
            times: None,
            gaps: Vec::new(),
            bookmarks: Vec::new(),
            valid_end: 0,
            length: 0,
            damaged_places: 0,
            problem: None,
        };
        match read_at_most(&scanned.path, bytes_max) {
            Ok((bytes, length)) => {
                scanned.length = length;
                scanned.scan(&bytes.into(), epoch);
            }
            Err(error) => scanned.problem = Some(error),
        }
        scanned
    }

    fn scan(&mut self, bytes: &Bytes, epoch: SpoolEpoch) {
        self.before = Head::read(bytes, epoch).map(|head| head.before);
        if self.before.is_none() {
            self.damaged_places += 1;
        }
        let body_from = bytes.len().min(HEAD_BYTES as usize);
        let mut scan = Scan::new(bytes.slice(body_from..), epoch);
        for found in scan.by_ref() {
            match found {
                Found::Damage => self.damaged_places += 1,
                Found::Record(record) if matches!(record.kind, RecordKind::Layout(_)) => {}
                // Never true of what this program wrote.
                Found::Record(record) if record.seq < self.first => {}
                Found::Record(record) => self.take(&record),
            }
        }
        self.valid_end = (body_from + scan.valid_end()) as u64;
    }

    fn take(&mut self, record: &Record) {
        self.seen.insert(record.seq);
        let time = record.time;
        let (from, to) = self.times.unwrap_or((time, time));
        self.times = Some((from.min(time), to.max(time)));
        if !record.bookmarks.is_empty() {
            self.bookmarks.push((record.seq, record.bookmarks.clone()));
        }
        if record.kind == RecordKind::Gap
            && let Some(gap) = decode_gap(&record.body)
        {
            self.gaps.push((record.seq, gap));
        }
    }

    fn last(&self) -> Option<Seq> {
        self.seen.max()
    }

    fn segment(&self) -> Option<Segment> {
        Some(Segment {
            path: self.path.clone(),
            seqs: SeqRange::new(self.first, self.last()?)?,
            times: self.times?,
            bytes: self.valid_end,
        })
    }

    fn damage(&self) -> Option<String> {
        let name = self.path.file_name().unwrap_or_default().display();
        match &self.problem {
            Some(error) => Some(format!("segment {name} cannot be read: {error}")),
            None if self.damaged_places == 0 && self.valid_end == self.length => None,
            None => Some(format!(
                "segment {name} was damaged in {} places; {} of its {} bytes are good",
                self.damaged_places, self.valid_end, self.length
            )),
        }
    }

    /// Truncates to the last valid record: what comes next must not look like damage once more.
    fn cut_off(&self) {
        if self.valid_end < self.length
            && let Ok(file) = OpenOptions::new().write(true).open(&self.path)
        {
            let _ = file.set_len(self.valid_end);
        }
    }
}

/// A segment is never long; a file that is was not written by us to its end.
fn read_at_most(path: &Path, bytes_max: u64) -> io::Result<(Vec<u8>, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::with_capacity(length.min(bytes_max) as usize);
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok((bytes, length))
}

fn decode_gap(body: &Bytes) -> Option<Gap> {
    let message = v1::CollectorMessage::decode(body.clone()).ok()?;
    match proto::convert::item_from_proto(message).ok()??.payload {
        Payload::Gap(gap) => Some(gap),
        _ => None,
    }
}
