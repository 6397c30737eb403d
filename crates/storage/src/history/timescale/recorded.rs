//! Events and gaps.

use model::{EventKind, Gap, GapReason, MachineEvent, MachineId, SeqRange, TimeRange, UnixMillis};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::TimescaleHistory;
use crate::history::Recorded;
use crate::postgres::failure::{Outcome, corrupt};
use crate::postgres::stamp::Stamp;
use crate::postgres::text::{self, labels_from_json};

impl TimescaleHistory {
    pub(super) async fn events_and_gaps(
        &self,
        machine: MachineId,
        range: TimeRange,
        limit: usize,
    ) -> Outcome<Vec<Recorded>> {
        let limit_rows = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut tx = self.timescale.read().await?;
        let events = sqlx::query(
            "select time, kind, detail, attributes::text as attributes from event
             where machine_id = (select id from machine where name = $1)
                and time >= $2 and time < $3
             order by time desc, event.id desc limit $4",
        )
        .bind(machine.to_string())
        .bind(Stamp(range.start))
        .bind(Stamp(range.end))
        .bind(limit_rows)
        .fetch_all(&mut *tx)
        .await?;
        let gaps = sqlx::query(
            "select time, received, first_seq, last_seq, first_time, last_time, reason, detail from gap
             where machine_id = (select id from machine where name = $1)
                and time >= $2 and time < $3
             order by time desc, gap.id desc limit $4",
        )
        .bind(machine.to_string())
        .bind(Stamp(range.start))
        .bind(Stamp(range.end))
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
                found.push((time(row, "time")?, Recorded::Gap(gap, received)));
            }
        }
        found.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        found.truncate(limit);
        Ok(found.into_iter().map(|(_, recorded)| recorded).collect())
    }
}

fn time(row: &PgRow, column: &str) -> Outcome<UnixMillis> {
    Ok(row.try_get::<Stamp, _>(column)?.0)
}

fn event(row: &PgRow) -> Outcome<Option<MachineEvent>> {
    let Some(kind) = EventKind::from_name(row.try_get("kind")?) else { return Ok(None) };
    Ok(Some(MachineEvent {
        time: time(row, "time")?,
        kind,
        detail: text::load(row.try_get("detail")?),
        attributes: labels_from_json(row.try_get("attributes")?)?,
    }))
}

fn gap(row: &PgRow) -> Outcome<Option<(Gap, UnixMillis)>> {
    let Some(reason) = GapReason::from_name(row.try_get("reason")?) else { return Ok(None) };
    let (first, last): (i64, i64) = (row.try_get("first_seq")?, row.try_get("last_seq")?);
    let times: (Option<Stamp>, Option<Stamp>) =
        (row.try_get("first_time")?, row.try_get("last_time")?);
    let gap = Gap {
        seqs: SeqRange::new(first as u64, last as u64)
            .ok_or_else(|| corrupt("gap", &format_args!("items {first} to {last} are no range")))?,
        times: times.0.zip(times.1).map(|(a, b)| (a.0, b.0)),
        reason,
        detail: text::load(row.try_get("detail")?),
    };
    Ok(Some((gap, time(row, "received")?)))
}
