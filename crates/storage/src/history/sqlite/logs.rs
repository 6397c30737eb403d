//! Log events.

use model::{LogEvent, MachineId, Severity, TimeRange, UnixMillis};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::SqliteHistory;
use crate::StorageError;
use crate::sqlite::labels_from_json;

impl SqliteHistory {
    pub(super) async fn logs(
        &self,
        machine: MachineId,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<LogEvent>, StorageError> {
        let mut tx = self.database.read().await?;
        let rows = sqlx::query(
            "select time, severity, service, source, body, truncated, attributes
             from log join machine on machine.id = log.machine_id
             where machine.name = ? and time >= ? and time < ?
             order by time desc, log.id desc limit ?",
        )
        .bind(machine.to_string())
        .bind(range.start.0)
        .bind(range.end.0)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await?;
        rows.iter().map(log).collect()
    }
}

fn log(row: &SqliteRow) -> Result<LogEvent, StorageError> {
    Ok(LogEvent {
        time: UnixMillis(row.try_get("time")?),
        severity: Severity::new(row.try_get("severity")?).unwrap_or_default(),
        service: row.try_get("service")?,
        body: row.try_get("body")?,
        body_truncated: row.try_get("truncated")?,
        attributes: labels_from_json(row.try_get("attributes")?)?,
        source: row.try_get("source")?,
    })
}
