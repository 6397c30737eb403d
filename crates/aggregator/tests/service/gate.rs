//! Stores behind a gate: the real ones, which can be made to wait or to be away.

use std::sync::Arc;

use async_trait::async_trait;
use model::{MachineId, ProcessReport, SeqRanges, SpoolEpoch, TimeRange, UnixMillis};
use storage::history::{
    Delivery, Errors, LogPage, LogSearch, Maintained, Recorded, Samples, SeriesSelector,
    StoredSeries, Tier, Usage, Wanted,
};
use storage::live::LiveFrame;
use storage::registry::MachineRecord;
use storage::rollup::Rollup;
use storage::{History, Registry, StorageError};
use tokio::sync::watch;

/// What happens to writes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Open,
    /// They wait.
    Shut,
    /// The store is away for whoever writes.
    Away,
    /// They fail for good when they are of this machine.
    Refuses(MachineId),
}

#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<watch::Sender<State>>);

impl Gate {
    pub(crate) fn open() -> Self {
        Self(Arc::new(watch::Sender::new(State::Open)))
    }

    pub(crate) fn shut(&self) {
        self.0.send_replace(State::Shut);
    }

    pub(crate) fn away(&self) {
        self.0.send_replace(State::Away);
    }

    pub(crate) fn refuse(&self, machine: MachineId) {
        self.0.send_replace(State::Refuses(machine));
    }

    pub(crate) fn reopen(&self) {
        self.0.send_replace(State::Open);
    }
}

#[derive(Debug)]
pub(crate) struct GatedHistory {
    inner: Arc<dyn History>,
    gate: Gate,
}

impl GatedHistory {
    pub(crate) fn new(inner: Arc<dyn History>, gate: Gate) -> Self {
        Self { inner, gate }
    }
}

#[async_trait]
impl History for GatedHistory {
    async fn append(&self, deliveries: Vec<Delivery>) -> Result<(), StorageError> {
        let mut state = self.gate.0.subscribe();
        let state = *state.wait_for(|state| *state != State::Shut).await.unwrap();
        match state {
            State::Away => {
                Err(StorageError::Unavailable { store: "history", reason: "away".into() })
            }
            State::Refuses(machine) if deliveries.iter().any(|d| d.machine == machine) => {
                Err(StorageError::Corrupt { store: "history", reason: "refused".into() })
            }
            _ => self.inner.append(deliveries).await,
        }
    }

    async fn acknowledged(
        &self,
        machine: MachineId,
        epoch: SpoolEpoch,
    ) -> Result<SeqRanges, StorageError> {
        if *self.gate.0.borrow() == State::Away {
            return Err(StorageError::Unavailable { store: "history", reason: "away".into() });
        }
        self.inner.acknowledged(machine, epoch).await
    }

    async fn find_series(
        &self,
        selector: &SeriesSelector,
        limit: usize,
    ) -> Result<Vec<StoredSeries>, StorageError> {
        self.inner.find_series(selector, limit).await
    }

    async fn read_raw(
        &self,
        series: &[StoredSeries],
        range: TimeRange,
    ) -> Result<Vec<Samples>, StorageError> {
        self.inner.read_raw(series, range).await
    }

    async fn read_tier(
        &self,
        series: &[StoredSeries],
        tier: Tier,
        range: TimeRange,
    ) -> Result<Vec<Vec<Rollup>>, StorageError> {
        self.inner.read_tier(series, tier, range).await
    }

    async fn read_frames(
        &self,
        machine: MachineId,
        wanted: Wanted<'_>,
        range: TimeRange,
    ) -> Result<Vec<LiveFrame>, StorageError> {
        let mut state = self.gate.0.subscribe();
        let _ = state.wait_for(|state| *state != State::Shut).await;
        self.inner.read_frames(machine, wanted, range).await
    }

    async fn processes_at(
        &self,
        machine: MachineId,
        at: UnixMillis,
    ) -> Result<Option<ProcessReport>, StorageError> {
        self.inner.processes_at(machine, at).await
    }

    async fn recorded(
        &self,
        machine: MachineId,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<Recorded>, StorageError> {
        self.inner.recorded(machine, range, limit).await
    }

    async fn search_logs(&self, search: LogSearch) -> Result<LogPage, StorageError> {
        self.inner.search_logs(search).await
    }

    async fn errors(
        &self,
        range: TimeRange,
        bucket_ms: i64,
        machines: Option<&[MachineId]>,
    ) -> Result<Errors, StorageError> {
        self.inner.errors(range, bucket_ms, machines).await
    }

    async fn maintain(&self, now: UnixMillis) -> Result<Maintained, StorageError> {
        self.inner.maintain(now).await
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        self.inner.usage().await
    }

    async fn remove(&self, machine: MachineId) -> Result<(), StorageError> {
        self.inner.remove(machine).await
    }
}

#[derive(Debug)]
pub(crate) struct GatedRegistry {
    inner: Arc<dyn Registry>,
    gate: Gate,
}

impl GatedRegistry {
    pub(crate) fn new(inner: Arc<dyn Registry>, gate: Gate) -> Self {
        Self { inner, gate }
    }
}

impl GatedRegistry {
    async fn may_write(&self) -> Result<(), StorageError> {
        let mut state = self.gate.0.subscribe();
        let state = *state.wait_for(|state| *state != State::Shut).await.unwrap();
        match state {
            State::Away => {
                Err(StorageError::Unavailable { store: "registry", reason: "away".into() })
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Registry for GatedRegistry {
    async fn put_machine(&self, record: MachineRecord) -> Result<(), StorageError> {
        self.may_write().await?;
        self.inner.put_machine(record).await
    }

    async fn machine(&self, id: MachineId) -> Result<Option<MachineRecord>, StorageError> {
        self.inner.machine(id).await
    }

    async fn machines(&self) -> Result<Vec<MachineRecord>, StorageError> {
        self.inner.machines().await
    }

    async fn remove_machine(&self, id: MachineId) -> Result<(), StorageError> {
        self.may_write().await?;
        self.inner.remove_machine(id).await
    }
}
