//! Reading one machine's frames back as they came.

use model::{MachineId, Series, TimeRange};
use sqlx::{Row as _, SqliteConnection};

use super::catalog::kind_from_name;
use super::raw::merged;
use super::{HOUR_MS, SqliteHistory};
use crate::StorageError;
use crate::history::Wanted;
use crate::history::frames::Columns;
use crate::live::LiveFrame;
use crate::sqlite::{labels_from_json, list_to_json};

impl SqliteHistory {
    pub(super) async fn frames_within(
        &self,
        machine: MachineId,
        wanted: Wanted<'_>,
        range: TimeRange,
    ) -> Result<Vec<LiveFrame>, StorageError> {
        let mut tx = self.database.read().await?;
        let machine: Option<i64> = sqlx::query_scalar("select id from machine where name = ?")
            .bind(machine.to_string())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(machine) = machine else { return Ok(Vec::new()) };
        let columns = columns_within(&mut tx, machine, wanted, range).await?;
        let mut pieces = vec![Vec::new(); columns.count()];
        let places = columns.places(wanted);
        self.blocks(&mut tx, machine, &places, range, &mut pieces).await?;
        self.frames(&mut tx, machine, &places, range, &mut pieces).await?;
        Ok(columns.frames(&merged(pieces, range)))
    }
}

/// The layouts that were in use within the range.
async fn columns_within(
    connection: &mut SqliteConnection,
    machine: i64,
    wanted: Wanted<'_>,
    range: TimeRange,
) -> Result<Columns, StorageError> {
    let layouts: Vec<i64> = sqlx::query_scalar(
        "select layout_id from frame where machine_id = ?1 and time >= ?2 and time < ?3
         union
         select layout_id from block
         where machine_id = ?1 and hour >= ?4 and hour < ?3 and last >= ?2 and first < ?3",
    )
    .bind(machine)
    .bind(range.start.0)
    .bind(range.end.0)
    .bind(range.start.floor(HOUR_MS).0)
    .fetch_all(&mut *connection)
    .await?;
    let rows = sqlx::query(
        "select layout_id, name, labels, kind, unit
         from placement join series on series.id = series_id
         where placement.machine_id = ? and layout_id in (select value from json_each(?))
         order by layout_id, position",
    )
    .bind(machine)
    .bind(list_to_json(&layouts))
    .fetch_all(connection)
    .await?;
    let series = rows.iter().map(|row| {
        let (name, unit): (&str, &str) = (row.try_get("name")?, row.try_get("unit")?);
        let series = Series {
            metric: name.into(),
            labels: labels_from_json(row.try_get("labels")?)?,
            kind: kind_from_name(row.try_get("kind")?)?,
            unit: unit.into(),
        };
        Ok((row.try_get("layout_id")?, series))
    });
    Ok(Columns::new(series.collect::<Result<Vec<_>, StorageError>>()?, wanted))
}
