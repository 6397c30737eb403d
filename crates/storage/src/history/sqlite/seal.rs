//! Sealing: frames of a closed stretch become blocks, its process reports become a group.
//!
//! Existing blocks are not touched: where frames came late, their blocks lie over the old ones, and the hour is
//! marked to be closed again (see [`super::close`]).

use std::sync::atomic::Ordering;

use futures::TryStreamExt as _;
use model::{TimeRange, UnixMillis};
use sqlx::Row as _;

use super::append::Sealing;
use super::facts::raw_is_complete;
use super::unused::mark_used;
use super::{HOUR_MS, STRETCH_MS, SqliteHistory, off_thread};
use crate::StorageError;
use crate::history::block::Packing;
use crate::history::report_group;
use crate::history::transpose::{NewBlock, StoredFrame, transpose};
use crate::sqlite::{STORE, insert};

/// How long after its end a stretch stays open, for frames on their way.
const LATENESS_MS: i64 = 30_000;
/// How long an hour stays open after something came late into it; more of it may follow.
const SETTLE_MS: i64 = 30_000;
/// What one sealing reads at most; a longer stretch is sealed in pieces.
const BYTES_MAX: usize = 16 << 20;
const ROWS_MAX: usize = 1 << 16;

/// What is ready to be sealed: pieces of one machine's stretch.
struct Gathered {
    stretch: TimeRange,
    frames: Vec<StoredFrame>,
    reports: Vec<(UnixMillis, Vec<u8>)>,
}

impl SqliteHistory {
    /// For each machine that has one, its oldest stretch that is closed and not sealed.
    pub(super) async fn closed_stretches(
        &self,
        now: UnixMillis,
    ) -> Result<Vec<(i64, TimeRange)>, StorageError> {
        let mut tx = self.database.read().await?;
        let oldest: Vec<(i64, Option<i64>, Option<i64>)> = sqlx::query_as(
            "select id,
                (select min(time) from frame where machine_id = machine.id),
                (select min(time) from process_report where machine_id = machine.id)
             from machine where name is not null",
        )
        .fetch_all(&mut *tx)
        .await?;
        let closed = oldest.into_iter().filter_map(|(machine, frame, report)| {
            let oldest = UnixMillis(frame.into_iter().chain(report).min()?);
            let start = oldest.floor(STRETCH_MS);
            let stretch = TimeRange::new(start, start + STRETCH_MS);
            (stretch.end + LATENESS_MS <= now).then_some((machine, stretch))
        });
        Ok(closed.collect())
    }

