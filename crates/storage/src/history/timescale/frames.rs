//! Reading one machine's frames back as they came.

use model::{MachineId, Series, TimeRange};
use sqlx::{PgConnection, Row as _};

use super::catalog::kind_from_name;
use super::raw::{frames, merged};
use super::{HOUR_MS, TimescaleHistory};
use crate::history::Wanted;
use crate::history::frames::Columns;
use crate::live::LiveFrame;
use crate::postgres::failure::Outcome;
use crate::postgres::stamp::Stamp;
use crate::postgres::text::labels_from_json;

impl TimescaleHistory {
    pub(super) async fn frames_within(
        &self,
        machine: MachineId,
        wanted: Wanted<'_>,
        range: TimeRange,
    ) -> Outcome<Vec<LiveFrame>> {
        let mut tx = self.timescale.read().await?;
        let machine: Option<i64> = sqlx::query_scalar("select id from machine where name = $1")
            .bind(machine.to_string())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(machine) = machine else { return Ok(Vec::new()) };
        let columns = columns_within(&mut tx, machine, wanted, range).await?;
        let mut pieces = vec![Vec::new(); columns.count()];
        let places = columns.places(wanted);
        self.blocks(&mut tx, machine, &places, range, &mut pieces).await?;
        for (&layout, of_layout) in &places {
            frames(&mut tx, machine, layout, of_layout, range, &mut pieces).await?;
        }
        Ok(columns.frames(&merged(pieces, range)))
    }
}

/// The layouts that were in use within the range.
async fn columns_within(
    connection: &mut PgConnection,
    machine: i64,
    wanted: Wanted<'_>,
    range: TimeRange,
) -> Outcome<Columns> {
    let rows = sqlx::query(
        "select layout_id, name, labels::text as labels, kind, unit
         from placement join series on series.id = series_id
         where placement.machine_id = $1 and layout_id in (
            select layout_id from frame where machine_id = $1 and time >= $2 and time < $3
            union
            select layout_id from block
            where machine_id = $1 and hour >= $4 and hour < $3 and last >= $2 and first < $3)
         order by layout_id, position",
    )
    .bind(machine)
    .bind(Stamp(range.start))
    .bind(Stamp(range.end))
    .bind(Stamp(range.start.floor(HOUR_MS)))
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
    Ok(Columns::new(series.collect::<Outcome<Vec<_>>>()?, wanted))
}
