//! Sealing: frames of a closed stretch become blocks, its process reports become a group.
//!
//! Frames are deleted as they are read, in the transaction that inserts their blocks: a frame that another
//! process inserts meanwhile is not among them and stays. Existing blocks are not touched: where frames
//! came late, their blocks lie over the old ones, and the hour is marked to be closed again.

use std::collections::BTreeMap;

use model::{TimeRange, UnixMillis};
use sqlx::PgConnection;

use super::expire::raw_is_complete;
use super::{HOUR_MS, STRETCH_MS, TimescaleHistory, off_thread};
use crate::history::block::Packing;
use crate::history::report_group;
use crate::history::transpose::{NewBlock, StoredFrame, transpose};
use crate::history::values;
use crate::postgres::copy::Rows;
use crate::postgres::copy_in;
use crate::postgres::failure::{Outcome, unavailable};
use crate::postgres::stamp::Stamp;

/// How long after its end a stretch stays open, for frames on their way.
const LATENESS_MS: i64 = 30_000;
/// How long an hour stays open after something came late into it; more of it may follow.
const SETTLE_MS: i64 = 30_000;
/// What one sealing reads at most, as stored; a longer stretch is sealed in pieces.
const BYTES_MAX: i64 = 16 << 20;

type Reports = Vec<(UnixMillis, Vec<u8>)>;

impl TimescaleHistory {
    /// For each machine that has one, its oldest stretch that is closed and not sealed.
    pub(super) async fn closed_stretches(&self, now: UnixMillis) -> Outcome<Vec<(i64, TimeRange)>> {
        let closed = (now - LATENESS_MS).floor(STRETCH_MS);
        let mut tx = self.timescale.read().await?;
        let oldest: Vec<(i64, Stamp)> = sqlx::query_as(
            // A look into an index for each machine: all frames that wait are many.
            "select id, oldest from machine cross join lateral (
                select least(
                    (select min(time) from frame where machine_id = machine.id and time < $1),
                    (select min(time) from process_report
                     where machine_id = machine.id and time < $1)) as oldest
             ) as waiting
             where name is not null and oldest is not null",
        )
        .bind(Stamp(closed))
        .fetch_all(&mut *tx)
        .await?;
        let stretch = |(machine, Stamp(oldest)): (i64, Stamp)| {
            let start = oldest.floor(STRETCH_MS);
            (machine, TimeRange::new(start, start + STRETCH_MS))
        };
        Ok(oldest.into_iter().map(stretch).collect())
    }

    /// Seals the stretch, or its first piece when it is long.
    pub(super) async fn seal(
        &self,
        machine: i64,
        mut stretch: TimeRange,
        now: UnixMillis,
    ) -> Outcome<()> {
        let mut tx = self.timescale.write().await?;
        for statement in [
            "select min(time) from (
                select time, sum(pg_column_size(data)) over (order by time) as total from frame
                where machine_id = $1 and time >= $2 and time < $3
             ) as growing where total > $4 and time > $2",
            "select min(time) from (
                select time, sum(octet_length(data)) over (order by time) as total from process_report
                where machine_id = $1 and time >= $2 and time < $3
             ) as growing where total > $4 and time > $2",
        ] {
            let bytes_max = BYTES_MAX.min(report_group::BYTES_MAX as i64);
            let cut: Option<Stamp> = sqlx::query_scalar(statement)
                .bind(machine)
                .bind(Stamp(stretch.start))
                .bind(Stamp(stretch.end))
                .bind(bytes_max)
                .fetch_one(&mut *tx)
                .await?;
            if let Some(Stamp(cut)) = cut {
                stretch.end = cut;
            }
        }
        let frames = take_frames(&mut tx, machine, stretch).await?;
        let reports = take_reports(&mut tx, machine, stretch).await?;
        let (blocks, damaged, group) = off_thread(move || {
            let (blocks, damaged) = transpose(&frames, Packing::Tight);
            let group = (!reports.is_empty()).then(|| {
                let first = reports.iter().map(|(time, _)| *time).min().unwrap_or_default();
                let last = reports.iter().map(|(time, _)| *time).max().unwrap_or_default();
                (first, last, report_group::encode(&reports))
            });
            (blocks, damaged, group)
        })
        .await?;
        if !blocks.is_empty() {
            let hour = stretch.start.floor(HOUR_MS);
            // Before its new blocks are there.
            open_hour(&mut tx, machine, hour, now).await?;
            insert_blocks(&mut tx, machine, hour, blocks).await?;
        }
        if let Some((first, last, data)) = group {
            let data =
                data.map_err(|e| unavailable(format!("process reports do not compress: {e}")))?;
            sqlx::query(
                "insert into process_block (machine_id, first, last, data) values ($1, $2, $3, $4)",
            )
            .bind(machine)
            .bind(Stamp(first))
            .bind(Stamp(last))
            .bind(data)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        for time in damaged {
            self.damaged("frame", time.0, &"dropped while its stretch was sealed");
        }
        Ok(())
    }
}

