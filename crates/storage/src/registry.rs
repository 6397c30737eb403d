//! What is known of machines beside their values.

use std::fmt;

use async_trait::async_trait;
use model::{Labels, MachineFacts, MachineId, MachineStatus, UnixMillis};

use crate::StorageError;

mod sqlite;
mod timescale;

pub use sqlite::SqliteRegistry;
pub use timescale::TimescaleRegistry;

/// What is kept of a machine across restarts.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineRecord {
    pub id: MachineId,
    pub facts: MachineFacts,
    pub labels: Labels,
    pub first_seen: UnixMillis,
    /// As of the latest write; not written with every frame.
    pub last_seen: UnixMillis,
    pub status: MachineStatus,
    pub status_since: UnixMillis,
}

/// Port: the register of machines.
#[async_trait]
pub trait Registry: Send + Sync + fmt::Debug {
    /// Keeps the record. `first_seen` of a machine that is known already stays the earlier one.
    async fn put_machine(&self, record: MachineRecord) -> Result<(), StorageError>;

    async fn machine(&self, id: MachineId) -> Result<Option<MachineRecord>, StorageError>;

    /// All machines, by id.
    async fn machines(&self) -> Result<Vec<MachineRecord>, StorageError>;

    async fn remove_machine(&self, id: MachineId) -> Result<(), StorageError>;
}
