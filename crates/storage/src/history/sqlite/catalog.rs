//! Numbers for machines, layouts and series, and what of them is worth remembering between appends.

use std::collections::{HashMap, HashSet};

use model::{Kind, Layout, LayoutId, MachineId, SeqRanges, Series, SpoolEpoch, UnixMillis};
use sqlx::SqliteConnection;

use super::unused::mark_used;
use crate::StorageError;
use crate::sqlite::{STORE, labels_to_json, list_to_json};

/// Entries of each memory beside the database. A thousand machines with ten layouts fit; when it is
/// full, everything is forgotten and read again, which costs a few queries a machine.
const REMEMBERED_MAX: usize = 50_000;

pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Gauge => "gauge",
        Kind::Counter => "counter",
    }
}

pub(super) fn kind_from_name(name: &str) -> Result<Kind, StorageError> {
    match name {
        "gauge" => Ok(Kind::Gauge),
        "counter" => Ok(Kind::Counter),
        other => Err(StorageError::Corrupt {
            store: STORE,
            reason: format!("series kind: expected gauge or counter, found {other:?}"),
        }),
    }
}

/// What the database is known to hold. Valid only as long as every transaction that it saw was committed:
/// see [`super::append`].
#[derive(Debug, Default)]
pub(super) struct Catalog {
    machines: HashMap<MachineId, i64>,
    /// With the number of its series.
    layouts: HashMap<LayoutId, (i64, usize)>,
    /// Layouts whose places are known for a machine.
    placed: HashSet<(i64, i64)>,
    acknowledged: HashMap<(i64, SpoolEpoch), SeqRanges>,
}

impl Catalog {
    pub(super) async fn machine(
        &mut self,
        connection: &mut SqliteConnection,
        machine: MachineId,
    ) -> Result<i64, StorageError> {
        if let Some(&id) = self.machines.get(&machine) {
            return Ok(id);
        }
        let name = machine.to_string();
        sqlx::query("insert into machine (name) values (?) on conflict (name) do nothing")
            .bind(&name)
            .execute(&mut *connection)
            .await?;
        let id: i64 = sqlx::query_scalar("select id from machine where name = ?")
            .bind(&name)
            .fetch_one(&mut *connection)
            .await?;
        remember(&mut self.machines, machine, id);
        Ok(id)
    }

    /// Makes sure that every series of the layout has its place on this machine.
    pub(super) async fn place(
        &mut self,
        connection: &mut SqliteConnection,
        machine: i64,
        layout: &Layout,
        now: UnixMillis,
    ) -> Result<(), StorageError> {
        if let Some((id, _)) = self.layouts.get(&layout.id())
            && self.placed.contains(&(machine, *id))
        {
            return Ok(());
        }
        let hash = layout.id().to_string();
        sqlx::query("insert into layout (hash) values (?) on conflict (hash) do nothing")
            .bind(&hash)
            .execute(&mut *connection)
            .await?;
        let id: i64 = sqlx::query_scalar("select id from layout where hash = ?")
            .bind(&hash)
            .fetch_one(&mut *connection)
            .await?;
        if self.places(connection, machine, id).await? == 0 {
            insert_places(connection, machine, id, layout.series()).await?;
        }
        mark_used(connection, machine, &[id], now).await?;
        remember(&mut self.layouts, layout.id(), (id, layout.len()));
        self.remember_placed(machine, id);
        Ok(())
    }

    /// A layout that this machine sent before, with the number of its series.
    pub(super) async fn layout(
        &mut self,
        connection: &mut SqliteConnection,
        machine: i64,
        layout: LayoutId,
    ) -> Result<Option<(i64, usize)>, StorageError> {
        if let Some(&(id, len)) = self.layouts.get(&layout)
            && self.placed.contains(&(machine, id))
        {
            return Ok(Some((id, len)));
        }
        let id: Option<i64> = sqlx::query_scalar("select id from layout where hash = ?")
            .bind(layout.to_string())
            .fetch_optional(&mut *connection)
            .await?;
        let Some(id) = id else { return Ok(None) };
        match self.places(connection, machine, id).await? {
            0 => Ok(None),
            len => {
                remember(&mut self.layouts, layout, (id, len));
                self.remember_placed(machine, id);
                Ok(Some((id, len)))
            }
        }
    }

    fn remember_placed(&mut self, machine: i64, layout: i64) {
        if self.placed.len() >= REMEMBERED_MAX {
            self.placed.clear();
        }
        self.placed.insert((machine, layout));
    }

    async fn places(
        &self,
        connection: &mut SqliteConnection,
        machine: i64,
        layout: i64,
    ) -> Result<usize, StorageError> {
        let places: i64 = sqlx::query_scalar(
            "select count(*) from placement where machine_id = ? and layout_id = ?",
        )
        .bind(machine)
        .bind(layout)
        .fetch_one(connection)
        .await?;
        Ok(places as usize)
    }

    pub(super) async fn acknowledged(
        &mut self,
        connection: &mut SqliteConnection,
        machine: i64,
        epoch: SpoolEpoch,
    ) -> Result<&mut SeqRanges, StorageError> {
        let key = (machine, epoch);
        if !self.acknowledged.contains_key(&key) {
            let text: Option<String> = sqlx::query_scalar(
                "select seqs from acknowledged where machine_id = ? and epoch = ?",
            )
            .bind(machine)
            .bind(epoch.0 as i64)
            .fetch_optional(connection)
            .await?;
            let ranges = text.map_or(Ok(SeqRanges::new()), |text| seqs_from_text(&text))?;
            remember(&mut self.acknowledged, key, ranges);
        }
        self.acknowledged.get_mut(&key).ok_or_else(|| StorageError::Unavailable {
            store: STORE,
            reason: "acknowledged ranges vanished from memory".into(),
        })
    }
}

fn remember<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, key: K, value: V) {
    if map.len() >= REMEMBERED_MAX {
        map.clear();
    }
    map.insert(key, value);
}

async fn insert_places(
    connection: &mut SqliteConnection,
    machine: i64,
    layout: i64,
    series: &[Series],
) -> Result<(), StorageError> {
    let rows: Vec<[String; 4]> = series
        .iter()
        .map(|s| {
            [
                s.metric.to_string(),
                labels_to_json(&s.labels),
                kind_name(s.kind).to_owned(),
                s.unit.to_string(),
            ]
        })
        .collect();
    let rows = list_to_json(&rows);
    sqlx::query(
        "insert into series (machine_id, name, labels, kind, unit)
         select ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3 from json_each(?2) where true
         on conflict do nothing",
    )
    .bind(machine)
    .bind(&rows)
    .execute(&mut *connection)
    .await?;
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
    .bind(&rows)
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads `1-40 42 50-60`, as `SeqRanges` is written.
pub(super) fn seqs_from_text(text: &str) -> Result<SeqRanges, StorageError> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        model::SeqRange::new(first.parse().ok()?, last.parse().ok()?)
    };
    text.split_ascii_whitespace()
        .map(|part| {
            range(part).ok_or_else(|| StorageError::Corrupt {
                store: STORE,
                reason: format!("acknowledged items: expected a range, found {part:?}"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledged_ranges_come_back() {
        for text in ["", "1", "1-40 42 50-18446744073709551615"] {
            assert_eq!(seqs_from_text(text).expect("own text").to_string(), text);
        }
        assert!(seqs_from_text("4-1").is_err());
        assert!(seqs_from_text("x").is_err());
    }
}
