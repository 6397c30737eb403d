//! Going through blocks, newest first, until there is enough.

use model::log_query::LogView;
use model::{LogQuery, MachineId, TimeRange, UnixMillis};

use super::block::{Block, Chunk};
use super::filter::Wanted;
use super::{FoundLog, LogPage, LogPosition, LogSearch};
use crate::history::cursor::Damaged;

/// Texts that one search unpacks before it gives what it has: about a second's work.
const BYTES_MAX: usize = 512 << 20;

/// A block that may have something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: i64,
    pub(crate) last: UnixMillis,
    /// It has a filter.
    pub(crate) full: bool,
}

/// One search under way. Blocks are shown to it by their last event, the newest first.
#[derive(Debug)]
pub(crate) struct Hunt {
    query: LogQuery,
    machines: Option<Vec<MachineId>>,
    range: TimeRange,
    before: Option<LogPosition>,
    limit: usize,
    /// What was removed: events of these machines with smaller numbers.
    removed: Vec<(MachineId, u64)>,
    pub(crate) wanted: Wanted,
    /// Newest first, at most one more than asked for: it tells that there is more.
    found: Vec<FoundLog>,
    bytes: usize,
    pub(super) bytes_max: usize,
    /// Everything after this was looked at, and the search ended for its length.
    stopped: Option<UnixMillis>,
}

impl Hunt {
    pub(crate) fn new(search: LogSearch, removed: Vec<(MachineId, u64)>) -> Self {
        let LogSearch { query, machines, mut range, before, limit } = search;
        if let Some(before) = before {
            range.end = range.end.min(before.time + 1);
        }
        let wanted = Wanted::of(&query, machines.as_deref());
        Self {
            query,
            machines,
            range,
            before,
            limit: limit.max(1),
            removed,
            wanted,
            found: Vec::new(),
            bytes: 0,
            bytes_max: BYTES_MAX,
            stopped: None,
        }
    }

    /// Where blocks of interest are.
    pub(crate) fn range(&self) -> TimeRange {
        self.range
    }

    /// Whether no block that ends at `last` or before can add anything.
    pub(crate) fn is_over(&mut self, last: UnixMillis) -> bool {
        if self.bytes > self.bytes_max && self.stopped.is_none() {
            self.stopped = Some(last);
        }
        let full = self.found.len() > self.limit
            && self.found.last().is_some_and(|oldest| oldest.position.time > last);
        full || self.stopped.is_some()
    }

    /// Takes from a block what is looked for.
    pub(crate) fn look(&mut self, id: i64, bytes: &[u8]) -> Result<(), Damaged> {
        let block = Block::open(id as u64, bytes)?;
        let machine_fits: Vec<bool> = block
            .machines
            .iter()
            .map(|machine| self.machines.as_ref().is_none_or(|wanted| wanted.contains(machine)))
            .collect();
        let removed_before: Vec<u64> = block
            .machines
            .iter()
            .map(|machine| {
                let of = self.removed.iter().filter(|(removed, _)| removed == machine);
                of.map(|(_, before)| *before).max().unwrap_or(0)
            })
            .collect();
        let mut unpacked: Option<(usize, Chunk)> = None;
        let mut taken = Vec::new();
        let mut failed = Ok(());
        for at in (0..block.len()).rev() {
            let position = block.position(at);
            let fits = self.range.contains(position.time)
                && self.before.is_none_or(|before| position < before)
                && machine_fits[block.machine(at)]
                && position.id >= removed_before[block.machine(at)];
            if !fits {
                continue;
            }
            if taken.len() > self.limit || self.is_older_than_enough(position) {
                break;
            }
            let service = &block.services[block.service(at)];
            if !self.query.accepts_kind(block.severity(at), service) {
                continue;
            }
            let number = at / super::block::CHUNK;
            if unpacked.as_ref().is_none_or(|(there, _)| *there != number) {
                match block.chunk_of(at) {
                    Ok(chunk) => {
                        self.bytes += chunk.bytes();
                        unpacked = Some((number, chunk));
                    }
                    Err(damaged) => {
                        failed = Err(damaged);
                        break;
                    }
                }
            }
            let Some((_, chunk)) = &unpacked else { continue };
            let texts = chunk.texts(at)?;
            let view = LogView {
                severity: block.severity(at),
                service,
                body: texts.body,
                attributes: &texts.attributes,
            };
            if self.query.accepts_text(&view) {
                taken.push(block.found(at, &texts)?);
            }
        }
        self.found.append(&mut taken);
        self.found.sort_by_key(|found| std::cmp::Reverse(found.position));
        self.found.truncate(self.limit + 1);
        failed
    }

    fn is_older_than_enough(&self, position: LogPosition) -> bool {
        self.found.len() > self.limit
            && self.found.last().is_some_and(|oldest| position < oldest.position)
    }

    pub(crate) fn end(mut self) -> LogPage {
        if let Some(last) = self.stopped {
            // Blocks that were not looked at end here: what is newer is all there is.
            self.found.retain(|found| found.position.time > last);
            if self.found.len() <= self.limit {
                return LogPage {
                    events: self.found,
                    next: Some(LogPosition { time: last, id: u64::MAX }),
                };
            }
        }
        let more = self.found.len() > self.limit;
        self.found.truncate(self.limit);
        let next = more.then(|| self.found.last().map(|found| found.position)).flatten();
        LogPage { events: self.found, next }
    }
}
