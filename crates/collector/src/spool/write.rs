//! Writing items down: where the next record goes, and what makes room for it.

use std::io;

use model::SeqRange;

use super::record::{Record, RecordKind};
use super::{Spool, remove, segment};

impl Spool {
    pub(super) fn write(&mut self, record: Record) {
        if self.memory.is_empty() {
            match self.write_to_disk(&record) {
                Ok(()) => return,
                Err(error) => {
                    self.failed("failed to write the spool; keeping items in memory", &error)
                }
            }
        }
        self.memory.push(record);
        let dropped = self.memory.overflow();
        let (Some(first), Some(last)) = (dropped.first(), dropped.last()) else { return };
        let times = Some((first.time, last.time));
        if let Some(seqs) = SeqRange::new(first.seq, last.seq) {
            self.drop_items(
                seqs,
                times,
                "the disk took no writes, and the memory for them is full",
            );
        }
    }

    fn write_to_disk(&mut self, record: &Record) -> io::Result<()> {
        let fits = self.active.as_ref().is_some_and(|active| {
            let follows = active.seqs().is_none_or(|seqs| seqs.last() + 1 == record.seq);
            let bytes = active.bytes() + record.disk_bytes();
            follows && (bytes <= self.limits.segment_bytes_max || active.seqs().is_none())
        });
        if !fits {
            self.seal();
        }
        let active = match &mut self.active {
            Some(active) => active,
            none => {
                let before = self.sealed.back().map_or(0, |segment| segment.seqs.last());
                let epoch = self.numbers.epoch();
                let created = segment::Active::create(&self.dir, epoch, record.seq, before)?;
                self.dir_is_unsynced = true;
                none.insert(created)
            }
        };
        let layout = match record.kind {
            RecordKind::Frame(id) if active.lacks(id) => self.layouts.get(id),
            _ => None,
        };
        active.append(record, layout.as_ref())?;
        if std::mem::take(&mut self.writes_fail) {
            tracing::info!("the spool is written again");
        }
        Ok(())
    }

    /// Ends the active segment.
    pub(super) fn seal(&mut self) {
        let Some(active) = self.active.take() else { return };
        match active.snapshot() {
            Some(segment) => {
                if segment.seqs.last() > self.synced_to {
                    self.unsynced.push(active.file());
                }
                self.sealed.push_back(segment);
            }
            None => remove(active.path()),
        }
    }

    pub(super) fn flush_memory(&mut self) {
        while let Some(record) = self.memory.front().cloned() {
            if let Err(error) = self.write_to_disk(&record) {
                return self.failed("failed to write the spool; keeping items in memory", &error);
            }
            self.memory.pop();
        }
    }

    /// Drops old segments until `bytes` more fit. False when they never will.
    pub(super) fn make_room(&mut self, bytes: u64) -> bool {
        while self.bytes() + bytes > self.limits.bytes_max {
            if self.sealed.is_empty() {
                self.seal();
            }
            let Some(oldest) = self.sealed.pop_front() else {
                return bytes <= self.limits.bytes_max;
            };
            self.drop_items(
                oldest.seqs,
                Some(oldest.times),
                &format!("spool bound of {} reached", daemon::config::Bytes(self.limits.bytes_max)),
            );
            self.write_acknowledged();
            self.write_bookmarks();
            remove(&oldest.path);
        }
        true
    }
}
