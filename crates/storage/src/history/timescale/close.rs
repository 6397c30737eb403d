//! Closing an hour: its blocks become one per part, and its values are rolled up into the tiers. Closing an hour
//! again, after late frames, gives the same as if they had come in time, as long as its raw values are
//! kept.

use std::collections::{HashMap, HashSet};

use model::{Kind, TimeRange, UnixMillis};
use sqlx::PgConnection;

use super::catalog::kind_from_name;
use super::expire::raw_is_complete;
use super::seal::insert_blocks;
use super::tier_rows::Table;
use super::{DAY_MS, HOUR_MS, MINUTE_MS, TimescaleHistory, off_thread};
use crate::history::transpose::{NewBlock, merge_blocks};
use crate::history::{Damaged, Samples, Tier, block, late};
use crate::postgres::copy::Rows;
use crate::postgres::copy_in;
use crate::postgres::failure::Outcome;
use crate::postgres::stamp::Stamp;
use crate::rollup::Rollup;

/// Merged blocks that are swapped in by one transaction.
const SWAP_BYTES_MAX: usize = 8 << 20;
/// Series that are rolled up by one transaction.
const SERIES_MAX: usize = 8 * block::COLUMNS_MAX;

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

impl TimescaleHistory {
    /// Hours that are to be closed: due, and all their frames sealed.
    pub(super) async fn due_hours(
        &self,
        now: UnixMillis,
        limit: i64,
    ) -> Outcome<Vec<(i64, UnixMillis)>> {
        let mut tx = self.timescale.read().await?;
        let due: Vec<(i64, Stamp)> = sqlx::query_as(
            "select machine_id, hour from open_hour
             where due <= $1 and not exists (
                select 1 from frame where frame.machine_id = open_hour.machine_id
                    and frame.time >= open_hour.hour
                    and frame.time < open_hour.hour + interval '1 hour')
             order by due limit $2",
        )
        .bind(Stamp(now))
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
        Ok(due.into_iter().map(|(machine, Stamp(hour))| (machine, hour)).collect())
    }

