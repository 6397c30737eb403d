//! The history on TimescaleDB: the same life cycle as the embedded one, shared by several processes.
//!
//! Appends are one transaction each, and several processes append at once: what a spool has acknowledged
//! is locked by its row. Maintenance is done by one process at a time, whoever takes the lock; a frame that
//! comes in while its stretch is sealed is simply not part of it, and re-opens the stretch.
//!
//! Start with [`append`], then [`maintain`], which calls the life cycle's steps in order.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use model::{MachineId, ProcessReport, SeqRanges, SpoolEpoch, TimeRange, UnixMillis};

use super::{
    Delivery, Errors, History, LogPage, LogSearch, Maintained, Recorded, Retention, Samples,
    SeriesSelector, StoredSeries, Tier, Usage, Wanted, rounds::Rounds,
};
use crate::StorageError;
use crate::live::LiveFrame;
use crate::postgres::Timescale;
use crate::postgres::failure::{Outcome, unavailable};
use crate::rollup::Rollup;

mod append;
mod catalog;
mod chunks;
mod close;
mod errors;
mod expire;
mod find;
mod frames;
mod join;
mod logs;
mod maintain;
mod processes;
mod raw;
mod recorded;
mod remove;
mod seal;
mod tier;
mod tier_rows;

use catalog::Catalog;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The hour in progress is sealed in pieces of this length, so that few frames have to be read one by one.
const STRETCH_MS: i64 = 10 * MINUTE_MS;

/// The server adapter of [`History`].
#[derive(Debug)]
pub struct TimescaleHistory {
    timescale: Arc<Timescale>,
    retention: Retention,
    /// What the database is known to hold; held to look and to write down.
    catalog: Mutex<Catalog>,
    /// Fingerprints of the groups of errors; read when they are needed first. Held to look and to write down.
    error_groups: Mutex<Option<HashSet<u64>>>,
    /// Held by a round of maintenance of this process.
    rounds: tokio::sync::Mutex<Rounds>,
    /// Blobs that could not be read and were left out of an answer.
    damaged: AtomicU64,
}

impl TimescaleHistory {
    pub fn new(timescale: Arc<Timescale>, retention: Retention) -> Self {
        Self {
            timescale,
            retention,
            catalog: Mutex::default(),
            error_groups: Mutex::default(),
            rounds: tokio::sync::Mutex::default(),
            damaged: AtomicU64::new(0),
        }
    }

    /// How many blobs could not be read since the start.
    pub fn damaged_total(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Counts and reports a blob that is left out because it cannot be read.
    fn damaged(&self, what: &'static str, id: i64, reason: &dyn std::fmt::Display) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(row.kind = what, row.id = id, %reason, "left out something unreadable in the history");
    }
}

#[async_trait]
impl History for TimescaleHistory {
    async fn append(&self, deliveries: Vec<Delivery>) -> Result<(), StorageError> {
        self.timescale.call(self.append_all(deliveries)).await
    }

    async fn acknowledged(
        &self,
        machine: MachineId,
        epoch: SpoolEpoch,
    ) -> Result<SeqRanges, StorageError> {
        self.timescale.call(self.find_acknowledged(machine, epoch)).await
    }

    async fn find_series(
        &self,
        selector: &SeriesSelector,
        limit: usize,
    ) -> Result<Vec<StoredSeries>, StorageError> {
        self.timescale.call(self.select_series(selector, limit)).await
    }

    async fn read_raw(
        &self,
        series: &[StoredSeries],
        range: TimeRange,
    ) -> Result<Vec<Samples>, StorageError> {
        let ids: Vec<i64> = series.iter().map(|s| s.id).collect();
        let read = async {
            let mut tx = self.timescale.read().await?;
            self.samples(&mut tx, &ids, range).await
        };
        self.timescale.call(read).await
    }

    async fn read_tier(
        &self,
        series: &[StoredSeries],
        tier: Tier,
        range: TimeRange,
    ) -> Result<Vec<Vec<Rollup>>, StorageError> {
        self.timescale.call(self.tier(series, tier, range)).await
    }

    async fn read_frames(
        &self,
        machine: MachineId,
        wanted: Wanted<'_>,
        range: TimeRange,
    ) -> Result<Vec<LiveFrame>, StorageError> {
        self.timescale.call(self.frames_within(machine, wanted, range)).await
    }

    async fn processes_at(
        &self,
        machine: MachineId,
        at: UnixMillis,
    ) -> Result<Option<ProcessReport>, StorageError> {
        self.timescale.call(self.newest_report(machine, at)).await
    }

    async fn recorded(
        &self,
        machine: MachineId,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Recorded>, StorageError> {
        self.timescale.call(self.events_and_gaps(machine, range, limit)).await
    }

    async fn search_logs(&self, search: LogSearch) -> Result<LogPage, StorageError> {
        self.timescale.call(self.find_logs(search)).await
    }

    async fn errors(
        &self,
        range: TimeRange,
        bucket_ms: i64,
        machines: Option<&[MachineId]>,
    ) -> Result<Errors, StorageError> {
        self.timescale.call(self.find_errors(range, bucket_ms, machines)).await
    }

    async fn maintain(&self, now: UnixMillis) -> Result<Maintained, StorageError> {
        self.timescale.call(self.round(now)).await
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        self.timescale.call(self.used()).await
    }

    async fn remove(&self, machine: MachineId) -> Result<(), StorageError> {
        self.timescale.call(self.unname(machine)).await
    }
}

/// Computes without holding up the runtime's own threads.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Outcome<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| unavailable(format!("maintenance was interrupted: {e}")))
}

#[cfg(test)]
mod tests;
