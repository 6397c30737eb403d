//! The past: everything that was acknowledged.
//!
//! One life cycle in every adapter: *written by time, read by series*. Frames are appended as they came
//! and acknowledged after the commit. Closed stretches of time are *sealed*: transposed into one
//! compressed block per machine and layout, out of which one series is read without the others. When an
//! hour closes, its blocks become one and the tiers (1 min, 1 h) are rolled up from it. A late frame
//! re-opens its stretch.

use std::fmt;

use async_trait::async_trait;
use model::{
    Gap, Item, Layout, MachineEvent, MachineId, Matcher, ProcessReport, SeqRanges, Series,
    SpoolEpoch, TimeRange, UnixMillis,
};

use crate::StorageError;
use crate::live::LiveFrame;
use crate::rollup::Rollup;

pub mod block;

pub(crate) mod cursor;
mod decimal;
mod frames;
mod late;
mod logs;
mod merge;
mod open_hours;
mod packed;
pub(crate) mod report;
mod report_group;
mod retention;
mod rounds;
mod sqlite;
mod timescale;
mod transpose;
pub(crate) mod values;
mod windows;

pub use cursor::Damaged;
pub use logs::{ErrorCount, ErrorGroup, Errors, FoundLog, LogPage, LogPosition, LogSearch};
pub use retention::Retention;
pub use sqlite::SqliteHistory;
pub use timescale::TimescaleHistory;

/// Items of one spool that arrived together.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub machine: MachineId,
    pub epoch: SpoolEpoch,
    /// By our clock.
    pub received: UnixMillis,
    /// The layouts of the frames among `items`.
    pub layouts: Vec<Layout>,
    pub items: Vec<Item>,
}

/// One series on one machine, as history knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredSeries {
    /// Names it within this store.
    pub id: i64,
    pub machine: MachineId,
    pub series: Series,
}

/// Which series to look for.
#[derive(Clone, Debug, Default)]
pub struct SeriesSelector {
    /// Exact name.
    pub metric: String,
    /// All must accept the series' labels.
    pub labels: Vec<Matcher>,
    /// Only on these; on all when absent.
    pub machines: Option<Vec<MachineId>>,
}

/// Values of one series, by time, each time once, without NaN.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    pub times: Vec<UnixMillis>,
    pub values: Vec<f64>,
}

/// A rolled-up resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    Minute,
    Hour,
}

impl Tier {
    pub fn window_ms(self) -> i64 {
        match self {
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
        }
    }
}

/// One thing that happened, as it was kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    Event(MachineEvent),
    /// With the time of its receipt, for gaps whose own times are not known.
    Gap(Gap, UnixMillis),
}

/// What a round of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Layouts whose series got their places after the commit that brought them.
    pub placed: u64,
    /// Stretches sealed or sealed again.
    pub sealed: u64,
    /// Hours rolled up into tiers.
    pub rolled_up: u64,
    /// Rows or blocks dropped by age.
    pub expired: u64,
    /// Rows or blocks dropped because the store was over its size.
    pub evicted: u64,
}

/// Whether values of the metric of this name are wanted.
pub type Wanted<'a> = &'a (dyn Fn(&str) -> bool + Send + Sync);

/// How much the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub bytes: u64,
    /// Oldest time that raw values are kept from.
    pub raw_since: Option<UnixMillis>,
}

/// Port: the past of all machines.
///
/// Reads see every append that returned before they began. All calls are safe to cancel; an `append`
/// that is cancelled may still take effect, as may one whose error is `Unavailable`: sending the same
/// items again is always right.
#[async_trait]
pub trait History: Send + Sync + fmt::Debug {
    /// Makes all items durable in one transaction, together with the fact that they are. Items that the
    /// history already has of their epoch are recognised and not stored again. When this returns `Ok`,
    /// every item handed in may be acknowledged.
    ///
    /// A frame must be as long as its layout, and its layout among the delivery's or a former one's.
    async fn append(&self, deliveries: Vec<Delivery>) -> Result<(), StorageError>;

    /// Which items of this spool are durable.
    async fn acknowledged(
        &self,
        machine: MachineId,
        epoch: SpoolEpoch,
    ) -> Result<SeqRanges, StorageError>;

    /// Series that match, at most `limit`; by machine, then metric and labels. Series without any value left may be
    /// among them.
    async fn find_series(
        &self,
        selector: &SeriesSelector,
        limit: usize,
    ) -> Result<Vec<StoredSeries>, StorageError>;

    /// Raw values within the range, one entry per series, in the order asked.
    async fn read_raw(
        &self,
        series: &[StoredSeries],
        range: TimeRange,
    ) -> Result<Vec<Samples>, StorageError>;

    /// Roll-ups whose window starts within the range, one entry per series, in the order asked, by window;
    /// empty windows are left out. Time that is not rolled up yet is answered from raw values, so the
    /// answer is complete as long as either is kept.
    async fn read_tier(
        &self,
        series: &[StoredSeries],
        tier: Tier,
        range: TimeRange,
    ) -> Result<Vec<Vec<Rollup>>, StorageError>;

    /// The machine's frames within the range, by time, in the layouts they came in. Values of metrics that are
    /// not wanted are left absent, frames without any value are left out. For a few minutes: everything that
    /// is wanted is in memory at once.
    async fn read_frames(
        &self,
        machine: MachineId,
        wanted: Wanted<'_>,
        range: TimeRange,
    ) -> Result<Vec<LiveFrame>, StorageError>;

    /// The newest process report that is not after `at` and at most ten minutes before it.
    async fn processes_at(
        &self,
        machine: MachineId,
        at: UnixMillis,
    ) -> Result<Option<ProcessReport>, StorageError>;

    /// Events and gaps within the range, newest first, at most `limit`.
    async fn recorded(
        &self,
        machine: MachineId,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Recorded>, StorageError>;

    /// Log events that a query accepts, newest first.
    async fn search_logs(&self, search: LogSearch) -> Result<LogPage, StorageError>;

    /// Groups of errors that came within the range, and how often, by machine and bucket. Counts are kept by
    /// the minute: the range begins with a whole one, and `bucket_ms` is a multiple of one.
    async fn errors(
        &self,
        range: TimeRange,
        bucket_ms: i64,
        machines: Option<&[MachineId]>,
    ) -> Result<Errors, StorageError>;

    /// Seals what is closed at `now`, rolls up, expires by age, evicts by size. Does a bounded piece of work;
    /// call it again soon while it reports work done.
    async fn maintain(&self, now: UnixMillis) -> Result<Maintained, StorageError>;

    async fn usage(&self) -> Result<Usage, StorageError>;

    /// Forgets everything of a machine.
    async fn remove(&self, machine: MachineId) -> Result<(), StorageError>;
}