    pub(super) async fn close_hour(&self, machine: i64, hour: UnixMillis) -> Outcome<()> {
        self.merge_hour(machine, hour).await?;
        let mut tx = self.timescale.read().await?;
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
    async fn roll_up(&self, machine: i64, hour: UnixMillis, series: &[(i64, Kind)]) -> Outcome<()> {
        for chunk in series.chunks(SERIES_MAX) {
            let rolled = self.rolled(chunk, hour).await?;
            let mut tx = self.timescale.write().await?;
            let mut days = kept(&mut tx, Tier::Hour, &rolled, hour.floor(DAY_MS)).await?;
            for one in &rolled {
                let day = days.entry(one.series).or_default();
                day.retain(|window| window.start != hour);
                day.extend(&one.hours);
                day.sort_by_key(|window| window.start);
            }
            put_minutes(&mut tx, hour, &rolled).await?;
            put_days(&mut tx, hour, &rolled, &days).await?;
            tx.commit().await?;
        }
        // Last: killed before this, the hour is rolled up again to the same.
        let mut tx = self.timescale.write().await?;
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
    ) -> Outcome<()> {
        let mut rolled = Vec::with_capacity(series.len());
        for chunk in series.chunks(SERIES_MAX) {
            rolled.append(&mut self.rolled(chunk, hour).await?);
        }
        let mut tx = self.timescale.write().await?;
        for chunk in rolled.chunks_mut(SERIES_MAX) {
            let minutes = kept(&mut tx, Tier::Minute, chunk, hour).await?;
            let mut days = kept(&mut tx, Tier::Hour, chunk, hour.floor(DAY_MS)).await?;
            for one in chunk.iter_mut() {
                if let Some(kept) = minutes.get(&one.series) {
                    one.minutes = late::join_all(one.kind, kept, &one.minutes);
                }
                let day = days.entry(one.series).or_default();
                *day = late::join_all(one.kind, day, &one.hours);
            }
            put_minutes(&mut tx, hour, chunk).await?;
            put_days(&mut tx, hour, chunk, &days).await?;
        }
        sqlx::query("delete from block where hour = $1 and machine_id = $2")
            .bind(Stamp(hour))
            .bind(machine)
            .execute(&mut *tx)
            .await?;
        forget_open_hour(&mut tx, machine, hour).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Rolls up one hour of these series from sealed values: frames that came meanwhile are sealed later, and
    /// open the hour again. Series without any are left out.
    async fn rolled(&self, series: &[(i64, Kind)], hour: UnixMillis) -> Outcome<Vec<Rolled>> {
        let range = TimeRange::new(hour, hour + HOUR_MS);
        let mut rolled = Vec::with_capacity(series.len());
        let mut tx = self.timescale.read().await?;
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

    /// Makes one block per part of the hour.
    async fn merge_hour(&self, machine: i64, hour: UnixMillis) -> Outcome<()> {
        let mut tx = self.timescale.read().await?;
        let parts: Vec<(i64, i32)> = sqlx::query_as(
            "select layout_id, part from block where hour = $1 and machine_id = $2
             group by layout_id, part having count(*) > 1",
        )
        .bind(Stamp(hour))
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
        part: i32,
    ) -> Outcome<Option<Swap>> {
        let mut tx = self.timescale.read().await?;
        let mut rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
            "select id, data from block
             where machine_id = $1 and layout_id = $2 and part = $3 and hour = $4 order by id",
        )
        .bind(machine)
        .bind(layout)
        .bind(part)
        .bind(Stamp(hour))
        .fetch_all(&mut *tx)
        .await?;
        drop(tx);
        // Without the damaged ones, which are set aside one after the other.
        while rows.len() > 1 {
            let (back, merged) = off_thread(move || {
                let sources: Vec<&[u8]> = rows.iter().map(|(_, data)| data.as_slice()).collect();
                let merged = merge_blocks(layout, part.into(), &sources);
                (rows, merged)
            })
            .await?;
            rows = back;
            match merged {
                Ok(blocks) => {
                    // Too long to be one: what there is is as good, so nothing is swapped.
                    if blocks.len() >= rows.len() {
                        return Ok(None);
                    }
                    let sources = rows.into_iter().map(|(id, _)| id).collect();
                    return Ok(Some(Swap { sources, blocks }));
                }
                Err((index, reason)) => {
                    let (id, _) = rows.remove(index);
                    self.set_aside(id, hour, reason).await?;
                }
            }
        }
        Ok(None)
    }

    /// A block that cannot be read must not hinder the others, nor vanish without a trace.
    async fn set_aside(&self, block: i64, hour: UnixMillis, reason: Damaged) -> Outcome<()> {
        self.damaged("block", block, &reason);
        let mut tx = self.timescale.write().await?;
        sqlx::query(
            "with gone as (delete from block where id = $1 and hour = $2 returning *)
             insert into damaged_block (id, machine_id, layout_id, part, hour, reason, data)
             select id, machine_id, layout_id, part, hour, $3, data from gone",
        )
        .bind(block)
        .bind(Stamp(hour))
        .bind(reason.to_string())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn swap(&self, machine: i64, hour: UnixMillis, swaps: Vec<Swap>) -> Outcome<()> {
        if swaps.is_empty() {
            return Ok(());
        }
        let sources: Vec<i64> = swaps.iter().flat_map(|s| s.sources.iter().copied()).collect();
        let blocks = swaps.into_iter().flat_map(|s| s.blocks).collect();
        let mut tx = self.timescale.write().await?;
        sqlx::query("delete from block where machine_id = $1 and hour = $2 and id = any($3)")
            .bind(machine)
            .bind(Stamp(hour))
            .bind(sources)
            .execute(&mut *tx)
            .await?;
        insert_blocks(&mut tx, machine, hour, blocks).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// All series that may have values in the machine's blocks of this hour, in layout order.
async fn series_of_hour(
    connection: &mut PgConnection,
    machine: i64,
    hour: UnixMillis,
) -> Outcome<Vec<(i64, Kind)>> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "select series.id, series.kind from placement join series on series.id = series_id
         where placement.machine_id = $1 and layout_id in (
            select distinct layout_id from block where hour = $2 and machine_id = $1)
         order by layout_id, position",
    )
    .bind(machine)
    .bind(Stamp(hour))
    .fetch_all(connection)
    .await?;
    let mut seen = HashSet::with_capacity(rows.len());
    rows.into_iter()
        .filter(|(id, _)| seen.insert(*id))
        .map(|(id, kind)| Ok((id, kind_from_name(&kind)?)))
        .collect()
}

fn ids(rolled: &[Rolled]) -> Vec<i64> {
    rolled.iter().map(|r| r.series).collect()
}

/// What a tier holds of these series in the row that starts at `start`.
async fn kept(
    connection: &mut PgConnection,
    tier: Tier,
    rolled: &[Rolled],
    start: UnixMillis,
) -> Outcome<HashMap<i64, Vec<Rollup>>> {
    let table = Table::of(tier);
    let rows = sqlx::query(table.select)
        .bind(ids(rolled))
        .bind(Stamp(start))
        .bind(Stamp(start + 1))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| table.take(row)).collect()
}

async fn put_minutes(
    connection: &mut PgConnection,
    hour: UnixMillis,
    rolled: &[Rolled],
) -> Outcome<()> {
    let table = Table::of(Tier::Minute);
    let mut rows = Rows::new();
    for one in rolled {
        table.put(&mut rows, hour, one.series, one.kind, &one.minutes);
    }
    replace(connection, table, hour, rolled, rows).await
}

async fn put_days(
    connection: &mut PgConnection,
    hour: UnixMillis,
    rolled: &[Rolled],
    days: &HashMap<i64, Vec<Rollup>>,
) -> Outcome<()> {
    let (table, day) = (Table::of(Tier::Hour), hour.floor(DAY_MS));
    let mut rows = Rows::new();
    for one in rolled {
        let windows = days.get(&one.series).map_or(&[][..], Vec::as_slice);
        table.put(&mut rows, day, one.series, one.kind, windows);
    }
    replace(connection, table, day, rolled, rows).await
}

/// Only maintenance writes here, one process at a time, so nothing comes in between.
async fn replace(
    connection: &mut PgConnection,
    table: Table,
    start: UnixMillis,
    rolled: &[Rolled],
    rows: Rows,
) -> Outcome<()> {
    sqlx::query(table.delete)
        .bind(ids(rolled))
        .bind(Stamp(start))
        .execute(&mut *connection)
        .await?;
    copy_in(connection, table.copy, rows).await
}

async fn forget_open_hour(
    connection: &mut PgConnection,
    machine: i64,
    hour: UnixMillis,
) -> Outcome<()> {
    sqlx::query("delete from open_hour where machine_id = $1 and hour = $2")
        .bind(machine)
        .bind(Stamp(hour))
        .execute(connection)
        .await?;
    Ok(())
}
