//! Finding series by name and labels.

use futures::TryStreamExt as _;
use model::{MachineId, Matcher, Series};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::TimescaleHistory;
use super::catalog::kind_from_name;
use crate::history::{SeriesSelector, StoredSeries};
use crate::postgres::failure::{Outcome, corrupt};
use crate::postgres::text::{self, labels_from_json};

impl TimescaleHistory {
    pub(super) async fn select_series(
        &self,
        selector: &SeriesSelector,
        limit: usize,
    ) -> Outcome<Vec<StoredSeries>> {
        let machines: Option<Vec<String>> = selector
            .machines
            .as_ref()
            .map(|machines| machines.iter().map(MachineId::to_string).collect());
        let mut tx = self.timescale.read().await?;
        // By bytes, as machine ids are compared.
        let mut rows = sqlx::query(
            "select series.id, machine.name as machine, labels::text as labels, kind, unit
             from series join machine on machine.id = series.machine_id
             where series.name = $1 and machine.name is not null
                and ($2::text[] is null or machine.name = any($2))
             order by machine.name collate \"C\"",
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
}

fn stored_series(metric: &str, row: &PgRow) -> Outcome<StoredSeries> {
    let machine: &str = row.try_get("machine")?;
    Ok(StoredSeries {
        id: row.try_get("id")?,
        machine: machine.parse().map_err(|e| corrupt("machine.name", &e))?,
        series: Series {
            metric: metric.into(),
            labels: labels_from_json(row.try_get("labels")?)?,
            kind: kind_from_name(row.try_get("kind")?)?,
            unit: text::load(row.try_get("unit")?).into(),
        },
    })
}
