//! One file of the spool: a head, then records whose numbers follow each other without a hole.
//!
//! Each segment holds every layout that its frames use, so it can be read, and dropped, alone. A jump in
//! the numbers always begins a new segment: whatever is missing inside one is damage.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model::{LayoutId, Seq, SeqRange, SpoolEpoch, UnixMillis};

use super::record::{Record, RecordKind, field, seeded_crc};

const MAGIC: [u8; 8] = *b"mustseg1";
pub(super) const HEAD_BYTES: u64 = 20;
const EXTENSION: &str = "seg";

/// A segment that is complete. Its items are `seqs`, each once.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) seqs: SeqRange,
    pub(super) times: (UnixMillis, UnixMillis),
    /// Good for reading up to here.
    pub(super) bytes: u64,
}

impl Segment {
    /// Everything from `offset` on.
    pub(super) fn read_from(&self, offset: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::with_capacity(self.bytes.saturating_sub(offset) as usize);
        file.take(self.bytes.saturating_sub(offset)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Active {
    file: Arc<File>,
    path: PathBuf,
    epoch: SpoolEpoch,
    /// First and last number and time; `None` before the first item.
    items: Option<(SeqRange, (UnixMillis, UnixMillis))>,
    layouts: HashSet<LayoutId>,
    bytes: u64,
}

impl Active {
    /// `before` is the last number in the segment before this one; 0 when there is none.
    pub(super) fn create(
        dir: &Path,
        epoch: SpoolEpoch,
        first: Seq,
        before: Seq,
    ) -> io::Result<Self> {
        let path = dir.join(format!("{first:020}.{EXTENSION}"));
        // A file of this name can only be the rest of an attempt that failed: numbers are used once.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        file.write_all(&head(epoch, before)).inspect_err(|_| drop(std::fs::remove_file(&path)))?;
        Ok(Self {
            file: Arc::new(file),
            path,
            epoch,
            items: None,
            layouts: HashSet::new(),
            bytes: HEAD_BYTES,
        })
    }

    /// Appends with one write, so that a kill cannot come between a frame and its layout.
    pub(super) fn append(&mut self, record: &Record, layout: Option<&Record>) -> io::Result<()> {
        let head = record.head(self.epoch);
        let layout_head = layout.map(|layout| layout.head(self.epoch));
        let mut parts: Vec<IoSlice<'_>> = Vec::with_capacity(6);
        let before = layout_head.iter().zip(layout);
        for (head, record) in before.chain([(&head, record)]) {
            parts.extend([head.as_slice(), &record.body, &record.bookmarks].map(IoSlice::new));
        }
        if let Err(error) = write_all(&self.file, &mut parts) {
            // What was written of it would be damage; if it cannot be cut off, reading steps over it.
            let end = self.bytes;
            let _ = self.file.set_len(end);
            let _ = (&*self.file).seek(SeekFrom::Start(end));
            return Err(error);
        }
        self.bytes += layout.map_or(0, Record::disk_bytes) + record.disk_bytes();
        if let Some(RecordKind::Layout(id)) = layout.map(|l| l.kind) {
            self.layouts.insert(id);
        }
        self.items = Some(match self.items {
            None => (SeqRange::one(record.seq), (record.time, record.time)),
            Some((seqs, times)) => (
                SeqRange::new(seqs.first(), record.seq).unwrap_or(seqs),
                (times.0.min(record.time), times.1.max(record.time)),
            ),
        });
        Ok(())
    }

    pub(super) fn lacks(&self, layout: LayoutId) -> bool {
        !self.layouts.contains(&layout)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn seqs(&self) -> Option<SeqRange> {
        self.items.map(|(seqs, _)| seqs)
    }

    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// As it can be read now; `None` while it holds no item.
    pub(super) fn snapshot(&self) -> Option<Segment> {
        let (seqs, times) = self.items?;
        Some(Segment { path: self.path.clone(), seqs, times, bytes: self.bytes })
    }
}

fn write_all(mut file: &File, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Those that are empty in front are not there.
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match file.write_vectored(parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut parts, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What the file of a segment begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Last number in the segment before; 0 when there was none.
    pub(super) before: Seq,
}

impl Head {
    /// `None` when the head is damaged. The records behind it may still be whole.
    pub(super) fn read(bytes: &Bytes, epoch: SpoolEpoch) -> Option<Self> {
        let head = bytes.get(..HEAD_BYTES as usize)?;
        let crc = u32::from_le_bytes(field(head, 16));
        (head[..8] == MAGIC && seeded_crc(epoch, &head[..16]) == crc)
            .then(|| Self { before: u64::from_le_bytes(field(head, 8)) })
    }
}

fn head(epoch: SpoolEpoch, before: Seq) -> [u8; HEAD_BYTES as usize] {
    let mut out = [0; HEAD_BYTES as usize];
    out[..8].copy_from_slice(&MAGIC);
    out[8..16].copy_from_slice(&before.to_le_bytes());
    let crc = seeded_crc(epoch, &out[..16]);
    out[16..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// First number that a segment file was made for, from its name.
pub(super) fn first_of(path: &Path) -> Option<Seq> {
    if path.extension()? != EXTENSION {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}
