//! Taking items in: one transaction for the items and for the fact that they are durable.

use std::collections::HashSet;

use model::{
    Frame, Gap, Item, Level, MachineEvent, MachineId, Payload, SpoolEpoch, TimeRange, UnixMillis,
};
use sqlx::SqliteConnection;

use super::SqliteHistory;
use super::catalog::Catalog;
use super::{errors, logs};
use crate::StorageError;
use crate::history::logs::{ErrorDeltas, FreshLog};
use crate::history::{Delivery, report, values};
use crate::sqlite::{STORE, insert, labels_to_json};

/// What writers share, under the writer's lock.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) catalog: Catalog,
    /// Fingerprints of the groups of errors; read when they are needed first.
    pub(super) error_groups: Option<HashSet<u64>>,
    /// What maintenance is making a block of, outside the lock.
    pub(super) sealing: Option<Sealing>,
}

/// A stretch of one machine's frames and process reports that was read to be sealed.
#[derive(Debug)]
pub(super) struct Sealing {
    pub(super) machine: i64,
    pub(super) stretch: TimeRange,
    /// Something came in since: what was read is no longer all there is.
    pub(super) touched: bool,
}

impl Writer {
    pub(super) fn touch(&mut self, machine: i64, time: UnixMillis) {
        if let Some(sealing) = &mut self.sealing
            && sealing.machine == machine
            && sealing.stretch.contains(time)
        {
            sealing.touched = true;
        }
    }
}

/// Rows of one append, by table, values already encoded.
#[derive(Default)]
struct Rows {
    frames: Vec<(i64, UnixMillis, i64, Vec<u8>)>,
    reports: Vec<(i64, UnixMillis, Vec<u8>)>,
    events: Vec<(i64, MachineEvent)>,
    gaps: Vec<(i64, UnixMillis, Gap)>,
    logs: Vec<FreshLog>,
    /// Everything of a machine's spool that is durable with this.
    acknowledged: Vec<(i64, SpoolEpoch, String, UnixMillis)>,
}

impl SqliteHistory {
    pub(super) async fn append(&self, deliveries: Vec<Delivery>) -> Result<(), StorageError> {
        let mut writer = self.writer.lock().await;
        // What the catalogue learns in this transaction is true only with its commit: it is put back then,
        // and after a failure or a cancellation starts empty.
        let mut catalog = std::mem::take(&mut writer.catalog);
        catalog.begin();
        let mut tx = self.database.write().await?;
        let mut rows = Rows::default();
        for delivery in deliveries {
            collect(&mut tx, &mut catalog, delivery, &mut rows).await?;
        }
        let frames = rows.frames.iter().map(|(machine, time, ..)| (*machine, *time));
        let reports = rows.reports.iter().map(|(machine, time, _)| (*machine, *time));
        for (machine, time) in frames.chain(reports) {
            writer.touch(machine, time);
        }
        let events = std::mem::take(&mut rows.logs);
        rows.insert(&mut tx).await?;
        let mut error_groups = writer.error_groups.take();
        if events.iter().any(|(_, event)| Level::of(event.severity).is_error()) {
            let known = match error_groups.take() {
                Some(known) => known,
                None => errors::known_groups(&mut tx).await?,
            };
            let known = error_groups.insert(known);
            errors::put(&mut tx, ErrorDeltas::of(&events, known)).await?;
        }
        logs::put(&mut tx, events).await?;
        tx.commit().await?;
        writer.catalog = catalog;
        writer.error_groups = error_groups;
        Ok(())
    }
}

