//! Closing an hour: its blocks become one per part, and its values are rolled up into the tiers. Closing an hour
//! again, after late frames, gives the same as if they had come in time, as long as its raw values are
//! kept.

use std::collections::{HashMap, HashSet};

use model::{Kind, TimeRange, UnixMillis};
use sqlx::SqliteConnection;

use super::catalog::kind_from_name;
use super::facts::raw_is_complete;
use super::seal::insert_blocks;
use super::{DAY_MS, HOUR_MS, MINUTE_MS, SqliteHistory, off_thread};
use crate::StorageError;
use crate::history::transpose::{NewBlock, merge_blocks};
use crate::history::{Damaged, Samples, block, late, windows};
use crate::rollup::Rollup;
use crate::sqlite::{insert, list_to_json};

/// Merged blocks that are swapped in by one transaction.
const SWAP_BYTES_MAX: usize = 2 << 20;
/// Series that are rolled up by one transaction.
const SERIES_MAX: usize = 4 * block::COLUMNS_MAX;

/// One series' roll-ups of one hour.
struct Rolled {
    series: i64,
    kind: Kind,
    minutes: Vec<Rollup>,
    hours: Vec<Rollup>,
}

/// A block that stands for others from now on.
struct Swap {
    /// Ids of the others.
    sources: Vec<i64>,
    blocks: Vec<NewBlock>,
}

impl SqliteHistory {
    /// Hours that are to be closed: due, all their frames sealed and all their series placed.
    pub(super) async fn due_hours(
        &self,
        now: UnixMillis,
        limit: i64,
    ) -> Result<Vec<(i64, UnixMillis)>, StorageError> {
        let mut tx = self.database.read().await?;
        let due: Vec<(i64, i64)> = sqlx::query_as(
            "select machine_id, hour from open_hour
             where due <= ?1 and not exists (
                select 1 from frame where frame.machine_id = open_hour.machine_id
                    and frame.time >= open_hour.hour and frame.time < open_hour.hour + ?2)
                and not exists (
                select 1 from unplaced where unplaced.machine_id = open_hour.machine_id)
             order by due limit ?3",
        )
        .bind(now.0)
        .bind(HOUR_MS)
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
        Ok(due.into_iter().map(|(machine, hour)| (machine, UnixMillis(hour))).collect())
    }

    pub(super) async fn close_hour(
        &self,
        machine: i64,
        hour: UnixMillis,
    ) -> Result<(), StorageError> {
        self.merge_hour(machine, hour).await?;
        let mut tx = self.database.read().await?;
        let complete = raw_is_complete(&mut tx, machine, hour).await?;
        let series = series_of_hour(&mut tx, machine, hour).await?;
        drop(tx);
        if complete {
            self.roll_up(machine, hour, &series).await
        } else {
            self.join_late(machine, hour, &series).await
        }
    }

