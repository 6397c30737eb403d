//! Dropping what is too old, and the oldest when there is too much: whole chunks, which costs nearly
//! nothing.

use std::sync::PoisonError;

use model::{TimeRange, UnixMillis, limits, pushed};
use sqlx::{PgConnection, Postgres, Transaction};

use super::chunks::Hypertable;
use super::{HOUR_MS, STRETCH_MS, TimescaleHistory};
use crate::history::{Maintained, Usage};
use crate::postgres::failure::Outcome;
use crate::postgres::stamp::Stamp;

/// Raw values of hours before this may have been dropped.
const RAW_EXPIRED_BEFORE: &str = "raw_expired_before";
/// A spool that was not heard of for this long cannot send anything that would be accepted.
const SPOOL_AGE_MS: i64 = 4 * limits::ITEM_AGE_MS_MAX;
/// A key of a request that programs push is remembered for a day.
const PUSH_KEY_AGE_MS: i64 = 24 * HOUR_MS;
/// Never evicted for want of room: what live views are filled from.
const KEPT_MS: i64 = HOUR_MS;

impl TimescaleHistory {
    pub(super) async fn expire_some(&self, now: UnixMillis, done: &mut Maintained) -> Outcome<()> {
        let kept = &self.retention;
        for (what, age_ms) in [
            (Hypertable::Block, kept.raw_ms),
            (Hypertable::ProcessBlock, kept.processes_ms),
            (Hypertable::LogBlock, kept.logs_ms),
            (Hypertable::TierMinute, kept.minute_ms),
            (Hypertable::TierHour, kept.hour_ms),
            (Hypertable::Event, kept.events_ms),
            (Hypertable::Gap, kept.events_ms),
        ] {
            let before = now - age_ms;
            let mut tx = self.timescale.read().await?;
            let chunks = what.chunks_before(&mut tx, before).await?;
            drop(tx);
            for chunk in chunks {
                done.expired += self.drop_chunk(what, chunk).await?;
            }
        }
        done.expired += self.delete_small(now).await?;
        done.expired += self.drop_emptied(now).await?;
        done.expired += self.forget_removed().await?;
        Ok(())
    }

    /// Drops the oldest until the store has its size again.
    pub(super) async fn evict_some(&self, now: UnixMillis, done: &mut Maintained) -> Outcome<()> {
        let size_max = self.retention.size_max;
        // Something comes in between two rounds, so stop short of the bound.
        let target = size_max - size_max / 50;
        while self.used().await?.bytes > target {
            let dropped = self.drop_oldest(now).await?;
            done.evicted += dropped;
            if dropped == 0 {
                break;
            }
        }
        Ok(())
    }

    /// What is large goes first, oldest first; what is small and precious only when nothing else is left.
    async fn drop_oldest(&self, now: UnixMillis) -> Outcome<u64> {
        let mut tx = self.timescale.read().await?;
        let mut candidates: Vec<(UnixMillis, Hypertable, TimeRange)> = Vec::new();
        for what in [Hypertable::Block, Hypertable::ProcessBlock, Hypertable::LogBlock] {
            let chunks = what.chunks_before(&mut tx, now - KEPT_MS).await?;
            candidates.extend(chunks.into_iter().map(|chunk| (chunk.start, what, chunk)));
        }
        candidates.sort_by_key(|(start, _, _)| *start);
        for what in [Hypertable::TierMinute, Hypertable::TierHour] {
            let chunks = what.chunks_before(&mut tx, now - KEPT_MS).await?;
            candidates.extend(chunks.into_iter().map(|chunk| (chunk.start, what, chunk)));
        }
        drop(tx);
        for (_, what, chunk) in candidates {
            let dropped = self.drop_chunk(what, chunk).await?;
            if dropped > 0 {
                return Ok(dropped);
            }
        }
        Ok(0)
    }

    /// 0 when it must stay for now: hours that are still to be rolled up.
    async fn drop_chunk(&self, what: Hypertable, chunk: TimeRange) -> Outcome<u64> {
        let mut tx = self.write_patiently().await?;
        if what == Hypertable::Block {
            let open: bool = sqlx::query_scalar(
                "select exists (select 1 from open_hour where hour >= $1 and hour < $2)",
            )
            .bind(Stamp(chunk.start))
            .bind(Stamp(chunk.end))
            .fetch_one(&mut *tx)
            .await?;
            if open {
                return Ok(0);
            }
            set_raw_expired_before(&mut tx, chunk.end).await?;
        }
        let mut dropped = what.drop_chunks(&mut tx, chunk).await?;
        if what == Hypertable::LogBlock {
            dropped += Hypertable::LogFilter.drop_chunks(&mut tx, chunk).await?;
        }
        tx.commit().await?;
        Ok(dropped)
    }

