//! Taking items in: one transaction for the items and for the fact that they are durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use model::{Frame, Item, Level, MachineId, Payload, SeqRanges, SpoolEpoch, UnixMillis};
use sqlx::PgConnection;

use super::TimescaleHistory;
use super::catalog::seqs_from_text;
use super::{errors, logs};
use crate::history::logs::{ErrorDeltas, FreshLog};
use crate::history::{Delivery, report};
use crate::postgres::copy::Rows;
use crate::postgres::copy_in;
use crate::postgres::failure::{Failure, Outcome, invalid, unavailable};
use crate::postgres::stamp::Stamp;
use crate::postgres::text::labels_to_json;

/// Number of a machine, and one life of its spool.
type SpoolKey = (i64, i64);

/// What is acknowledged of each spool in this transaction.
struct Spool {
    seqs: SeqRanges,
    received: UnixMillis,
    changed: bool,
}

/// Rows of one append, by table.
struct Incoming {
    frames: Rows,
    reports: Rows,
    events: Rows,
    gaps: Rows,
    logs: Vec<FreshLog>,
}

impl TimescaleHistory {
    pub(super) async fn append_all(&self, deliveries: Vec<Delivery>) -> Outcome<()> {
        let names: BTreeSet<MachineId> = deliveries.iter().map(|d| d.machine).collect();
        let machines = self.machines(&names).await?;
        let number = |machine: MachineId| {
            machines.get(&machine).copied().ok_or_else(|| unavailable("a machine vanished".into()))
        };
        for delivery in &deliveries {
            let machine = number(delivery.machine)?;
            for layout in &delivery.layouts {
                self.place(machine, layout).await?;
            }
        }
        let mut tx = self.timescale.write().await?;
        let mut keys = BTreeSet::new();
        for delivery in &deliveries {
            keys.insert((number(delivery.machine)?, delivery.epoch.0 as i64));
        }
        let mut spools = self.lock_spools(&mut tx, &keys).await?;
        let mut incoming = Incoming::new();
        for delivery in deliveries {
            let machine = number(delivery.machine)?;
            let key = (machine, delivery.epoch.0 as i64);
            let spool = spools
                .get_mut(&key)
                .ok_or_else(|| unavailable("what a spool has acknowledged vanished".into()))?;
            self.collect(&mut tx, machine, delivery, spool, &mut incoming).await?;
        }
        let events = std::mem::take(&mut incoming.logs);
        incoming.copy(&mut tx).await?;
        self.count_errors(&mut tx, &events).await?;
        logs::put(&mut tx, events).await?;
        save_spools(&mut tx, spools).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Groups that another process made meanwhile are made again, which changes nothing; the bound on their number
    /// holds for each process.
    async fn count_errors(
        &self,
        connection: &mut PgConnection,
        events: &[FreshLog],
    ) -> Outcome<()> {
        if !events.iter().any(|(_, event)| Level::of(event.severity).is_error()) {
            return Ok(());
        }
        let taken = self.error_groups.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut known = match taken {
            Some(known) => known,
            None => errors::known_groups(connection).await?,
        };
        let deltas = ErrorDeltas::of(events, &mut known);
        *self.error_groups.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        errors::put(connection, deltas).await
    }

    /// Reads what is acknowledged of these spools, and keeps others from changing it until the end of the
    /// transaction. Always in the same order, so that two appends never wait for each other.
    async fn lock_spools(
        &self,
        connection: &mut PgConnection,
        keys: &BTreeSet<SpoolKey>,
    ) -> Outcome<BTreeMap<SpoolKey, Spool>> {
        let mut spools = select_spools(connection, keys).await?;
        let fresh: BTreeSet<SpoolKey> =
            keys.iter().filter(|key| !spools.contains_key(key)).copied().collect();
        if fresh.is_empty() {
            return Ok(spools);
        }
        let (machines, epochs) = unzip(&fresh);
        sqlx::query(
            "insert into acknowledged (machine_id, epoch, seqs, updated)
             select fresh.machine, fresh.epoch, '', now()
             from unnest($1::bigint[], $2::bigint[]) as fresh (machine, epoch)
             join machine on machine.id = fresh.machine and machine.name is not null
             on conflict do nothing",
        )
        .bind(machines)
        .bind(epochs)
        .execute(&mut *connection)
        .await?;
        spools.append(&mut select_spools(connection, &fresh).await?);
        if spools.len() < keys.len() {
            // Removed by another process since its number was remembered here.
            self.forget_catalog();
            return Err(unavailable("a machine was removed meanwhile".into()));
        }
        Ok(spools)
    }

    /// Leaves out what is known already and writes down what will be.
    async fn collect(
        &self,
        connection: &mut PgConnection,
        machine: i64,
        delivery: Delivery,
        spool: &mut Spool,
        incoming: &mut Incoming,
    ) -> Outcome<()> {
        for Item { seq, payload } in delivery.items {
            if !spool.seqs.insert(seq) {
                continue;
            }
            spool.changed = true;
            spool.received = delivery.received;
            if let Payload::Frame(frame) = &payload {
                let layout = self.layout(connection, machine, frame.layout).await?;
                let layout = checked(delivery.machine, seq, frame, layout)?;
                incoming.put_frame(machine, layout, frame);
            } else {
                incoming.put(delivery.machine, machine, delivery.received, payload);
            }
        }
        Ok(())
    }

    pub(super) async fn find_acknowledged(
        &self,
        machine: MachineId,
        epoch: SpoolEpoch,
    ) -> Outcome<SeqRanges> {
        let mut tx = self.timescale.read().await?;
        let text: Option<String> = sqlx::query_scalar(
            "select seqs from acknowledged join machine on machine.id = acknowledged.machine_id
             where machine.name = $1 and epoch = $2",
        )
        .bind(machine.to_string())
        .bind(epoch.0 as i64)
        .fetch_optional(&mut *tx)
        .await?;
        text.map_or(Ok(SeqRanges::new()), |text| seqs_from_text(&text))
    }
}

fn unzip(keys: &BTreeSet<SpoolKey>) -> (Vec<i64>, Vec<i64>) {
    keys.iter().copied().unzip()
}

async fn select_spools(
    connection: &mut PgConnection,
    keys: &BTreeSet<SpoolKey>,
) -> Outcome<BTreeMap<SpoolKey, Spool>> {
    let (machines, epochs) = unzip(keys);
    let rows: Vec<(i64, i64, String, Stamp)> = sqlx::query_as(
        "select machine_id, acknowledged.epoch, seqs, updated
         from acknowledged
         join unnest($1::bigint[], $2::bigint[]) as wanted (machine, epoch)
             on machine_id = wanted.machine and acknowledged.epoch = wanted.epoch
         join machine on machine.id = machine_id and machine.name is not null
         order by machine_id, acknowledged.epoch
         for update of acknowledged",
    )
    .bind(machines)
    .bind(epochs)
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|(machine, epoch, seqs, updated)| {
            let seqs = seqs_from_text(&seqs)?;
            let spool = Spool { seqs, received: updated.0, changed: false };
            Ok(((machine, epoch), spool))
        })
        .collect()
}

