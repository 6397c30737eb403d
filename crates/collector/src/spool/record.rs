//! One record of a segment file, and finding records again in bytes that may be damaged.
//!
//! A record is a head of 52 bytes and a body, all numbers little-endian:
//!
//! | bytes | |
//! |---|---|
//! | 0..4 | magic |
//! | 4..8 | length of the body |
//! | 8..16 | number of the item; 0 for a layout |
//! | 16..24 | time of the item, milliseconds since 1970 |
//! | 24 | kind |
//! | 25..28 | how many bytes at the end of the body are bookmarks, which are not sent |
//! | 28..32 | CRC-32C of the body, bookmarks included |
//! | 32..48 | layout that the record is or uses |
//! | 48..52 | CRC-32C of bytes 0..48, seeded with the epoch |
//!
//! The head has a checksum of its own, so that a damaged body can be stepped over and the length is
//! never believed before it was checked. The seed keeps records of another life of the spool, or
//! record-like text inside a log line, from being taken for ours.

use bytes::Bytes;
use model::{LayoutId, Seq, SpoolEpoch, UnixMillis, limits};

const MAGIC: [u8; 4] = *b"mrec";
const HEAD_BYTES: usize = 52;

/// Longest body: what one message may be.
pub(crate) const BODY_BYTES_MAX: usize = limits::MESSAGE_BYTES_MAX;

/// One encoded `CollectorMessage`, ready to be sent, with what the spool must know of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    /// 0 for a layout, which is not an item.
    pub(crate) seq: Seq,
    pub(crate) time: UnixMillis,
    pub(crate) kind: RecordKind,
    pub(crate) body: Bytes,
    /// Where to go on reading what this item was read from: kept with it or not at all.
    pub(crate) bookmarks: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Layout(LayoutId),
    Frame(LayoutId),
    Gap,
    Logs,
    Other,
}

impl RecordKind {
    fn parts(self) -> (u8, [u8; 16]) {
        match self {
            Self::Layout(id) => (1, id.0),
            Self::Frame(id) => (2, id.0),
            Self::Gap => (3, [0; 16]),
            Self::Other => (4, [0; 16]),
            Self::Logs => (5, [0; 16]),
        }
    }

    fn from_parts(kind: u8, layout: [u8; 16]) -> Option<Self> {
        match kind {
            1 => Some(Self::Layout(LayoutId(layout))),
            2 => Some(Self::Frame(LayoutId(layout))),
            3 => Some(Self::Gap),
            4 => Some(Self::Other),
            5 => Some(Self::Logs),
            _ => None,
        }
    }
}

impl Record {
    /// Bytes it takes in a segment.
    pub(crate) fn disk_bytes(&self) -> u64 {
        (HEAD_BYTES + self.length()) as u64
    }

    fn length(&self) -> usize {
        self.body.len() + self.bookmarks.len()
    }

    /// What stands in a segment before the body and the bookmarks.
    pub(crate) fn head(&self, epoch: SpoolEpoch) -> [u8; HEAD_BYTES] {
        let (kind, layout) = self.kind.parts();
        let [a, b, c, _] = (self.bookmarks.len() as u32).to_le_bytes();
        let body_crc = crc32c::crc32c_append(crc32c::crc32c(&self.body), &self.bookmarks);
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&MAGIC);
        head[4..8].copy_from_slice(&(self.length() as u32).to_le_bytes());
        head[8..16].copy_from_slice(&self.seq.to_le_bytes());
        head[16..24].copy_from_slice(&self.time.0.to_le_bytes());
        head[24..28].copy_from_slice(&[kind, a, b, c]);
        head[28..32].copy_from_slice(&body_crc.to_le_bytes());
        head[32..48].copy_from_slice(&layout);
        let crc = seeded_crc(epoch, &head[..48]);
        head[48..].copy_from_slice(&crc.to_le_bytes());
        head
    }
}

/// CRC-32C that only agrees within one epoch.
pub(super) fn seeded_crc(epoch: SpoolEpoch, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&epoch.0.to_le_bytes()), bytes)
}

/// What stands at a place in a segment.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    Record(Record),
    /// Bytes that are no record, up to the next record or the end.
    Damage,
}

/// Walks over the records in `bytes`, stepping over what is damaged.
#[derive(Debug)]
pub(crate) struct Scan {
    bytes: Bytes,
    epoch: SpoolEpoch,
    offset: usize,
    /// End of the last good record.
    valid_end: usize,
}

impl Scan {
    pub(crate) fn new(bytes: Bytes, epoch: SpoolEpoch) -> Self {
        Self { bytes, epoch, offset: 0, valid_end: 0 }
    }

    /// End of the last good record found so far.
    pub(crate) fn valid_end(&self) -> usize {
        self.valid_end
    }

    fn next_place(&self) -> usize {
        let mut from = self.offset + 1;
        // A head that is whole says how long its damaged body is.
        if let Some(head) = Head::read(&self.bytes[self.offset..], self.epoch) {
            from = self.offset.saturating_add(HEAD_BYTES + head.length).min(self.bytes.len());
        }
        while let Some(rest) = self.bytes.get(from..) {
            match rest.windows(MAGIC.len()).position(|window| window == MAGIC) {
                Some(at) if Head::read(&rest[at..], self.epoch).is_some() => return from + at,
                Some(at) => from += at + 1,
                None => break,
            }
        }
        self.bytes.len()
    }
}

