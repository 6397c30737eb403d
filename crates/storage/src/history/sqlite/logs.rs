//! Log events: in as blocks, out by search. See [`crate::history::logs`].

use std::str::FromStr as _;

use model::{MachineId, UnixMillis};
use sqlx::SqliteConnection;

use super::{SqliteHistory, off_thread};
use crate::StorageError;
use crate::history::logs::{Candidate, FreshLog, Hunt, NewBlock, build};
use crate::history::{LogPage, LogSearch};
use crate::sqlite::{STORE, list_to_json};

/// Blocks whose filters are read together: few at first, for what is found at once.
const CANDIDATES_FIRST: i64 = 16;
const CANDIDATES_MAX: i64 = 512;

impl SqliteHistory {
    pub(super) async fn search_logs(&self, search: LogSearch) -> Result<LogPage, StorageError> {
        let mut tx = self.database.read().await?;
        let removed = removed(&mut tx).await?;
        let mut hunt = Hunt::new(search, removed);
        let mut after = (i64::MAX, i64::MAX);
        let mut count = CANDIDATES_FIRST;
        'all: loop {
            let candidates = candidates(&mut tx, &hunt, after, count).await?;
            let Some(last) = candidates.last() else { break };
            after = (last.last.0, last.id);
            let filters = filters(&mut tx, &hunt, &candidates).await?;
            for Candidate { id, last, full } in candidates {
                if hunt.is_over(last) {
                    break 'all;
                }
                let parts = filters.iter().filter(|(block, _, _)| *block == id);
                let parts: Vec<(i64, Vec<u8>)> =
                    parts.map(|(_, part, bits)| (*part, bits.clone())).collect();
                if full && !hunt.wanted.may_be_in(&parts) {
                    continue;
                }
                let data: Vec<u8> = sqlx::query_scalar("select data from log_block where id = ?")
                    .bind(id)
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
    connection: &mut SqliteConnection,
    hunt: &Hunt,
    after: (i64, i64),
    count: i64,
) -> Result<Vec<Candidate>, StorageError> {
    let range = hunt.range();
    let rows: Vec<(i64, i64, bool)> = sqlx::query_as(
        "select id, last, full from log_block
         where (last, id) < (?1, ?2) and last >= ?3 and first < ?4
         order by last desc, id desc limit ?5",
    )
    .bind(after.0)
    .bind(after.1)
    .bind(range.start.0)
    .bind(range.end.0)
    .bind(count)
    .fetch_all(connection)
    .await?;
    let candidate = |(id, last, full)| Candidate { id, last: UnixMillis(last), full };
    Ok(rows.into_iter().map(candidate).collect())
}

/// Block, part and bits.
async fn filters(
    connection: &mut SqliteConnection,
    hunt: &Hunt,
    candidates: &[Candidate],
) -> Result<Vec<(i64, i64, Vec<u8>)>, StorageError> {
    let parts = hunt.wanted.parts();
    let full: Vec<i64> = candidates.iter().filter(|c| c.full).map(|c| c.id).collect();
    if parts.is_empty() || full.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as(
        "select block_id, part, data from log_filter
         where part in (select value from json_each(?)) and block_id in (select value from json_each(?))",
    )
    .bind(list_to_json(&parts))
    .bind(list_to_json(&full))
    .fetch_all(connection)
    .await?)
}

pub(super) async fn removed(
    connection: &mut SqliteConnection,
) -> Result<Vec<(MachineId, u64)>, StorageError> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("select machine, before from log_removed").fetch_all(connection).await?;
    rows.into_iter().map(|(machine, before)| Ok((machine_id(&machine)?, before as u64))).collect()
}

pub(super) fn machine_id(text: &str) -> Result<MachineId, StorageError> {
    MachineId::from_str(text).map_err(|e| StorageError::Corrupt {
        store: STORE,
        reason: format!("id of a machine: {e}"),
    })
}

/// Makes blocks of what arrived.
pub(super) async fn put(
    connection: &mut SqliteConnection,
    events: Vec<FreshLog>,
) -> Result<(), StorageError> {
    if events.is_empty() {
        return Ok(());
    }
    let blocks = off_thread(move || build(events)).await?.map_err(cannot_pack)?;
    put_blocks(connection, blocks).await
}

pub(super) fn cannot_pack(error: std::io::Error) -> StorageError {
    StorageError::Unavailable {
        store: STORE,
        reason: format!("log events cannot be packed: {error}"),
    }
}

pub(super) async fn put_blocks(
    connection: &mut SqliteConnection,
    blocks: Vec<NewBlock>,
) -> Result<(), StorageError> {
    for block in blocks {
        let id = sqlx::query(
            "insert into log_block (first, last, events, full, data) values (?, ?, ?, ?, ?)",
        )
        .bind(block.first.0)
        .bind(block.last.0)
        .bind(block.events as i64)
        .bind(block.is_full())
        .bind(block.data)
        .execute(&mut *connection)
        .await?
        .last_insert_rowid();
        for (part, bits) in block.filter.into_iter().enumerate() {
            sqlx::query("insert into log_filter (part, block_id, data) values (?, ?, ?)")
                .bind(part as i64)
                .bind(id)
                .bind(bits)
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}

/// Hides what there is of a machine.
pub(super) async fn hide(
    connection: &mut SqliteConnection,
    machine: MachineId,
) -> Result<(), StorageError> {
    sqlx::query(
        "insert into log_removed (machine, before)
         select ?, ((coalesce(max(id), 0) + 1) << 20) from log_block where true
         on conflict (machine) do update set before = excluded.before",
    )
    .bind(machine.to_string())
    .execute(&mut *connection)
    .await?;
    sqlx::query("delete from error_minute where machine = ?")
        .bind(machine.to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// Drops some blocks that ended before, with their filters.
pub(super) async fn drop_blocks(
    connection: &mut SqliteConnection,
    before: UnixMillis,
    limit: i64,
) -> Result<u64, StorageError> {
    let ids: Vec<i64> =
        sqlx::query_scalar("select id from log_block where last < ? order by last limit ?")
            .bind(before.0)
            .bind(limit)
            .fetch_all(&mut *connection)
            .await?;
    delete_blocks(connection, &ids).await?;
    Ok(ids.len() as u64)
}

pub(super) async fn delete_blocks(
    connection: &mut SqliteConnection,
    ids: &[i64],
) -> Result<(), StorageError> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids = list_to_json(ids);
    sqlx::query(
        "delete from log_filter where part in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
            and block_id in (select value from json_each(?))",
    )
    .bind(&ids)
    .execute(&mut *connection)
    .await?;
    sqlx::query("delete from log_block where id in (select value from json_each(?))")
        .bind(&ids)
        .execute(connection)
        .await?;
    Ok(())
}
