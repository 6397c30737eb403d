//! Dropping what is too old, and the oldest when there is too much; in small transactions.

use std::time::{Duration, Instant};

use model::{UnixMillis, limits, pushed};
use sqlx::SqliteConnection;

use super::facts::set_raw_expired_before;
use super::logs::drop_blocks;
use super::unused::forget_series;
use super::{DAY_MS, HOUR_MS, SqliteHistory, errors};
use crate::StorageError;
use crate::history::Maintained;
use crate::sqlite::list_to_json;

/// Rows of one transaction: blocks are large, the others small.
const BLOCKS: i64 = 32;
/// Hours of a machine's blocks that go in one transaction.
const MACHINE_HOURS: i64 = 4;
const ROWS: i64 = 1000;
/// Series of one transaction, each with up to a day of rows.
const SERIES: i64 = 500;
/// When dropping has taken this long, the rest is left to the next round.
const ROUND: Duration = Duration::from_millis(200);
/// A spool that was not heard of for this long cannot send anything that would be accepted.
const SPOOL_AGE_MS: i64 = 4 * limits::ITEM_AGE_MS_MAX;
/// Each request that programs push has an epoch of its own: a key is remembered for a day.
const PUSH_KEY_AGE_MS: i64 = DAY_MS;
/// Never evicted for want of room: what live views are filled from.
const KEPT_MS: i64 = HOUR_MS;
/// Free pages that are given back at a time.
const SHRINK_PAGES: u32 = 512;
/// More free room than this, and than a quarter of what is used, is given back.
const FREE_BYTES_MAX: u64 = 64 << 20;

/// What can be dropped, the most expendable first.
#[derive(Clone, Copy, Debug)]
enum Droppable {
    Raw,
    Processes,
    Logs,
    Minutes,
    Hours,
    Events,
}

impl SqliteHistory {
    pub(super) async fn expire_some(
        &self,
        now: UnixMillis,
        done: &mut Maintained,
    ) -> Result<(), StorageError> {
        let began = Instant::now();
        let kept = &self.retention;
        for (what, age_ms) in [
            (Droppable::Raw, kept.raw_ms),
            (Droppable::Processes, kept.processes_ms),
            (Droppable::Logs, kept.logs_ms),
            (Droppable::Minutes, kept.minute_ms),
            (Droppable::Hours, kept.hour_ms),
            (Droppable::Events, kept.events_ms),
        ] {
            loop {
                let dropped = self.drop_before(what, now - age_ms).await?;
                done.expired += dropped;
                if dropped == 0 || began.elapsed() > ROUND {
                    break;
                }
            }
        }
        done.expired += self.forget_spools(now).await?;
        done.expired += self.forget_layouts(now).await?;
        done.expired += self.forget_removed(began + ROUND).await?;
        Ok(())
    }

    /// Drops the oldest until the store has its size again.
    pub(super) async fn evict_some(
        &self,
        now: UnixMillis,
        done: &mut Maintained,
    ) -> Result<(), StorageError> {
        let began = Instant::now();
        // Something comes in between two rounds, so stop short of the bound.
        let size_max = self.retention.size_max;
        let target = size_max - size_max / 50;
        while self.database.size().await?.used > target {
            let dropped = self.drop_oldest(now).await?;
            done.evicted += dropped;
            if dropped == 0 || began.elapsed() > ROUND {
                return Ok(());
            }
        }
        // What is free is used again before the file grows; much more than that is given back.
        while began.elapsed() < ROUND {
            let size = self.database.size().await?;
            if size.log > 0 && size.used + size.free + size.log > size_max {
                self.database.empty_log().await?;
            }
            let spare = FREE_BYTES_MAX.max(size.used / 4);
            if size.free == 0 || size.free <= spare && size.used + size.free <= size_max {
                return Ok(());
            }
            self.database.shrink(SHRINK_PAGES).await?;
        }
        Ok(())
    }

