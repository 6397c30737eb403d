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
use model::{MachineId, ProcessReport, SeqRanges, SpoolEpoch, TimeRange, UnixMillis};
use tokio::sync::Mutex;

use super::{
    Delivery, Errors, History, LogPage, LogSearch, Maintained, Recorded, Retention, Samples,
    SeriesSelector, StoredSeries, Tier, Usage, Wanted, rounds::Rounds,
};
use crate::StorageError;
use crate::live::LiveFrame;
use crate::rollup::Rollup;
use crate::sqlite::{Database, STORE};

mod append;
mod catalog;
mod close;
mod errors;
mod expire;
mod facts;
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
mod unplaced;
mod unused;

#[cfg(test)]
mod tests;

use append::Writer;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The hour in progress is sealed in pieces of this length, so that few frames have to be read one by one.
const STRETCH_MS: i64 = 10 * MINUTE_MS;

/// The embedded history.
#[derive(Debug)]
pub struct SqliteHistory {
    database: Arc<Database>,
    retention: Retention,
    /// Whoever writes values holds this across the transaction; it is taken before the database's own
    /// turn.
    writer: Mutex<Writer>,
    /// Held by a round of maintenance: one at a time.
    rounds: Mutex<Rounds>,
    /// Blobs that could not be read and were left out of an answer.
    damaged: AtomicU64,
}

impl SqliteHistory {
    pub fn new(database: Arc<Database>, retention: Retention) -> Self {
        Self {
            database,
            retention,
            writer: Mutex::default(),
            rounds: Mutex::default(),
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
        self.place_all(selector.machines.as_deref()).await?;
        self.find_series(selector, limit).await
    }

    async fn read_raw(
        &self,
        series: &[StoredSeries],
        range: TimeRange,
    ) -> Result<Vec<Samples>, StorageError> {
        self.place_all(Some(&machines_of(series))).await?;
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
        self.place_all(Some(&machines_of(series))).await?;
        self.tier(series, tier, range).await
    }

    async fn read_frames(
        &self,
        machine: MachineId,
        wanted: Wanted<'_>,
        range: TimeRange,
    ) -> Result<Vec<LiveFrame>, StorageError> {
        self.place_all(Some(&[machine])).await?;
        self.frames_within(machine, wanted, range).await
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

    async fn search_logs(&self, search: LogSearch) -> Result<LogPage, StorageError> {
        self.search_logs(search).await
    }

    async fn errors(
        &self,
        range: TimeRange,
        bucket_ms: i64,
        machines: Option<&[MachineId]>,
    ) -> Result<Errors, StorageError> {
        self.errors(range, bucket_ms, machines).await
    }

    async fn maintain(&self, now: UnixMillis) -> Result<Maintained, StorageError> {
        self.maintain(now).await
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        let size = self.database.size().await?;
        let mut tx = self.database.read().await?;
        let (block, frame): (Option<i64>, Option<i64>) = sqlx::query_as(
            "select (select min(first) from block where hour = (select min(hour) from block)),
                (select min((select min(time) from frame where machine_id = machine.id)) from machine)",
        )
        .fetch_one(&mut *tx)
        .await?;
        Ok(Usage {
            bytes: size.used + size.free + size.log,
            raw_since: block.into_iter().chain(frame).min().map(UnixMillis),
        })
    }

    async fn remove(&self, machine: MachineId) -> Result<(), StorageError> {
        self.remove(machine).await
    }
}

/// Each once.
fn machines_of(series: &[StoredSeries]) -> Vec<MachineId> {
    let mut machines: Vec<MachineId> = series.iter().map(|s| s.machine).collect();
    machines.sort_unstable();
    machines.dedup();
    machines
}

/// Computes without holding up the runtime's own threads.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| StorageError::Unavailable {
        store: STORE,
        reason: format!("maintenance was interrupted: {e}"),
    })
}
