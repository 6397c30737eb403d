//! Errors in groups.

use std::collections::HashSet;

use model::{MachineId, Severity, TimeRange, UnixMillis};
use sqlx::SqliteConnection;

use super::SqliteHistory;
use super::logs::machine_id;
use crate::StorageError;
use crate::history::logs::{ErrorDeltas, MINUTE_MS};
use crate::history::{ErrorCount, ErrorGroup, Errors};
use crate::sqlite::{insert, list_to_json};

type GroupRow = (i64, String, String, String, i64, i64, i64, i64);

impl SqliteHistory {
    pub(super) async fn errors(
        &self,
        range: TimeRange,
        bucket_ms: i64,
        machines: Option<&[MachineId]>,
    ) -> Result<Errors, StorageError> {
        let mut tx = self.database.read().await?;
        let start = range.start.floor(MINUTE_MS);
        let names: Option<Vec<String>> =
            machines.map(|m| m.iter().map(|m| m.to_string()).collect());
        let rows: Vec<(i64, String, i64, i64)> = sqlx::query_as(
            "select group_id, machine, (minute - ?1) / ?3 as bucket, sum(count) from error_minute
             where minute >= ?1 and minute < ?2
                and (?4 is null or machine in (select value from json_each(?4)))
             group by group_id, machine, bucket order by group_id, machine, bucket",
        )
        .bind(start.0)
        .bind(range.end.0)
        .bind(bucket_ms)
        .bind(names.map(|names| list_to_json(&names)))
        .fetch_all(&mut *tx)
        .await?;
        let counts: Result<Vec<ErrorCount>, StorageError> = rows
            .into_iter()
            .map(|(group, machine, bucket, count)| {
                Ok(ErrorCount {
                    fingerprint: group as u64,
                    machine: machine_id(&machine)?,
                    time: start + bucket * bucket_ms,
                    count: count as u64,
                })
            })
            .collect();
        let counts = counts?;
        let ids: HashSet<i64> = counts.iter().map(|count| count.fingerprint as i64).collect();
        let ids: Vec<i64> = ids.into_iter().collect();
        let rows: Vec<GroupRow> = sqlx::query_as(
            "select id, service, template, example, severity, first_seen, last_seen, count
             from error_group where id in (select value from json_each(?)) order by id",
        )
        .bind(list_to_json(&ids))
        .fetch_all(&mut *tx)
        .await?;
        Ok(Errors { groups: rows.into_iter().map(group).collect(), counts })
    }
}

fn group(row: GroupRow) -> ErrorGroup {
    let (id, service, template, example, severity, first_seen, last_seen, count) = row;
    ErrorGroup {
        fingerprint: id as u64,
        service,
        template,
        example,
        severity: u32::try_from(severity).ok().and_then(Severity::new).unwrap_or_default(),
        first_seen: UnixMillis(first_seen),
        last_seen: UnixMillis(last_seen),
        count: count as u64,
    }
}

pub(super) async fn known_groups(
    connection: &mut SqliteConnection,
) -> Result<HashSet<u64>, StorageError> {
    let ids: Vec<i64> =
        sqlx::query_scalar("select id from error_group").fetch_all(connection).await?;
    Ok(ids.into_iter().map(|id| id as u64).collect())
}

pub(super) async fn put(
    connection: &mut SqliteConnection,
    deltas: ErrorDeltas,
) -> Result<(), StorageError> {
    insert(
        connection,
        "insert into error_group (id, service, template, example, severity, first_seen, last_seen, count)",
        "on conflict (id) do update set
            severity = max(error_group.severity, excluded.severity),
            first_seen = min(error_group.first_seen, excluded.first_seen),
            last_seen = max(error_group.last_seen, excluded.last_seen),
            count = error_group.count + excluded.count",
        deltas.groups.into_iter().collect::<Vec<_>>(),
        |row, (id, group)| {
            row.push_bind(id as i64)
                .push_bind(group.service)
                .push_bind(group.template)
                .push_bind(group.example)
                .push_bind(i64::from(group.severity.number()))
                .push_bind(group.first.0)
                .push_bind(group.last.0)
                .push_bind(group.count as i64);
        },
    )
    .await?;
    insert(
        connection,
        "insert into error_minute (minute, group_id, machine, count)",
        "on conflict (minute, group_id, machine) do update set
            count = error_minute.count + excluded.count",
        deltas.counts.into_iter().collect::<Vec<_>>(),
        |row, ((minute, group, machine), count)| {
            row.push_bind(minute.0)
                .push_bind(group as i64)
                .push_bind(machine.to_string())
                .push_bind(count as i64);
        },
    )
    .await?;
    Ok(())
}

/// Drops some of what was before, and groups that were not seen since.
pub(super) async fn drop_some(
    connection: &mut SqliteConnection,
    before: UnixMillis,
    limit: i64,
) -> Result<u64, StorageError> {
    let mut dropped = 0;
    for statement in [
        "delete from error_minute where (minute, group_id, machine) in (
            select minute, group_id, machine from error_minute where minute < ? limit ?)",
        "delete from error_group where id in (
            select id from error_group where last_seen < ? order by last_seen limit ?)",
    ] {
        dropped += super::expire::delete_in(connection, statement, before.0, limit).await?;
    }
    Ok(dropped)
}