    async fn drop_oldest(&self, now: UnixMillis) -> Result<u64, StorageError> {
        let mut tx = self.database.read().await?;
        let (raw, processes, logs): (Option<i64>, Option<i64>, Option<i64>) = sqlx::query_as(
            "select (select min(hour) from block),
                (select min(last) from process_block),
                (select min(last) from log_block)",
        )
        .fetch_one(&mut *tx)
        .await?;
        drop(tx);
        let mut oldest: Vec<(i64, Droppable)> =
            [(raw, Droppable::Raw), (processes, Droppable::Processes), (logs, Droppable::Logs)]
                .into_iter()
                .filter_map(|(time, what)| Some((time?, what)))
                .collect();
        oldest.sort_by_key(|(time, _)| *time);
        for (time, what) in oldest {
            // An hour of it at a time, so that the kinds take turns.
            let before = (UnixMillis(time).floor(HOUR_MS) + 2 * HOUR_MS).min(now - KEPT_MS);
            let dropped = self.drop_before(what, before).await?;
            if dropped > 0 {
                return Ok(dropped);
            }
        }
        for (what, name) in [(Droppable::Minutes, "minute"), (Droppable::Hours, "hour")] {
            let mut tx = self.database.read().await?;
            let day: Option<i64> =
                sqlx::query_scalar("select min(day) from tier_day where tier = ?")
                    .bind(name)
                    .fetch_one(&mut *tx)
                    .await?;
            drop(tx);
            let Some(day) = day else { continue };
            let dropped = self.drop_before(what, UnixMillis(day) + DAY_MS).await?;
            if dropped > 0 {
                return Ok(dropped);
            }
        }
        Ok(0)
    }

