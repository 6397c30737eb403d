//! Reading raw values by series: out of sealed blocks and out of frames that are not sealed yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::TryStreamExt as _;
use model::{TimeRange, UnixMillis};
use sqlx::{PgConnection, Row as _};

use super::{HOUR_MS, TimescaleHistory};
use crate::history::block::{self, Block};
use crate::history::merge::{self, Piece};
use crate::history::{Damaged, Samples};
use crate::postgres::failure::Outcome;
use crate::postgres::stamp::Stamp;

/// Columns that are wanted of one layout: position and index of the series in the answer, by position.
type Columns = Vec<(usize, usize)>;

impl TimescaleHistory {
    /// Values within the range of each of these series, in the order asked.
    pub(super) async fn samples(
        &self,
        connection: &mut PgConnection,
        series: &[i64],
        range: TimeRange,
    ) -> Outcome<Vec<Samples>> {
        let mut pieces: Vec<Vec<Piece>> = vec![Vec::new(); series.len()];
        for (machine, layouts) in places(connection, series).await? {
            self.blocks(connection, machine, &layouts, range, &mut pieces).await?;
            for (&layout, columns) in &layouts {
                frames(connection, machine, layout, columns, range, &mut pieces).await?;
            }
        }
        Ok(merged(pieces, range))
    }

    /// The same, without what is not sealed yet.
    pub(super) async fn sealed_samples(
        &self,
        connection: &mut PgConnection,
        series: &[i64],
        range: TimeRange,
    ) -> Outcome<Vec<Samples>> {
        let mut pieces: Vec<Vec<Piece>> = vec![Vec::new(); series.len()];
        for (machine, layouts) in places(connection, series).await? {
            self.blocks(connection, machine, &layouts, range, &mut pieces).await?;
        }
        Ok(merged(pieces, range))
    }

    pub(super) async fn blocks(
        &self,
        connection: &mut PgConnection,
        machine: i64,
        layouts: &BTreeMap<i64, Columns>,
        range: TimeRange,
        pieces: &mut [Vec<Piece>],
    ) -> Outcome<()> {
        let mut parts: Vec<(i64, i32)> = layouts
            .iter()
            .flat_map(|(&layout, columns)| {
                columns
                    .iter()
                    .map(move |(position, _)| (layout, (position / block::COLUMNS_MAX) as i32))
            })
            .collect();
        parts.dedup();
        let (of_layouts, parts): (Vec<i64>, Vec<i32>) = parts.into_iter().unzip();
        let mut rows = sqlx::query(
            "select block.id, block.layout_id, block.part, block.data
             from unnest($1::bigint[], $2::integer[]) as wanted (layout, part)
             join block on block.machine_id = $3
                and block.layout_id = wanted.layout and block.part = wanted.part
             where block.hour >= $4 and block.hour < $6 and block.last >= $5 and block.first < $6",
        )
        .bind(of_layouts)
        .bind(parts)
        .bind(machine)
        .bind(Stamp(range.start.floor(HOUR_MS)))
        .bind(Stamp(range.start))
        .bind(Stamp(range.end))
        .fetch(connection);
        while let Some(row) = rows.try_next().await? {
            let (id, layout, part): (i64, i64, i32) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let Some(columns) = layouts.get(&layout) else { continue };
            let first = part as usize * block::COLUMNS_MAX;
            let of_part = columns
                .iter()
                .filter(|(position, _)| (first..first + block::COLUMNS_MAX).contains(position))
                .map(|&(position, index)| (position - first, index));
            if let Err(reason) = unpack(row.try_get(3)?, layout, id, of_part, pieces) {
                self.damaged("block", id, &reason);
            }
        }
        Ok(())
    }
}

/// Only the values that are wanted leave the server.
pub(super) async fn frames(
    connection: &mut PgConnection,
    machine: i64,
    layout: i64,
    columns: &Columns,
    range: TimeRange,
    pieces: &mut [Vec<Piece>],
) -> Outcome<()> {
    let positions: Vec<i32> = columns.iter().map(|(position, _)| *position as i32 + 1).collect();
    let mut rows = sqlx::query_as(
        "select time, array(
            select frame.data[position] from unnest($5::integer[]) with ordinality
                as wanted (position, place) order by place)
         from frame
         where machine_id = $1 and layout_id = $2 and time >= $3 and time < $4
         order by time, id",
    )
    .bind(machine)
    .bind(layout)
    .bind(Stamp(range.start))
    .bind(Stamp(range.end))
    .bind(positions)
    .fetch(connection);
    let mut times: Vec<UnixMillis> = Vec::new();
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); columns.len()];
    while let Some((Stamp(time), row)) = rows.try_next().await? {
        let row: Vec<Option<f64>> = row;
        // Of two with one time the later counts.
        if times.last() == Some(&time) {
            times.pop();
            values.iter_mut().for_each(|column| _ = column.pop());
        }
        times.push(time);
        for (column, value) in values.iter_mut().zip(row) {
            column.push(value.unwrap_or(f64::NAN));
        }
    }
    let times: Arc<[UnixMillis]> = times.into();
    for (&(_, index), values) in columns.iter().zip(values) {
        // Frames replace blocks: they came later.
        pieces[index].push(Piece { layout, rank: i64::MAX, times: times.clone(), values });
    }
    Ok(())
}

/// Where the series stand: by machine and layout.
async fn places(
    connection: &mut PgConnection,
    series: &[i64],
) -> Outcome<BTreeMap<i64, BTreeMap<i64, Columns>>> {
    let mut indices: HashMap<i64, Vec<usize>> = HashMap::with_capacity(series.len());
    for (index, &id) in series.iter().enumerate() {
        indices.entry(id).or_default().push(index);
    }
    let rows: Vec<(i64, i64, i32, i64)> = sqlx::query_as(
        "select machine_id, layout_id, position, series_id
         from placement join machine on machine.id = machine_id
         where series_id = any($1) and machine.name is not null",
    )
    .bind(series)
    .fetch_all(connection)
    .await?;
    let mut machines: BTreeMap<i64, BTreeMap<i64, Columns>> = BTreeMap::new();
    for (machine, layout, position, id) in rows {
        let columns = machines.entry(machine).or_default().entry(layout).or_default();
        for &index in indices.get(&id).into_iter().flatten() {
            columns.push((position as usize, index));
        }
    }
    for columns in machines.values_mut().flat_map(BTreeMap::values_mut) {
        columns.sort_unstable();
    }
    Ok(machines)
}

fn unpack(
    data: &[u8],
    layout: i64,
    rank: i64,
    columns: impl Iterator<Item = (usize, usize)>,
    pieces: &mut [Vec<Piece>],
) -> Result<(), Damaged> {
    let block = Block::open(data)?;
    let times: Arc<[UnixMillis]> = block.times()?.into();
    for (column, index) in columns {
        let values = block.column(column)?;
        pieces[index].push(Piece { layout, rank, times: times.clone(), values });
    }
    Ok(())
}

pub(super) fn merged(pieces: Vec<Vec<Piece>>, range: TimeRange) -> Vec<Samples> {
    pieces.into_iter().map(|pieces| within(merge::series(pieces), range)).collect()
}

fn within(mut samples: Samples, range: TimeRange) -> Samples {
    let start = samples.times.partition_point(|&t| t < range.start);
    let end = samples.times.partition_point(|&t| t < range.end);
    samples.times.truncate(end);
    samples.values.truncate(end);
    samples.times.drain(..start);
    samples.values.drain(..start);
    samples
}