async fn take_frames(
    connection: &mut PgConnection,
    machine: i64,
    stretch: TimeRange,
) -> Outcome<Vec<StoredFrame>> {
    let rows: Vec<(Stamp, i64, i64, Vec<f64>)> = sqlx::query_as(
        "delete from frame where machine_id = $1 and time >= $2 and time < $3
         returning time, layout_id, id, data",
    )
    .bind(machine)
    .bind(Stamp(stretch.start))
    .bind(Stamp(stretch.end))
    .fetch_all(connection)
    .await?;
    // By time, and of several with one time and layout the one that came last.
    let mut frames: BTreeMap<(UnixMillis, i64), (i64, Vec<f64>)> = BTreeMap::new();
    for (Stamp(time), layout, id, data) in rows {
        let there = frames.entry((time, layout)).or_insert_with(|| (i64::MIN, Vec::new()));
        if id > there.0 {
            *there = (id, data);
        }
    }
    let stored = |((time, layout), (_, data)): (_, (i64, Vec<f64>))| StoredFrame {
        time,
        layout,
        data: values::encode(&data),
    };
    Ok(frames.into_iter().map(stored).collect())
}

async fn take_reports(
    connection: &mut PgConnection,
    machine: i64,
    stretch: TimeRange,
) -> Outcome<Reports> {
    let mut rows: Vec<(Stamp, i64, Vec<u8>)> = sqlx::query_as(
        "delete from process_report where machine_id = $1 and time >= $2 and time < $3
         returning time, id, data",
    )
    .bind(machine)
    .bind(Stamp(stretch.start))
    .bind(Stamp(stretch.end))
    .fetch_all(connection)
    .await?;
    rows.sort_by_key(|(time, id, _)| (*time, *id));
    Ok(rows.into_iter().map(|(Stamp(time), _, data)| (time, data)).collect())
}

async fn open_hour(
    connection: &mut PgConnection,
    machine: i64,
    hour: UnixMillis,
    now: UnixMillis,
) -> Outcome<()> {
    let end = hour + HOUR_MS;
    let late = now > end + LATENESS_MS + SETTLE_MS;
    let due = if late { now + SETTLE_MS } else { end + LATENESS_MS };
    let complete = raw_is_complete(connection, machine, hour).await?;
    sqlx::query(
        "insert into open_hour (machine_id, hour, due, complete) values ($1, $2, $3, $4)
         on conflict (machine_id, hour) do update set due = excluded.due",
    )
    .bind(machine)
    .bind(Stamp(hour))
    .bind(Stamp(due))
    .bind(complete)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn insert_blocks(
    connection: &mut PgConnection,
    machine: i64,
    hour: UnixMillis,
    blocks: Vec<NewBlock>,
) -> Outcome<()> {
    let mut rows = Rows::new();
    for block in blocks {
        rows.row(7)
            .time(hour)
            .int8(machine)
            .int8(block.layout)
            .int4(block.part as i32)
            .time(block.first)
            .time(block.last)
            .bytes(&block.data);
    }
    let statement = "copy block (hour, machine_id, layout_id, part, first, last, data) from stdin (format binary)";
    copy_in(connection, statement, rows).await
}
