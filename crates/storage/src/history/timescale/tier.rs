//! Reading roll-ups: what the tiers hold, and what is not rolled up yet out of raw values.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt as _;
use model::TimeRange;
use sqlx::PgConnection;

use super::expire::raw_is_complete;
use super::tier_rows::Table;
use super::{HOUR_MS, TimescaleHistory};
use crate::history::open_hours::{self, OpenStretch};
use crate::history::{StoredSeries, Tier};
use crate::postgres::failure::Outcome;
use crate::postgres::stamp::Stamp;
use crate::rollup::Rollup;

impl TimescaleHistory {
    pub(super) async fn tier(
        &self,
        series: &[StoredSeries],
        tier: Tier,
        range: TimeRange,
    ) -> Outcome<Vec<Vec<Rollup>>> {
        if range.is_empty() {
            return Ok(vec![Vec::new(); series.len()]);
        }
        let mut tx = self.timescale.read().await?;
        let mut answer = rolled_up(&mut tx, series, tier, range).await?;
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
}

async fn rolled_up(
    connection: &mut PgConnection,
    series: &[StoredSeries],
    tier: Tier,
    range: TimeRange,
) -> Outcome<Vec<Vec<Rollup>>> {
    let table = Table::of(tier);
    let mut indices: HashMap<i64, Vec<usize>> = HashMap::with_capacity(series.len());
    for (index, one) in series.iter().enumerate() {
        indices.entry(one.id).or_default().push(index);
    }
    let ids: Vec<i64> = indices.keys().copied().collect();
    let mut rows = sqlx::query(table.select)
        .bind(ids)
        .bind(Stamp(range.start.floor(table.row_ms)))
        .bind(Stamp(range.end))
        .fetch(connection);
    let mut answer = vec![Vec::new(); series.len()];
    while let Some(row) = rows.try_next().await? {
        let (id, windows) = table.take(&row)?;
        for &index in indices.get(&id).into_iter().flatten() {
            answer[index].extend_from_slice(&windows);
        }
    }
    drop(rows);
    for windows in &mut answer {
        windows.sort_by_key(|window: &Rollup| window.start);
    }
    Ok(answer)
}

async fn machines_of(
    connection: &mut PgConnection,
    series: &[StoredSeries],
) -> Outcome<Vec<(usize, i64)>> {
    let ids: Vec<i64> = series.iter().map(|s| s.id).collect();
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "select place - 1, machine_id from unnest($1::bigint[]) with ordinality as wanted (id, place)
         join series on series.id = wanted.id",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(index, machine)| (index as usize, machine)).collect())
}

/// Whole hours that overlap the range and are not, or not wholly, rolled up.
async fn open_stretches(
    connection: &mut PgConnection,
    machine: i64,
    range: TimeRange,
) -> Outcome<Vec<OpenStretch>> {
    let open: Vec<(Stamp, Option<bool>)> = sqlx::query_as(
        "select waiting.hour, complete from (
            select hour from open_hour where machine_id = $1 and hour >= $2 and hour < $3
            union
            select date_trunc('hour', time) from frame
            where machine_id = $1 and time >= $2 and time < $4
         ) as waiting
         left join open_hour on machine_id = $1 and open_hour.hour = waiting.hour
         order by 1",
    )
    .bind(machine)
    .bind(Stamp(range.start.floor(HOUR_MS)))
    .bind(Stamp(range.end))
    .bind(Stamp(range.end.ceil(HOUR_MS)))
    .fetch_all(&mut *connection)
    .await?;
    let mut hours = Vec::with_capacity(open.len());
    for (Stamp(hour), complete) in open {
        let complete = match complete {
            Some(complete) => complete,
            None => raw_is_complete(connection, machine, hour).await?,
        };
        hours.push((hour, complete));
    }
    Ok(open_hours::stretches(hours))
}