async fn save_spools(
    connection: &mut PgConnection,
    spools: BTreeMap<SpoolKey, Spool>,
) -> Outcome<()> {
    let (mut machines, mut epochs, mut seqs, mut updated) = (vec![], vec![], vec![], vec![]);
    for ((machine, epoch), spool) in spools.into_iter().filter(|(_, spool)| spool.changed) {
        machines.push(machine);
        epochs.push(epoch);
        seqs.push(spool.seqs.to_string());
        updated.push(Stamp(spool.received));
    }
    if machines.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update acknowledged set seqs = fresh.seqs, updated = fresh.updated
         from unnest($1::bigint[], $2::bigint[], $3::text[], $4::timestamptz[])
            as fresh (machine, epoch, seqs, updated)
         where acknowledged.machine_id = fresh.machine and acknowledged.epoch = fresh.epoch",
    )
    .bind(machines)
    .bind(epochs)
    .bind(seqs)
    .bind(updated)
    .execute(connection)
    .await?;
    Ok(())
}

fn checked(
    machine: MachineId,
    seq: u64,
    frame: &Frame,
    layout: Option<(i64, usize)>,
) -> Result<i64, Failure> {
    let wrong = |reason: String| invalid(format!("item {seq} of machine {machine}: {reason}"));
    match layout {
        None => Err(wrong(format!("frame.layout: {} was never sent", frame.layout))),
        Some((id, len)) if len == frame.values.len() => Ok(id),
        Some((_, len)) => Err(wrong(format!(
            "frame.values: expected {len} as in layout {}, found {}",
            frame.layout,
            frame.values.len()
        ))),
    }
}

impl Incoming {
    fn new() -> Self {
        Self {
            frames: Rows::new(),
            reports: Rows::new(),
            events: Rows::new(),
            gaps: Rows::new(),
            logs: Vec::new(),
        }
    }

    fn put_frame(&mut self, machine: i64, layout: i64, frame: &Frame) {
        let values = frame.values.iter().copied();
        self.frames.row(4).time(frame.time).int8(machine).int8(layout).float8s(values);
    }

    fn put(&mut self, name: MachineId, machine: i64, received: UnixMillis, payload: Payload) {
        match payload {
            Payload::Frame(_) => {}
            Payload::Processes(r) => {
                self.reports.row(3).time(r.time).int8(machine).bytes(&report::encode(&r));
            }
            Payload::Event(event) => {
                let attributes = labels_to_json(&event.attributes);
                self.events
                    .row(5)
                    .time(event.time)
                    .int8(machine)
                    .text(event.kind.name())
                    .text(&event.detail)
                    .jsonb(&attributes);
            }
            Payload::Gap(gap) => {
                let shown = gap.times.map_or(received, |(_, last)| last);
                self.gaps
                    .row(9)
                    .time(shown)
                    .int8(machine)
                    .time(received)
                    .int8(gap.seqs.first() as i64)
                    .int8(gap.seqs.last() as i64)
                    .maybe_time(gap.times.map(|(first, _)| first))
                    .maybe_time(gap.times.map(|(_, last)| last))
                    .text(gap.reason.name())
                    .text(&gap.detail);
            }
            Payload::Logs(events) => {
                self.logs.extend(events.into_iter().map(|event| (name, event)));
            }
        }
    }

    async fn copy(self, connection: &mut PgConnection) -> Outcome<()> {
        for (statement, rows) in [
            (
                "copy frame (time, machine_id, layout_id, data) from stdin (format binary)",
                self.frames,
            ),
            (
                "copy process_report (time, machine_id, data) from stdin (format binary)",
                self.reports,
            ),
            (
                "copy event (time, machine_id, kind, detail, attributes) from stdin (format binary)",
                self.events,
            ),
            (
                "copy gap (time, machine_id, received, first_seq, last_seq, first_time, last_time,
                    reason, detail) from stdin (format binary)",
                self.gaps,
            ),
        ] {
            copy_in(connection, statement, rows).await?;
        }
        Ok(())
    }
}
