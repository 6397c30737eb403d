//! Numbers for machines, layouts and series, and what of them is worth remembering between appends.
//!
//! They are made in transactions of their own, before the append that needs them: what is remembered is
//! committed, whatever becomes of the append.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};

use model::{Kind, Layout, LayoutId, MachineId, SeqRange, SeqRanges};
use sqlx::PgConnection;

use super::TimescaleHistory;
use crate::postgres::failure::{Outcome, corrupt};
use crate::postgres::text::{self, labels_to_json};

/// Entries of each memory. A thousand machines with ten layouts fit; when it is full, everything is
/// forgotten and read again, which costs a few queries a machine.
const REMEMBERED_MAX: usize = 50_000;

#[derive(Debug, Default)]
pub(super) struct Catalog {
    machines: HashMap<MachineId, i64>,
    /// With the number of its series.
    layouts: HashMap<LayoutId, (i64, usize)>,
    /// Layouts whose places are known for a machine.
    placed: HashSet<(i64, i64)>,
}

pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Gauge => "gauge",
        Kind::Counter => "counter",
    }
}

pub(super) fn kind_from_name(name: &str) -> Outcome<Kind> {
    match name {
        "gauge" => Ok(Kind::Gauge),
        "counter" => Ok(Kind::Counter),
        other => {
            Err(corrupt("series.kind", &format_args!("expected gauge or counter, found {other:?}")))
        }
    }
}

/// Reads `1-40 42 50-60`, as `SeqRanges` is written.
pub(super) fn seqs_from_text(text: &str) -> Outcome<SeqRanges> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        SeqRange::new(first.parse().ok()?, last.parse().ok()?)
    };
    text.split_ascii_whitespace()
        .map(|part| {
            range(part).ok_or_else(|| {
                corrupt("acknowledged.seqs", &format_args!("expected a range, found {part:?}"))
            })
        })
        .collect()
}

impl Catalog {
    fn known_layout(&self, machine: i64, layout: LayoutId) -> Option<(i64, usize)> {
        let &(id, len) = self.layouts.get(&layout)?;
        self.placed.contains(&(machine, id)).then_some((id, len))
    }

    fn remember_layout(&mut self, machine: i64, layout: LayoutId, id: i64, len: usize) {
        if self.layouts.len() >= REMEMBERED_MAX || self.placed.len() >= REMEMBERED_MAX {
            self.layouts.clear();
            self.placed.clear();
        }
        self.layouts.insert(layout, (id, len));
        self.placed.insert((machine, id));
    }
}

impl TimescaleHistory {
    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget_catalog(&self) {
        *self.catalog() = Catalog::default();
    }

    /// The numbers of these machines, given where they have none.
    pub(super) async fn machines(
        &self,
        names: &BTreeSet<MachineId>,
    ) -> Outcome<HashMap<MachineId, i64>> {
        let mut numbers = HashMap::with_capacity(names.len());
        let mut missing = Vec::new();
        {
            let catalog = self.catalog();
            for name in names {
                match catalog.machines.get(name) {
                    Some(&id) => _ = numbers.insert(*name, id),
                    None => missing.push(name.to_string()),
                }
            }
        }
        if missing.is_empty() {
            return Ok(numbers);
        }
        let mut tx = self.timescale.write().await?;
        sqlx::query(
            "insert into machine (name) select name from unnest($1::text[]) as new (name)
             where not exists (select 1 from machine where machine.name = new.name)
             order by name on conflict do nothing",
        )
        .bind(&missing)
        .execute(&mut *tx)
        .await?;
        let rows: Vec<(i64, String)> =
            sqlx::query_as("select id, name from machine where name = any($1)")
                .bind(&missing)
                .fetch_all(&mut *tx)
                .await?;
        tx.commit().await?;
        let mut catalog = self.catalog();
        for (id, name) in rows {
            let name: MachineId = name.parse().map_err(|e| corrupt("machine.name", &e))?;
            if catalog.machines.len() >= REMEMBERED_MAX {
                catalog.machines.clear();
            }
            catalog.machines.insert(name, id);
            numbers.insert(name, id);
        }
        Ok(numbers)
    }

