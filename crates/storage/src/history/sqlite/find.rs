//! Looking things up in the catalogue: series by name and labels, what is acknowledged.

use futures::TryStreamExt as _;
use model::{MachineId, Matcher, SeqRanges, Series, SpoolEpoch};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::SqliteHistory;
use super::catalog::{kind_from_name, seqs_from_text};
use crate::StorageError;
use crate::history::{SeriesSelector, StoredSeries};
use crate::sqlite::{STORE, labels_from_json, list_to_json};

impl SqliteHistory {
    pub(super) async fn find_series(
        &self,
        selector: &SeriesSelector,
        limit: usize,
    ) -> Result<Vec<StoredSeries>, StorageError> {
        let machines = selector.machines.as_ref().map(|machines| {
            let names: Vec<String> = machines.iter().map(MachineId::to_string).collect();
            list_to_json(&names)
        });
        let mut tx = self.database.read().await?;
        let mut rows = sqlx::query(
            "select series.id, machine.name as machine, labels, kind, unit
             from series join machine on machine.id = series.machine_id
             where series.name = ?1 and machine.name is not null
                and (?2 is null or machine.name in (select value from json_each(?2)))
             order by machine.name",
        )
        .bind(&selector.metric)
        .bind(machines)
        .fetch(&mut *tx);
        let mut found: Vec<StoredSeries> = Vec::new();
        while let Some(row) = rows.try_next().await? {
            let series = stored_series(&selector.metric, &row)?;
            if found.len() >= limit && found.last().is_none_or(|s| s.machine != series.machine) {
                break;
            }
            if Matcher::all_accept(&selector.labels, &series.series.labels) {
                found.push(series);
            }
        }
        found.sort_by(|a, b| (a.machine, &a.series).cmp(&(b.machine, &b.series)));
        found.truncate(limit);
        Ok(found)
    }

    pub(super) async fn acknowledged(
        &self,
        machine: MachineId,
        epoch: SpoolEpoch,
    ) -> Result<SeqRanges, StorageError> {
        let mut tx = self.database.read().await?;
        let text: Option<String> = sqlx::query_scalar(
            "select seqs from acknowledged join machine on machine.id = acknowledged.machine_id
             where machine.name = ? and epoch = ?",
        )
        .bind(machine.to_string())
        .bind(epoch.0 as i64)
        .fetch_optional(&mut *tx)
        .await?;
        text.map_or(Ok(SeqRanges::new()), |text| seqs_from_text(&text))
    }
}

fn stored_series(metric: &str, row: &SqliteRow) -> Result<StoredSeries, StorageError> {
    let machine: &str = row.try_get("machine")?;
    let unit: &str = row.try_get("unit")?;
    Ok(StoredSeries {
        id: row.try_get("id")?,
        machine: machine.parse().map_err(|e| StorageError::Corrupt {
            store: STORE,
            reason: format!("machine.name: {e}"),
        })?,
        series: Series {
            metric: metric.into(),
            labels: labels_from_json(row.try_get("labels")?)?,
            kind: kind_from_name(row.try_get("kind")?)?,
            unit: unit.into(),
        },
    })
}