    /// Rolls up from raw values that are all there: replaces what the tiers held of this hour.
    async fn roll_up(
        &self,
        machine: i64,
        hour: UnixMillis,
        series: &[(i64, Kind)],
    ) -> Result<(), StorageError> {
        for chunk in series.chunks(SERIES_MAX) {
            let rolled = self.rolled(chunk, hour).await?;
            let mut tx = self.database.write().await?;
            mark_days(&mut tx, machine, hour).await?;
            put_minutes(&mut tx, hour, &rolled).await?;
            let mut days = self.days(&mut tx, &rolled, hour).await?;
            for one in &rolled {
                let day = days.entry(one.series).or_default();
                day.retain(|window| window.start != hour);
                day.extend(&one.hours);
                day.sort_by_key(|window| window.start);
            }
            put_days(&mut tx, hour, &rolled, &days).await?;
            tx.commit().await?;
        }
        // Last: killed before this, the hour is rolled up again to the same.
        let mut tx = self.database.write().await?;
        forget_open_hour(&mut tx, machine, hour).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Joins values to an hour whose earlier raw values are gone, and drops them: all in one transaction, for
    /// a value must not join twice.
    async fn join_late(
        &self,
        machine: i64,
        hour: UnixMillis,
        series: &[(i64, Kind)],
    ) -> Result<(), StorageError> {
        let mut rolled = Vec::with_capacity(series.len());
        for chunk in series.chunks(SERIES_MAX) {
            rolled.append(&mut self.rolled(chunk, hour).await?);
        }
        let mut tx = self.database.write().await?;
        mark_days(&mut tx, machine, hour).await?;
        for chunk in rolled.chunks_mut(SERIES_MAX) {
            let kept = self.minutes(&mut tx, chunk, hour).await?;
            let mut days = self.days(&mut tx, chunk, hour).await?;
            for one in chunk.iter_mut() {
                if let Some(kept) = kept.get(&one.series) {
                    one.minutes = late::join_all(one.kind, kept, &one.minutes);
                }
                let day = days.entry(one.series).or_default();
                *day = late::join_all(one.kind, day, &one.hours);
            }
            put_minutes(&mut tx, hour, chunk).await?;
            put_days(&mut tx, hour, chunk, &days).await?;
        }
        sqlx::query("delete from block where hour = ? and machine_id = ?")
            .bind(hour.0)
            .bind(machine)
            .execute(&mut *tx)
            .await?;
        forget_open_hour(&mut tx, machine, hour).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Rolls up one hour of these series from sealed values: frames that came meanwhile are sealed later, and
    /// open the hour again. Series without any are left out.
    async fn rolled(
        &self,
        series: &[(i64, Kind)],
        hour: UnixMillis,
    ) -> Result<Vec<Rolled>, StorageError> {
        let range = TimeRange::new(hour, hour + HOUR_MS);
        let mut rolled = Vec::with_capacity(series.len());
        let mut tx = self.database.read().await?;
        // In layout order, so that most blocks are read once.
        for chunk in series.chunks(block::COLUMNS_MAX) {
            let ids: Vec<i64> = chunk.iter().map(|(id, _)| *id).collect();
            let samples = self.sealed_samples(&mut tx, &ids, range).await?;
            for (&(series, kind), Samples { times, values }) in chunk.iter().zip(samples) {
                let minutes = Rollup::of(kind, MINUTE_MS, times.into_iter().zip(values));
                let hours = Rollup::coarsen(kind, HOUR_MS, &minutes);
                if !minutes.is_empty() {
                    rolled.push(Rolled { series, kind, minutes, hours });
                }
            }
        }
        Ok(rolled)
    }

    async fn minutes(
        &self,
        connection: &mut SqliteConnection,
        rolled: &[Rolled],
        hour: UnixMillis,
    ) -> Result<HashMap<i64, Vec<Rollup>>, StorageError> {
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "select series_id, data from json_each(?1) as wanted
             cross join tier_minute on series_id = wanted.value and hour = ?2",
        )
        .bind(ids(rolled))
        .bind(hour.0)
        .fetch_all(connection)
        .await?;
        Ok(self.unpacked(rolled, rows, hour, MINUTE_MS))
    }

    /// The whole days that the hour is in.
    async fn days(
        &self,
        connection: &mut SqliteConnection,
        rolled: &[Rolled],
        hour: UnixMillis,
    ) -> Result<HashMap<i64, Vec<Rollup>>, StorageError> {
        let day = hour.floor(DAY_MS);
        let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "select series_id, data from json_each(?1) as wanted
             cross join tier_hour on series_id = wanted.value and day = ?2",
        )
        .bind(ids(rolled))
        .bind(day.0)
        .fetch_all(connection)
        .await?;
        Ok(self.unpacked(rolled, rows, day, HOUR_MS))
    }

    fn unpacked(
        &self,
        rolled: &[Rolled],
        rows: Vec<(i64, Vec<u8>)>,
        start: UnixMillis,
        window_ms: i64,
    ) -> HashMap<i64, Vec<Rollup>> {
        let kinds: HashMap<i64, Kind> = rolled.iter().map(|r| (r.series, r.kind)).collect();
        let mut found = HashMap::with_capacity(rows.len());
        for (series, data) in rows {
            let Some(&kind) = kinds.get(&series) else { continue };
            match windows::decode(kind, start, window_ms, &data) {
                Ok(windows) => {
                    found.insert(series, windows);
                }
                Err(reason) => self.damaged("tier", series, &reason),
            }
        }
        found
    }

    /// Makes one tight block per part of the hour.
    async fn merge_hour(&self, machine: i64, hour: UnixMillis) -> Result<(), StorageError> {
        let mut tx = self.database.read().await?;
        let parts: Vec<(i64, i64)> = sqlx::query_as(
            "select distinct layout_id, part from block where hour = ? and machine_id = ?",
        )
        .bind(hour.0)
        .bind(machine)
        .fetch_all(&mut *tx)
        .await?;
        drop(tx);
        let mut swaps: Vec<Swap> = Vec::new();
        for (layout, part) in parts {
            swaps.extend(self.merge_part(machine, hour, layout, part).await?);
            let bytes: usize = swaps.iter().flat_map(|s| &s.blocks).map(|b| b.data.len()).sum();
            if bytes >= SWAP_BYTES_MAX {
                self.swap(machine, hour, std::mem::take(&mut swaps)).await?;
            }
        }
        self.swap(machine, hour, swaps).await
    }

