//! The embedded history: one SQLite file.
//!
//! Appends are one transaction each. Everything else that writes is maintenance: small transactions of its
//! own, so that an append never waits long. Where the work is (compressing, rolling up), nothing is
//! locked: the result is swapped in only if no append touched what it was made from.
//!
//! Start with [`append`], then [`maintain`], which calls the life cycle's steps in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use model::{
    LogEvent, MachineId, ProcessReport, SeqRanges, SpoolEpoch, TimeRange, UnixMillis,
};
use tokio::sync::Mutex;

use super::{
    Delivery, History, Maintained, Recorded, Retention, Samples, SeriesSelector, StoredSeries, Tier,
    Usage,
};
use crate::StorageError;
use crate::rollup::Rollup;
use crate::sqlite::Database;

mod append;
mod catalog;
mod find;
mod logs;
mod processes;
mod raw;
mod recorded;

use append::Writer;

pub(super) const HOUR_MS: i64 = 3_600_000;
/// The hour in progress is sealed in pieces of this length, so that few frames have to be read one by one.
pub(super) const STRETCH_MS: i64 = 600_000;

/// The embedded history.
#[derive(Debug)]
pub struct SqliteHistory {
    database: Arc<Database>,
    retention: Retention,
    /// Whoever writes values holds this across the transaction; it is taken before the database's own
    /// turn.
    writer: Mutex<Writer>,
    /// One round of maintenance at a time.
    maintenance: Mutex<()>,
    /// Blobs that could not be read and were left out of an answer.
    damaged: AtomicU64,
}

impl SqliteHistory {
    pub fn new(database: Arc<Database>, retention: Retention) -> Self {
        Self {
            database,
            retention,
            writer: Mutex::default(),
            maintenance: Mutex::default(),
            damaged: AtomicU64::new(0),
        }
    }

    /// Counts and reports a blob that is left out because it cannot be read.
    fn damaged(&self, what: &'static str, id: i64, reason: &dyn std::fmt::Display) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(row.kind = what, row.id = id, %reason, "left out something unreadable in the history");
    }
}

#[async_trait]
impl History for SqliteHistory {
    async fn append(&self, deliveries: Vec<Delivery>) -> Result<(), StorageError> {
        self.append(deliveries).await
    }

    async fn acknowledged(
        &self,
        machine: MachineId,
        epoch: SpoolEpoch,
    ) -> Result<SeqRanges, StorageError> {
        self.acknowledged(machine, epoch).await
    }

    async fn find_series(
        &self,
        selector: &SeriesSelector,
        limit: usize,
    ) -> Result<Vec<StoredSeries>, StorageError> {
        self.find_series(selector, limit).await
    }

    async fn read_raw(
        &self,
        series: &[StoredSeries],
        range: TimeRange,
    ) -> Result<Vec<Samples>, StorageError> {
        let ids: Vec<i64> = series.iter().map(|s| s.id).collect();
        let mut tx = self.database.read().await?;
        self.samples(&mut tx, &ids, range).await
    }

    async fn read_tier(
        &self,
        series: &[StoredSeries],
        tier: Tier,
        range: TimeRange,
    ) -> Result<Vec<Vec<Rollup>>, StorageError> {
        let raw = self.read_raw(series, range).await?;
        Ok(series
            .iter()
            .zip(raw)
            .map(|(s, raw)| {
                Rollup::of(s.series.kind, tier.window_ms(), raw.times.into_iter().zip(raw.values))
            })
            .collect())
    }

    async fn processes_at(
        &self,
        machine: MachineId,
        at: UnixMillis,
    ) -> Result<Option<ProcessReport>, StorageError> {
        self.processes_at(machine, at).await
    }

    async fn recorded(
        &self,
        machine: MachineId,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Recorded>, StorageError> {
        self.recorded(machine, range, limit).await
    }

    async fn logs(
        &self,
        machine: MachineId,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<LogEvent>, StorageError> {
        self.logs(machine, range, limit).await
    }

    async fn maintain(&self, _now: UnixMillis) -> Result<Maintained, StorageError> {
        Ok(Maintained::default())
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        let size = self.database.size().await?;
        Ok(Usage { bytes: size.used + size.free + size.log, raw_since: None })
    }

    async fn remove(&self, _machine: MachineId) -> Result<(), StorageError> {
        Ok(())
    }
}
