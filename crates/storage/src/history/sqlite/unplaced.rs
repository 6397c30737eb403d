//! Places of series: which column of a layout is which series of a machine, a row or two for each.
//!
//! A layout that comes alone is placed as it comes. A fleet that appears at once brings more than one commit should
//! wait for: then what the layout lists is kept as one text, and placed in small steps by maintenance, or by the
//! first question about the machine.

use std::time::{Duration, Instant};

use model::{Layout, MachineId};
use sqlx::SqliteConnection;

use super::SqliteHistory;
use super::catalog::kind_name;
use crate::StorageError;
use crate::history::Maintained;
use crate::sqlite::{labels_to_json, list_to_json};

/// When a transaction has taken this long, it places no further layout.
const STEP: Duration = Duration::from_millis(10);
/// Layouts of one transaction.
const LAYOUTS: i64 = 16;

/// What a layout lists: a JSON array of `[name, labels, kind, unit]`.
pub(super) struct Listed(String);

impl Listed {
    pub(super) fn of(layout: &Layout) -> Self {
        let series = layout.series().iter();
        let rows: Vec<(&str, String, &str, &str)> = series
            .map(|s| (&*s.metric, labels_to_json(&s.labels), kind_name(s.kind), &*s.unit))
            .collect();
        Self(list_to_json(&rows))
    }
}

/// Whether the machine has this layout, placed or not yet.
pub(super) async fn has(
    connection: &mut SqliteConnection,
    machine: i64,
    layout: i64,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select 1 from placement where machine_id = ?1 and layout_id = ?2)
             or exists (select 1 from unplaced where machine_id = ?1 and layout_id = ?2)",
    )
    .bind(machine)
    .bind(layout)
    .fetch_one(connection)
    .await
}

/// How many series the layout has on this machine; 0 when the machine never sent it.
pub(super) async fn width(
    connection: &mut SqliteConnection,
    machine: i64,
    layout: i64,
) -> Result<usize, sqlx::Error> {
    let width: i64 = sqlx::query_scalar(
        "select coalesce(
            (select json_array_length(series) from unplaced join unplaced_layout using (layout_id)
                where machine_id = ?1 and layout_id = ?2),
            (select count(*) from placement where machine_id = ?1 and layout_id = ?2))",
    )
    .bind(machine)
    .bind(layout)
    .fetch_one(connection)
    .await?;
    Ok(width as usize)
}

