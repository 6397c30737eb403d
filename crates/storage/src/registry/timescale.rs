//! The register in the same database as the history.

use std::sync::Arc;

use async_trait::async_trait;
use model::{MachineFacts, MachineId, MachineStatus, UnixMillis};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{MachineRecord, Registry};
use crate::StorageError;
use crate::postgres::Timescale;
use crate::postgres::failure::{Outcome, corrupt};
use crate::postgres::stamp::Stamp;
use crate::postgres::text::{self, labels_from_json, labels_to_json};

/// The server adapter of [`Registry`].
#[derive(Clone, Debug)]
pub struct TimescaleRegistry {
    timescale: Arc<Timescale>,
}

impl TimescaleRegistry {
    pub fn new(timescale: Arc<Timescale>) -> Self {
        Self { timescale }
    }

    async fn put(&self, record: MachineRecord) -> Outcome<()> {
        let facts = &record.facts;
        let addresses: Vec<String> =
            facts.addresses.iter().map(|a| text::store(a).into_owned()).collect();
        let mut tx = self.timescale.write().await?;
        sqlx::query(
            "insert into register (
                machine, host_name, os_type, os_description, kernel_version, arch, cpu_model,
                logical_cpus, physical_cpus, memory_bytes, swap_bytes, boot_time, addresses,
                virtualization, collector_version, labels, first_seen, last_seen, status, status_since
             ) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16::jsonb,
                $17, $18, $19, $20)
             on conflict (machine) do update set
                host_name = excluded.host_name, os_type = excluded.os_type,
                os_description = excluded.os_description, kernel_version = excluded.kernel_version,
                arch = excluded.arch, cpu_model = excluded.cpu_model,
                logical_cpus = excluded.logical_cpus, physical_cpus = excluded.physical_cpus,
                memory_bytes = excluded.memory_bytes, swap_bytes = excluded.swap_bytes,
                boot_time = excluded.boot_time, addresses = excluded.addresses,
                virtualization = excluded.virtualization,
                collector_version = excluded.collector_version, labels = excluded.labels,
                first_seen = least(register.first_seen, excluded.first_seen),
                last_seen = excluded.last_seen, status = excluded.status,
                status_since = excluded.status_since",
        )
        .bind(record.id.to_string())
        .bind(text::store(&facts.host_name))
        .bind(text::store(&facts.os_type))
        .bind(text::store(&facts.os_description))
        .bind(text::store(&facts.kernel_version))
        .bind(text::store(&facts.arch))
        .bind(text::store(&facts.cpu_model))
        .bind(i64::from(facts.logical_cpus))
        .bind(i64::from(facts.physical_cpus))
        // Signed in PostgreSQL; the bits come back as they were.
        .bind(facts.memory_bytes as i64)
        .bind(facts.swap_bytes as i64)
        .bind(Stamp(facts.boot_time))
        .bind(addresses)
        .bind(text::store(&facts.virtualization))
        .bind(text::store(&facts.collector_version))
        .bind(labels_to_json(&record.labels))
        .bind(Stamp(record.first_seen))
        .bind(Stamp(record.last_seen))
        .bind(record.status.name())
        .bind(Stamp(record.status_since))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn find(&self, id: Option<MachineId>) -> Outcome<Vec<MachineRecord>> {
        let mut tx = self.timescale.read().await?;
        let rows = sqlx::query(
            "select *, labels::text as labels_text from register
             where $1::text is null or machine = $1 order by machine collate \"C\"",
        )
        .bind(id.map(|id| id.to_string()))
        .fetch_all(&mut *tx)
        .await?;
        rows.iter().map(record).collect()
    }

    async fn delete(&self, id: MachineId) -> Outcome<()> {
        let mut tx = self.timescale.write().await?;
        sqlx::query("delete from register where machine = $1")
            .bind(id.to_string())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}

#[async_trait]
impl Registry for TimescaleRegistry {
    async fn put_machine(&self, record: MachineRecord) -> Result<(), StorageError> {
        self.timescale.call(self.put(record)).await
    }

    async fn machine(&self, id: MachineId) -> Result<Option<MachineRecord>, StorageError> {
        Ok(self.timescale.call(self.find(Some(id))).await?.pop())
    }

    async fn machines(&self) -> Result<Vec<MachineRecord>, StorageError> {
        self.timescale.call(self.find(None)).await
    }

    async fn remove_machine(&self, id: MachineId) -> Result<(), StorageError> {
        self.timescale.call(self.delete(id)).await
    }
}

fn record(row: &PgRow) -> Outcome<MachineRecord> {
    let machine: &str = row.try_get("machine")?;
    let text = |column: &str| Ok::<_, sqlx::Error>(text::load(row.try_get(column)?));
    let time = |column: &str| Ok::<_, sqlx::Error>(row.try_get::<Stamp, _>(column)?.0);
    let number = |column: &str| {
        let number: i64 = row.try_get(column)?;
        u32::try_from(number).map_err(|e| corrupt(column, &e))
    };
    let bits = |column: &str| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)? as u64);
    let addresses: Vec<String> = row.try_get("addresses")?;
    let status: &str = row.try_get("status")?;
    let boot_time: UnixMillis = time("boot_time")?;
    Ok(MachineRecord {
        id: machine.parse().map_err(|e| corrupt("register.machine", &e))?,
        facts: MachineFacts {
            host_name: text("host_name")?,
            os_type: text("os_type")?,
            os_description: text("os_description")?,
            kernel_version: text("kernel_version")?,
            arch: text("arch")?,
            cpu_model: text("cpu_model")?,
            logical_cpus: number("logical_cpus")?,
            physical_cpus: number("physical_cpus")?,
            memory_bytes: bits("memory_bytes")?,
            swap_bytes: bits("swap_bytes")?,
            boot_time,
            addresses: addresses.into_iter().map(text::load).collect(),
            virtualization: text("virtualization")?,
            collector_version: text("collector_version")?,
        },
        labels: labels_from_json(row.try_get("labels_text")?)?,
        first_seen: time("first_seen")?,
        last_seen: time("last_seen")?,
        status: MachineStatus::from_name(status)
            .ok_or_else(|| corrupt("register.status", &format_args!("unknown name {status:?}")))?,
        status_since: time("status_since")?,
    })
}
