//! What need not be sent again, kept beside the segments.
//!
//! Written after acknowledgements and before segments are removed, not synced: when it is lost, items
//! are sent once more and the aggregator recognises them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use model::{SeqRange, SeqRanges, SpoolEpoch};

use super::record::{field, seeded_crc};

const MAGIC: [u8; 8] = *b"mustack1";
/// Keeps the file within one page, so that a kill cannot tear it.
const RANGES_MAX: usize = 250;

#[derive(Debug)]
pub(super) struct Acknowledged {
    file: File,
    epoch: SpoolEpoch,
}

impl Acknowledged {
    /// The file, and what it held; nothing when it cannot be read back.
    pub(super) fn open(dir: &Path, epoch: SpoolEpoch) -> io::Result<(Self, SeqRanges)> {
        let path = dir.join("acknowledged");
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = vec![0; 16 + RANGES_MAX * 16 + 4];
        let mut length = 0;
        while length < bytes.len() {
            match file.read_at(&mut bytes[length..], length as u64)? {
                0 => break,
                n => length += n,
            }
        }
        let ranges = decode(&bytes[..length], epoch).unwrap_or_default();
        Ok((Self { file, epoch }, ranges))
    }

    pub(super) fn write(&self, ranges: &SeqRanges) -> io::Result<()> {
        self.file.write_all_at(&encode(ranges, self.epoch), 0)
    }
}

fn encode(ranges: &SeqRanges, epoch: SpoolEpoch) -> Vec<u8> {
    // The lowest are kept: they let segments go.
    let kept: Vec<SeqRange> = ranges.iter().take(RANGES_MAX).collect();
    let mut out = Vec::with_capacity(20 + kept.len() * 16);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(kept.len() as u64).to_le_bytes());
    for range in kept {
        out.extend_from_slice(&range.first().to_le_bytes());
        out.extend_from_slice(&range.last().to_le_bytes());
    }
    let crc = seeded_crc(epoch, &out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn decode(bytes: &[u8], epoch: SpoolEpoch) -> Option<SeqRanges> {
    let head = bytes.get(..16)?;
    let count = usize::try_from(u64::from_le_bytes(field(head, 8))).ok()?;
    if head[..8] != MAGIC || count > RANGES_MAX {
        return None;
    }
    let end = 16 + count * 16;
    let crc = u32::from_le_bytes(field(bytes.get(end..end + 4)?, 0));
    if seeded_crc(epoch, &bytes[..end]) != crc {
        return None;
    }
    let ranges = bytes[16..end].chunks_exact(16);
    ranges
        .map(|pair| {
            SeqRange::new(u64::from_le_bytes(field(pair, 0)), u64::from_le_bytes(field(pair, 8)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_back_and_damage_reads_as_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let epoch = SpoolEpoch(5);
        let ranges: SeqRanges = [1, 2, 3, 9].into_iter().collect();
        let open = |epoch| Acknowledged::open(dir.path(), epoch).expect("opens");
        let (file, none) = open(epoch);
        assert!(none.is_empty());
        file.write(&(1..=1000).map(|i| i * 2).collect()).expect("written");
        assert_eq!(open(epoch).1.len(), RANGES_MAX);
        file.write(&ranges).expect("written");
        assert_eq!(open(epoch).1, ranges);
        assert!(open(SpoolEpoch(6)).1.is_empty());
        file.file.write_all_at(&[7], 20).expect("written");
        assert!(open(epoch).1.is_empty());
    }
}