    async fn merge_part(
        &self,
        machine: i64,
        hour: UnixMillis,
        layout: i64,
        part: i64,
    ) -> Result<Option<Swap>, StorageError> {
        let mut tx = self.database.read().await?;
        let mut rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "select id, data from block
             where machine_id = ? and layout_id = ? and part = ? and hour = ? order by id",
        )
        .bind(machine)
        .bind(layout)
        .bind(part)
        .bind(hour.0)
        .fetch_all(&mut *tx)
        .await?;
        drop(tx);
        // Without the damaged ones, which are set aside one after the other.
        while rows.len() > 1 || rows.first().is_some_and(|(_, data)| is_loose(data)) {
            let (back, merged) = off_thread(move || {
                let sources: Vec<&[u8]> = rows.iter().map(|(_, data)| data.as_slice()).collect();
                let merged = merge_blocks(layout, part, &sources);
                (rows, merged)
            })
            .await?;
            rows = back;
            match merged {
                Ok(blocks) => {
                    // Too long to be one: what there is is as good, so nothing is swapped.
                    let loose = rows.iter().any(|(_, data)| is_loose(data));
                    if blocks.len() >= rows.len() && !loose {
                        return Ok(None);
                    }
                    let sources = rows.into_iter().map(|(id, _)| id).collect();
                    return Ok(Some(Swap { sources, blocks }));
                }
                Err((index, reason)) => {
                    let (id, _) = rows.remove(index);
                    self.set_aside(id, reason).await?;
                }
            }
        }
        Ok(None)
    }

    /// A block that cannot be read must not hinder the others, nor vanish without a trace.
    async fn set_aside(&self, block: i64, reason: Damaged) -> Result<(), StorageError> {
        self.damaged("block", block, &reason);
        let mut tx = self.database.write().await?;
        sqlx::query(
            "insert into damaged_block (machine_id, layout_id, part, hour, reason, data)
             select machine_id, layout_id, part, hour, ?2, data from block where id = ?1",
        )
        .bind(block)
        .bind(reason.to_string())
        .execute(&mut *tx)
        .await?;
        sqlx::query("delete from block where id = ?").bind(block).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn swap(
        &self,
        machine: i64,
        hour: UnixMillis,
        swaps: Vec<Swap>,
    ) -> Result<(), StorageError> {
        if swaps.is_empty() {
            return Ok(());
        }
        let sources: Vec<i64> = swaps.iter().flat_map(|s| s.sources.iter().copied()).collect();
        let sources = list_to_json(&sources);
        let blocks = swaps.into_iter().flat_map(|s| s.blocks).collect();
        let mut tx = self.database.write().await?;
        sqlx::query("delete from block where id in (select value from json_each(?))")
            .bind(sources)
            .execute(&mut *tx)
            .await?;
        insert_blocks(&mut tx, machine, hour, blocks).await?;
        tx.commit().await?;
        Ok(())
    }
}

fn is_loose(block: &[u8]) -> bool {
    block.first() == Some(&block::LOOSE)
}

/// All series that may have values in the machine's blocks of this hour, in layout order.
async fn series_of_hour(
    connection: &mut SqliteConnection,
    machine: i64,
    hour: UnixMillis,
) -> Result<Vec<(i64, Kind)>, StorageError> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "select series.id, series.kind from placement join series on series.id = series_id
         where placement.machine_id = ?1 and layout_id in (
            select distinct layout_id from block where hour = ?2 and machine_id = ?1)
         order by layout_id, position",
    )
    .bind(machine)
    .bind(hour.0)
    .fetch_all(connection)
    .await?;
    let mut seen = HashSet::with_capacity(rows.len());
    rows.into_iter()
        .filter(|(id, _)| seen.insert(*id))
        .map(|(id, kind)| Ok((id, kind_from_name(&kind)?)))
        .collect()
}

fn ids(rolled: &[Rolled]) -> String {
    let ids: Vec<i64> = rolled.iter().map(|r| r.series).collect();
    list_to_json(&ids)
}

async fn put_minutes(
    connection: &mut SqliteConnection,
    hour: UnixMillis,
    rolled: &[Rolled],
) -> Result<(), sqlx::Error> {
    insert(
        connection,
        "insert into tier_minute (series_id, hour, data)",
        "on conflict (series_id, hour) do update set data = excluded.data",
        rolled,
        |row, one| {
            row.push_bind(one.series).push_bind(hour.0).push_bind(windows::encode(
                one.kind,
                hour,
                MINUTE_MS,
                &one.minutes,
            ));
        },
    )
    .await
}

async fn put_days(
    connection: &mut SqliteConnection,
    hour: UnixMillis,
    rolled: &[Rolled],
    days: &HashMap<i64, Vec<Rollup>>,
) -> Result<(), sqlx::Error> {
    let day = hour.floor(DAY_MS);
    insert(
        connection,
        "insert into tier_hour (series_id, day, data)",
        "on conflict (series_id, day) do update set data = excluded.data",
        rolled,
        |row, one| {
            let windows = days.get(&one.series).map_or(&[][..], Vec::as_slice);
            row.push_bind(one.series)
                .push_bind(day.0)
                .push_bind(windows::encode(one.kind, day, HOUR_MS, windows));
        },
    )
    .await
}

/// So that expiry finds the rows again.
async fn mark_days(
    connection: &mut SqliteConnection,
    machine: i64,
    hour: UnixMillis,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into tier_day (tier, day, machine_id) values ('minute', ?1, ?2), ('hour', ?1, ?2)
         on conflict do nothing",
    )
    .bind(hour.floor(DAY_MS).0)
    .bind(machine)
    .execute(connection)
    .await?;
    Ok(())
}

async fn forget_open_hour(
    connection: &mut SqliteConnection,
    machine: i64,
    hour: UnixMillis,
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from open_hour where machine_id = ? and hour = ?")
        .bind(machine)
        .bind(hour.0)
        .execute(connection)
        .await?;
    Ok(())
}