    /// What is not worth a chunk of its own.
    async fn delete_small(&self, now: UnixMillis) -> Outcome<u64> {
        let mut deleted = 0;
        let kept = &self.retention;
        for (statement, before) in [
            ("delete from acknowledged where updated < $1", now - SPOOL_AGE_MS),
            ("delete from error_minute where minute < $1", now - kept.logs_ms),
            ("delete from error_group where last_seen < $1", now - kept.logs_ms),
            (
                "delete from log_removed where $1 is not null and not exists (
                    select 1 from log_block where id < before >> 20)",
                now,
            ),
            ("delete from damaged_block where hour < $1", now - kept.raw_ms),
            // The last chunk that is partly too old.
            ("delete from tier_hour where day + interval '1 day' <= $1", now - kept.hour_ms),
        ] {
            let mut tx = self.timescale.write().await?;
            let done = sqlx::query(statement).bind(Stamp(before)).execute(&mut *tx).await?;
            tx.commit().await?;
            deleted += done.rows_affected();
        }
        // Each request that programs push has an epoch of its own.
        let mut tx = self.timescale.write().await?;
        let done = sqlx::query(
            "delete from acknowledged where updated < $1 and machine_id in (
                select id from machine where name >= $2 and name <= $3)",
        )
        .bind(Stamp(now - PUSH_KEY_AGE_MS))
        .bind(pushed::source_ids().start().to_string())
        .bind(pushed::source_ids().end().to_string())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        deleted += done.rows_affected();
        // Groups may be gone: they are read again when they are needed.
        *self.error_groups.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(deleted)
    }

    /// Chunks whose rows were all sealed.
    async fn drop_emptied(&self, now: UnixMillis) -> Outcome<u64> {
        let mut dropped = 0;
        for (what, exists) in [
            (
                Hypertable::Frame,
                "select exists (select 1 from frame where time >= $1 and time < $2)",
            ),
            (
                Hypertable::ProcessReport,
                "select exists (select 1 from process_report where time >= $1 and time < $2)",
            ),
        ] {
            let mut tx = self.timescale.read().await?;
            let chunks = what.chunks_before(&mut tx, now - STRETCH_MS).await?;
            drop(tx);
            for chunk in chunks {
                let mut tx = self.write_patiently().await?;
                // Nobody writes between the look and the drop. A writer that waits meanwhile gets an error, and
                // makes a new chunk when it tries again.
                lock_chunk(&mut tx, what, chunk).await?;
                let in_use: bool = sqlx::query_scalar(exists)
                    .bind(Stamp(chunk.start))
                    .bind(Stamp(chunk.end))
                    .fetch_one(&mut *tx)
                    .await?;
                if !in_use {
                    dropped += what.drop_chunks(&mut tx, chunk).await?;
                    tx.commit().await?;
                }
            }
        }
        Ok(dropped)
    }

    /// A transaction that waits only shortly for a table in use: others would queue up behind it.
    async fn write_patiently(&self) -> Outcome<Transaction<'static, Postgres>> {
        let mut tx = self.timescale.write().await?;
        sqlx::query("set local lock_timeout = '2s'").execute(&mut *tx).await?;
        Ok(tx)
    }

    pub(super) async fn used(&self) -> Outcome<Usage> {
        let mut tx = self.timescale.read().await?;
        let bytes: i64 = sqlx::query_scalar(
            "select coalesce(sum(pg_total_relation_size(relation)), 0)::bigint from (
                select pg_class.oid as relation from pg_class
                where relnamespace = current_schema()::regnamespace and relkind = 'r'
                union all
                select format('%I.%I', chunk_schema, chunk_name)::regclass
                from timescaledb_information.chunks where hypertable_schema = current_schema()
             ) as relations",
        )
        .fetch_one(&mut *tx)
        .await?;
        let (block, frame): (Option<Stamp>, Option<Stamp>) = sqlx::query_as(
            "select (select min(first) from block where hour = (select min(hour) from block)),
                (select min(time) from frame)",
        )
        .fetch_one(&mut *tx)
        .await?;
        let raw_since = block.into_iter().chain(frame).map(|Stamp(time)| time).min();
        Ok(Usage { bytes: bytes.max(0) as u64, raw_since })
    }
}

async fn lock_chunk(
    connection: &mut PgConnection,
    what: Hypertable,
    chunk: TimeRange,
) -> Outcome<()> {
    sqlx::query(
        "select set_config('muster.chunk', format('%I.%I', chunk_schema, chunk_name), true)
         from timescaledb_information.chunks
         where hypertable_schema = current_schema() and hypertable_name = $1 and range_start = $2",
    )
    .bind(what.name())
    .bind(Stamp(chunk.start))
    .execute(&mut *connection)
    .await?;
    // The name of a table cannot be a parameter.
    sqlx::raw_sql(
        "do $$ begin
            execute 'lock table ' || current_setting('muster.chunk') || ' in access exclusive mode';
         end $$",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether all raw values of an hour that the tiers were made from are kept. An hour that is open was asked when it
/// was opened, and keeps them until it is closed; others lose them with their chunk.
pub(super) async fn raw_is_complete(
    connection: &mut PgConnection,
    machine: i64,
    hour: UnixMillis,
) -> Outcome<bool> {
    let complete = sqlx::query_scalar(
        "select coalesce(
            (select complete from open_hour where machine_id = $1 and hour = $2),
            not exists (select 1 from fact where name = $3 and value > $2)
                or exists (select 1 from block where hour = $2 and machine_id = $1))",
    )
    .bind(machine)
    .bind(Stamp(hour))
    .bind(RAW_EXPIRED_BEFORE)
    .fetch_one(connection)
    .await?;
    Ok(complete)
}

/// Never goes back.
async fn set_raw_expired_before(connection: &mut PgConnection, before: UnixMillis) -> Outcome<()> {
    sqlx::query(
        "insert into fact (name, value) values ($1, $2)
         on conflict (name) do update set value = greatest(fact.value, excluded.value)",
    )
    .bind(RAW_EXPIRED_BEFORE)
    .bind(Stamp(before))
    .execute(connection)
    .await?;
    Ok(())
}