pub(super) async fn place(
    connection: &mut SqliteConnection,
    machine: i64,
    layout: i64,
    Listed(series): &Listed,
) -> Result<(), sqlx::Error> {
    let inserted = sqlx::query(
        "insert into series (machine_id, name, labels, kind, unit)
         select ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3 from json_each(?2) where true
         on conflict do nothing",
    )
    .bind(machine)
    .bind(series)
    .execute(&mut *connection)
    .await?;
    let (new, last) = (inserted.rows_affected() as i64, inserted.last_insert_rowid());
    // When all are new, as those of a machine's first layout are, they have the highest numbers, in order.
    let placed = sqlx::query(
        "insert into placement (machine_id, layout_id, position, series_id)
         select ?1, ?2, key, ?3 + key from json_each(?4) where json_array_length(?4) = ?5",
    )
    .bind(machine)
    .bind(layout)
    .bind(last - new + 1)
    .bind(series)
    .bind(new)
    .execute(&mut *connection)
    .await?;
    if placed.rows_affected() > 0 {
        return Ok(());
    }
    sqlx::query(
        "insert into placement (machine_id, layout_id, position, series_id)
         select ?1, ?2, new.key, series.id
         from json_each(?3) as new
         cross join series on series.name = new.value ->> 0 and series.machine_id = ?1
             and series.labels = new.value ->> 1 and series.kind = new.value ->> 2
             and series.unit = new.value ->> 3",
    )
    .bind(machine)
    .bind(layout)
    .bind(series)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn put_off(
    connection: &mut SqliteConnection,
    machine: i64,
    layout: i64,
    content: &Layout,
) -> Result<(), sqlx::Error> {
    // Most machines of a fleet have the same few layouts.
    let listed: bool =
        sqlx::query_scalar("select exists (select 1 from unplaced_layout where layout_id = ?)")
            .bind(layout)
            .fetch_one(&mut *connection)
            .await?;
    if !listed {
        let Listed(series) = Listed::of(content);
        sqlx::query("insert into unplaced_layout (layout_id, series) values (?, ?)")
            .bind(layout)
            .bind(series)
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query("insert into unplaced (machine_id, layout_id) values (?, ?)")
        .bind(machine)
        .bind(layout)
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets that this layout of the machine waits, and what it lists when no other machine's does.
pub(super) async fn forget(
    connection: &mut SqliteConnection,
    machine: i64,
    layout: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from unplaced where machine_id = ? and layout_id = ?")
        .bind(machine)
        .bind(layout)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "delete from unplaced_layout where layout_id = ?1
            and not exists (select 1 from unplaced where layout_id = ?1)",
    )
    .bind(layout)
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets what layouts list that wait on no machine any more.
pub(super) async fn forget_lists(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "delete from unplaced_layout
         where not exists (select 1 from unplaced where layout_id = unplaced_layout.layout_id)",
    )
    .execute(connection)
    .await?;
    Ok(())
}

impl SqliteHistory {
    /// Places some of what waits, for about so long.
    pub(super) async fn place_some(
        &self,
        round: Duration,
        done: &mut Maintained,
    ) -> Result<(), StorageError> {
        let began = Instant::now();
        while began.elapsed() < round {
            let placed = self.place_step(None).await?;
            done.placed += placed;
            if placed == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Places all that these machines have waiting, or all machines: whoever asks for values sees every series that
    /// was acknowledged.
    pub(super) async fn place_all(
        &self,
        machines: Option<&[MachineId]>,
    ) -> Result<(), StorageError> {
        let machines = machines.map(|machines| {
            let names: Vec<String> = machines.iter().map(MachineId::to_string).collect();
            list_to_json(&names)
        });
        while self.place_step(machines.as_deref()).await? > 0 {}
        Ok(())
    }

    /// One small transaction, so that a commit never waits long for it. Returns how many layouts it placed; nothing
    /// is locked when there is none.
    async fn place_step(&self, machines: Option<&str>) -> Result<u64, StorageError> {
        let mut tx = self.database.read().await?;
        if waiting(&mut tx, machines, 1).await?.is_empty() {
            return Ok(0);
        }
        drop(tx);
        let began = Instant::now();
        let mut tx = self.database.write().await?;
        let mut placed = 0;
        for (machine, layout) in waiting(&mut tx, machines, LAYOUTS).await? {
            let listed: Option<String> =
                sqlx::query_scalar("select series from unplaced_layout where layout_id = ?")
                    .bind(layout)
                    .fetch_optional(&mut *tx)
                    .await?;
            if let Some(listed) = listed {
                place(&mut tx, machine, layout, &Listed(listed)).await?;
            }
            forget(&mut tx, machine, layout).await?;
            placed += 1;
            if began.elapsed() > STEP {
                break;
            }
        }
        tx.commit().await?;
        Ok(placed)
    }
}

/// Layouts that wait, with their machines. Those of removed machines go with them.
async fn waiting(
    connection: &mut SqliteConnection,
    machines: Option<&str>,
    limit: i64,
) -> Result<Vec<(i64, i64)>, sqlx::Error> {
    let statement = match machines {
        None => {
            "select machine_id, layout_id from unplaced join machine on machine.id = machine_id
             where machine.name is not null limit ?1"
        }
        Some(_) => {
            "select machine_id, layout_id from json_each(?2) as wanted
             cross join machine on machine.name = wanted.value
             cross join unplaced on machine_id = machine.id limit ?1"
        }
    };
    sqlx::query_as(statement).bind(limit).bind(machines).fetch_all(connection).await
}
