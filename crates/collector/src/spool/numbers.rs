//! Item numbers that are never used twice, whatever is killed.
//!
//! The file `numbers` holds the epoch and a *ceiling*: every number below it may have been used. A block
//! of numbers is reserved by making a higher ceiling durable before the first of them is handed out. A
//! clean stop writes down the exact next number; after any other stop counting goes on at the ceiling.
//! The numbers between were perhaps never used: that leaves a hole, and a hole means nothing.
//!
//! Two slots are written in turn, each made durable before the other is touched, so one of them is
//! always whole. They are overwritten in place, which a full disk does not prevent.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use model::{Seq, SpoolEpoch};

use super::record::field;

/// Numbers reserved at a time: an hour of a busy machine.
pub(super) const BLOCK: u64 = 1 << 16;

const MAGIC: [u8; 8] = *b"mustnum1";
const SLOT_BYTES: usize = 40;
/// Slots lie in different blocks of the disk, so that one torn write cannot hit both.
const SLOT_STRIDE: u64 = 4096;

#[derive(Debug)]
pub(super) struct Numbers {
    file: Arc<File>,
    epoch: SpoolEpoch,
    next: Seq,
    /// Durable: numbers below may be handed out.
    ceiling: Seq,
    generation: u64,
}

/// A slot to be written and synced, perhaps on another thread.
#[derive(Debug)]
pub(crate) struct Reservation {
    file: Arc<File>,
    slot: Slot,
}

/// What is durable since a [`Reservation::write`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved {
    generation: u64,
    ceiling: Seq,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Slot {
    generation: u64,
    epoch: SpoolEpoch,
    ceiling: Seq,
    /// The ceiling is exactly the next number.
    clean: bool,
}

impl Numbers {
    /// Starts a new epoch in an empty directory.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        let epoch = loop {
            let random = getrandom::u64().map_err(io::Error::other)?;
            if random != 0 {
                break SpoolEpoch(random);
            }
        };
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path(dir))?;
        let mut numbers = Self { file: Arc::new(file), epoch, next: 1, ceiling: 1, generation: 0 };
        numbers.reserve_now()?;
        File::open(dir)?.sync_all()?;
        Ok(numbers)
    }

    /// Goes on where the last life of this spool stopped. `None` when the epoch cannot be read, or there
    /// is none.
    pub(super) fn open(dir: &Path) -> io::Result<Option<Self>> {
        let file = match OpenOptions::new().read(true).write(true).open(path(dir)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let slots = [0, 1].map(|index| Slot::read_from(&file, index));
        let Some(latest) = slots.iter().flatten().max_by_key(|slot| slot.generation) else {
            return Ok(None);
        };
        // A slot that cannot be read may have been the newer one: then two blocks at most were reserved
        // since this one was written.
        let both = slots.iter().all(Option::is_some) || latest.generation == 1;
        let next = if both { latest.ceiling } else { latest.ceiling.saturating_add(2 * BLOCK) };
        Ok(Some(Self {
            file: Arc::new(file),
            epoch: latest.epoch,
            next,
            ceiling: next,
            generation: latest.generation,
        }))
    }

    pub(super) fn epoch(&self) -> SpoolEpoch {
        self.epoch
    }

    /// The number that the next item gets.
    pub(super) fn next(&self) -> Seq {
        self.next
    }

    /// Never hands out `used` or a number below it. For what is found in the spool itself.
    pub(super) fn skip_past(&mut self, used: Seq) {
        self.next = self.next.max(used.saturating_add(1));
    }

    /// `None` when no further number could be reserved durably.
    pub(super) fn take(&mut self) -> Option<Seq> {
        if self.next >= self.ceiling {
            return None;
        }
        let seq = self.next;
        self.next += 1;
        Some(seq)
    }

    /// What to write so that numbers do not run out; `None` while there are plenty.
    pub(super) fn reservation(&self) -> Option<Reservation> {
        (self.ceiling.saturating_sub(self.next) < BLOCK / 2).then(|| self.slot(false))
    }

    pub(super) fn reserve_now(&mut self) -> io::Result<()> {
        let reserved = self.slot(false).write()?;
        self.reserved(reserved);
        Ok(())
    }

    pub(super) fn reserved(&mut self, reserved: Reserved) {
        self.generation = reserved.generation;
        self.ceiling = reserved.ceiling;
    }

    /// Writes down the exact next number.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let reserved = self.slot(true).write()?;
        self.reserved(reserved);
        Ok(())
    }

    fn slot(&self, clean: bool) -> Reservation {
        // The generation only advances with a durable write: after a failed one, the same slot is
        // written again and the other stays whole.
        let generation = self.generation + 1;
        let ceiling = if clean { self.next } else { self.next.saturating_add(BLOCK) };
        let slot = Slot { generation, epoch: self.epoch, ceiling, clean };
        Reservation { file: Arc::clone(&self.file), slot }
    }
}

