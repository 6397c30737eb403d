//! Events and gaps.

use model::{EventKind, Gap, GapReason, MachineEvent, MachineId, SeqRange, TimeRange, UnixMillis};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::SqliteHistory;
use crate::StorageError;
use crate::history::Recorded;
use crate::sqlite::{STORE, labels_from_json};

impl SqliteHistory {
    pub(super) async fn recorded(
        &self,
        machine: MachineId,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Recorded>, StorageError> {
        let limit_rows = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut tx = self.database.read().await?;
        let events = sqlx::query(
            "select time, kind, detail, attributes
             from event join machine on machine.id = event.machine_id
             where machine.name = ? and time >= ? and time < ?
             order by time desc, event.id desc limit ?",
        )
        .bind(machine.to_string())
        .bind(range.start.0)
        .bind(range.end.0)
        .bind(limit_rows)
        .fetch_all(&mut *tx)
        .await?;
        let gaps = sqlx::query(
            "select time, received, first_seq, last_seq, first_time, last_time, reason, detail
             from gap join machine on machine.id = gap.machine_id
             where machine.name = ? and time >= ? and time < ?
             order by time desc, gap.id desc limit ?",
        )
        .bind(machine.to_string())
        .bind(range.start.0)
        .bind(range.end.0)
        .bind(limit_rows)
        .fetch_all(&mut *tx)
        .await?;
        let mut found: Vec<(UnixMillis, Recorded)> = Vec::with_capacity(events.len() + gaps.len());
        for row in &events {
            // An event of a kind that only a newer version knows is skipped, not an error.
            if let Some(event) = event(row)? {
                found.push((event.time, Recorded::Event(event)));
            }
        }
        for row in &gaps {
            if let Some((gap, received)) = gap(row)? {
                found.push((UnixMillis(row.try_get("time")?), Recorded::Gap(gap, received)));
            }
        }
        found.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        found.truncate(limit);
        Ok(found.into_iter().map(|(_, recorded)| recorded).collect())
    }
}

fn event(row: &SqliteRow) -> Result<Option<MachineEvent>, StorageError> {
    let Some(kind) = EventKind::from_name(row.try_get("kind")?) else { return Ok(None) };
    Ok(Some(MachineEvent {
        time: UnixMillis(row.try_get("time")?),
        kind,
        detail: row.try_get("detail")?,
        attributes: labels_from_json(row.try_get("attributes")?)?,
    }))
}

fn gap(row: &SqliteRow) -> Result<Option<(Gap, UnixMillis)>, StorageError> {
    let Some(reason) = GapReason::from_name(row.try_get("reason")?) else { return Ok(None) };
    let (first, last): (i64, i64) = (row.try_get("first_seq")?, row.try_get("last_seq")?);
    let times: (Option<i64>, Option<i64>) = (row.try_get("first_time")?, row.try_get("last_time")?);
    let gap = Gap {
        seqs: SeqRange::new(first as u64, last as u64).ok_or_else(|| StorageError::Corrupt {
            store: STORE,
            reason: format!("gap: items {first} to {last} are no range"),
        })?,
        times: times.0.zip(times.1).map(|(a, b)| (UnixMillis(a), UnixMillis(b))),
        reason,
        detail: row.try_get("detail")?,
    };
    Ok(Some((gap, UnixMillis(row.try_get("received")?))))
}
