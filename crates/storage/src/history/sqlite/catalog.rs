//! Numbers for machines, layouts and series, and what of them is worth remembering between appends.

use std::collections::{HashMap, HashSet};

use model::{Kind, Layout, LayoutId, MachineId, SeqRanges, SpoolEpoch, UnixMillis};
use sqlx::SqliteConnection;

use super::unplaced::{self, Listed};
use super::unused::mark_used;
use crate::StorageError;
use crate::sqlite::STORE;

/// Entries of each memory beside the database. A thousand machines with ten layouts fit; when it is
/// full, everything is forgotten and read again, which costs a few queries a machine.
const REMEMBERED_MAX: usize = 50_000;
/// Series of one transaction that get their rows at once; those of further layouts get them later.
const PLACED_AT_ONCE: usize = 2_000;

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
    /// Layouts that a machine is known to have, placed or [`unplaced`].
    placed: HashSet<(i64, i64)>,
    acknowledged: HashMap<(i64, SpoolEpoch), SeqRanges>,
    /// Series that got their rows in this transaction.
    placed_now: usize,
}

impl Catalog {
    /// A transaction begins.
    pub(super) fn begin(&mut self) {
        self.placed_now = 0;
    }

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

    /// Makes sure that every series of the layout has its place on this machine, or will get it.
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
        if !unplaced::has(connection, machine, id).await? {
            if self.placed_now + layout.len() <= PLACED_AT_ONCE {
                self.placed_now += layout.len();
                unplaced::place(connection, machine, id, &Listed::of(layout)).await?;
            } else {
                unplaced::put_off(connection, machine, id, layout).await?;
            }
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
        match unplaced::width(connection, machine, id).await? {
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
