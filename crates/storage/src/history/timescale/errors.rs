//! Errors in groups.

use std::collections::HashSet;

use model::{MachineId, Severity, TimeRange};
use sqlx::PgConnection;

use super::TimescaleHistory;
use super::logs::machine_id;
use crate::history::logs::{ErrorDeltas, MINUTE_MS};
use crate::history::{ErrorCount, ErrorGroup, Errors};
use crate::postgres::failure::Outcome;
use crate::postgres::stamp::Stamp;
use crate::postgres::text;

type GroupRow = (i64, String, String, String, i16, Stamp, Stamp, i64);

impl TimescaleHistory {
    pub(super) async fn find_errors(
        &self,
        range: TimeRange,
        bucket_ms: i64,
        machines: Option<&[MachineId]>,
    ) -> Outcome<Errors> {
        let mut tx = self.timescale.read().await?;
        let start = range.start.floor(MINUTE_MS);
        let names: Option<Vec<String>> =
            machines.map(|m| m.iter().map(|m| m.to_string()).collect());
        let rows: Vec<(i64, String, i64, i64)> = sqlx::query_as(
            "select group_id, machine,
                (extract(epoch from minute - $1) * 1000)::bigint / $3 as bucket, sum(count)::bigint
             from error_minute
             where minute >= $1 and minute < $2 and ($4::text[] is null or machine = any($4))
             group by group_id, machine, bucket order by group_id, machine, bucket",
        )
        .bind(Stamp(start))
        .bind(Stamp(range.end))
        .bind(bucket_ms)
        .bind(names)
        .fetch_all(&mut *tx)
        .await?;
        let counts: Outcome<Vec<ErrorCount>> = rows
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
        let rows: Vec<GroupRow> = sqlx::query_as(
            "select id, service, template, example, severity, first_seen, last_seen, count
             from error_group where id = any($1) order by id",
        )
        .bind(ids.into_iter().collect::<Vec<_>>())
        .fetch_all(&mut *tx)
        .await?;
        Ok(Errors { groups: rows.into_iter().map(group).collect(), counts })
    }
}

fn group(row: GroupRow) -> ErrorGroup {
    let (id, service, template, example, severity, first_seen, last_seen, count) = row;
    ErrorGroup {
        fingerprint: id as u64,
        service: text::load(service),
        template: text::load(template),
        example: text::load(example),
        severity: u32::try_from(severity).ok().and_then(Severity::new).unwrap_or_default(),
        first_seen: first_seen.0,
        last_seen: last_seen.0,
        count: count as u64,
    }
}

pub(super) async fn known_groups(connection: &mut PgConnection) -> Outcome<HashSet<u64>> {
    let ids: Vec<i64> =
        sqlx::query_scalar("select id from error_group").fetch_all(connection).await?;
    Ok(ids.into_iter().map(|id| id as u64).collect())
}

/// Always in the same order, so that two appends never wait for each other.
pub(super) async fn put(connection: &mut PgConnection, deltas: ErrorDeltas) -> Outcome<()> {
    for (id, group) in deltas.groups {
        sqlx::query(
            "insert into error_group
                (id, service, template, example, severity, first_seen, last_seen, count)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict (id) do update set
                severity = greatest(error_group.severity, excluded.severity),
                first_seen = least(error_group.first_seen, excluded.first_seen),
                last_seen = greatest(error_group.last_seen, excluded.last_seen),
                count = error_group.count + excluded.count",
        )
        .bind(id as i64)
        .bind(text::store(&group.service).into_owned())
        .bind(text::store(&group.template).into_owned())
        .bind(text::store(&group.example).into_owned())
        .bind(i16::from(group.severity.number()))
        .bind(Stamp(group.first))
        .bind(Stamp(group.last))
        .bind(group.count as i64)
        .execute(&mut *connection)
        .await?;
    }
    let (mut minutes, mut groups, mut machines, mut counts) = (vec![], vec![], vec![], vec![]);
    for ((minute, group, machine), count) in deltas.counts {
        minutes.push(Stamp(minute));
        groups.push(group as i64);
        machines.push(machine.to_string());
        counts.push(count as i64);
    }
    sqlx::query(
        "insert into error_minute (minute, group_id, machine, count)
         select * from unnest($1::timestamptz[], $2::bigint[], $3::text[], $4::bigint[])
         on conflict (minute, group_id, machine) do update set
            count = error_minute.count + excluded.count",
    )
    .bind(minutes)
    .bind(groups)
    .bind(machines)
    .bind(counts)
    .execute(connection)
    .await?;
    Ok(())
}
