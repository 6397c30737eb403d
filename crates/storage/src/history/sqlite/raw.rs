//! Reading raw values by series: out of sealed blocks and out of frames that are not sealed yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::TryStreamExt as _;
use model::{TimeRange, UnixMillis};
use sqlx::{Row as _, SqliteConnection};

use super::{HOUR_MS, SqliteHistory};
use crate::StorageError;
use crate::history::block::{self, Block};
use crate::history::merge::{self, Piece};
use crate::history::{Damaged, Samples, values};
use crate::sqlite::list_to_json;

/// Columns that are wanted of one layout: position and index of the series in the answer, by position.
type Columns = Vec<(usize, usize)>;

impl SqliteHistory {
    /// Values within the range of each of these series, in the order asked.
    pub(super) async fn samples(
        &self,
        connection: &mut SqliteConnection,
        series: &[i64],
        range: TimeRange,
    ) -> Result<Vec<Samples>, StorageError> {
        let mut pieces: Vec<Vec<Piece>> = vec![Vec::new(); series.len()];
        for (machine, layouts) in places(connection, series).await? {
            self.blocks(connection, machine, &layouts, range, &mut pieces).await?;
            self.frames(connection, machine, &layouts, range, &mut pieces).await?;
        }
        Ok(merged(pieces, range))
    }

    /// The same, without what is not sealed yet.
    pub(super) async fn sealed_samples(
        &self,
        connection: &mut SqliteConnection,
        series: &[i64],
        range: TimeRange,
    ) -> Result<Vec<Samples>, StorageError> {
        let mut pieces: Vec<Vec<Piece>> = vec![Vec::new(); series.len()];
        for (machine, layouts) in places(connection, series).await? {
            self.blocks(connection, machine, &layouts, range, &mut pieces).await?;
        }
        Ok(merged(pieces, range))
    }

    pub(super) async fn blocks(
        &self,
        connection: &mut SqliteConnection,
        machine: i64,
        layouts: &BTreeMap<i64, Columns>,
        range: TimeRange,
        pieces: &mut [Vec<Piece>],
    ) -> Result<(), StorageError> {
        let mut parts: Vec<(i64, usize)> = layouts
            .iter()
            .flat_map(|(&layout, columns)| {
                columns.iter().map(move |(position, _)| (layout, position / block::COLUMNS_MAX))
            })
            .collect();
        parts.dedup();
        let parts = list_to_json(&parts);
        let mut rows = sqlx::query(
            "select block.id, block.layout_id, block.part, block.data
             from json_each(?1) as wanted
             cross join block on block.machine_id = ?2
                and block.layout_id = wanted.value ->> 0 and block.part = wanted.value ->> 1
             where block.hour >= ?3 and block.hour < ?5 and block.last >= ?4 and block.first < ?5",
        )
        .bind(parts)
        .bind(machine)
        .bind(range.start.floor(HOUR_MS).0)
        .bind(range.start.0)
        .bind(range.end.0)
        .fetch(connection);
        while let Some(row) = rows.try_next().await? {
            let (id, layout, part): (i64, i64, i64) =
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

    pub(super) async fn frames(
        &self,
        connection: &mut SqliteConnection,
        machine: i64,
        layouts: &BTreeMap<i64, Columns>,
        range: TimeRange,
        pieces: &mut [Vec<Piece>],
    ) -> Result<(), StorageError> {
        let wanted: Vec<i64> = layouts.keys().copied().collect();
        let wanted = list_to_json(&wanted);
        let mut rows = sqlx::query(
            "select time, layout_id, data from frame
             where machine_id = ?1 and time >= ?2 and time < ?3
                and layout_id in (select value from json_each(?4))
             order by time",
        )
        .bind(machine)
        .bind(range.start.0)
        .bind(range.end.0)
        .bind(wanted)
        .fetch(connection);
        let mut gathered: HashMap<i64, Gathered> = HashMap::new();
        while let Some(row) = rows.try_next().await? {
            let (time, layout): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            let Some(columns) = layouts.get(&layout) else { continue };
            let gathered = gathered.entry(layout).or_insert_with(|| Gathered::new(columns));
            if let Err(reason) = gathered.push(UnixMillis(time), row.try_get(2)?) {
                self.damaged("frame", time, &reason);
            }
        }
        for (layout, gathered) in gathered {
            let times: Arc<[UnixMillis]> = gathered.times.into();
            for (&(_, index), values) in layouts[&layout].iter().zip(gathered.columns) {
                // Frames replace blocks: they came later.
                pieces[index].push(Piece { layout, rank: i64::MAX, times: times.clone(), values });
            }
        }
        Ok(())
    }
}

/// Wanted columns of a layout's frames.
struct Gathered {
    positions: Vec<usize>,
    times: Vec<UnixMillis>,
    columns: Vec<Vec<f64>>,
    row: Vec<f64>,
}

impl Gathered {
    fn new(columns: &Columns) -> Self {
        Self {
            positions: columns.iter().map(|(position, _)| *position).collect(),
            times: Vec::new(),
            columns: vec![Vec::new(); columns.len()],
            row: Vec::with_capacity(columns.len()),
        }
    }

    fn push(&mut self, time: UnixMillis, data: &[u8]) -> Result<(), Damaged> {
        self.row.clear();
        values::pick(data, &self.positions, &mut self.row)?;
        self.times.push(time);
        for (column, value) in self.columns.iter_mut().zip(&self.row) {
            column.push(*value);
        }
        Ok(())
    }
}

/// Where the series stand: by machine and layout.
async fn places(
    connection: &mut SqliteConnection,
    series: &[i64],
) -> Result<BTreeMap<i64, BTreeMap<i64, Columns>>, StorageError> {
    let mut indices: HashMap<i64, Vec<usize>> = HashMap::with_capacity(series.len());
    for (index, &id) in series.iter().enumerate() {
        indices.entry(id).or_default().push(index);
    }
    let wanted = list_to_json(series);
    let rows: Vec<(i64, i64, i64, i64)> = sqlx::query_as(
        "select machine_id, layout_id, position, series_id
         from placement join machine on machine.id = machine_id
         where series_id in (select value from json_each(?)) and machine.name is not null",
    )
    .bind(wanted)
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
