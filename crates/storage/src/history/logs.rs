//! Log events in history, as both adapters keep them.
//!
//! The events of one commit are one or more *log blocks*: sorted by time, compressed, with the words of each
//! full block in a *filter*. A search goes through the blocks from the newest on, leaves out those whose
//! filter says that what is looked for is not in them, and reads the others. Blocks of small commits have
//! no filter; maintenance joins them to full ones.
//!
//! Everything here is plain computation; the adapters move rows. Start with [`build`] and [`Hunt`].

use model::{LogEvent, LogQuery, MachineId, TimeRange, UnixMillis};

mod block;
mod build;
mod errors;
mod filter;
mod hunt;

#[cfg(test)]
mod tests;

pub(crate) use block::Block;
pub(crate) use build::{FreshLog, Loose, NewBlock, build, join, to_join, without};
pub(crate) use errors::{ErrorDeltas, MINUTE_MS};
pub(crate) use hunt::{Candidate, Hunt};

#[cfg(test)]
use errors::OTHERS;

/// Where a log event stands among all: by time, then in the order of arrival. Never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    pub time: UnixMillis,
    /// Unique within the store.
    pub id: u64,
}

/// What to look for.
#[derive(Clone, Debug)]
pub struct LogSearch {
    /// Its terms on machines are ignored: see `machines`.
    pub query: LogQuery,
    /// Only of these; of all when absent.
    pub machines: Option<Vec<MachineId>>,
    pub range: TimeRange,
    /// Only what stands before this, newest first: where the page before ended.
    pub before: Option<LogPosition>,
    pub limit: usize,
}

impl LogSearch {
    /// Everything of one machine.
    pub fn of(machine: MachineId, range: TimeRange, limit: usize) -> Self {
        let machines = Some(vec![machine]);
        Self { query: LogQuery::default(), machines, range, before: None, limit }
    }
}

/// A log event as it was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundLog {
    pub position: LogPosition,
    pub machine: MachineId,
    pub event: LogEvent,
}

/// Log events, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogPage {
    pub events: Vec<FoundLog>,
    /// Where to go on; `None` when there is nothing more. There may be more even behind a page that is not full:
    /// a search that reads much ends early.
    pub next: Option<LogPosition>,
}

/// Errors that are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorGroup {
    /// [`model::template::fingerprint`].
    pub fingerprint: u64,
    pub service: String,
    /// What the errors have in common.
    pub template: String,
    /// Body of the first of them.
    pub example: String,
    /// The highest of them.
    pub severity: model::Severity,
    pub first_seen: UnixMillis,
    pub last_seen: UnixMillis,
    /// Since the first.
    pub count: u64,
}

/// How often a group came on one machine in one bucket of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCount {
    pub fingerprint: u64,
    pub machine: MachineId,
    /// Start of the bucket.
    pub time: UnixMillis,
    pub count: u64,
}

/// Errors within a window of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errors {
    /// Those that came within the window.
    pub groups: Vec<ErrorGroup>,
    /// By bucket.
    pub counts: Vec<ErrorCount>,
}
