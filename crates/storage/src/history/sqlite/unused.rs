//! Forgetting layouts and series that nothing refers to any more.

use model::{UnixMillis, limits};
use sqlx::SqliteConnection;

use super::{SqliteHistory, unplaced};
use crate::StorageError;
use crate::sqlite::list_to_json;

/// A layout that was not used for this long is not in any spool either.
const UNUSED_MS: i64 = limits::ITEM_AGE_MS_MAX + 24 * 60 * 60 * 1000;
/// Layouts of one transaction.
const LAYOUTS: i64 = 8;

/// Says that these layouts of the machine are in use at `now`.
pub(super) async fn mark_used(
    connection: &mut SqliteConnection,
    machine: i64,
    layouts: &[i64],
    now: UnixMillis,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into placed (machine_id, layout_id, used)
         select ?1, value, ?3 from json_each(?2) where true
         on conflict (machine_id, layout_id) do update set used = max(used, excluded.used)",
    )
    .bind(machine)
    .bind(list_to_json(layouts))
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes those of these series that have no place and no roll-up left.
pub(super) async fn forget_series(
    connection: &mut SqliteConnection,
    series: &[i64],
) -> Result<u64, sqlx::Error> {
    let forgotten = sqlx::query(
        "delete from series where id in (select value from json_each(?))
            and not exists (select 1 from placement where series_id = series.id)
            and not exists (select 1 from tier_minute where series_id = series.id)
            and not exists (select 1 from tier_hour where series_id = series.id)",
    )
    .bind(list_to_json(series))
    .execute(connection)
    .await?;
    Ok(forgotten.rows_affected())
}

impl SqliteHistory {
    /// Forgets some layouts whose values have all expired; should one come again, it is placed anew.
    pub(super) async fn forget_layouts(&self, now: UnixMillis) -> Result<u64, StorageError> {
        let mut tx = self.database.read().await?;
        let unused: Vec<(i64, i64)> = sqlx::query_as(
            "select machine_id, layout_id from placed where used < ?1
                and not exists (select 1 from block
                    where block.machine_id = placed.machine_id
                        and block.layout_id = placed.layout_id)
             order by used limit ?2",
        )
        .bind((now - UNUSED_MS).0)
        .bind(LAYOUTS)
        .fetch_all(&mut *tx)
        .await?;
        drop(tx);
        if unused.is_empty() {
            return Ok(0);
        }
        let mut writer = self.writer.lock().await;
        let mut tx = self.database.write().await?;
        // The catalogue forgets with it, whether or not this succeeds.
        writer.catalog = Default::default();
        let mut forgotten = 0;
        for (machine, layout) in unused {
            forgotten += forget_layout(&mut tx, machine, layout, now).await?;
        }
        tx.commit().await?;
        Ok(forgotten)
    }
}

async fn forget_layout(
    connection: &mut SqliteConnection,
    machine: i64,
    layout: i64,
    now: UnixMillis,
) -> Result<u64, sqlx::Error> {
    // Frames that are not sealed yet are few, and a layout that has some is in use after all.
    let waiting: bool = sqlx::query_scalar(
        "select exists (select 1 from frame where machine_id = ? and layout_id = ?)",
    )
    .bind(machine)
    .bind(layout)
    .fetch_one(&mut *connection)
    .await?;
    if waiting {
        mark_used(connection, machine, &[layout], now).await?;
        return Ok(0);
    }
    let series: Vec<i64> = sqlx::query_scalar(
        "delete from placement where machine_id = ? and layout_id = ? returning series_id",
    )
    .bind(machine)
    .bind(layout)
    .fetch_all(&mut *connection)
    .await?;
    unplaced::forget(connection, machine, layout).await?;
    sqlx::query("delete from placed where machine_id = ? and layout_id = ?")
        .bind(machine)
        .bind(layout)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "delete from layout where id = ?1
            and not exists (select 1 from placed where layout_id = ?1)",
    )
    .bind(layout)
    .execute(&mut *connection)
    .await?;
    forget_series(connection, &series).await?;
    Ok(series.len() as u64)
}
