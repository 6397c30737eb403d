//! Forgetting a machine: at once for readers, piece by piece on disk.

use std::time::Instant;

use model::MachineId;

use super::SqliteHistory;
use super::expire::delete_in;
use crate::StorageError;

/// Rows of one transaction.
const ROWS: i64 = 500;

/// Everything that a machine has, what depends on other rows before these.
const DELETIONS: [&str; 15] = [
    "delete from unplaced where machine_id = ?1 and layout_id in (
        select layout_id from unplaced where machine_id = ?1 limit ?2)",
    "delete from open_hour where machine_id = ?1 and hour in (
        select hour from open_hour where machine_id = ?1 limit ?2)",
    "delete from frame where machine_id = ?1 and time in (
        select time from frame where machine_id = ?1 order by time limit ?2)",
    "delete from process_report where machine_id = ?1 and time in (
        select time from process_report where machine_id = ?1 order by time limit ?2)",
    "delete from block where id in (select id from block where machine_id = ?1 limit ?2 / 16)",
    "delete from damaged_block where id in (
        select id from damaged_block where machine_id = ?1 limit ?2)",
    "delete from process_block where id in (
        select id from process_block where machine_id = ?1 limit ?2)",
    "delete from event where id in (select id from event where machine_id = ?1 limit ?2)",
    "delete from gap where id in (select id from gap where machine_id = ?1 limit ?2)",
    "delete from tier_minute where (series_id, hour) in (
        select series_id, hour from series join tier_minute on series_id = series.id
        where machine_id = ?1 limit ?2)",
    "delete from tier_hour where (series_id, day) in (
        select series_id, day from series join tier_hour on series_id = series.id
        where machine_id = ?1 limit ?2)",
    "delete from placement where machine_id = ?1 and (layout_id, position) in (
        select layout_id, position from placement where machine_id = ?1 limit ?2)",
    "delete from placed where machine_id = ?1 and layout_id in (
        select layout_id from placed where machine_id = ?1 limit ?2)",
    "delete from series where id in (select id from series where machine_id = ?1 limit ?2)",
    "delete from acknowledged where machine_id = ?1 and epoch in (
        select epoch from acknowledged where machine_id = ?1 limit ?2)",
];

impl SqliteHistory {
    pub(super) async fn remove(&self, machine: MachineId) -> Result<(), StorageError> {
        let mut writer = self.writer.lock().await;
        let mut tx = self.database.write().await?;
        // Without a name nothing finds it any more; should it come back, it is a new machine.
        sqlx::query("update machine set name = null where name = ?")
            .bind(machine.to_string())
            .execute(&mut *tx)
            .await?;
        super::logs::hide(&mut tx, machine).await?;
        tx.commit().await?;
        writer.catalog = Default::default();
        Ok(())
    }

    /// Deletes what removed machines left behind, until `deadline`.
    pub(super) async fn forget_removed(&self, deadline: Instant) -> Result<u64, StorageError> {
        let mut forgotten = 0;
        loop {
            let mut tx = self.database.read().await?;
            let machine: Option<i64> =
                sqlx::query_scalar("select id from machine where name is null limit 1")
                    .fetch_optional(&mut *tx)
                    .await?;
            drop(tx);
            let Some(machine) = machine else { return Ok(forgotten) };
            for statement in DELETIONS {
                loop {
                    let mut tx = self.database.write().await?;
                    let deleted = delete_in(&mut tx, statement, machine, ROWS).await?;
                    tx.commit().await?;
                    forgotten += deleted;
                    if deleted == 0 {
                        break;
                    }
                    if Instant::now() > deadline {
                        return Ok(forgotten);
                    }
                }
            }
            let mut tx = self.database.write().await?;
            sqlx::query("delete from tier_day where machine_id = ?")
                .bind(machine)
                .execute(&mut *tx)
                .await?;
            super::unplaced::forget_lists(&mut tx).await?;
            sqlx::query("delete from machine where id = ?").bind(machine).execute(&mut *tx).await?;
            tx.commit().await?;
            forgotten += 1;
        }
    }
}