impl Reservation {
    /// Makes it durable.
    pub(crate) fn write(&self) -> io::Result<Reserved> {
        let at = self.slot.generation % 2 * SLOT_STRIDE;
        self.file.write_all_at(&self.slot.encode(), at)?;
        self.file.sync_all()?;
        Ok(Reserved { generation: self.slot.generation, ceiling: self.slot.ceiling })
    }
}

impl Slot {
    fn encode(self) -> [u8; SLOT_BYTES] {
        let mut out = [0; SLOT_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.generation.to_le_bytes());
        out[16..24].copy_from_slice(&self.epoch.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.ceiling.to_le_bytes());
        out[32] = self.clean.into();
        let crc = crc32c::crc32c(&out[..36]);
        out[36..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn read_from(file: &File, index: u64) -> Option<Self> {
        let mut bytes = [0; SLOT_BYTES];
        file.read_exact_at(&mut bytes, index * SLOT_STRIDE).ok()?;
        let whole = bytes[..8] == MAGIC
            && crc32c::crc32c(&bytes[..36]) == u32::from_le_bytes(field(&bytes, 36));
        let slot = Self {
            generation: u64::from_le_bytes(field(&bytes, 8)),
            epoch: SpoolEpoch(u64::from_le_bytes(field(&bytes, 16))),
            ceiling: u64::from_le_bytes(field(&bytes, 24)),
            clean: bytes[32] == 1,
        };
        (whole && slot.epoch.0 != 0 && slot.ceiling != 0).then_some(slot)
    }
}

fn path(dir: &Path) -> std::path::PathBuf {
    dir.join("numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reopened(dir: &Path) -> Numbers {
        let mut numbers = Numbers::open(dir).expect("readable").expect("there");
        numbers.reserve_now().expect("written");
        numbers
    }

    #[test]
    fn a_clean_stop_goes_on_with_the_next_number() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut numbers = Numbers::create(dir.path()).expect("created");
        assert_eq!([numbers.take(), numbers.take()], [Some(1), Some(2)]);
        numbers.close().expect("written");
        let mut again = reopened(dir.path());
        assert_eq!(again.epoch(), numbers.epoch());
        assert_eq!(again.take(), Some(3));
    }

    #[test]
    fn after_a_kill_no_number_is_used_twice() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut last = 0;
        let mut numbers = Numbers::create(dir.path()).expect("created");
        for life in 0..5 {
            for _ in 0..life * 7 {
                let seq = numbers.take().expect("reserved");
                assert!(seq > last);
                last = seq;
            }
            numbers = reopened(dir.path());
        }
    }

    #[test]
    fn a_damaged_slot_never_leads_back() {
        for damaged in [0, SLOT_STRIDE] {
            let dir = tempfile::tempdir().expect("a directory");
            let mut numbers = Numbers::create(dir.path()).expect("created");
            numbers.close().expect("written");
            let mut numbers = reopened(dir.path());
            let used = numbers.take().expect("reserved");
            numbers.file.write_all_at(&[0xff; 16], damaged + 8).expect("written");
            assert!(reopened(dir.path()).take().expect("reserved") > used);
        }
    }

    #[test]
    fn numbers_run_out_rather_than_be_used_unreserved() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut numbers = Numbers::create(dir.path()).expect("created");
        assert!(numbers.reservation().is_none());
        while numbers.take().is_some() {}
        assert_eq!(numbers.next(), BLOCK + 1);
        let reserved = numbers.reservation().expect("due").write().expect("written");
        numbers.reserved(reserved);
        assert_eq!(numbers.take(), Some(BLOCK + 1));
    }
}