    /// Drops some of what ended before `before`. 0 when there is nothing.
    async fn drop_before(&self, what: Droppable, before: UnixMillis) -> Result<u64, StorageError> {
        match what {
            Droppable::Raw => self.drop_raw(before).await,
            Droppable::Minutes => self.drop_tier_day("minute", before).await,
            Droppable::Hours => self.drop_tier_day("hour", before).await,
            Droppable::Processes => {
                self.delete(
                    "delete from process_block where id in (
                        select id from process_block where last < ? order by last limit ?)",
                    before,
                    BLOCKS,
                )
                .await
            }
            Droppable::Logs => {
                let mut tx = self.database.write().await?;
                let blocks = drop_blocks(&mut tx, before, BLOCKS).await?;
                let errors = errors::drop_some(&mut tx, before, ROWS).await?;
                sqlx::query(
                    "delete from log_removed where not exists (
                        select 1 from log_block where id < before >> 20)",
                )
                .execute(&mut *tx)
                .await?;
                tx.commit().await?;
                if errors > 0 {
                    self.writer.lock().await.error_groups = None;
                }
                Ok(blocks + errors)
            }
            Droppable::Events => {
                let events = self.delete(
                    "delete from event where id in (
                        select id from event where time < ? order by time limit ?)",
                    before,
                    ROWS,
                );
                let gaps = self.delete(
                    "delete from gap where id in (
                        select id from gap where time < ? order by time limit ?)",
                    before,
                    ROWS,
                );
                Ok(events.await? + gaps.await?)
            }
        }
    }

    async fn delete(
        &self,
        statement: &'static str,
        before: UnixMillis,
        limit: i64,
    ) -> Result<u64, StorageError> {
        let mut tx = self.database.write().await?;
        let deleted = delete_in(&mut tx, statement, before.0, limit).await?;
        tx.commit().await?;
        Ok(deleted)
    }

    /// Whole hours of raw values, each machine's at once, but for those that are still to be rolled up.
    pub(super) async fn drop_raw(&self, before: UnixMillis) -> Result<u64, StorageError> {
        let mut tx = self.database.write().await?;
        let latest_start = before - HOUR_MS;
        let doomed: Vec<(i64, i64)> = sqlx::query_as(
            "select distinct hour, machine_id from block where hour <= ?1 and not exists (
                select 1 from open_hour where open_hour.machine_id = block.machine_id
                    and open_hour.hour = block.hour)
             order by hour, machine_id limit ?2",
        )
        .bind(latest_start.0)
        .bind(MACHINE_HOURS)
        .fetch_all(&mut *tx)
        .await?;
        let damaged = delete_in(
            &mut tx,
            "delete from damaged_block where id in (
                select id from damaged_block where hour <= ? limit ?)",
            latest_start.0,
            BLOCKS,
        )
        .await?;
        if let Some((newest, _)) = doomed.last() {
            set_raw_expired_before(&mut tx, UnixMillis(*newest) + HOUR_MS).await?;
        }
        let mut blocks = 0;
        for (hour, machine) in doomed {
            let done = sqlx::query("delete from block where hour = ? and machine_id = ?")
                .bind(hour)
                .bind(machine)
                .execute(&mut *tx)
                .await?;
            blocks += done.rows_affected();
        }
        tx.commit().await?;
        Ok(blocks + damaged)
    }

    /// One machine's day of a tier. The mark goes last: killed before, the rest is found again.
    async fn drop_tier_day(
        &self,
        tier: &'static str,
        before: UnixMillis,
    ) -> Result<u64, StorageError> {
        let mut tx = self.database.read().await?;
        let oldest: Option<(i64, i64)> = sqlx::query_as(
            "select day, machine_id from tier_day where tier = ? and day <= ? order by day limit 1",
        )
        .bind(tier)
        .bind((before - DAY_MS).0)
        .fetch_optional(&mut *tx)
        .await?;
        drop(tx);
        let Some((day, machine)) = oldest else { return Ok(0) };
        let statement = match tier {
            "minute" => {
                "delete from tier_minute where hour >= ?2 and hour < ?2 + 86400000
                    and series_id in (select value from json_each(?1))"
            }
            _ => {
                "delete from tier_hour where day = ?2
                    and series_id in (select value from json_each(?1))"
            }
        };
        let (mut deleted, mut after) = (0, 0i64);
        loop {
            let mut tx = self.database.write().await?;
            let series: Vec<i64> = sqlx::query_scalar(
                "select id from series where machine_id = ? and id > ? order by id limit ?",
            )
            .bind(machine)
            .bind(after)
            .bind(SERIES)
            .fetch_all(&mut *tx)
            .await?;
            let Some(last) = series.last() else { break };
            after = *last;
            deleted += sqlx::query(statement)
                .bind(list_to_json(&series))
                .bind(day)
                .execute(&mut *tx)
                .await?
                .rows_affected();
            forget_series(&mut tx, &series).await?;
            tx.commit().await?;
        }
        let mut tx = self.database.write().await?;
        sqlx::query("delete from tier_day where tier = ? and day = ? and machine_id = ?")
            .bind(tier)
            .bind(day)
            .bind(machine)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        // The mark counts too, so that a day without rows is progress.
        Ok(deleted + 1)
    }

    async fn forget_spools(&self, now: UnixMillis) -> Result<u64, StorageError> {
        let mut writer = self.writer.lock().await;
        let mut tx = self.database.write().await?;
        let forgotten = sqlx::query(
            "delete from acknowledged where updated < ?1 or updated < ?2 and machine_id in (
                select id from machine where name >= ?3 and name <= ?4)",
        )
        .bind((now - SPOOL_AGE_MS).0)
        .bind((now - PUSH_KEY_AGE_MS).0)
        .bind(pushed::source_ids().start().to_string())
        .bind(pushed::source_ids().end().to_string())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        tx.commit().await?;
        if forgotten > 0 {
            writer.catalog = Default::default();
        }
        Ok(forgotten)
    }
}

pub(super) async fn delete_in(
    connection: &mut SqliteConnection,
    statement: &'static str,
    key: i64,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(statement).bind(key).bind(limit).execute(connection).await?;
    Ok(done.rows_affected())
}