/// Leaves out what is known already and writes down what will be.
async fn collect(
    connection: &mut SqliteConnection,
    catalog: &mut Catalog,
    delivery: Delivery,
    rows: &mut Rows,
) -> Result<(), StorageError> {
    let Delivery { machine: name, epoch, received, layouts, items } = delivery;
    let machine = catalog.machine(connection, name).await?;
    for layout in &layouts {
        catalog.place(connection, machine, layout, received).await?;
    }
    let acknowledged = catalog.acknowledged(connection, machine, epoch).await?;
    let fresh: Vec<Item> = items.into_iter().filter(|item| acknowledged.insert(item.seq)).collect();
    if fresh.is_empty() {
        return Ok(());
    }
    rows.acknowledged.push((machine, epoch, acknowledged.to_string(), received));
    for Item { seq, payload } in fresh {
        match payload {
            Payload::Frame(frame) => {
                let layout = catalog.layout(connection, machine, frame.layout).await?;
                let layout = checked(name, seq, &frame, layout)?;
                rows.frames.push((machine, frame.time, layout, values::encode(&frame.values)));
            }
            Payload::Processes(r) => rows.reports.push((machine, r.time, report::encode(&r))),
            Payload::Event(event) => rows.events.push((machine, event)),
            Payload::Gap(gap) => rows.gaps.push((machine, received, gap)),
            Payload::Logs(events) => {
                rows.logs.extend(events.into_iter().map(|event| (name, event)));
            }
        }
    }
    Ok(())
}

fn checked(
    machine: MachineId,
    seq: u64,
    frame: &Frame,
    layout: Option<(i64, usize)>,
) -> Result<i64, StorageError> {
    let invalid = |reason: String| StorageError::Invalid {
        store: STORE,
        reason: format!("item {seq} of machine {machine}: {reason}"),
    };
    match layout {
        None => Err(invalid(format!("frame.layout: {} was never sent", frame.layout))),
        Some((id, len)) if len == frame.values.len() => Ok(id),
        Some((_, len)) => Err(invalid(format!(
            "frame.values: expected {len} as in layout {}, found {}",
            frame.layout,
            frame.values.len()
        ))),
    }
}

impl Rows {
    async fn insert(self, connection: &mut SqliteConnection) -> Result<(), StorageError> {
        insert(
            connection,
            "insert into frame (machine_id, time, layout_id, data)",
            "on conflict (machine_id, time, layout_id) do update set data = excluded.data",
            self.frames,
            |row, (machine, time, layout, data)| {
                row.push_bind(machine).push_bind(time.0).push_bind(layout).push_bind(data);
            },
        )
        .await?;
        insert(
            connection,
            "insert into process_report (machine_id, time, data)",
            "on conflict (machine_id, time) do update set data = excluded.data",
            self.reports,
            |row, (machine, time, data)| {
                row.push_bind(machine).push_bind(time.0).push_bind(data);
            },
        )
        .await?;
        insert(
            connection,
            "insert into event (machine_id, time, kind, detail, attributes)",
            "",
            self.events,
            |row, (machine, event)| {
                row.push_bind(machine)
                    .push_bind(event.time.0)
                    .push_bind(event.kind.name())
                    .push_bind(event.detail)
                    .push_bind(labels_to_json(&event.attributes));
            },
        )
        .await?;
        insert(
            connection,
            "insert into gap (machine_id, received, time, first_seq, last_seq, first_time, last_time, reason, detail)",
            "",
            self.gaps,
            |row, (machine, received, gap)| {
                row.push_bind(machine)
                    .push_bind(received.0)
                    .push_bind(gap.times.map_or(received, |(_, last)| last).0)
                    .push_bind(gap.seqs.first() as i64)
                    .push_bind(gap.seqs.last() as i64)
                    .push_bind(gap.times.map(|(first, _)| first.0))
                    .push_bind(gap.times.map(|(_, last)| last.0))
                    .push_bind(gap.reason.name())
                    .push_bind(gap.detail);
            },
        )
        .await?;
        insert(
            connection,
            "insert into acknowledged (machine_id, epoch, seqs, updated)",
            "on conflict (machine_id, epoch) do update set
                seqs = excluded.seqs, updated = excluded.updated",
            self.acknowledged,
            |row, (machine, epoch, seqs, updated)| {
                row.push_bind(machine)
                    .push_bind(epoch.0 as i64)
                    .push_bind(seqs)
                    .push_bind(updated.0);
            },
        )
        .await?;
        Ok(())
    }
}
