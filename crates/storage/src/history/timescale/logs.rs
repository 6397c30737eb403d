//! Log events: in as blocks, out by search. See [`crate::history::logs`].

use std::str::FromStr as _;

use model::{MachineId, UnixMillis};
use sqlx::PgConnection;

use super::{TimescaleHistory, off_thread};
use crate::history::logs::{Candidate, FreshLog, Hunt, NewBlock, build};
use crate::history::{LogPage, LogSearch};
use crate::postgres::failure::{Outcome, corrupt, unavailable};
use crate::postgres::stamp::Stamp;

/// Blocks whose filters are read together: few at first, for what is found at once.
const CANDIDATES_FIRST: i64 = 16;
const CANDIDATES_MAX: i64 = 512;

impl TimescaleHistory {
    pub(super) async fn find_logs(&self, search: LogSearch) -> Outcome<LogPage> {
        let mut tx = self.timescale.read().await?;
        let removed = removed(&mut tx).await?;
        let mut hunt = Hunt::new(search, removed);
        let mut after = (UnixMillis::MAX, i64::MAX);
        let mut count = CANDIDATES_FIRST;
        'all: loop {
            let candidates = candidates(&mut tx, &hunt, after, count).await?;
            let Some(last) = candidates.last() else { break };
            after = (last.last, last.id);
            let filters = filters(&mut tx, &hunt, &candidates).await?;
            for Candidate { id, last, full } in candidates {
                if hunt.is_over(last) {
                    break 'all;
                }
                let parts = filters.iter().filter(|(block, _, _)| *block == id);
                let parts: Vec<(i64, Vec<u8>)> =
                    parts.map(|(_, part, bits)| (i64::from(*part), bits.clone())).collect();
                if full && !hunt.wanted.may_be_in(&parts) {
                    continue;
                }
                let data: Vec<u8> =
                    sqlx::query_scalar("select data from log_block where id = $1 and last = $2")
                        .bind(id)
                        .bind(Stamp(last))
                        .fetch_one(&mut *tx)
                        .await?;
                let looked = off_thread(move || {
                    let result = hunt.look(id, &data);
                    (hunt, result)
                });
                let result;
                (hunt, result) = looked.await?;
                if let Err(reason) = result {
                    self.damaged("log_block", id, &reason);
                }
            }
            count = (count * 4).min(CANDIDATES_MAX);
        }
        Ok(hunt.end())
    }
}

async fn candidates(
    connection: &mut PgConnection,
    hunt: &Hunt,
    after: (UnixMillis, i64),
    count: i64,
) -> Outcome<Vec<Candidate>> {
    let range = hunt.range();
    // The bound on `last` alone is what tells which chunks not to look at.
    let rows: Vec<(i64, Stamp, bool)> = sqlx::query_as(
        "select id, last, \"full\" from log_block
         where last <= $1 and (last, id) < ($1, $2) and last >= $3 and first < $4
         order by last desc, id desc limit $5",
    )
    .bind(Stamp(after.0))
    .bind(after.1)
    .bind(Stamp(range.start))
    .bind(Stamp(range.end))
    .bind(count)
    .fetch_all(connection)
    .await?;
    let candidate = |(id, Stamp(last), full)| Candidate { id, last, full };
    Ok(rows.into_iter().map(candidate).collect())
}

/// Block, part and bits.
async fn filters(
    connection: &mut PgConnection,
    hunt: &Hunt,
    candidates: &[Candidate],
) -> Outcome<Vec<(i64, i16, Vec<u8>)>> {
    let parts: Vec<i16> = hunt.wanted.parts().into_iter().map(|part| part as i16).collect();
    let full = || candidates.iter().filter(|candidate| candidate.full);
    let (Some(newest), Some(oldest)) = (full().next(), full().next_back()) else {
        return Ok(Vec::new());
    };
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as(
        "select block_id, part, data from log_filter
         where part = any($1) and block_id = any($2) and last >= $3 and last <= $4",
    )
    .bind(parts)
    .bind(full().map(|candidate| candidate.id).collect::<Vec<_>>())
    .bind(Stamp(oldest.last))
    .bind(Stamp(newest.last))
    .fetch_all(connection)
    .await?)
}

pub(super) async fn removed(connection: &mut PgConnection) -> Outcome<Vec<(MachineId, u64)>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("select machine, before from log_removed").fetch_all(connection).await?;
    rows.into_iter().map(|(machine, before)| Ok((machine_id(&machine)?, before as u64))).collect()
}

pub(super) fn machine_id(text: &str) -> Outcome<MachineId> {
    MachineId::from_str(text).map_err(|e| corrupt("id of a machine", &e))
}

/// Makes blocks of what arrived.
pub(super) async fn put(connection: &mut PgConnection, events: Vec<FreshLog>) -> Outcome<()> {
    if events.is_empty() {
        return Ok(());
    }
    let blocks = off_thread(move || build(events)).await?.map_err(cannot_pack)?;
    put_blocks(connection, blocks).await
}

pub(super) fn cannot_pack(error: std::io::Error) -> crate::postgres::failure::Failure {
    unavailable(format!("log events cannot be packed: {error}"))
}

pub(super) async fn put_blocks(
    connection: &mut PgConnection,
    blocks: Vec<NewBlock>,
) -> Outcome<()> {
    for block in blocks {
        let id: i64 = sqlx::query_scalar(
            "insert into log_block (last, first, events, \"full\", data)
             values ($1, $2, $3, $4, $5) returning id",
        )
        .bind(Stamp(block.last))
        .bind(Stamp(block.first))
        .bind(block.events as i64)
        .bind(block.is_full())
        .bind(&block.data)
        .fetch_one(&mut *connection)
        .await?;
        if !block.is_full() {
            continue;
        }
        sqlx::query(
            "insert into log_filter (last, block_id, part, data)
             select $1, $2, part - 1, data from unnest($3::bytea[]) with ordinality as parts (data, part)",
        )
        .bind(Stamp(block.last))
        .bind(id)
        .bind(block.filter)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Hides what there is of a machine.
pub(super) async fn hide(connection: &mut PgConnection, machine: MachineId) -> Outcome<()> {
    // Numbers of blocks that others are about to store are smaller than the next.
    sqlx::query(
        "insert into log_removed (machine, before)
         values ($1, (nextval(pg_get_serial_sequence('log_block', 'id')) + 1) << 20)
         on conflict (machine) do update set before = excluded.before",
    )
    .bind(machine.to_string())
    .execute(&mut *connection)
    .await?;
    sqlx::query("delete from error_minute where machine = $1")
        .bind(machine.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn delete_blocks(connection: &mut PgConnection, ids: &[i64]) -> Outcome<()> {
    for statement in [
        "delete from log_filter where block_id = any($1)",
        "delete from log_block where id = any($1)",
    ] {
        sqlx::query(statement).bind(ids).execute(&mut *connection).await?;
    }
    Ok(())
}