    /// Makes sure that every series of the layout has its place on this machine.
    pub(super) async fn place(&self, machine: i64, layout: &Layout) -> Outcome<()> {
        if self.catalog().known_layout(machine, layout.id()).is_some() {
            return Ok(());
        }
        let mut tx = self.timescale.write().await?;
        let hash = layout.id().to_string();
        sqlx::query("insert into layout (hash) values ($1) on conflict do nothing")
            .bind(&hash)
            .execute(&mut *tx)
            .await?;
        let id: i64 = sqlx::query_scalar("select id from layout where hash = $1")
            .bind(&hash)
            .fetch_one(&mut *tx)
            .await?;
        if places(&mut tx, machine, id).await? < layout.len() {
            insert_places(&mut tx, machine, id, layout).await?;
        }
        tx.commit().await?;
        self.catalog().remember_layout(machine, layout.id(), id, layout.len());
        Ok(())
    }

    /// A layout that this machine sent before, with the number of its series.
    pub(super) async fn layout(
        &self,
        connection: &mut PgConnection,
        machine: i64,
        layout: LayoutId,
    ) -> Outcome<Option<(i64, usize)>> {
        if let Some(known) = self.catalog().known_layout(machine, layout) {
            return Ok(Some(known));
        }
        let id: Option<i64> = sqlx::query_scalar("select id from layout where hash = $1")
            .bind(layout.to_string())
            .fetch_optional(&mut *connection)
            .await?;
        let Some(id) = id else { return Ok(None) };
        match places(connection, machine, id).await? {
            0 => Ok(None),
            len => {
                self.catalog().remember_layout(machine, layout, id, len);
                Ok(Some((id, len)))
            }
        }
    }
}

async fn places(connection: &mut PgConnection, machine: i64, layout: i64) -> Outcome<usize> {
    let places: i64 = sqlx::query_scalar(
        "select count(*) from placement where machine_id = $1 and layout_id = $2",
    )
    .bind(machine)
    .bind(layout)
    .fetch_one(connection)
    .await?;
    Ok(places as usize)
}

async fn insert_places(
    connection: &mut PgConnection,
    machine: i64,
    layout: i64,
    series: &Layout,
) -> Outcome<()> {
    let series = series.series();
    let names: Vec<&str> = series.iter().map(|s| &*s.metric).collect();
    let labels: Vec<String> = series.iter().map(|s| labels_to_json(&s.labels)).collect();
    let kinds: Vec<&str> = series.iter().map(|s| kind_name(s.kind)).collect();
    let units: Vec<String> = series.iter().map(|s| text::store(&s.unit).into_owned()).collect();
    // In one order in every process, so that two that bring the same series do not wait for each other.
    sqlx::query(
        "insert into series (machine_id, name, labels, kind, unit)
         select $1, name, labels::jsonb, kind, unit
         from unnest($2::text[], $3::text[], $4::text[], $5::text[]) as new (name, labels, kind, unit)
         order by name, labels, kind, unit
         on conflict do nothing",
    )
    .bind(machine)
    .bind(&names)
    .bind(&labels)
    .bind(&kinds)
    .bind(&units)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "insert into placement (machine_id, layout_id, position, series_id)
         select $1, $6, new.position - 1, series.id
         from unnest($2::text[], $3::text[], $4::text[], $5::text[])
            with ordinality as new (name, labels, kind, unit, position)
         join series on series.name = new.name and series.machine_id = $1
            and md5(series.labels::text) = md5(new.labels::jsonb::text)
            and series.kind = new.kind and series.unit = new.unit
         order by new.position
         on conflict do nothing",
    )
    .bind(machine)
    .bind(names)
    .bind(labels)
    .bind(kinds)
    .bind(units)
    .bind(layout)
    .execute(connection)
    .await?;
    Ok(())
}