impl Iterator for Scan {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        if self.offset >= self.bytes.len() {
            return None;
        }
        let rest = self.bytes.slice(self.offset..);
        if let Some(record) = read_record(&rest, self.epoch) {
            self.offset += HEAD_BYTES + record.length();
            self.valid_end = self.offset;
            return Some(Found::Record(record));
        }
        self.offset = self.next_place();
        Some(Found::Damage)
    }
}

fn read_record(bytes: &Bytes, epoch: SpoolEpoch) -> Option<Record> {
    let head = Head::read(bytes, epoch)?;
    let end = HEAD_BYTES + head.length;
    if bytes.len() < end {
        return None;
    }
    let mut body = bytes.slice(HEAD_BYTES..end);
    if crc32c::crc32c(&body) != head.body_crc {
        return None;
    }
    let bookmarks = body.split_off(head.length - head.bookmarks);
    Some(Record { seq: head.seq, time: head.time, kind: head.kind, body, bookmarks })
}

struct Head {
    length: usize,
    /// Of the length.
    bookmarks: usize,
    seq: Seq,
    time: UnixMillis,
    kind: RecordKind,
    body_crc: u32,
}

impl Head {
    fn read(bytes: &[u8], epoch: SpoolEpoch) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD_BYTES>()?;
        let crc = u32::from_le_bytes(field(head, 48));
        if head[..4] != MAGIC || seeded_crc(epoch, &head[..48]) != crc {
            return None;
        }
        let length = u32::from_le_bytes(field(head, 4)) as usize;
        let bookmarks = u32::from_le_bytes([head[25], head[26], head[27], 0]) as usize;
        if length > BODY_BYTES_MAX || bookmarks > length {
            return None;
        }
        Some(Self {
            length,
            bookmarks,
            seq: u64::from_le_bytes(field(head, 8)),
            time: UnixMillis(i64::from_le_bytes(field(head, 16))),
            kind: RecordKind::from_parts(head[24], field(head, 32))?,
            body_crc: u32::from_le_bytes(field(head, 28)),
        })
    }
}

/// The `N` bytes from `at` on. Callers stay within the array.
pub(super) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EPOCH: SpoolEpoch = SpoolEpoch(7);

    fn record(seq: Seq, body: &[u8]) -> Record {
        let kind = match seq % 3 {
            0 => RecordKind::Frame(LayoutId([seq as u8; 16])),
            1 => RecordKind::Gap,
            _ => RecordKind::Other,
        };
        let (body, bookmarks) =
            body.split_at(if seq.is_multiple_of(2) { body.len() / 3 } else { body.len() });
        let (body, bookmarks) = (Bytes::copy_from_slice(body), Bytes::copy_from_slice(bookmarks));
        Record { seq, time: UnixMillis(seq as i64), kind, body, bookmarks }
    }

    fn encoded(records: &[Record]) -> Vec<u8> {
        let parts = |r: &Record| [r.head(EPOCH).as_slice(), &r.body, &r.bookmarks].concat();
        records.iter().flat_map(parts).collect()
    }

    fn found(bytes: Vec<u8>, epoch: SpoolEpoch) -> Vec<Seq> {
        let records = Scan::new(bytes.into(), epoch).filter_map(|found| match found {
            Found::Record(record) => Some(record.seq),
            Found::Damage => None,
        });
        records.collect()
    }

    #[test]
    fn records_of_another_epoch_are_not_ours() {
        let bytes = encoded(&[record(1, b"a"), record(2, b"b")]);
        assert_eq!(found(bytes.clone(), EPOCH), [1, 2]);
        assert_eq!(found(bytes, SpoolEpoch(8)), [0; 0]);
    }

    #[test]
    fn a_length_beyond_the_limit_is_not_believed() {
        let mut long = record(1, b"");
        long.body = Bytes::from(vec![0; BODY_BYTES_MAX + 1]);
        assert_eq!(found(encoded(&[long, record(2, b"b")]), EPOCH), [2]);
    }

    #[test]
    fn a_record_inside_a_damaged_body_is_not_found() {
        let inner = encoded(&[record(9, b"inner")]);
        let mut bytes = encoded(&[record(1, &inner), record(2, b"b")]);
        let last = HEAD_BYTES + inner.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(found(bytes, EPOCH), [2]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8)) {
            let records: Vec<_> =
                bodies.iter().enumerate().map(|(i, b)| record(i as u64 + 1, b)).collect();
            let read: Vec<_> = Scan::new(encoded(&records).into(), EPOCH).collect();
            prop_assert_eq!(read, records.into_iter().map(Found::Record).collect::<Vec<_>>());
        }

        #[test]
        fn one_damaged_byte_costs_one_record(at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = encoded(&(1..=5).map(|i| record(i, &[i as u8; 40])).collect::<Vec<_>>());
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let damaged = (at / (HEAD_BYTES + 40)) as u64 + 1;
            let expected: Vec<Seq> = (1..=5).filter(|seq| *seq != damaged).collect();
            prop_assert_eq!(found(bytes, EPOCH), expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = found(bytes, EPOCH);
        }
    }
}
