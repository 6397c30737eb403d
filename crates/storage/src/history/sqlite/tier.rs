//! Reading roll-ups: what the tiers hold, and what is not rolled up yet out of raw values.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use futures::TryStreamExt as _;
use model::{TimeRange, UnixMillis};
use sqlx::{Row as _, SqliteConnection};

use super::facts::raw_is_complete;
use super::{DAY_MS, HOUR_MS, SqliteHistory};
use crate::StorageError;
use crate::history::open_hours::{self, OpenStretch};
use crate::history::{StoredSeries, Tier, windows};
use crate::rollup::Rollup;
use crate::sqlite::list_to_json;

impl SqliteHistory {
    pub(super) async fn tier(
        &self,
        series: &[StoredSeries],
        tier: Tier,
        range: TimeRange,
    ) -> Result<Vec<Vec<Rollup>>, StorageError> {
        if range.is_empty() {
            return Ok(vec![Vec::new(); series.len()]);
        }
        let mut tx = self.database.read().await?;
        let mut answer = self.rolled_up(&mut tx, series, tier, range).await?;
        // Series by machine, for what is open is so per machine.
        let mut machines: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (index, machine) in machines_of(&mut tx, series).await? {
            machines.entry(machine).or_default().push(index);
        }
        for (machine, indices) in machines {
            let ids: Vec<i64> = indices.iter().map(|&i| series[i].id).collect();
            for stretch in open_stretches(&mut tx, machine, range).await? {
                let samples = self.samples(&mut tx, &ids, stretch.range).await?;
                for (&index, samples) in indices.iter().zip(samples) {
                    let kind = series[index].series.kind;
                    open_hours::overlay(kind, tier, &mut answer[index], stretch, samples);
                }
            }
        }
        for windows in &mut answer {
            windows.retain(|window| range.contains(window.start));
        }
        Ok(answer)
    }

    async fn rolled_up(
        &self,
        connection: &mut SqliteConnection,
        series: &[StoredSeries],
        tier: Tier,
        range: TimeRange,
    ) -> Result<Vec<Vec<Rollup>>, StorageError> {
        let (statement, row_ms) = match tier {
            Tier::Minute => (
                "select wanted.key, hour, data from json_each(?1) as wanted
                 cross join tier_minute on series_id = wanted.value and hour >= ?2 and hour < ?3",
                HOUR_MS,
            ),
            Tier::Hour => (
                "select wanted.key, day, data from json_each(?1) as wanted
                 cross join tier_hour on series_id = wanted.value and day >= ?2 and day < ?3",
                DAY_MS,
            ),
        };
        let ids: Vec<i64> = series.iter().map(|s| s.id).collect();
        let mut rows = sqlx::query(statement)
            .bind(list_to_json(&ids))
            .bind(range.start.floor(row_ms).0)
            .bind(range.end.0)
            .fetch(connection);
        let mut answer = vec![Vec::new(); series.len()];
        while let Some(row) = rows.try_next().await? {
            let (index, start): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            let index = index as usize;
            let kind = series[index].series.kind;
            match windows::decode(kind, UnixMillis(start), tier.window_ms(), row.try_get(2)?) {
                Ok(mut windows) => answer[index].append(&mut windows),
                Err(reason) => self.damaged("tier", series[index].id, &reason),
            }
        }
        drop(rows);
        for windows in &mut answer {
            windows.sort_by_key(|window| window.start);
        }
        Ok(answer)
    }
}

async fn machines_of(
    connection: &mut SqliteConnection,
    series: &[StoredSeries],
) -> Result<Vec<(usize, i64)>, StorageError> {
    let ids: Vec<i64> = series.iter().map(|s| s.id).collect();
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "select wanted.key, machine_id from json_each(?) as wanted
         cross join series on series.id = wanted.value",
    )
    .bind(list_to_json(&ids))
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(index, machine)| (index as usize, machine)).collect())
}

/// Whole hours that overlap the range and are not, or not wholly, rolled up.
async fn open_stretches(
    connection: &mut SqliteConnection,
    machine: i64,
    range: TimeRange,
) -> Result<Vec<OpenStretch>, StorageError> {
    let open: Vec<(i64, bool)> = sqlx::query_as(
        "select hour, complete from open_hour where machine_id = ? and hour >= ? and hour < ?",
    )
    .bind(machine)
    .bind(range.start.floor(HOUR_MS).0)
    .bind(range.end.0)
    .fetch_all(&mut *connection)
    .await?;
    let mut hours: BTreeMap<UnixMillis, bool> =
        open.into_iter().map(|(hour, complete)| (UnixMillis(hour), complete)).collect();
    let mut from = range.start.floor(HOUR_MS);
    let end = range.end.ceil(HOUR_MS);
    // Frames wait for their sealing in few hours: mostly the one in progress.
    while from < end {
        let next: Option<i64> = sqlx::query_scalar(
            "select min(time) from frame where machine_id = ? and time >= ? and time < ?",
        )
        .bind(machine)
        .bind(from.0)
        .bind(end.0)
        .fetch_one(&mut *connection)
        .await?;
        let Some(next) = next else { break };
        let hour = UnixMillis(next).floor(HOUR_MS);
        if let Entry::Vacant(unknown) = hours.entry(hour) {
            unknown.insert(raw_is_complete(connection, machine, hour).await?);
        }
        from = hour + HOUR_MS;
    }
    Ok(open_hours::stretches(hours))
}