    /// Seals the stretch, or its first piece when it is long. False when an append came in between: then
    /// nothing happened.
    pub(super) async fn seal(
        &self,
        machine: i64,
        stretch: TimeRange,
        now: UnixMillis,
    ) -> Result<bool, StorageError> {
        // From here on every append says whether it touches the stretch; one that is under way holds the
        // lock until it is visible to the read below.
        self.writer.lock().await.sealing = Some(Sealing { machine, stretch, touched: false });
        let Gathered { stretch, frames, reports } = self.gather(machine, stretch).await?;
        let (blocks, damaged, group) = off_thread(move || {
            // Its hour is closed within the hour, and packs it again.
            let (blocks, damaged) = transpose(&frames, Packing::Loose);
            let group = (!reports.is_empty()).then(|| {
                let first = reports.iter().map(|(time, _)| *time).min().unwrap_or_default();
                let last = reports.iter().map(|(time, _)| *time).max().unwrap_or_default();
                (first, last, report_group::encode(&reports))
            });
            (blocks, damaged, group)
        })
        .await?;

        let mut writer = self.writer.lock().await;
        if writer.sealing.take().is_none_or(|sealing| sealing.touched) {
            return Ok(false);
        }
        let mut tx = self.database.write().await?;
        for table in [
            "delete from frame where machine_id = ? and time >= ? and time < ?",
            "delete from process_report where machine_id = ? and time >= ? and time < ?",
        ] {
            sqlx::query(table)
                .bind(machine)
                .bind(stretch.start.0)
                .bind(stretch.end.0)
                .execute(&mut *tx)
                .await?;
        }
        let hour = stretch.start.floor(HOUR_MS);
        if !blocks.is_empty() {
            let mut layouts: Vec<i64> = blocks.iter().map(|block| block.layout).collect();
            layouts.dedup();
            mark_used(&mut tx, machine, &layouts, now).await?;
            // Before its new blocks are there.
            let complete = raw_is_complete(&mut tx, machine, hour).await?;
            insert_blocks(&mut tx, machine, hour, blocks).await?;
            let end = hour + HOUR_MS;
            let late = now > end + LATENESS_MS + SETTLE_MS;
            let due = if late { now + SETTLE_MS } else { end + LATENESS_MS };
            sqlx::query(
                "insert into open_hour (machine_id, hour, due, complete) values (?, ?, ?, ?)
                 on conflict (machine_id, hour) do update set due = excluded.due",
            )
            .bind(machine)
            .bind(hour.0)
            .bind(due.0)
            .bind(complete)
            .execute(&mut *tx)
            .await?;
        }
        if let Some((first, last, data)) = group {
            let data = data.map_err(|e| StorageError::Unavailable {
                store: STORE,
                reason: format!("process reports do not compress: {e}"),
            })?;
            sqlx::query(
                "insert into process_block (machine_id, first, last, data) values (?, ?, ?, ?)",
            )
            .bind(machine)
            .bind(first.0)
            .bind(last.0)
            .bind(data)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        for time in damaged {
            self.damaged("frame", time.0, &"dropped while its stretch was sealed");
        }
        Ok(true)
    }

    async fn gather(&self, machine: i64, stretch: TimeRange) -> Result<Gathered, StorageError> {
        let mut tx = self.database.read().await?;
        let mut gathered = Gathered { stretch, frames: Vec::new(), reports: Vec::new() };
        let mut bytes = 0;
        {
            let mut rows = sqlx::query(
                "select time, layout_id, data from frame
                 where machine_id = ? and time >= ? and time < ? order by time, layout_id",
            )
            .bind(machine)
            .bind(stretch.start.0)
            .bind(stretch.end.0)
            .fetch(&mut *tx);
            while let Some(row) = rows.try_next().await? {
                let time = UnixMillis(row.try_get(0)?);
                let full = bytes >= BYTES_MAX || gathered.frames.len() >= ROWS_MAX;
                // Cut between instants, so that each is sealed as a whole.
                if full && gathered.frames.last().is_some_and(|frame| frame.time < time) {
                    gathered.stretch.end = time;
                    break;
                }
                let data: Vec<u8> = row.try_get(2)?;
                bytes += data.len();
                gathered.frames.push(StoredFrame { time, layout: row.try_get(1)?, data });
            }
        }
        let mut bytes = 0;
        let mut rows = sqlx::query(
            "select time, data from process_report
             where machine_id = ? and time >= ? and time < ? order by time",
        )
        .bind(machine)
        .bind(gathered.stretch.start.0)
        .bind(gathered.stretch.end.0)
        .fetch(&mut *tx);
        while let Some(row) = rows.try_next().await? {
            let (time, data): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
            bytes += data.len();
            if bytes > report_group::BYTES_MAX && !gathered.reports.is_empty() {
                gathered.stretch.end = UnixMillis(time);
                break;
            }
            gathered.reports.push((UnixMillis(time), data));
        }
        drop(rows);
        let end = gathered.stretch.end;
        gathered.frames.retain(|frame| frame.time < end);
        Ok(gathered)
    }

    /// How many blobs could not be read since the start.
    pub fn damaged_total(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }
}

pub(super) async fn insert_blocks(
    connection: &mut sqlx::SqliteConnection,
    machine: i64,
    hour: UnixMillis,
    blocks: Vec<NewBlock>,
) -> Result<(), sqlx::Error> {
    insert(
        connection,
        "insert into block (machine_id, layout_id, part, hour, first, last, data)",
        "",
        blocks,
        |row, block| {
            row.push_bind(machine)
                .push_bind(block.layout)
                .push_bind(block.part)
                .push_bind(hour.0)
                .push_bind(block.first.0)
                .push_bind(block.last.0)
                .push_bind(block.data);
        },
    )
    .await
}
