//! Log events.

use model::{LogEvent, MachineId, Severity, TimeRange};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::TimescaleHistory;
use crate::postgres::failure::Outcome;
use crate::postgres::stamp::Stamp;
use crate::postgres::text::{self, labels_from_json};

impl TimescaleHistory {
    pub(super) async fn newest_logs(
        &self,
        machine: MachineId,
        range: TimeRange,
        limit: usize,
    ) -> Outcome<Vec<LogEvent>> {
        let mut tx = self.timescale.read().await?;
        let rows = sqlx::query(
            "select time, severity, service, source, body, truncated, attributes::text as attributes
             from log
             where machine_id = (select id from machine where name = $1)
                and time >= $2 and time < $3
             order by time desc, log.id desc limit $4",
        )
        .bind(machine.to_string())
        .bind(Stamp(range.start))
        .bind(Stamp(range.end))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await?;
        rows.iter().map(log).collect()
    }
}

fn log(row: &PgRow) -> Outcome<LogEvent> {
    let severity: i16 = row.try_get("severity")?;
    Ok(LogEvent {
        time: row.try_get::<Stamp, _>("time")?.0,
        severity: u32::try_from(severity).ok().and_then(Severity::new).unwrap_or_default(),
        service: text::load(row.try_get("service")?),
        body: text::load(row.try_get("body")?),
        body_truncated: row.try_get("truncated")?,
        attributes: labels_from_json(row.try_get("attributes")?)?,
        source: text::load(row.try_get("source")?),
    })
}
