//! What the disk would not take, until it takes it again.

use std::collections::VecDeque;

use model::Seq;

use super::record::Record;

/// Bounded by bytes; in the order of numbers, all of them after what is on disk.
#[derive(Debug)]
pub(super) struct Memory {
    records: VecDeque<Record>,
    bytes: u64,
    bytes_max: u64,
}

impl Memory {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { records: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub(super) fn push(&mut self, record: Record) {
        self.bytes += record.disk_bytes();
        self.records.push_back(record);
    }

    pub(super) fn front(&self) -> Option<&Record> {
        self.records.front()
    }

    pub(super) fn pop(&mut self) -> Option<Record> {
        let record = self.records.pop_front()?;
        self.bytes -= record.disk_bytes();
        Some(record)
    }

    /// The oldest quarter, when the bound is passed; so that gaps come seldom.
    pub(super) fn overflow(&mut self) -> Vec<Record> {
        let mut out = Vec::new();
        if self.bytes > self.bytes_max {
            while self.bytes > self.bytes_max / 4 * 3 {
                out.extend(self.pop());
            }
        }
        out
    }

    pub(super) fn first_from(&self, seq: Seq) -> Option<&Record> {
        let at = self.records.partition_point(|record| record.seq < seq);
        self.records.get(at)
    }

    pub(super) fn forget(&mut self, done: impl Fn(Seq) -> bool) {
        self.records.retain(|record| !done(record.seq));
        self.bytes = self.records.iter().map(Record::disk_bytes).sum();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn seqs(&self) -> impl Iterator<Item = Seq> {
        self.records.iter().map(|record| record.seq)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
