//! The register in the same SQLite file as the history.

use std::sync::Arc;

use async_trait::async_trait;
use model::{MachineFacts, MachineId, MachineStatus, UnixMillis};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{MachineRecord, Registry};
use crate::StorageError;
use crate::sqlite::{Database, STORE, labels_from_json, labels_to_json, list_to_json};

/// The embedded register of machines.
#[derive(Clone, Debug)]
pub struct SqliteRegistry {
    database: Arc<Database>,
}

impl SqliteRegistry {
    pub fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl Registry for SqliteRegistry {
    async fn put_machine(&self, record: MachineRecord) -> Result<(), StorageError> {
        let facts = &record.facts;
        let addresses = list_to_json(&facts.addresses);
        let mut tx = self.database.write().await?;
        sqlx::query(
            "insert into register (
                machine, host_name, os_type, os_description, kernel_version, arch, cpu_model,
                logical_cpus, physical_cpus, memory_bytes, swap_bytes, boot_time, addresses,
                virtualization, collector_version, labels, first_seen, last_seen, status, status_since
             ) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             on conflict (machine) do update set
                host_name = excluded.host_name, os_type = excluded.os_type,
                os_description = excluded.os_description, kernel_version = excluded.kernel_version,
                arch = excluded.arch, cpu_model = excluded.cpu_model,
                logical_cpus = excluded.logical_cpus, physical_cpus = excluded.physical_cpus,
                memory_bytes = excluded.memory_bytes, swap_bytes = excluded.swap_bytes,
                boot_time = excluded.boot_time, addresses = excluded.addresses,
                virtualization = excluded.virtualization,
                collector_version = excluded.collector_version, labels = excluded.labels,
                first_seen = min(first_seen, excluded.first_seen),
                last_seen = excluded.last_seen, status = excluded.status,
                status_since = excluded.status_since",
        )
        .bind(record.id.to_string())
        .bind(&facts.host_name)
        .bind(&facts.os_type)
        .bind(&facts.os_description)
        .bind(&facts.kernel_version)
        .bind(&facts.arch)
        .bind(&facts.cpu_model)
        .bind(facts.logical_cpus)
        .bind(facts.physical_cpus)
        // Signed in SQLite; the bits come back as they were.
        .bind(facts.memory_bytes as i64)
        .bind(facts.swap_bytes as i64)
        .bind(facts.boot_time.0)
        .bind(addresses)
        .bind(&facts.virtualization)
        .bind(&facts.collector_version)
        .bind(labels_to_json(&record.labels))
        .bind(record.first_seen.0)
        .bind(record.last_seen.0)
        .bind(record.status.name())
        .bind(record.status_since.0)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn machine(&self, id: MachineId) -> Result<Option<MachineRecord>, StorageError> {
        let mut tx = self.database.read().await?;
        let row = sqlx::query("select * from register where machine = ?")
            .bind(id.to_string())
            .fetch_optional(&mut *tx)
            .await?;
        row.map(|row| record(&row)).transpose()
    }

    async fn machines(&self) -> Result<Vec<MachineRecord>, StorageError> {
        let mut tx = self.database.read().await?;
        let rows =
            sqlx::query("select * from register order by machine").fetch_all(&mut *tx).await?;
        rows.iter().map(record).collect()
    }

    async fn remove_machine(&self, id: MachineId) -> Result<(), StorageError> {
        let mut tx = self.database.write().await?;
        sqlx::query("delete from register where machine = ?")
            .bind(id.to_string())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}

fn record(row: &SqliteRow) -> Result<MachineRecord, StorageError> {
    let machine: &str = row.try_get("machine")?;
    let corrupt = |reason: String| StorageError::Corrupt {
        store: STORE,
        reason: format!("machine {machine} in the register: {reason}"),
    };
    let time = |column: &str| Ok::<_, StorageError>(UnixMillis(row.try_get(column)?));
    let addresses: &str = row.try_get("addresses")?;
    let status: &str = row.try_get("status")?;
    Ok(MachineRecord {
        id: machine.parse().map_err(|e| corrupt(format!("{e}")))?,
        facts: MachineFacts {
            host_name: row.try_get("host_name")?,
            os_type: row.try_get("os_type")?,
            os_description: row.try_get("os_description")?,
            kernel_version: row.try_get("kernel_version")?,
            arch: row.try_get("arch")?,
            cpu_model: row.try_get("cpu_model")?,
            logical_cpus: row.try_get("logical_cpus")?,
            physical_cpus: row.try_get("physical_cpus")?,
            memory_bytes: row.try_get::<i64, _>("memory_bytes")? as u64,
            swap_bytes: row.try_get::<i64, _>("swap_bytes")? as u64,
            boot_time: time("boot_time")?,
            addresses: serde_json::from_str(addresses)
                .map_err(|e| corrupt(format!("addresses: {e}")))?,
            virtualization: row.try_get("virtualization")?,
            collector_version: row.try_get("collector_version")?,
        },
        labels: labels_from_json(row.try_get("labels")?)?,
        first_seen: time("first_seen")?,
        last_seen: time("last_seen")?,
        status: MachineStatus::from_name(status)
            .ok_or_else(|| corrupt(format!("status: unknown name {status:?}")))?,
        status_since: time("status_since")?,
    })
}
