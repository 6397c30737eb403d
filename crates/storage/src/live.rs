//! The present: latest values, the last five minutes, status, and who holds each machine's stream.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use model::{Frame, Headline, Layout, MachineId, MachineStatus, ProcessReport, UnixMillis};

use crate::StorageError;

mod memory;
mod redis;

pub use memory::MemoryLive;
pub use redis::RedisLive;

/// The right to write one machine's present. A newer lease for the same machine ends an older one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub machine: MachineId,
    /// Grows with every acquisition for this machine.
    pub token: u64,
}

/// How a machine is doing, beside its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Presence {
    pub status: MachineStatus,
    pub status_since: UnixMillis,
    /// Receipt of its latest message.
    pub last_seen: UnixMillis,
    /// Time between its frames.
    pub interval_ms: u64,
    /// The collector's clock minus ours.
    pub clock_skew_ms: i64,
    /// A stream is open now.
    pub connected: bool,
    pub headline: Headline,
}

/// A frame with the layout that explains it.
#[derive(Clone, Debug)]
pub struct LiveFrame {
    pub layout: Layout,
    pub frame: Arc<Frame>,
}

/// Port: the present of all machines.
///
/// Everything here may vanish with its store (a restart, an empty Redis) and fills again from the
/// streams within one interval; nothing is acknowledged because it is here. Calls for one machine take
/// effect in the order they were made. All calls are safe to cancel: they took effect or did not.
#[async_trait]
pub trait LiveState: Send + Sync + fmt::Debug {
    /// Takes over the machine's stream; an earlier lease stops being current.
    async fn acquire(&self, machine: MachineId) -> Result<Lease, StorageError>;

    /// Whether nobody took over since.
    async fn is_current(&self, lease: &Lease) -> Result<bool, StorageError>;

    /// Keeps how the machine is doing.
    async fn put_presence(
        &self,
        machine: MachineId,
        presence: Presence,
    ) -> Result<(), StorageError>;

    /// Keeps a fresh frame as the latest of its layout, and in the last five minutes. A frame that is not
    /// newer than the latest of its layout only joins the last five minutes, and one older than these is
    /// ignored.
    async fn put_frame(&self, machine: MachineId, frame: LiveFrame) -> Result<(), StorageError>;

    async fn put_processes(
        &self,
        machine: MachineId,
        report: Arc<ProcessReport>,
    ) -> Result<(), StorageError>;

    /// Forgets the machine.
    async fn remove(&self, machine: MachineId) -> Result<(), StorageError>;

    async fn presence(&self, machine: MachineId) -> Result<Option<Presence>, StorageError>;

    /// Of all machines, in any order.
    async fn presences(&self) -> Result<Vec<(MachineId, Presence)>, StorageError>;

    /// The latest frame of each layout in use, most recently used layout last. A layout whose latest frame
    /// is older than the last five minutes is no longer in use.
    async fn latest(&self, machine: MachineId) -> Result<Vec<LiveFrame>, StorageError>;

    /// Frames of the last five minutes from `since` on, by time.
    async fn recent(
        &self,
        machine: MachineId,
        since: UnixMillis,
    ) -> Result<Vec<LiveFrame>, StorageError>;

    /// The latest report by its time.
    async fn processes(
        &self,
        machine: MachineId,
    ) -> Result<Option<Arc<ProcessReport>>, StorageError>;
}
